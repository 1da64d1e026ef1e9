"""All figures of a detector on marked pages, and the differences between detectors on the same pages, as plain values for JSON."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cg_data.detect.boxes import Marks
from cg_data.detect.references import References, known_events, known_seconds, seconds_of
from cg_data.intervals import subject_weights
from cg_data.records import Event
from cg_data.vocabulary import SEGMENT_S, WAVEFORM_INDEX, WAVEFORMS, Waveform
from cg_eval.detection import confusion, merged, readers, taxonomy
from cg_eval.detection.average_precision import LEVELS, ApTable, Indices, ap_table
from cg_eval.detection.judged import JudgedPage, judge
from cg_eval.detection.pages import Found, Page
from cg_eval.detection.reliability import view
from cg_eval.detection.tally import NO_FIGURE, Counts, Floats, Key, Tally, by_subject, figure, minutes
from cg_eval.settings import EvalSettings
from cg_train.detection_metrics import match


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The figures of one detector, and its average precision in every resample, for comparisons."""

    figures: dict[str, Any]
    ap: ApTable


def evaluate(pages: Sequence[Page], found: Found, settings: EvalSettings) -> Evaluation:
    """Compute everything that there is to say of a detector.

    Events that can be called neither right nor wrong, where nobody looked for their waveform, are in no figure. Of a waveform that was
    looked for nowhere only the recall is known; it is not in mAP and in no sum.

    Args:
        pages: marked pages.
        found: what the detector proposes on them, down to a low score.
        settings: resamples and seed of the intervals.
    """
    references = [page.references(found.min_box_s) for page in pages]
    events = [known_events(of_page, known) for of_page, known in zip(found.events, references, strict=True)]
    judged = [judge(of_page, known.marks) for of_page, known in zip(events, references, strict=True)]
    working = [page.at(found.thresholds) for page in judged]
    tally = _tally(pages, found, references, working, settings)
    known = [w for w in WAVEFORMS if tally.total(minutes(w)) > 0]
    names, owners = np.unique([page.subject for page in pages], return_inverse=True)
    table = _ap_table(events, [r.marks for r in references], owners, known, settings)
    figures = {
        "version": found.version,
        "min_box_s": found.min_box_s,
        "thresholds": {str(w): found.thresholds[w] for w in WAVEFORMS},
        "pages": len(pages),
        "subjects": len(names),
        "minutes": len(pages) * SEGMENT_S / 60,
        "proposals": sum(map(len, found.events)),
        "judged_proposals": sum(map(len, events)),
        **{f"m{name}": figure(*table.of_all(levels), len(names)) for name, levels in LEVELS.items()},
        **_working_tables(tally, table, known, len(names)),
        "confusion": confusion.matrix(tally),
        "readers": readers.table(tally),
        "calibration": _calibration(judged, working, owners, len(names), settings),
    }
    return Evaluation(figures=figures, ap=table)


def _working_tables(tally: Tally, table: ApTable, known: Sequence[Waveform], n_subjects: int) -> dict[str, Any]:
    """Tables by class: of those with references or events, and of errors and whole events of those that were looked for."""
    seen = [w for w in WAVEFORMS if tally.count(_key(w, "references"), _key(w, "events"))]
    judged = [str(w) for w in seen if w in known]
    return {
        "classes": [_class_row(w, tally, table, n_subjects, known=w in known) for w in seen],
        "all": _rates(tally, judged, minutes("all")),
        "taxonomy": taxonomy.table(tally, judged),
        "merged": merged.table(tally, judged),
    }


def _ap_table(
    events: Sequence[Sequence[Event]], truth: Sequence[Marks], owners: Indices, known: Sequence[Waveform], settings: EvalSettings
) -> ApTable:
    n_subjects = int(owners.max()) + 1
    weights = subject_weights(n_subjects, resamples=settings.resamples, seed=settings.seed)
    return ap_table(match(events, truth), references_by_subject(truth, owners, n_subjects), owners, weights, known)


def references_by_subject(truth: Sequence[Marks], owners: Indices, n_subjects: int) -> Floats:
    """Number of references of each subject and class, `(subjects, classes)`."""
    counts = np.zeros((n_subjects, len(WAVEFORMS)))
    for marks, owner in zip(truth, owners, strict=True):
        counts[owner] += np.bincount(marks[:, 0].astype(np.int64), minlength=len(WAVEFORMS))
    return counts


def _tally(
    pages: Sequence[Page], found: Found, references: Sequence[References], working: Sequence[JudgedPage], settings: EvalSettings
) -> Tally:
    counts = [
        _count(page) + confusion.count(page) + taxonomy.count(page) + merged.count(page) + of_readers
        for page, of_readers in zip(working, readers.count(pages, found), strict=True)
    ]
    looked_for_s = [{**known_seconds(known), "all": seconds_of(known.known)} for known in references]
    times = [{minutes(name): s / 60 for name, s in seconds.items()} for seconds in looked_for_s]
    return Tally(by_subject([page.subject for page in pages], [{**t, **c} for t, c in zip(times, counts, strict=True)]), settings)


def _count(page: JudgedPage) -> Counts:
    """References, events and hits of each class at the working thresholds."""
    counts: Counts = Counter()
    wrong = page.found[~page.hits]
    for what, marks in (("references", page.truth), ("events", page.found), ("hits", page.found[page.hits]), ("false", wrong)):
        counts.update(_key(WAVEFORMS[int(index)], what) for index in marks[:, 0])
    return counts


def _key(waveform: str, what: str) -> Key:
    return ("working", str(waveform), what)


def _rates(tally: Tally, waveforms: Sequence[str], time: Key) -> dict[str, Any]:
    """Counts, precision, recall, F1 and false events a minute of some classes together."""
    names = ("references", "events", "hits", "false")
    references, events, hits, false = (dict.fromkeys((_key(w, what) for w in waveforms), 1.0) for what in names)
    return {
        "references": tally.count(*references),
        "events": tally.count(*events),
        "hits": tally.count(*hits),
        "minutes": tally.total(time),
        "precision": tally.share(hits, events),
        "recall": tally.share(hits, references),
        "f1": tally.share(dict.fromkeys(hits, 2.0), {**events, **references}),
        "false_per_minute": tally.rate(false, {time: 1.0}),
    }


def _class_row(waveform: Waveform, tally: Tally, table: ApTable, n_subjects: int, *, known: bool) -> dict[str, Any]:
    untold = {} if known else {"precision": dict(NO_FIGURE), "f1": dict(NO_FIGURE)}
    return {
        "waveform": str(waveform),
        **_rates(tally, [str(waveform)], minutes(waveform)),
        **untold,
        **{name: figure(*table.of_class(waveform, levels), n_subjects) for name, levels in LEVELS.items()},
        "curve": table.curves[waveform],
    }


def _calibration(
    judged: Sequence[JudgedPage], working: Sequence[JudgedPage], owners: Indices, n_subjects: int, settings: EvalSettings
) -> dict[str, Any]:
    """For all proposals and for the working events: of each class and of all, the raw score and the calibrated probability."""
    return {
        "proposals": _calibration_rows(judged, owners, n_subjects, settings),
        "working": _calibration_rows(working, owners, n_subjects, settings),
    }


def _calibration_rows(judged: Sequence[JudgedPage], owners: Indices, n_subjects: int, settings: EvalSettings) -> list[dict[str, Any]]:
    owner = np.repeat(owners, [len(page.events) for page in judged])
    index = np.array([WAVEFORM_INDEX[e.waveform] for page in judged for e in page.events], dtype=np.int64)
    hit = np.concatenate([page.hits for page in judged]).astype(np.float64)
    stated = {
        "score": np.array([e.score for page in judged for e in page.events]),
        "probability": np.array([e.probability for page in judged for e in page.events]),
    }
    groups = [("all", np.full(len(index), True)), *((str(WAVEFORMS[i]), index == i) for i in np.unique(index))]
    return [
        {"waveform": name, **{what: view(p[of], hit[of], owner[of], n_subjects, settings) for what, p in stated.items()}}
        for name, of in groups
    ]


def compare(evaluations: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """Differences of every two detectors on the same pages: `second` less `first`, paired by subject, for the same subjects are drawn for
    both in each resample. `map50`, `map75`, `map5095`, and under `classes` the same of each class with references."""
    return [_difference(*pair) for pair in itertools.combinations(evaluations.items(), 2)]


def _difference(first: tuple[str, Evaluation], second: tuple[str, Evaluation]) -> dict[str, Any]:
    (name_a, a), (name_b, b) = first, second
    n_subjects = a.figures["subjects"]
    known = [w for w in WAVEFORMS if np.isfinite(a.ap.of_class(w, [0])[0])]
    classes = [
        {"waveform": str(w), **{n: _less(b.ap.of_class(w, at), a.ap.of_class(w, at), n_subjects) for n, at in LEVELS.items()}}
        for w in known
    ]
    means = {f"m{n}": _less(b.ap.of_all(at), a.ap.of_all(at), n_subjects) for n, at in LEVELS.items()}
    return {"first": name_a, "second": name_b, **means, "classes": classes}


def _less(b: tuple[float, Floats], a: tuple[float, Floats], n_subjects: int) -> dict[str, float | None]:
    return figure(b[0] - a[0], b[1] - a[1], n_subjects)
