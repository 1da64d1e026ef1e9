"""A stage of fine-tuning that is killed at random steps consumes the samples, and has the losses and weights, of one that was left alone.

The undisturbed one runs without Ray: a stage is the same with and without it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from cg_train.tracking import ledger, metrics_journal
from tests.cg_data.engine_runs import end_all, workers
from tests.cg_train.stage_runs import RECIPE, WORKERS, without_ray
from tests.cg_train.train_small import in_group, join_group

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
BY_THE_MACHINE = {"seconds", "data_wait_s", "time_ms", "memory_bytes"}


def _undisturbed(rank: int, port: int, folder: str) -> None:
    join_group(port, rank, WORKERS)
    without_ray(Path(folder), rank=rank, workers=WORKERS)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, samples_uri: str) -> Path:
    """A folder with samples, and in ``undisturbed`` what plain processes make of them."""
    root = tmp_path_factory.mktemp("kills")
    shutil.copytree(samples_uri, root / "samples")
    in_group(_undisturbed, str(root / "undisturbed"), workers=WORKERS)
    return root


def start(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "tests" / "cg_train" / "stage_runs.py"), str(folder), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=folder.with_suffix(".log").open("ab"))


def wait_for_step(folder: Path, process: subprocess.Popen[bytes], step: int) -> None:
    while len(metrics_journal(folder / "train" / "words", 0).read()) < step:
        assert process.poll() is None, "the training was over before it could be disturbed"
        time.sleep(0.01)


def curve(folder: Path) -> list[dict[str, Any]]:
    lines = metrics_journal(folder / "train" / "words", 0).read()
    return [{name: value for name, value in line.items() if name not in BY_THE_MACHINE} for line in lines]


def consumed(folder: Path) -> list[list[list[str]]]:
    """For each worker the samples of each step."""
    return [[line["sample_ids"] for line in ledger(folder / "train" / "words", rank).read()] for rank in range(WORKERS)]


def weights(folder: Path) -> bytes:
    return (folder / "models" / "words" / "model.safetensors").read_bytes()


def test_a_killed_worker_is_replaced_and_a_killed_driver_made_good_by_the_same_command(place: Path) -> None:
    """First fed by Ray Data, at last by the workers themselves: who makes the batches changes nothing either."""
    folder, chance = place / "killed", random.Random(5)
    process = start(folder, "fed")
    wait_for_step(folder, process, chance.randint(2, 10))
    assert len(workers(process.pid, "_Maker")) == WORKERS
    os.kill(chance.choice(workers(process.pid, "TrainWorker")).pid, signal.SIGKILL)
    wait_for_step(folder, process, chance.randint(14, 22))
    end_all(process.pid)
    process.wait(30)
    assert not (folder / "models" / "words").exists()

    assert start(folder).wait(120) == 0
    assert curve(folder) == curve(place / "undisturbed")
    assert consumed(folder) == consumed(place / "undisturbed")
    assert weights(folder) == weights(place / "undisturbed")


def test_a_node_that_dies_is_made_good_by_the_worker_that_is_left(place: Path) -> None:
    """All processes of the second of two nodes are killed; the first has room for one worker, which goes on from the last checkpoint."""
    folder, step = place / "node", random.Random(6).randint(6, 16)
    process = start(folder, "two-nodes")
    wait_for_step(folder, process, step)
    end_all(int(folder.with_suffix(".raylet").read_text()))
    assert process.wait(240) == 0
    found, expected = curve(folder), curve(place / "undisturbed")
    assert len(found) == RECIPE.steps
    assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in expected], rel=1e-5)
    whole = [sorted(name for part in parts for name in part) for parts in zip(*consumed(place / "undisturbed"), strict=True)]
    alone = [line["sample_ids"] for line in ledger(folder / "train" / "words", 0).read()]
    assert len(alone[-1]) == RECIPE.global_batch
    assert [sorted(ids) for ids in alone[-10:]] == whole[-10:]
