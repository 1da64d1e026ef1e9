"""From planned sample ids to batches of tensors: shards read by row group, pages drawn and text encoded before they are asked for."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cg_data import storage
from cg_data.errors import StorageError
from cg_data.records import Sample
from cg_data.rows import sample_from_row
from cg_data.vocabulary import Split
from cg_train.packs import SampleLengths, shares
from cg_train.plan import Plan, random_words
from cg_train.recipe import Batching
from cg_train.rowstore import RowStore

if TYPE_CHECKING:
    import torch

_T = TypeVar("_T")
_AHEAD = 2
"""Steps prepared before they are asked for."""


class SampleStore:
    """The samples of one split in folders of shards, any one of them within reach (`RowStore`); a folder that is not there holds none."""

    def __init__(self, uris: Sequence[str], *, split: Split = Split.TRAIN, cache_bytes: int = 2 << 30) -> None:
        self.shards = _shards_of(uris)
        """URIs of the files, those without a sample of the split too; `index` numbers them."""
        if not self.shards:
            raise StorageError(f"{' and '.join(uris)}: no samples there. Run the data steps first.")
        self.split = split
        self.index = _index_of(self.shards, split)
        """Columns sample_id, kind, shard (number) and row (within the shard), one row for each sample of the split, in order."""
        if not self.index.num_rows:
            change = "lower" if split is Split.TRAIN else "raise"
            raise StorageError(
                f"{' and '.join(uris)}: no sample of the {split.value} split there. Give more subjects or {change} the held-out fractions."
            )
        places = np.stack([self.index.column(name).to_numpy() for name in ("shard", "row")], axis=1)
        self._rows = RowStore(self.shards, places, cache_bytes=cache_bytes)

    def sample(self, row: int) -> Sample:
        """The sample at `row` of the index."""
        return sample_from_row(self._rows.row(row))

    def sample_ids_of(self, shard: int) -> pa.Array:
        """Of the samples of the split in the shard of this number, in order."""
        start, stop = np.searchsorted(self.index.column("shard").to_numpy(), [shard, shard + 1])
        return self.index.column("sample_id").slice(start, stop - start).combine_chunks()


def _shards_of(uris: Sequence[str]) -> list[str]:
    return [shard for uri in uris for shard in storage.list_files(uri, ".parquet", recursive=True)]


def _index_of(shards: Sequence[str], split: Split) -> pa.Table:
    tables = []
    for number, uri in enumerate(shards):
        table = storage.read_table(uri, ["sample_id", "kind", "split"])
        rows = np.flatnonzero(np.asarray(table.column("split").to_pylist()) == split.value)
        kept = table.select(["sample_id", "kind"]).take(pa.array(rows))
        kept = kept.append_column("shard", pa.array(np.full(len(rows), number, dtype=np.int32)))
        tables.append(kept.append_column("row", pa.array(rows.astype(np.int64))))
    return pa.concat_tables(tables)


def training_texts(uris: Sequence[str]) -> list[str]:
    """What is said in the samples of the training split, turn by turn."""
    texts: list[str] = []
    for shard in _shards_of(uris):
        table = storage.read_table(shard, ["split", "messages"])
        rows = zip(table["split"].to_pylist(), table["messages"].to_pylist(), strict=True)
        texts += [message["content"] for split, messages in rows if split == Split.TRAIN.value for message in messages]
    return texts


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepBatch:
    """What one worker consumes at one optimiser step: collated micro-batches, and in `sample_ids` what went into them, in order."""

    step: int
    sample_ids: tuple[str, ...]
    micro_batches: tuple[Mapping[str, torch.Tensor], ...]


Collate = Callable[[Sequence[Sample], Sequence[npt.NDArray[np.float32]]], Mapping[str, "torch.Tensor"]]
"""Samples and their (perhaps scaled) signals in microvolts, `(19, 2000)` each (`(0, 2000)` without a page), as a batch with labels."""


def gain(sample_id: str, *, step: int, seed: int, gain_log2: float) -> float:
    """The factor 2^U(-g, g) by which a signal is scaled before it is drawn, fixed by seed, step and sample."""
    unit = float(random_words(1, seed, "gain", step, sample_id)[0]) / 2.0**64
    return float(2.0 ** (gain_log2 * (2.0 * unit - 1.0)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchMaker:
    """Turns the share of one worker in a step of the plan into a `StepBatch`; the same call always gives the same batch.

    `lengths` are those of the rows of the store's index; None where `batching` does not ask for them.
    """

    store: SampleStore
    plan: Plan
    rank: int
    workers: int
    batching: Batching
    lengths: SampleLengths | None
    seed: int
    gain_log2: float
    collate: Collate

    def __call__(self, step: int) -> StepBatch:
        cut = shares(self.plan.rows[step], self.lengths, batching=self.batching, workers=self.workers)
        micro = [[self.store.sample(int(row)) for row in rows] for rows in cut[self.rank]]
        collated = tuple(self.collate(samples, [self._signal(sample, step) for sample in samples]) for samples in micro)
        return StepBatch(step=step, sample_ids=tuple(s.sample_id for samples in micro for s in samples), micro_batches=collated)

    def _signal(self, sample: Sample, step: int) -> npt.NDArray[np.float32]:
        if not self.gain_log2:
            return sample.eeg_uv
        return sample.eeg_uv * np.float32(gain(sample.sample_id, step=step, seed=self.seed, gain_log2=self.gain_log2))


Finish = Callable[[StepBatch], StepBatch]
Feed = Callable[[BatchMaker, range, Finish], Generator[Callable[[], StepBatch], None, None]]
"""Who has the batches of some steps made, has the worker finish them, and hands them over as `prefetched` does; closing it lets go of what
it holds."""


def made_here(make: BatchMaker, steps: range, finish: Finish) -> Generator[Callable[[], StepBatch], None, None]:
    """The feed that is a thread of the worker."""
    return prefetched(lambda step: finish(make(step)), steps)


def prefetched(make: Callable[[int], _T], steps: Iterable[int]) -> Generator[Callable[[], _T], None, None]:
    """For each step a function that waits for its result, while one thread prepares the next ones.

    The result is behind a function so that an error of `make` reaches the caller at its own step, where all workers can agree on it.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    waiting: deque[Future[_T]] = deque()
    try:
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result
        while waiting:
            yield waiting.popleft().result
    finally:
        pool.shutdown(cancel_futures=True)


def finished(batch: StepBatch, *, dtype: torch.dtype, gpu: bool) -> StepBatch:
    """With pixels as the tower would turn them first thing, half as large in bfloat16; for a GPU in memory from which it copies itself."""
    micro = [{name: tensor.to(dtype) if name == "pixel_values" else tensor for name, tensor in b.items()} for b in batch.micro_batches]
    if gpu:
        micro = [{name: tensor.pin_memory() for name, tensor in inputs.items()} for inputs in micro]
    return dataclasses.replace(batch, micro_batches=tuple(micro))


def to_device(batch: Mapping[str, torch.Tensor], device: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
