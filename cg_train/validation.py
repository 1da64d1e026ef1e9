"""Looks at a fixed set of samples that training never sees, between optimiser steps, without changing anything in training.

Samples share forward passes as training has them share, and the loss is the mean over the label tokens of the whole set; how the set is
cut hangs neither on the number of workers nor on anything that was done before.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cg_data.errors import ConfigError
from cg_data.vocabulary import Split
from cg_train.batches import Collate, SampleStore, prefetched, to_device
from cg_train.packs import Rows, SampleLengths, shares
from cg_train.plan import fixed_rows
from cg_train.recipe import PackedBatches, StageRecipe, ValidationSettings
from cg_train.step import Targets, together

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Samples of one forward pass. One that is not `counted` is passed for company: with ZeRO workers meet in every pass."""

    rows: Rows
    counted: bool


def held_out(samples_uris: Sequence[str], recipe: StageRecipe) -> tuple[SampleStore, Rows]:
    """The validation split and the rows of it that a stage looks at, int64 `(n,)`.

    Raises:
        StorageError: there is no such split.
        ConfigError: it has no sample of any kind of the mixture.
    """
    assert recipe.validation is not None
    store = SampleStore(samples_uris, split=Split.VALIDATION, cache_bytes=0)  # a `Validator` reads it in order, and once
    rows = fixed_rows(store.index, recipe, recipe.validation.samples)
    if not len(rows):
        raise ConfigError("validation: the validation split has no sample of the mixture's kinds. Set validation to null.")
    return store, rows


def groups_of(rows: Rows, lengths: SampleLengths | None, recipe: StageRecipe, *, rank: int, workers: int) -> list[Group]:
    """The passes of one worker, of all equally many. `lengths` are of the whole index; needed where `batching` goes by length."""
    parts = _cut(rows, lengths, recipe)
    company = Group(rows=parts[-1][:1], counted=False)
    return ([Group(rows=part, counted=True) for part in parts] + [company] * (-len(parts) % workers))[rank::workers]


def _cut(rows: Rows, lengths: SampleLengths | None, recipe: StageRecipe) -> list[Rows]:
    """As one worker would cut a step, but for a last padded pass that may be smaller."""
    batching = recipe.batching
    if isinstance(batching, PackedBatches):
        return shares(rows, lengths, batching=batching, workers=1)[0]
    ordered = rows if lengths is None else rows[np.argsort(-lengths.tokens[rows], kind="stable")]
    return [ordered[start : start + batching.micro_batch] for start in range(0, len(rows), batching.micro_batch)]


def has_settled(losses: Sequence[float], settings: ValidationSettings) -> bool:
    """Whether training is to stop: in the last `patience` looks none was lower than the least before by more than `tolerance` of it."""
    least, waited = math.inf, 0
    for loss in losses:
        fallen = loss < least * (1.0 - settings.tolerance)
        least, waited = (loss, 0) if fallen else (least, waited + 1)
    return settings.patience is not None and waited >= settings.patience


class Validator:
    """The fixed set of one stage, as one worker looks at it; its part of the samples stays in memory."""

    def __init__(
        self, store: SampleStore, groups: Sequence[Group], collate: Collate, targets: Targets, *, every: int, samples: int
    ) -> None:
        """`groups` are this worker's passes of a set of `samples`, rows of `store`; a look is due at every `every`-th step and the last."""
        read = {row: store.sample(row) for row in sorted({int(row) for group in groups for row in group.rows})}
        self._passes = [[read[int(row)] for row in group.rows] for group in groups]
        self._counted = [group.counted for group in groups]
        self._collate, self._targets = collate, targets
        self._every, self._samples = every, samples

    def is_due(self, step: int, *, steps: int) -> bool:
        return step % self._every == 0 or step == steps

    def look(self, engine: Any) -> dict[str, float]:
        """The mean loss of the set in the state that `engine` is in, alike on all workers, and the seconds that it took.

        Raises:
            ConfigError: on all workers alike, if that loss is not finite.
            UserError: on all workers alike, if a sample cannot be made into a batch.
        """
        import torch
        import torch.distributed as dist

        started = time.perf_counter()
        sums = torch.zeros(2, dtype=torch.float64, device=engine.device)
        engine.eval()
        with torch.no_grad():
            for counted, fetch in zip(self._counted, prefetched(self._batch, range(len(self._passes))), strict=True):
                sums += self._sums(engine, fetch) * float(counted)
        engine.train()
        dist.all_reduce(sums)
        total, targets = sums.tolist()
        loss = total / targets
        if not math.isfinite(loss):
            raise ConfigError(f"the loss on validation is {loss}: training diverged. Lower learning_rate.")
        return {"validation_loss": loss, "validation_samples": self._samples, "validation_s": time.perf_counter() - started}

    def _batch(self, number: int) -> Mapping[str, torch.Tensor]:
        samples = self._passes[number]
        return self._collate(samples, [sample.eeg_uv for sample in samples])

    def _sums(self, engine: Any, fetch: Callable[[], Mapping[str, torch.Tensor]]) -> torch.Tensor:
        """Summed loss and number of targets of one pass, float64 `(2,)`."""
        import torch

        inputs = to_device(together(fetch, engine.device), engine.device)
        targets = self._targets(inputs)
        loss = engine(**inputs, num_items_in_batch=torch.ones_like(targets)).loss
        return torch.stack([loss.double(), targets.double()])
