"""Single rows of folders of shards, any one within reach while most stay on disk."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cg_data import storage


class RowStore:
    """Rows of `shards` by their places `(n, 2)`: number of the shard, row within it.

    Only row groups that are asked for are decoded; the last ones used stay in memory up to `cache_bytes`. A pickled store opens them anew.
    """

    def __init__(self, shards: Sequence[str], places: npt.NDArray[np.int64], *, cache_bytes: int = 2 << 30) -> None:
        self._shards, self._places = shards, places
        self._files: dict[int, _Shard] = {}
        self._cache: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()
        self._cache_bytes, self._cached = cache_bytes, 0

    def __reduce__(self) -> tuple[Callable[..., RowStore], tuple[object, ...]]:
        return functools.partial(RowStore, cache_bytes=self._cache_bytes), (self._shards, self._places)

    def row(self, number: int) -> dict[str, Any]:
        """The row at place `number`."""
        shard, position = (int(part) for part in self._places[number])
        if shard not in self._files:
            self._files[shard] = _Shard(self._shards[shard])
        group, offset = self._files[shard].locate(position)
        return self._group(shard, group).slice(offset, 1).to_pylist()[0]

    def _group(self, shard: int, group: int) -> pa.Table:
        key = (shard, group)
        if key not in self._cache:
            self._cache[key] = self._files[shard].read(group)
            self._cached += self._cache[key].nbytes
            while len(self._cache) > 1 and self._cached > self._cache_bytes:
                _, dropped = self._cache.popitem(last=False)
                self._cached -= dropped.nbytes
        self._cache.move_to_end(key)
        return self._cache[key]


class _Shard:
    """One open Parquet file."""

    def __init__(self, uri: str) -> None:
        filesystem, path = storage.resolve(uri)
        # Samples of one page share its signal, which stays one so; the columns of a group are fetched together.
        self._file = pq.ParquetFile(path, filesystem=filesystem, read_dictionary=["eeg_steps"], pre_buffer=True)
        metadata = self._file.metadata
        self._ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])

    def locate(self, row: int) -> tuple[int, int]:
        """Row group that holds `row`, and the place within it."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        return group, row - (int(self._ends[group - 1]) if group else 0)

    def read(self, group: int) -> pa.Table:
        return self._file.read_row_group(group, use_threads=False)
