"""All figures of a detector on marked pages, and the differences between detectors on the same pages, as plain values for JSON."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cg_data.detect.boxes import Marks
from cg_data.intervals import subject_weights
from cg_data.vocabulary import SEGMENT_S, WAVEFORM_INDEX, WAVEFORMS, Waveform
from cg_eval.detection import confusion, merged, readers, taxonomy
from cg_eval.detection.average_precision import LEVELS, ApTable, Indices, ap_table
from cg_eval.detection.judged import JudgedPage, judge
from cg_eval.detection.pages import Found, Page, minutes_of
from cg_eval.detection.reliability import view
from cg_eval.detection.tally import Counts, Floats, Key, Tally, by_subject, figure, rates
from cg_eval.settings import EvalSettings
from cg_train.detection_metrics import RECALLS, Matches, match

MINUTES: Key = ("minutes",)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The figures of one detector, and its average precision in every resample, for comparisons."""

    figures: dict[str, Any]
    ap: ApTable


def evaluate(pages: Sequence[Page], found: Found, settings: EvalSettings) -> Evaluation:
    """Compute everything that there is to say of a detector.

    Args:
        pages: marked pages.
        found: what the detector proposes on them, down to a low score.
        settings: resamples and seed of the intervals.
    """
    names, owners = np.unique([page.subject for page in pages], return_inverse=True)
    events, truth = found.judgeable(pages)
    matches = match(events, truth)
    weights = subject_weights(len(names), resamples=settings.resamples, seed=settings.seed)
    table = ap_table(matches, references_by_subject(truth, owners, len(names)), owners, weights)
    judged = [judge(found_there, marks) for found_there, marks in zip(events, truth, strict=True)]
    working = [page.at(found.thresholds) for page in judged]
    tally = _tally(pages, found, working, settings)
    seen = [str(w) for w in WAVEFORMS if tally.count(_key(w, "references"), _key(w, "events"))]
    figures = {
        "version": found.version,
        "min_box_s": found.min_box_s,
        "thresholds": {str(w): found.thresholds[w] for w in WAVEFORMS},
        "pages": len(pages),
        "subjects": len(names),
        "minutes": minutes_of(pages),
        "proposals": sum(map(len, events)),
        **{f"m{name}": figure(*table.of_all(levels), len(names)) for name, levels in LEVELS.items()},
        "classes": [_class_row(Waveform(name), tally, table, matches, len(names)) for name in seen],
        "all": _all_row(tally),
        "confusion": confusion.matrix(tally),
        "taxonomy": taxonomy.table(tally, seen, MINUTES),
        "merged": merged.table(tally, seen, MINUTES),
        "readers": readers.table(tally),
        "calibration": _calibration(judged, working, owners, len(names), settings),
    }
    return Evaluation(figures=figures, ap=table)


def references_by_subject(truth: Sequence[Marks], owners: Indices, n_subjects: int) -> Floats:
    """Number of references of each subject and class, `(subjects, classes)`."""
    counts = np.zeros((n_subjects, len(WAVEFORMS)))
    for marks, owner in zip(truth, owners, strict=True):
        counts[owner] += np.bincount(marks[:, 0].astype(np.int64), minlength=len(WAVEFORMS))
    return counts


def _tally(pages: Sequence[Page], found: Found, working: Sequence[JudgedPage], settings: EvalSettings) -> Tally:
    subjects = [page.subject for page in pages]
    of_pages = [
        _count(page) + confusion.count(page) + taxonomy.count(page) + merged.count(page) + of_readers
        for page, of_readers in zip(working, readers.count(pages, found), strict=True)
    ]
    return Tally(by_subject(subjects, [{MINUTES: SEGMENT_S / 60, **counts} for counts in of_pages]), settings)


def _count(page: JudgedPage) -> Counts:
    """References, events and hits of each class at the working thresholds."""
    counts: Counts = Counter()
    for what, marks in (("references", page.truth), ("events", page.found), ("hits", page.found[page.hits])):
        counts.update(_key(WAVEFORMS[int(index)], what) for index in marks[:, 0])
        counts.update(_key("all", what) for _ in marks)
    counts.update(_key(name, "false") for i in np.flatnonzero(~page.hits) for name in (WAVEFORMS[int(page.found[i, 0])], "all"))
    return counts


def _key(waveform: str, what: str) -> Key:
    return ("working", str(waveform), what)


def _all_row(tally: Tally) -> dict[str, Any]:
    """Sums over all classes (micro averages)."""
    keys = (_key("all", what) for what in ("references", "events", "hits"))
    return {**rates(tally, *keys), "false_per_minute": tally.rate({_key("all", "false"): 1.0}, {MINUTES: 1.0})}


def _class_row(waveform: Waveform, tally: Tally, table: ApTable, matches: Mapping[Waveform, Matches], n_subjects: int) -> dict[str, Any]:
    keys = (_key(waveform, what) for what in ("references", "events", "hits"))
    return {
        "waveform": str(waveform),
        **rates(tally, *keys),
        "false_per_minute": tally.rate({_key(waveform, "false"): 1.0}, {MINUTES: 1.0}),
        **{name: figure(*table.of_class(waveform, levels), n_subjects) for name, levels in LEVELS.items()},
        "curve": _curve(matches[waveform]),
    }


def _curve(matches: Matches) -> list[float] | None:
    """The precision envelope at each of `RECALLS`, for an overlap of 0.5; None without references."""
    if not matches.references:
        return None
    true = np.cumsum(matches.hits)
    envelope = np.maximum.accumulate((true / np.arange(1, len(true) + 1))[::-1])[::-1]
    at = np.searchsorted(true / matches.references, RECALLS, side="left")
    return [round(float(p), 4) for p in np.append(envelope, 0.0)[at]]


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
