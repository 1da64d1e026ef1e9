"""Windows are cut and packed into shards of even work, all of them, once, and the same way every time."""

from __future__ import annotations

import random

import pytest

from cg_data.packing import WINDOWS_PER_BLOCK, Piece, ShardPlan, pack, without


def covered(plans: list[ShardPlan]) -> dict[str, list[int]]:
    windows: dict[str, list[int]] = {}
    for plan in plans:
        for piece in plan.pieces:
            windows.setdefault(piece.recording_id, []).extend(range(piece.start, piece.stop))
    return windows


@pytest.mark.parametrize("largest", [4, 30, 360, 1500])
def test_every_window_lies_in_exactly_one_shard(largest: int) -> None:
    rng = random.Random(largest)
    windows = {f"r{i:03d}": rng.choice([1, 2, 6, 17, 61, 360, 2345]) for i in range(80)}
    plans = pack(windows, largest)
    assert {name: sorted(found) for name, found in covered(plans).items()} == {name: list(range(n)) for name, n in windows.items()}
    assert all(plan.windows <= largest for plan in plans)
    assert len({plan.name for plan in plans}) == len(plans)


def test_one_long_recording_fills_a_cluster() -> None:
    plans = pack({"day": 8640}, 360)
    assert 60 <= len(plans) <= 64
    assert len({plan.windows for plan in plans[:-1]}) == 1
    assert all(piece.start % WINDOWS_PER_BLOCK == 0 for plan in plans for piece in plan.pieces)


def test_many_short_recordings_share_shards() -> None:
    plans = pack({f"{i:06d}": 1 for i in range(100_000)}, 360)
    assert len(plans) == 100_000 // (360 // WINDOWS_PER_BLOCK) + 1
    assert max(sum(piece.cost for piece in plan.pieces) for plan in plans) <= 360


def test_a_small_corpus_keeps_some_workers_busy() -> None:
    assert len(pack({f"{i:02d}": 18 for i in range(60)}, 360)) == 60


def test_the_plan_does_not_depend_on_the_order_in_which_files_are_listed() -> None:
    windows = {f"r{i}": 10 + i for i in range(50)}
    assert pack(windows, 100) == pack(dict(reversed(windows.items())), 100)


def test_leaving_a_recording_out_changes_only_its_own_shards() -> None:
    plans = pack({f"r{i:02d}": 20 for i in range(60)} | {"long": 500}, 60)
    rest = without(plans, {"long", "r07"})
    assert covered(rest) == {name: found for name, found in covered(plans).items() if name not in {"long", "r07"}}
    changed = {plan.name for plan in plans} - {plan.name for plan in rest}
    assert changed == {plan.name for plan in plans if {p.recording_id for p in plan.pieces} & {"long", "r07"}}


def test_a_name_stands_for_its_pieces() -> None:
    a, b = Piece(recording_id="a", start=0, stop=6), Piece(recording_id="a", start=6, stop=12)
    assert len({ShardPlan(pieces=pieces).name for pieces in ((a,), (b,), (a, b), (b, a))}) == 4
