"""Which windows of which recordings go into which shard: even work, and a plan that depends on nothing but what is still to be done."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping

from cg_data.records import content_id
from cg_data.signal import BLOCK_S
from cg_data.vocabulary import SEGMENT_S

WINDOWS_PER_BLOCK = BLOCK_S // SEGMENT_S
"""The filter works in blocks of 60 s: a piece that ends inside one costs as much as the whole block."""
_SHARDS = 64
_SMALLEST = 30
"""A small corpus is cut into about 64 shards of at least 30 windows, so that it, too, keeps some workers busy."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Piece:
    """Windows `start` to `stop` of a recording, counted over all its runs."""

    recording_id: str
    start: int
    stop: int

    @property
    def windows(self) -> int:
        return self.stop - self.start

    @property
    def cost(self) -> int:
        """Windows that the filter works on for it."""
        blocks = (self.stop - 1) // WINDOWS_PER_BLOCK - self.start // WINDOWS_PER_BLOCK + 1
        return blocks * WINDOWS_PER_BLOCK


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """One output file: its pieces in order. `name` follows from them."""

    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        return f"{content_id('shard', [dataclasses.astuple(piece) for piece in self.pieces])}.parquet"

    @property
    def windows(self) -> int:
        return sum(piece.windows for piece in self.pieces)


def pack(windows: Mapping[str, int], largest: int) -> list[ShardPlan]:
    """Plans that cover `windows` (whole windows of each recording, by id), each of at most `largest` windows.

    A long recording is cut into even parts at block edges, so that one file fills a cluster; short ones share a shard, so that many files
    do not drown it. Recordings are taken in the order of their ids: the same set always gives the same plans.
    """
    even = -(-sum(windows.values()) // (_SHARDS * WINDOWS_PER_BLOCK)) * WINDOWS_PER_BLOCK
    per_shard = min(largest, max(_SMALLEST, even))
    plans: list[ShardPlan] = []
    current: list[Piece] = []
    for recording_id in sorted(windows):
        for piece in _cut(recording_id, windows[recording_id], per_shard):
            if current and sum(p.cost for p in current) + piece.cost > per_shard:
                plans.append(ShardPlan(pieces=tuple(current)))
                current = []
            current.append(piece)
    return [*plans, ShardPlan(pieces=tuple(current))] if current else plans


def _cut(recording_id: str, windows: int, per_shard: int) -> list[Piece]:
    parts = max(1, -(-windows // per_shard))
    whole = max(per_shard - per_shard % WINDOWS_PER_BLOCK, min(per_shard, WINDOWS_PER_BLOCK))
    step = min(-(-windows // (parts * WINDOWS_PER_BLOCK)) * WINDOWS_PER_BLOCK, whole)
    return [Piece(recording_id=recording_id, start=at, stop=min(at + step, windows)) for at in range(0, windows, step)]


def without(plans: Iterable[ShardPlan], recording_ids: Collection[str]) -> list[ShardPlan]:
    """Plans without the pieces of some recordings; a plan that has none of them stays as it is."""
    rest = (tuple(piece for piece in plan.pieces if piece.recording_id not in recording_ids) for plan in plans)
    return [ShardPlan(pieces=pieces) for pieces in rest if pieces]
