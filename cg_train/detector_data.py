"""Which pages the detector learns from, and in which order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from cg_data import storage
from cg_data.detect.references import Labels, References, references_of
from cg_data.records import Segment, content_id
from cg_data.rows import labels_from_rows, segment_from_row
from cg_data.vocabulary import WAVEFORMS, Split, Waveform
from cg_train.rowstore import RowStore

_COMMON = 0.5
_EMPTY = 0.3
_COLUMNS = ["segment_id", "corpus", "subject", "split", "mask", "labels"]


class SegmentStore(Sequence[Segment]):
    """Segments of one split of which something is known, in order of their ids, so that the layout of the shards is forgotten. Signals are
    read when they are asked for.

    `held` says of each which waveforms are or may be on it; `content` names ids and labels; `marks` counts exact marks; `unknown` the
    segments left out.
    """

    def __init__(self, uri: str, split: Split, *, min_box_s: float) -> None:
        shards = storage.list_files(uri, ".parquet")
        self.unknown = 0
        self.corpora: set[str] = set()
        self.subjects: set[str] = set()
        self.marks: Counter[Waveform] = Counter()
        found = []
        for number, shard in enumerate(shards):
            for position, row in enumerate(storage.read_table(shard, _COLUMNS).to_pylist()):
                if row["split"] == split:
                    references = references_of(_labels_of(row), min_box_s=min_box_s)
                    if _is_useful(references):
                        found.append((row["segment_id"], number, position, waveforms_in(references), content_id(row["labels"])))
                        self._count(row, references)
                    else:
                        self.unknown += 1
        found.sort(key=lambda entry: entry[0])
        self.ids = [entry[0] for entry in found]
        self.content = content_id([(entry[0], entry[4]) for entry in found])
        self.held: list[frozenset[str]] = [entry[3] for entry in found]
        self._rows = RowStore(shards, np.array([entry[1:3] for entry in found], dtype=np.int64).reshape(-1, 2))

    def _count(self, row: dict[str, Any], references: References) -> None:
        self.corpora.add(row["corpus"])
        self.subjects.add(row["subject"])
        self.marks.update(WAVEFORMS[int(mark[0])] for mark in references.marks)

    def __len__(self) -> int:
        return len(self.held)

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Segment]: ...
    def __getitem__(self, index: int | slice) -> Segment | list[Segment]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return segment_from_row(self._rows.row(index))


def _labels_of(row: dict[str, Any]) -> Labels:
    return Labels(corpus=row["corpus"], mask=np.array(row["mask"], dtype=np.bool_), labels=labels_from_rows(row["labels"]))


def _is_useful(references: References) -> bool:
    return bool(len(references.marks) or references.coarse or references.known)


def waveforms_in(references: References) -> frozenset[str]:
    """Names of the waveforms that are marked on a page, or may be the one that a coarse mark is about."""
    marked = {WAVEFORMS[int(mark[0])] for mark in references.marks}
    return frozenset(marked | {WAVEFORMS[i] for region in references.coarse for i in np.flatnonzero(region.waveforms)})


def sampling_weights(held: Sequence[frozenset[str]]) -> npt.NDArray[np.float64]:
    """How often each page is drawn, relative to one of common waveforms: repeat-factor sampling (Gupta et al. 2019, LVIS).

    The factor of a page is that of the rarest waveform that it holds, the root of `_COMMON` over the share of pages that hold it, at least
    1; of an empty one, from which little is learnt, `_EMPTY`.
    """
    counts = Counter(name for names in held for name in names)
    factor = {name: max(1.0, math.sqrt(_COMMON * len(held) / count)) for name, count in counts.items()}
    return np.array([max((factor[name] for name in names), default=_EMPTY) for names in held])


def epoch_order(seed: int, epoch: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """As many indices as there are weights, each as often as its weight says, shuffled: a function of the arguments alone."""
    random = np.random.default_rng((seed, epoch))
    ends = np.cumsum(weights) / np.sum(weights) * len(weights)
    drawn = np.searchsorted(ends, np.arange(len(weights)) + random.random(), side="right")
    return random.permutation(np.minimum(drawn, len(weights) - 1))
