"""How well events match reference marks: average precision at an overlap of 0.5, precision, recall and F1 at the working thresholds.

Boxes span whole channel rows (`cg_data.detect.boxes`), so the overlap of two boxes is that of their times on one channel. Matching is
that of PASCAL VOC (Everingham et al. 2010): on each page and for each class the events, best first, take the free reference that they
overlap most; AP is the whole area under the precision envelope over recall; mAP is the mean over classes with references.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.detect.boxes import Marks, marks_of_events, overlaps
from cg_data.records import Event
from cg_data.vocabulary import WAVEFORM_INDEX, WAVEFORMS, Waveform

IOU = 0.5
"""Least overlap of a hit."""
UNSEEN_THRESHOLD = 0.5
"""Working score of a waveform that the validation pages do not hold."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """All events of one waveform, best score first: `scores` `(n,)`, `hits` `(n,)`; and the number of references."""

    scores: npt.NDArray[np.float64]
    hits: npt.NDArray[np.bool_]
    references: int


def match(found: Sequence[Sequence[Event]], truth: Sequence[Marks]) -> dict[Waveform, Matches]:
    """Match the events of each page with the page's reference marks."""
    return {waveform: _match_class(waveform, found, truth) for waveform in WAVEFORMS}


def _match_class(waveform: Waveform, found: Sequence[Sequence[Event]], truth: Sequence[Marks]) -> Matches:
    scores: list[float] = []
    hits: list[bool] = []
    references = 0
    for events, marks in zip(found, truth, strict=True):
        wanted = marks[marks[:, 0] == WAVEFORM_INDEX[waveform]]
        ranked = sorted((e for e in events if e.waveform is waveform), key=lambda e: -e.score)
        scores += [event.score for event in ranked]
        hits += _take(overlaps(marks_of_events(ranked), wanted))
        references += len(wanted)
    order = np.argsort(-np.array(scores), kind="stable")
    return Matches(scores=np.array(scores, dtype=np.float64)[order], hits=np.array(hits, dtype=np.bool_)[order], references=references)


def _take(overlap: npt.NDArray[np.float64]) -> list[bool]:
    """Whether each event, best first, finds a free reference; `overlap` is `(events, references)`."""
    free = np.ones(overlap.shape[1], dtype=np.bool_)
    hits: list[bool] = []
    for row in overlap:
        best = int(np.argmax(np.where(free, row, -1.0))) if free.any() else -1
        hits.append(best >= 0 and bool(row[best] >= IOU))
        if hits[-1]:
            free[best] = False
    return hits


def average_precision(matches: Matches) -> float:
    """Area under the precision envelope; 0 without events, NaN without references."""
    if matches.references == 0:
        return float("nan")
    true = np.cumsum(matches.hits)
    precision = true / np.arange(1, len(true) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(envelope[matches.hits]) / matches.references)


def best_threshold(matches: Matches) -> float:
    """The score at which F1 is greatest (the lowest such score); `UNSEEN_THRESHOLD` without references or hits."""
    if not matches.hits.any() or matches.references == 0:
        return UNSEEN_THRESHOLD
    f1 = 2 * np.cumsum(matches.hits) / (np.arange(1, len(matches.hits) + 1) + matches.references)
    # Equal scores fall together: only the last of a tie is a working point.
    last = np.append(matches.scores[1:] < matches.scores[:-1], True)
    f1[~last] = -1.0
    return float(matches.scores[len(f1) - 1 - int(np.argmax(f1[::-1]))])


def detection_metrics(found: Sequence[Sequence[Event]], truth: Sequence[Marks], thresholds: Mapping[Waveform, float]) -> dict[str, Any]:
    """Figures of a detector on pages with known marks, ready for JSON.

    Args:
        found: events of each page down to a low score (`Detector.propose`).
        truth: reference marks of each page (`marks_of_labels` with the detector's `min_box_s`).
        thresholds: working score of each waveform.

    Returns:
        `map50`, `segments`, micro-averaged `precision`, `recall` and `f1` at the working thresholds, and under `waveforms` for each name
        `ap50` (null without references), `precision`, `recall`, `f1`, `threshold`, and the counts `references`, `events`, `hits`.
    """
    matched = match(found, truth)
    rows = {str(waveform): _working_point(matched[waveform], thresholds[waveform]) for waveform in WAVEFORMS}
    known = [row["ap50"] for row in rows.values() if row["ap50"] is not None]
    totals = {key: sum(row[key] for row in rows.values()) for key in ("references", "events", "hits")}
    return {"map50": float(np.mean(known)) if known else 0.0, "segments": len(found), **_rates(**totals), **totals, "waveforms": rows}


def _working_point(matches: Matches, threshold: float) -> dict[str, Any]:
    kept = matches.hits[matches.scores >= threshold]
    counts = {"references": matches.references, "events": len(kept), "hits": int(kept.sum())}
    ap50 = average_precision(matches) if matches.references else None
    return {"ap50": ap50, **_rates(**counts), "threshold": float(threshold), **counts}


def _rates(*, references: int, events: int, hits: int) -> dict[str, float]:
    return {
        "precision": hits / events if events else 0.0,
        "recall": hits / references if references else 0.0,
        "f1": 2 * hits / (events + references) if events + references else 0.0,
    }
