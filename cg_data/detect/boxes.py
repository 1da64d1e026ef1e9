"""Between marks in seconds and boxes in pixels of the detector's page.

Marks are float64 `(n, 4)`: class index, row, start and stop in seconds. A box spans one row of the page from top to bottom, so the overlap
of two boxes of one row is the overlap of their marks in time, and boxes of different rows do not overlap.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cg_data.records import Event, Label
from cg_data.settings import PageSettings
from cg_data.vocabulary import (
    CHANNEL_INDEX,
    EPILEPTIFORM,
    LATERAL_EYES,
    N_CHANNELS,
    SEGMENT_S,
    WAVEFORM_INDEX,
    WAVEFORMS,
    LabelKind,
    Waveform,
)

Marks = npt.NDArray[np.float64]

_LEAST_S = 1e-3
"""Events are written to the millisecond."""
NARROW: frozenset[Waveform] = frozenset({Waveform.SPIKE, Waveform.SHARP_WAVE})


_RIVALS = np.array([next((i for i, group in enumerate((EPILEPTIFORM, LATERAL_EYES)) if w in group), -1) for w in WAVEFORMS])
"""Group of classes, by class index, of which one place shows one at a time; -1 for a class without rivals."""


def marks_of_labels(labels: Iterable[Label], mask: npt.NDArray[np.bool_], min_box_s: float) -> Marks:
    """Marks of the waveform labels that name a channel of `mask` `(19,)`; narrow waveforms are widened to `min_box_s` about their centre.

    A 50-ms box overlaps its reference by half only within 12 ms: no reader marks so exactly.
    """
    rows = [
        _mark(Waveform(label.name), label.channel, label.onset_s, label.duration_s, min_box_s)
        for label in labels
        if label.kind is LabelKind.WAVEFORM and label.channel in CHANNEL_INDEX and mask[CHANNEL_INDEX[label.channel]]
    ]
    return np.array([row for row in rows if row[3] > row[2]], dtype=np.float64).reshape(-1, 4)


def marks_of_events(events: Iterable[Event]) -> Marks:
    """Marks of events as they are, in their order."""
    return np.array([_mark(e.waveform, e.channel, e.onset_s, e.duration_s, 0.0) for e in events], dtype=np.float64).reshape(-1, 4)


def _mark(waveform: Waveform, channel: str, onset_s: float, duration_s: float, min_box_s: float) -> tuple[float, float, float, float]:
    centre_s = onset_s + duration_s / 2
    half_s = max(duration_s, min_box_s if waveform in NARROW else 0.0) / 2
    start_s, stop_s = max(centre_s - half_s, 0.0), min(centre_s + half_s, float(SEGMENT_S))
    return float(WAVEFORM_INDEX[waveform]), float(CHANNEL_INDEX[channel]), start_s, stop_s


def boxes_of_marks(marks: Marks, page: PageSettings) -> npt.NDArray[np.float32]:
    """Boxes `(n, 4)` of marks: left, top, right, bottom in pixels of the page."""
    top = marks[:, 1] * page.pixels_per_row
    left, right = marks[:, 2] * page.pixels_per_second, marks[:, 3] * page.pixels_per_second
    return np.stack([left, top, right, top + page.pixels_per_row], axis=1).astype(np.float32)


def marks_of_boxes(boxes: npt.NDArray[np.float32], classes: npt.NDArray[np.int64], page: PageSettings) -> Marks:
    """Marks of boxes `(n, 4)` of any height: each goes to the row of its centre (-1 where that is no row), its time is cut to the page."""
    row = np.floor((boxes[:, 1] + boxes[:, 3]) / 2 / page.pixels_per_row)
    row[(row < 0) | (row >= N_CHANNELS)] = -1
    times_s = np.clip(boxes[:, [0, 2]].astype(np.float64) / page.pixels_per_second, 0.0, SEGMENT_S)
    return np.column_stack([classes.astype(np.float64), row, times_s])


def keep_marks(marks: Marks, scores: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], nms_iou: float) -> npt.NDArray[np.int64]:
    """Indices of the marks to keep, best score first: on a channel of `mask`, at least a millisecond long, no stronger one of its class
    and row overlaps it in time by more than `nms_iou`, and it is not half in, or about, a stronger one of a class that excludes its own."""
    import torch
    from torchvision.ops import batched_nms

    inside = (marks[:, 1] >= 0) & (marks[:, 3] - marks[:, 2] >= _LEAST_S)
    inside[inside] = mask[marks[inside, 1].astype(np.int64)]
    candidates = np.flatnonzero(inside)
    chosen = marks[candidates]
    flat = np.stack([chosen[:, 2], np.zeros(len(chosen)), chosen[:, 3], np.ones(len(chosen))], axis=1)
    group = torch.from_numpy((chosen[:, 0] * N_CHANNELS + chosen[:, 1]).astype(np.int64))
    kept = batched_nms(torch.from_numpy(flat), torch.from_numpy(scores[candidates].astype(np.float64)), group, nms_iou)
    ranked = candidates[kept.numpy()]
    return ranked[_unrivalled(marks[ranked])]


def least_of_rivals(least: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """For each class the least of the scores `least` `(9,)` of it and of the classes that exclude it: what `keep_marks` makes of the marks
    above them does not hang on those below."""
    return np.array([least[(group == _RIVALS) & (group >= 0)].min(initial=own) for group, own in zip(_RIVALS, least, strict=True)])


def _unrivalled(ranked: Marks) -> npt.NDArray[np.bool_]:
    """Of marks by falling score, those that share less than half of the shorter one's time with any better one of a rival class that is
    itself kept: a spike in a complex is part of the complex."""
    kept = np.ones(len(ranked), dtype=np.bool_)
    rivals = _RIVALS[ranked[:, 0].astype(np.int64)]
    for group, row in {(group, row) for group, row in zip(rivals.tolist(), ranked[:, 1].tolist(), strict=True) if group >= 0}:
        there = np.flatnonzero((rivals == group) & (ranked[:, 1] == row))
        kept[there] = _unbeaten(ranked[there])
    return kept


def _unbeaten(ranked: Marks) -> npt.NDArray[np.bool_]:
    """`_unrivalled` for the marks of one row and one group of rivals."""
    length = ranked[:, 3] - ranked[:, 2]
    shared = np.minimum(ranked[:, None, 3], ranked[None, :, 3]) - np.maximum(ranked[:, None, 2], ranked[None, :, 2])
    close = (shared >= 0.5 * np.minimum(length[:, None], length[None, :])) & (ranked[:, None, 0] != ranked[None, :, 0])
    kept = np.ones(len(ranked), dtype=np.bool_)
    for mark in np.flatnonzero(np.tril(close, -1).any(axis=1)):
        kept[mark] = not (close[mark, :mark] & kept[:mark]).any()
    return kept


def overlaps(first: Marks, second: Marks) -> npt.NDArray[np.float64]:
    """Intersection over union `(n, m)` of the boxes of two sets of marks, whatever their classes; 0 between rows."""
    shared = np.minimum(first[:, None, 3], second[None, :, 3]) - np.maximum(first[:, None, 2], second[None, :, 2])
    shared = np.clip(shared, 0.0, None) * (first[:, None, 1] == second[None, :, 1])
    union = (first[:, 3] - first[:, 2])[:, None] + (second[:, 3] - second[:, 2])[None, :] - shared
    return shared / np.maximum(union, 1e-12)
