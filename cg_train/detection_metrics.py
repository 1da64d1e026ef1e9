"""How well events match reference marks: average precision as COCO defines it; precision, recall and F1 at the working thresholds.

Boxes span whole channel rows (`cg_data.detect.boxes`), so the overlap of two boxes is that of their times on one channel. On each page
and for each class the events, best first, take the free reference that they overlap most. AP is the mean of the precision envelope at 101
recalls from 0 to 1; mAP is the mean over classes with references, and mAP@0.5:0.95 also over ten least overlaps (Lin et al. 2014,
"Microsoft COCO", and the definitions of its evaluation, pycocotools, with which these figures agree to the last digits).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.detect.boxes import Marks, marks_of_events, overlaps
from cg_data.records import Event
from cg_data.vocabulary import EPILEPTIFORM, WAVEFORM_INDEX, WAVEFORMS, Waveform

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

IOU = 0.5
"""Least overlap of a hit."""
IOUS: Floats = np.linspace(0.5, 0.95, 10)
"""Least overlaps of mAP@0.5:0.95; the first is `IOU`."""
RECALLS: Floats = np.linspace(0.0, 1.0, 101)
"""Recalls at which the precision envelope is read."""
STRICT = 5
"""Place of the least overlap 0.75 in `IOUS`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """All events of one waveform, best score first, and the number of references.

    `scores` `(n,)`; `pages` `(n,)`, which page each is of; `hits_at` `(10, n)`, whether each is a hit at each overlap of `IOUS`; `alarms`
    `(n,)`, whether each is a false alarm of its own: on its page and on any channel, neither a reference nor a better event overlaps it in
    time. What lies over a reference is no false alarm to a reader, however badly it fits, nor is one kind of discharge over another, as
    the spike of a spike and slow wave; what overlaps a better event goes on with it.
    """

    scores: Floats
    pages: Indices
    hits_at: Bools
    alarms: Bools
    references: int

    @property
    def hits(self) -> Bools:
        """Hits at an overlap of 0.5, `(n,)`."""
        return self.hits_at[0]


def match(found: Sequence[Sequence[Event]], truth: Sequence[Marks]) -> dict[Waveform, Matches]:
    """Match the events of each page with the page's reference marks."""
    return {waveform: _match_class(waveform, found, truth) for waveform in WAVEFORMS}


def _match_class(waveform: Waveform, found: Sequence[Sequence[Event]], truth: Sequence[Marks]) -> Matches:
    scores: list[float] = []
    pages: list[int] = []
    hits: list[Bools] = [np.zeros((len(IOUS), 0), dtype=np.bool_)]
    alarms: list[Bools] = [np.zeros(0, dtype=np.bool_)]
    references = 0
    alike = [WAVEFORM_INDEX[w] for w in (EPILEPTIFORM if waveform in EPILEPTIFORM else {waveform})]
    for page, (events, marks) in enumerate(zip(found, truth, strict=True)):
        wanted = marks[marks[:, 0] == WAVEFORM_INDEX[waveform]]
        ranked = sorted((e for e in events if e.waveform is waveform), key=lambda e: -e.score)
        scores += [event.score for event in ranked]
        pages += [page] * len(ranked)
        marked = marks_of_events(ranked)
        hits.append(take(overlaps(marked, wanted), IOUS) >= 0)
        alarms.append(_alarms(marked, marks[np.isin(marks[:, 0], alike)]))
        references += len(wanted)
    order = np.argsort(-np.array(scores), kind="stable")
    return Matches(
        scores=np.array(scores, dtype=np.float64)[order],
        pages=np.array(pages, dtype=np.int64)[order],
        hits_at=np.concatenate(hits, axis=1)[:, order],
        alarms=np.concatenate(alarms)[order],
        references=references,
    )


def _alarms(ranked: Marks, alike: Marks) -> Bools:
    """Of the events of a page, best first, those that overlap neither a reference of their family nor a better event in time."""
    repeats = np.tril(_at_one_time(ranked, ranked), -1).any(axis=1)
    return np.asarray(~repeats & ~_at_one_time(ranked, alike).any(axis=1))


def _at_one_time(some: Marks, others: Marks) -> Bools:
    """Whether marks overlap in time, on whatever channels, `(some, others)`."""
    return np.asarray((some[:, None, 2] < others[None, :, 3]) & (others[None, :, 2] < some[:, None, 3]))


def take(overlap: Floats, least: Floats) -> Indices:
    """The reference that each event, best first, takes: the free one that it overlaps most, of equal ones the last, as pycocotools does.

    Args:
        overlap: intersection over union `(events, references)`.
        least: least overlap of a hit, one value for each of `k` independent matchings.

    Returns:
        `(k, events)`: index of the reference, -1 where an event takes none.
    """
    taken = np.full((len(least), len(overlap)), -1, dtype=np.int64)
    free = np.ones((len(least), overlap.shape[1]), dtype=np.bool_)
    able = np.flatnonzero(overlap.max(axis=1, initial=0.0) >= least.min())
    for event in able:
        candidates = np.where(free & (overlap[event] >= least[:, None]), overlap[event], -1.0)
        best = candidates.shape[1] - 1 - np.argmax(candidates[:, ::-1], axis=1)
        level = np.flatnonzero(candidates[np.arange(len(least)), best] >= 0)
        taken[level, event] = best[level]
        free[level, best[level]] = False
    return taken


def average_precision(matches: Matches, level: int = 0) -> float:
    """Mean precision envelope at `RECALLS` for the least overlap `IOUS[level]`; 0 without events, NaN without references."""
    return float(precision_curve(matches, level).mean()) if matches.references else float("nan")


def precision_curve(matches: Matches, level: int = 0) -> Floats:
    """Precision envelope at `RECALLS`, `(101,)`, for the least overlap `IOUS[level]`; there must be references."""
    true = np.cumsum(matches.hits_at[level])
    precision = true / np.arange(1, len(true) + 1)
    return at_recalls(true / matches.references, np.maximum.accumulate(precision[::-1])[::-1])


def at_recalls(recall: Floats, envelope: Floats) -> Floats:
    """The precision `envelope` `(n,)` at `RECALLS`, where `recall` `(n,)` first reaches each; 0 where it never does."""
    return np.append(envelope, 0.0)[np.searchsorted(recall, RECALLS, side="left")]


def detection_metrics(found: Sequence[Sequence[Event]], truth: Sequence[Marks], thresholds: Mapping[Waveform, float]) -> dict[str, Any]:
    """Figures of a detector on pages with known marks, ready for JSON.

    Args:
        found: events of each page down to a low score (`Detector.propose`).
        truth: reference marks of each page (`marks_of_labels` with the detector's `min_box_s`).
        thresholds: working score of each waveform.

    Returns:
        `map50`, `map75`, `map5095` (0 without references), `segments`, micro-averaged `precision`, `recall` and `f1` at the working
        thresholds, and under `waveforms` for each name `ap50`, `ap75`, `ap5095` (null without references), `precision`, `recall`, `f1`,
        `threshold`, and the counts `references`, `events`, `hits`.
    """
    matched = match(found, truth)
    rows = {str(waveform): _working_point(matched[waveform], thresholds[waveform]) for waveform in WAVEFORMS}
    totals = {key: sum(row[key] for row in rows.values()) for key in ("references", "events", "hits")}
    means = {f"m{name}": _mean_of_known([row[name] for row in rows.values()]) for name in ("ap50", "ap75", "ap5095")}
    return {**means, "segments": len(found), **_rates(**totals), **totals, "waveforms": rows}


def _mean_of_known(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else 0.0


def _working_point(matches: Matches, threshold: float) -> dict[str, Any]:
    kept = matches.hits[matches.scores >= threshold]
    counts = {"references": matches.references, "events": len(kept), "hits": int(kept.sum())}
    return {**_average_precisions(matches), **_rates(**counts), "threshold": float(threshold), **counts}


def _average_precisions(matches: Matches) -> dict[str, float | None]:
    if not matches.references:
        return {"ap50": None, "ap75": None, "ap5095": None}
    levels = [average_precision(matches, level) for level in range(len(IOUS))]
    return {"ap50": levels[0], "ap75": levels[STRICT], "ap5095": float(np.mean(levels))}


def _rates(*, references: int, events: int, hits: int) -> dict[str, float]:
    return {
        "precision": hits / events if events else 0.0,
        "recall": hits / references if references else 0.0,
        "f1": 2 * hits / (events + references) if events + references else 0.0,
    }
