"""The events of a page beside its reference marks: which takes which, and what else each overlaps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from cg_data.detect.boxes import Marks, marks_of_events, overlaps
from cg_data.records import Event
from cg_data.vocabulary import Waveform
from cg_train.detection_metrics import IOU, take

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPage:
    """`events` are `n`, best score first, with their marks `found` `(n, 4)`; `truth` `(m, 4)` are the reference marks.

    `overlap` `(n, m)` is intersection over union on one row, whatever the class; `taken` `(n,)` is the reference of its class that each
    event takes at an overlap of 0.5, best score first, or -1.
    """

    events: tuple[Event, ...]
    found: Marks
    truth: Marks
    overlap: Floats
    taken: Indices

    @property
    def same_class(self) -> Bools:
        """Whether event and reference are of one class, `(n, m)`."""
        return self.found[:, None, 0] == self.truth[None, :, 0]

    @property
    def hits(self) -> Bools:
        """Whether each event takes a reference, `(n,)`."""
        return self.taken >= 0

    @property
    def missed(self) -> Bools:
        """Whether each reference is taken by no event, `(m,)`."""
        return ~np.isin(np.arange(len(self.truth)), self.taken)

    def time_overlap(self) -> Floats:
        """Intersection over union of times `(n, m)`, whatever the row and class."""
        return overlaps(_on_one_row(self.found), _on_one_row(self.truth))

    def at(self, thresholds: Mapping[Waveform, float]) -> Self:
        """The page at the working thresholds. What the stronger events take does not hang on the weaker ones."""
        kept = np.array([e.score >= thresholds[e.waveform] for e in self.events], dtype=np.bool_)
        events = tuple(e for e, keep in zip(self.events, kept, strict=True) if keep)
        return dataclasses.replace(self, events=events, found=self.found[kept], overlap=self.overlap[kept], taken=self.taken[kept])


def judge(events: Sequence[Event], truth: Marks) -> JudgedPage:
    """Match all events of a page with its reference marks."""
    ranked = tuple(sorted(events, key=lambda e: -e.score))
    found = marks_of_events(ranked)
    overlap = overlaps(found, truth)
    same = found[:, None, 0] == truth[None, :, 0]
    taken = take(np.where(same, overlap, 0.0), np.array([IOU]))[0]
    return JudgedPage(events=ranked, found=found, truth=truth, overlap=overlap, taken=taken)


def _on_one_row(marks: Marks) -> Marks:
    return np.column_stack([marks[:, 0], np.zeros(len(marks)), marks[:, 2:]])
