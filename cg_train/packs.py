"""Which samples of a step share a forward pass, and on which worker: decided from their lengths alone, alike on every worker.

The loss is the mean over the label tokens of the whole global batch (`cg_train.step`), so the cut changes what a step costs and not what
it learns. Every worker takes the same number of micro-batches in a step, for with ZeRO they meet in each of them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cg_data.errors import ConfigError, UserError
from cg_train.recipe import Batching, PackedBatches, StageRecipe

if TYPE_CHECKING:
    import torch

Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SampleLengths:
    """Of every sample in an index, int32 `(samples,)` each: `tokens`, visual ones included, and `images`: pages and pictures."""

    tokens: npt.NDArray[np.int32]
    images: npt.NDArray[np.int32]


def check_batching(recipe: StageRecipe, workers: int) -> None:
    """Raises:
    ConfigError: the global batch cannot be split evenly over the workers.
    """
    if isinstance(recipe.batching, PackedBatches):
        if recipe.global_batch % workers:
            raise ConfigError(
                f"global_batch {recipe.global_batch} is not a multiple of compute.workers {workers}, and each must have as many packs: "
                f"set global_batch to a multiple of {workers}, or change compute.workers."
            )
        return
    per_pass = workers * recipe.batching.micro_batch
    if recipe.global_batch % per_pass:
        raise ConfigError(
            f"global_batch {recipe.global_batch} is not a multiple of workers x micro_batch = {workers} x {recipe.batching.micro_batch}: "
            f"set global_batch to a multiple of {per_pass}, or change batching.micro_batch or compute.workers."
        )


def check_lengths(index: pa.Table, rows: Rows, lengths: SampleLengths, max_tokens: int) -> None:
    """Raises:
    UserError: one of the planned `rows` of `index` is longer than `max_tokens`.
    """
    planned = np.unique(rows)
    over = planned[lengths.tokens[planned] > max_tokens]
    if len(over):
        longest = int(over[np.argmax(lengths.tokens[over])])
        named = index.slice(longest, 1).to_pylist()[0]
        raise too_long(named["sample_id"], named["kind"], int(lengths.tokens[longest]), max_tokens)


def too_long(sample_id: str, kind: str, tokens: int, max_tokens: int) -> UserError:
    """What is said of a sample that is never cut to fit."""
    return UserError(
        f"sample {sample_id} ({kind}) has {tokens} tokens, more than max_tokens {max_tokens}: "
        "raise max_tokens, or leave this kind of sample out of the mixture."
    )


def shares(rows: Rows, lengths: SampleLengths | None, *, batching: Batching, workers: int) -> list[list[Rows]]:
    """The micro-batches of each worker, in the order of their accumulation; of all workers equally many.

    Args:
        rows: of one step, int64 `(global_batch,)`; see `check_batching`.
        lengths: of the whole index; needed where `batching` goes by length.
    """
    if isinstance(batching, PackedBatches):
        assert lengths is not None
        return _dealt(_packed(rows, lengths, batching, workers), lengths, workers)
    if not batching.by_length:
        return [[*part.reshape(-1, batching.micro_batch)] for part in rows.reshape(workers, -1)]
    assert lengths is not None
    descending = rows[np.argsort(-lengths.tokens[rows], kind="stable")]
    return _dealt([*descending.reshape(-1, batching.micro_batch)], lengths, workers)


def _packed(rows: Rows, lengths: SampleLengths, batching: PackedBatches, workers: int) -> list[Rows]:
    """The fewest packs, a multiple of `workers`, into which worst fit decreasing brings `rows`.

    The longest sample that is left goes into the pack that holds the fewest tokens (Graham 1969: longest processing time first, a makespan
    within 4/3 - 1/(3 packs) of the best where there is room), where its tokens and its picture still fit. First fit decreasing (Johnson
    1973) would need fewer packs now and then, and leave the last one nearly empty: packs of equal size are what workers do not wait for,
    and without padding the number of packs costs nothing. No pack is empty, for there are no more packs than samples.
    """
    tokens, images = lengths.tokens[rows].astype(np.int64), lengths.images[rows].astype(np.int64)
    if tokens.max() > batching.tokens or images.max() > batching.images:
        raise ValueError("a sample does not fit into a pack of its own")
    least = max(-(-int(tokens.sum()) // batching.tokens), -(-int(images.sum()) // batching.images))
    for packs in range(-(-least // workers) * workers, len(rows) + 1, workers):
        places = _worst_fit(tokens, images, batching, packs)
        if places is not None:
            return [rows[places == pack] for pack in range(packs)]
    raise AssertionError("as many packs as samples always suffice")


def _worst_fit(tokens: Rows, images: Rows, batching: PackedBatches, packs: int) -> Rows | None:
    """The pack of each sample, or None where one fits nowhere."""
    places = np.empty(len(tokens), dtype=np.int64)
    held, shown = np.zeros(packs, dtype=np.int64), np.zeros(packs, dtype=np.int64)
    for sample in np.argsort(-tokens, kind="stable"):
        full = (held + tokens[sample] > batching.tokens) | (shown + images[sample] > batching.images)
        pack = int(np.argmin(np.where(full, np.iinfo(np.int64).max, held)))
        if full[pack]:
            return None
        places[sample] = pack
        held[pack] += tokens[sample]
        shown[pack] += images[sample]
    return places


def _dealt(groups: list[Rows], lengths: SampleLengths, workers: int) -> list[list[Rows]]:
    """Groups by size: those of near size come at the same time on all workers, and each worker has the largest of them in turn."""
    sizes = np.array([lengths.tokens[group].sum() for group in groups])
    order = np.argsort(-sizes, kind="stable").reshape(-1, workers)
    order[1::2] = order[1::2, ::-1]
    return [[groups[number] for number in mine] for mine in order.T]


def packed_lengths(positions: torch.Tensor) -> torch.Tensor:
    """Tokens of each sample of a pack, in order, of row 0 of its position ids `(1, length)`, which starts at zero for each."""
    starts = (positions[0] == 0).nonzero()[:, 0]
    return starts.diff(append=starts.new_tensor([positions.shape[1]]))
