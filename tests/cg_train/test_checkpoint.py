from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from cg_data.errors import ConfigError, UserError
from cg_train.checkpoint import Position, is_of_other_size, load, newest_whole, put_together, save, seal
from cg_train.recipe import TrainSettings
from cg_train.step import engine_config, make_engine, train_steps
from tests.cg_train.test_step import RECIPE, SETTINGS, STEPS, step_batches
from tests.cg_train.train_small import SmallModel, in_group, join_group


def _engine(seed: int, zero_stage: int, **offload: str) -> object:
    settings = TrainSettings.model_validate(SETTINGS.model_dump() | {"zero_stage": zero_stage, "offload": offload})
    return make_engine(SmallModel(seed), RECIPE, engine_config(RECIPE, settings, 1), steps=STEPS, gpu=False)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(
    ("zero_stage", "offload"),
    [(0, {}), (1, {}), (2, {}), (3, {}), (2, {"optimizer": "cpu"}), (3, {"optimizer": "cpu", "parameters": "cpu"})],
    ids=["0", "1", "2", "3", "2, optimiser on the CPU", "3, all on the CPU"],
)
def test_training_continues_from_a_checkpoint_bit_for_bit(zero_stage: int, offload: dict[str, str], tmp_path: Path) -> None:
    engine = _engine(0, zero_stage, **offload)
    undisturbed = []
    for report in train_steps(engine, step_batches(0, 1), declared=None):
        undisturbed.append((report.step, report.loss, report.grad_norm, report.lr))
        if report.step == 3:
            save(engine, tmp_path, Position(step=3, fingerprint="f"))
            drawn = torch.rand(2), np.random.random(2)
    other = _engine(1, zero_stage, **offload)  # other weights: what is equal afterwards was loaded
    assert load(other, tmp_path, fingerprint="f") == Position(step=3, fingerprint="f")
    assert torch.equal(torch.rand(2), drawn[0])
    np.testing.assert_array_equal(np.random.random(2), drawn[1])
    resumed = [(r.step, r.loss, r.grad_norm, r.lr) for r in train_steps(other, step_batches(0, 1, start=3), declared=None)]
    assert resumed == undisturbed[3:]


@pytest.mark.usefixtures("process_group")
def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    engine = _engine(0, 2)
    save(engine, tmp_path, Position(step=0, fingerprint="f"))
    with pytest.raises(ConfigError, match="other samples or another recipe"):
        load(engine, tmp_path, fingerprint="g")


def _train_some(rank: int, workers: int, zero_stage: int, root: Path, start: int, stop: int) -> list[float]:
    """Losses of steps `start` to `stop`, gone on with from the merged checkpoint at `start` and kept at `stop`."""
    settings = TrainSettings.model_validate(SETTINGS.model_dump() | {"zero_stage": zero_stage})
    folder, states = root / f"at-{start}", root / f"states-{start}-{workers}"
    scattered = start > 0 and is_of_other_size(folder, workers)
    if scattered and rank == 0:
        put_together(folder, states)
    dist.barrier()
    engine = make_engine(SmallModel(start), RECIPE, engine_config(RECIPE, settings, workers, universal=scattered), steps=STEPS, gpu=False)
    if start:
        assert load(engine, folder, fingerprint="f", states=states if scattered else None) == Position(step=start, fingerprint="f")
    losses = []
    for report in train_steps(engine, itertools.islice(step_batches(rank, workers, start=start), stop - start), declared=None):
        losses.append(report.loss)
    save(engine, root / f"part-{stop}-{rank}", Position(step=stop, fingerprint="f"))
    dist.barrier()
    if rank == 0:
        for part in sorted(root.glob(f"part-{stop}-*")):
            shutil.copytree(part, root / f"at-{stop}", dirs_exist_ok=True)
    return losses


SCATTERED = (2, 3)
"""ZeRO stages; processes that are there train at both, for starting them is what takes time."""


def _two(rank: int, port: int, root: str, start: int, stop: int) -> None:
    join_group(port, rank, 2)
    for zero_stage in SCATTERED:
        folder = Path(root, str(zero_stage))
        torch.save(_train_some(rank, 2, zero_stage, folder, start, stop), folder / f"losses-{start}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_two_workers_then_one_then_two_lose_what_one_worker_loses(tmp_path: Path) -> None:
    folders = [tmp_path / str(zero_stage) for zero_stage in SCATTERED]
    losses: list[list[float]] = [[], []]
    for start, stop, workers in ((0, 2, 2), (2, 4, 1), (4, STEPS, 2)):
        if workers == 2:
            in_group(_two, str(tmp_path), start, stop)
        for lost, zero_stage, folder in zip(losses, SCATTERED, folders, strict=True):
            if workers == 1:
                lost += _train_some(0, 1, zero_stage, folder, start, stop)
            else:
                assert torch.load(folder / f"losses-{start}-0.pt") == torch.load(folder / f"losses-{start}-1.pt")
                lost += torch.load(folder / f"losses-{start}-0.pt")
            assert newest_whole([folder / f"at-{stop}"], rank=0, workers=1) == folder / f"at-{stop}"
    for lost, zero_stage in zip(losses, SCATTERED, strict=True):
        assert lost == pytest.approx(_train_some(0, 1, zero_stage, tmp_path / f"alone-{zero_stage}", 0, STEPS), rel=1e-6)
        assert lost[-1] < 0.9 * lost[0]


def _flip(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _sealed(folder: Path, ranks: tuple[int, ...] = (0, 1)) -> Path:
    """A merged folder of two workers' parts, each with a file of its own and one that both write."""
    folder.mkdir()
    for rank in ranks:
        part = folder.with_name(f"{folder.name}-part{rank}")
        (part / "step1").mkdir(parents=True)
        (part / "step1" / f"state-{rank}").write_bytes(bytes(range(200)) * (rank + 1))
        (part / "latest").write_text("step1")
        seal(part, rank=rank, parts=2)
        for path in [path for path in part.rglob("*") if path.is_file()]:
            (folder / path.relative_to(part)).parent.mkdir(exist_ok=True)
            path.rename(folder / path.relative_to(part))
    return folder


@pytest.mark.parametrize(
    ("name", "harm"),
    [(name, harm) for name in ("step1/state-1", "latest") for harm in (_flip, _cut, Path.unlink)]
    + [("sealed-rank1.json", _cut), ("sealed-rank1.json", Path.unlink)],
)
@pytest.mark.usefixtures("process_group")
def test_of_checkpoints_that_lost_bytes_the_one_before_is_taken_and_it_is_said(
    name: str, harm: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    new, old = _sealed(tmp_path / "new"), _sealed(tmp_path / "old")
    assert newest_whole([new, old], rank=0, workers=1) == new
    harm(new / name)
    with caplog.at_level(logging.WARNING):
        assert newest_whole([new, old], rank=0, workers=1) == old
    assert "damaged (new: " in caplog.text
    harm(old / name)
    with pytest.raises(UserError, match=r"no checkpoint there is whole \(new: .*; old: .*Delete that folder"):
        newest_whole([new, old], rank=0, workers=1)


@pytest.mark.usefixtures("process_group")
def test_a_checkpoint_of_which_a_worker_s_part_never_came_is_not_taken(tmp_path: Path) -> None:
    half, old = _sealed(tmp_path / "half", ranks=(1,)), _sealed(tmp_path / "old")
    assert newest_whole([half, old], rank=0, workers=1) == old
    assert newest_whole([], rank=0, workers=1) is None


@pytest.mark.usefixtures("process_group")
def test_parts_of_groups_of_two_sizes_in_one_folder_are_no_checkpoint(tmp_path: Path) -> None:
    mixed, old, alone = _sealed(tmp_path / "mixed"), _sealed(tmp_path / "old"), tmp_path / "alone"
    (alone / "step1").mkdir(parents=True)
    (alone / "step1" / "state-0").write_bytes(b"another")
    seal(alone, rank=0, parts=1)
    shutil.copytree(alone, mixed, dirs_exist_ok=True)
    assert newest_whole([mixed, old], rank=0, workers=1) == old


def _agree(rank: int, port: int, root: str) -> None:
    join_group(port, rank, 2)
    folders = [Path(root) / "new", Path(root) / "old"]
    (Path(root) / f"taken-{rank}").write_text(str(newest_whole(folders, rank=rank, workers=2)))
    dist.destroy_process_group()


def test_all_workers_take_the_same_checkpoint_when_one_of_them_finds_damage(tmp_path: Path) -> None:
    new, old = _sealed(tmp_path / "new"), _sealed(tmp_path / "old")
    _flip(new / "step1" / "state-1")
    in_group(_agree, str(tmp_path))
    assert {(tmp_path / f"taken-{rank}").read_text() for rank in (0, 1)} == {str(old)}
