"""Looks at a fixed set of samples that training never sees, between optimiser steps, without changing anything in training.

Samples share forward passes as training has them share, as far as that can be said without their lengths, and the loss is the mean over
the label tokens of the whole set; how the set is cut hangs neither on the number of workers nor on anything that was done before.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cg_data.errors import ConfigError
from cg_train.batches import Collate, SampleStore, prefetched, to_device
from cg_train.plan import fixed_rows
from cg_train.recipe import PackedBatches, StageRecipe, ValidationSettings
from cg_train.step import Targets, together

if TYPE_CHECKING:
    import torch

Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Samples of one forward pass. One that is not `counted` is passed for company: with ZeRO workers meet in every pass."""

    rows: Rows
    counted: bool


def groups_of(rows: Rows, recipe: StageRecipe, *, rank: int, workers: int) -> list[Group]:
    """The passes of one worker, of all equally many."""
    batching = recipe.batching
    size = batching.tokens // recipe.max_tokens if isinstance(batching, PackedBatches) else batching.micro_batch
    parts = [Group(rows=rows[start : start + size], counted=True) for start in range(0, len(rows), size)]
    company = Group(rows=rows[:1], counted=False)
    return (parts + [company] * (-len(parts) % workers))[rank::workers]


def has_settled(losses: Sequence[float], settings: ValidationSettings) -> bool:
    """Whether training is to stop: in the last `patience` looks none was lower than the least before by more than `tolerance` of it."""
    least, waited = math.inf, 0
    for loss in losses:
        fallen = loss < least * (1.0 - settings.tolerance)
        least, waited = (loss, 0) if fallen else (least, waited + 1)
    return settings.patience is not None and waited >= settings.patience


class Validator:
    """The fixed set of one stage, as one worker looks at it."""

    def __init__(self, store: SampleStore, recipe: StageRecipe, collate: Collate, targets: Targets, *, rank: int, workers: int) -> None:
        """`store` is that of the validation split.

        Raises:
            ConfigError: it has no sample of any kind of the mixture.
        """
        assert recipe.validation is not None
        rows = fixed_rows(store.index, recipe, recipe.validation.samples)
        if not len(rows):
            raise ConfigError("validation: the validation split has no sample of the mixture's kinds. Set validation to null.")
        self._store, self._collate, self._targets, self._every = store, collate, targets, recipe.validation.every
        self._samples = len(rows)
        self._groups = groups_of(rows, recipe, rank=rank, workers=workers)

    def is_due(self, step: int) -> bool:
        return step % self._every == 0

    def look(self, engine: Any) -> dict[str, float]:
        """The mean loss of the set in the state that `engine` is in, alike on all workers, and the seconds that it took.

        Raises:
            UserError: on all workers alike, if a sample cannot be made into a batch.
        """
        import torch
        import torch.distributed as dist

        started = time.perf_counter()
        sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
        engine.eval()
        with torch.no_grad():
            for group, fetch in zip(self._groups, prefetched(self._batch, range(len(self._groups))), strict=True):
                sums += self._sums(engine, group, fetch)
        engine.train()
        dist.all_reduce(sums)
        loss, targets = sums.tolist()
        return {"validation_loss": loss / targets, "validation_samples": self._samples, "validation_s": time.perf_counter() - started}

    def _batch(self, number: int) -> Mapping[str, torch.Tensor]:
        samples = [self._store.sample(int(row)) for row in self._groups[number].rows]
        return self._collate(samples, [sample.eeg_uv for sample in samples])

    def _sums(self, engine: Any, group: Group, fetch: Callable[[], Mapping[str, torch.Tensor]]) -> torch.Tensor:
        """Summed loss and number of targets of one pass, float64 `(2,)`."""
        import torch

        inputs = to_device(together(functools.partial(fetch), engine.device), engine.device)
        targets = self._targets(inputs)
        loss = engine(**inputs, num_items_in_batch=torch.ones_like(targets)).loss
        return torch.stack([loss.double(), targets.double()]) * float(group.counted)
