"""From segments to what one step of the detector's training takes: augmented signals as network inputs, and what is known of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cg_data.detect.references import References, Region, known_cells, references_of
from cg_data.records import Segment
from cg_train.augment import augmented
from cg_train.recipe import DetectorRecipe


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where a network looks: `rows` int64 `(places,)` (-1: on no row) and `centres_s` float64 `(places,)`."""

    rows: npt.NDArray[np.int64]
    centres_s: npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Coarse:
    """At one of `places` `(k,)` of page `page`, one of `classes` `(c,)` shall be found."""

    page: int
    places: torch.Tensor
    classes: torch.Tensor


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What one step takes.

    `inputs` are those of the network; `marks` float64 `(marks, 5)` hold page, class, row, start and stop in seconds; `known` bool
    `(n, places, 9)` says where a waveform that is not marked is absent.
    """

    inputs: tuple[torch.Tensor, ...]
    marks: torch.Tensor
    known: torch.Tensor
    coarse: tuple[Coarse, ...]

    def __len__(self) -> int:
        return len(self.known)

    def to(self, device: torch.device | str) -> Batch:
        coarse = (dataclasses.replace(c, places=c.places.to(device), classes=c.classes.to(device)) for c in self.coarse)
        return Batch(
            inputs=tuple(tensor.to(device, non_blocking=True) for tensor in self.inputs),
            marks=self.marks.to(device),
            known=self.known.to(device, non_blocking=True),
            coarse=tuple(coarse),
        )


def make_batch(
    recipe: DetectorRecipe, network: Any, places: Places, segments: Sequence[Segment], seeds: Sequence[tuple[int, ...]]
) -> Batch:
    """Augmented pages of `segments`, each by its own seed, as `network` (a `WaveformNetwork`) takes them."""
    pages = [_augmented(recipe, segment, seed) for segment, seed in zip(segments, seeds, strict=True)]
    references = [page[2] for page in pages]
    marks = np.concatenate([np.column_stack([np.full(len(r.marks), i), r.marks]) for i, r in enumerate(references)])
    known = np.stack([known_cells(r.known, places.centres_s, places.rows) for r in references])
    known[:, places.rows < 0] = True
    return Batch(
        inputs=network.prepare(np.stack([page[0] for page in pages]), np.stack([page[1] for page in pages]), "cpu"),
        marks=torch.from_numpy(marks),
        known=torch.from_numpy(known),
        coarse=tuple(_coarse(i, region, places) for i, r in enumerate(references) for region in r.coarse),
    )


def _augmented(
    recipe: DetectorRecipe, segment: Segment, seed: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], References]:
    references = references_of(segment, min_box_s=recipe.min_box_s)
    return augmented(segment.eeg_uv, segment.mask, references, recipe.augment, np.random.default_rng(seed))


def _coarse(page: int, region: Region, places: Places) -> Coarse:
    inside = region.rows[places.rows] & (places.rows >= 0) & (places.centres_s >= region.start_s) & (places.centres_s < region.stop_s)
    return Coarse(page=page, places=torch.from_numpy(np.flatnonzero(inside)), classes=torch.from_numpy(np.flatnonzero(region.waveforms)))
