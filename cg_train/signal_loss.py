"""The loss of the one-dimensional detector: task-aligned assignment (Feng et al. 2021, TOOD), as YOLOv8 has it, along one axis.

For each mark the places of its row whose centres it covers compete; the best by ``score^0.5 * IoU^6`` shall find it. What is not known to
be absent costs nothing (`cg_train.detector_losses`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Self

import torch

from cg_data.detect.signal_network import COARSE, FINE, place_centres_s
from cg_data.vocabulary import N_CHANNELS, WAVEFORMS

_BEST = 8
_SCORE_POWER, _OVERLAP_POWER = 0.5, 6.0
_BOX_GAIN = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Targets:
    """What the pages of a batch hold: `page`, `waveform` and `row` int64 `(marks,)`, `onset_s` and `stop_s` float32 `(marks,)`."""

    page: torch.Tensor
    waveform: torch.Tensor
    row: torch.Tensor
    onset_s: torch.Tensor
    stop_s: torch.Tensor

    @classmethod
    def of(cls, marks: torch.Tensor) -> Self:
        """Of marks `(marks, 5)`: page, class, row, start and stop in seconds."""
        page, waveform, row = marks[:, :3].long().T
        onset_s, stop_s = marks[:, 3:].float().T
        return cls(page=page, waveform=waveform, row=row, onset_s=onset_s, stop_s=stop_s)


def signal_losses(
    extents: torch.Tensor, logits: torch.Tensor, targets: Targets, class_losses: Callable[[torch.Tensor], torch.Tensor], coarse: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of extents and of classes, each over the sum of the scores that the assigned places shall have.

    Args:
        extents: `(n, places, 2)` onset and end in seconds.
        logits: `(n, places, 9)`.
        targets: the marks of the pages.
        class_losses: losses `(n, places, 9)` of logits for the scores `(n, places, 9)` that they shall have.
        coarse: number of coarse marks among them, each of which weighs as much as a mark that is found well.
    """
    mark, place, weight = _assigned(extents.detach(), logits.detach(), targets)
    wanted = torch.zeros_like(logits).reshape(-1, len(WAVEFORMS))
    wanted[place, targets.waveform[mark]] = weight
    total = (weight.sum() + coarse).clamp(min=1.0)
    onset_s, stop_s = extents.reshape(-1, 2)[place].T
    distances = _distance(onset_s, stop_s, targets.onset_s[mark], targets.stop_s[mark])
    return _BOX_GAIN * (weight * distances).sum() / total, class_losses(wanted.reshape(logits.shape)).sum() / total


def _assigned(extents: torch.Tensor, logits: torch.Tensor, targets: Targets) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Marks `(k,)`, the places `(k,)` that shall find them, numbered over all pages, and the scores `(k,)` that these shall have."""
    places, centres_s = _places_of_rows(targets.row)
    onset_s, stop_s, page = targets.onset_s[:, None], targets.stop_s[:, None], targets.page[:, None]
    near = extents[page, places]
    overlap = _overlap(near[..., 0], near[..., 1], onset_s, stop_s)
    score = logits[page, places, targets.waveform[:, None]].sigmoid()
    inside = (centres_s > onset_s) & (centres_s < stop_s)
    aligned = torch.where(inside, score**_SCORE_POWER * overlap.clamp(min=1e-9) ** _OVERLAP_POWER, -1.0)
    return _assign(aligned, overlap, page * logits.shape[1] + places, len(logits) * logits.shape[1])


def _places_of_rows(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of the places of each row, `(rows, 625)`, and their centres in seconds, `(625,)`."""
    fine = rows[:, None] * FINE + torch.arange(FINE, device=rows.device)
    coarse = N_CHANNELS * FINE + rows[:, None] * COARSE + torch.arange(COARSE, device=rows.device)
    centres = place_centres_s().to(rows.device)
    return torch.cat([fine, coarse], dim=1), torch.cat([centres[:FINE], centres[N_CHANNELS * FINE :][:COARSE]])


def _overlap(onset: torch.Tensor, stop: torch.Tensor, other_onset: torch.Tensor, other_stop: torch.Tensor) -> torch.Tensor:
    """Intersection over union of stretches of time."""
    shared = (torch.minimum(stop, other_stop) - torch.maximum(onset, other_onset)).clamp(min=0.0)
    return shared / (stop - onset + other_stop - other_onset - shared).clamp(min=1e-6)


def _distance(onset: torch.Tensor, stop: torch.Tensor, other_onset: torch.Tensor, other_stop: torch.Tensor) -> torch.Tensor:
    """One minus DIoU (Zheng et al. 2020) of stretches of time."""
    span = (torch.maximum(stop, other_stop) - torch.minimum(onset, other_onset)).clamp(min=1e-6)
    apart = ((onset + stop - other_onset - other_stop) / 2 / span) ** 2
    return 1.0 - _overlap(onset, stop, other_onset, other_stop) + apart


def _assign(
    aligned: torch.Tensor, overlap: torch.Tensor, number: torch.Tensor, places: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Marks, numbers of their places and the score that each shall have; a place that two marks want goes to the one it overlaps more."""
    best, column = aligned.topk(_BEST, dim=1)
    mark = torch.arange(len(aligned), device=aligned.device)[:, None].expand_as(column)
    kept = best > 0
    mark, column = mark[kept], column[kept]
    place, shared = number[mark, column], overlap[mark, column]
    most = torch.full((places,), -1.0, device=aligned.device).scatter_reduce(0, place, shared, "amax")
    won = shared >= most[place]
    mark, column, place, shared = mark[won], column[won], place[won], shared[won]
    strength = aligned[mark, column]
    zero = torch.zeros(len(aligned), device=aligned.device)
    strongest, widest = zero.scatter_reduce(0, mark, strength, "amax"), zero.scatter_reduce(0, mark, shared, "amax")
    return mark, place, strength / strongest[mark].clamp(min=1e-12) * widest[mark]
