"""A detector's training that is killed goes on after its last epoch and ends with the bytes of one that was left alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist

from cg_train.checkpoint import Keeper
from cg_train.detector_run import DetectorJob, run_detector
from tests.cg_data.engine_runs import workers
from tests.cg_train.detector_runs import RECIPE, WORKERS, write_segments
from tests.cg_train.train_small import in_group, join_group

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def _without_ray(rank: int, port: int, root: str) -> None:
    join_group(port, rank, WORKERS)
    out, work = f"{root}/undisturbed/detector", f"{root}/undisturbed/work"
    job = DetectorJob(recipe=RECIPE, segments_uri=f"{root}/segments", out_folder=out, work_folder=work)
    run_detector(job, rank=rank, workers=WORKERS, keeper=Keeper(resume_from=(), keep=lambda folder, step: None))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with segments, and in ``undisturbed`` what as many plain processes make of them, without Ray."""
    root = tmp_path_factory.mktemp("kills")
    write_segments(root / "segments")
    (root / "undisturbed" / "work").mkdir(parents=True)
    in_group(_without_ray, str(root), workers=WORKERS)
    return root


def start(place: Path, name: str) -> subprocess.Popen[bytes]:
    (place / name).mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "tests" / "cg_train" / "detector_runs.py"), str(place / "segments"), str(place / name)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=(place / f"{name}.log").open("ab"))


def epochs_done(folder: Path) -> int:
    return sum(path.read_text().count("\n") for path in folder.glob("train/detector/metrics*.jsonl"))


def fewest_epochs(folder: Path, process: subprocess.Popen[bytes], until: int) -> int:
    """Wait for the epoch `until`; the fewest epochs that the journal held meanwhile. One that begins anew empties it."""
    seen = [epochs_done(folder)]
    while seen[-1] < until:
        assert process.poll() is None, "the training was over before it could be disturbed"
        seen.append(epochs_done(folder))
        time.sleep(0.01)
    return min(seen)


def products(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in (folder / "detector").iterdir()}
    return files | {"journal": re.sub(rb'"time_ms": \d+', b"", next(iter(folder.glob("**/metrics*.jsonl"))).read_bytes())}


def test_a_killed_worker_is_replaced_and_ends_with_the_same_bytes(place: Path) -> None:
    """A killed driver is the same to it as to a stage (`test_stage_kills`)."""
    folder = place / "killed"
    process = start(place, folder.name)
    fewest_epochs(folder, process, until=3)
    victims = workers(process.pid, "TrainWorker")
    assert len(victims) == WORKERS
    os.kill(victims[-1].pid, signal.SIGKILL)
    assert fewest_epochs(folder, process, until=RECIPE.epochs) >= 1, "a new group goes on, it does not begin anew"
    assert process.wait(60) == 0
    assert products(folder) == products(place / "undisturbed")
