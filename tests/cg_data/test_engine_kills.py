"""Whatever is killed, whenever, the same command then ends with the same files: no row is lost and none is there twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cg_data.detect.detector import save_detector
from tests.cg_data import engine_runs
from tests.detectors_small import ONLY_SPINDLES, SIGNAL, spec_of, untrained

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RECORDINGS = 4
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings and a detector, and in ``undisturbed`` what an undisturbed run makes of them."""
    root = tmp_path_factory.mktemp("kills")
    (root / "edf").mkdir()
    engine_runs.write_folder(root / "edf", RECORDINGS, minutes=2)
    save_detector(untrained(), spec_of(SIGNAL, ONLY_SPINDLES), str(root / "detector"))
    engine_runs.run(str(root / "edf"), str(root / "undisturbed"))
    return root


def start(root: Path, out: str, *more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests" / "cg_data" / "engine_runs.py"), str(root / "edf"), str(root / out), *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=(root / f"{out}.log").open("ab"))


def wait_for(condition: object, process: subprocess.Popen[bytes]) -> None:
    """Until `condition()` is true; the run must not have ended before."""
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "the run was over before it could be disturbed"
        time.sleep(0.01)


def test_a_killed_task_and_a_killed_actor_are_done_again_and_a_killed_driver_is_made_good_by_the_same_command(place: Path) -> None:
    """The driver in the first step and in the last; `benchmarks/killed_and_continued.py` kills a run in every one."""
    out, chance = place / "killed", random.Random(1)
    process = start(place, out.name)
    wait_for(lambda: len(list((out / "recordings").glob("*.parquet"))) >= 2, process)
    time.sleep(chance.uniform(0, 0.1))
    engine_runs.end_all(process.pid)
    process.wait(30)

    process = start(place, out.name)
    for step, title in (("segments", "Items"), ("annotations", "MapWorker")):
        wait_for(lambda at=out / step: list(at.glob("*.parquet")), process)
        victims = engine_runs.workers(process.pid, title)
        assert victims
        os.kill(victims[0].pid, signal.SIGKILL)
    wait_for(lambda: len(list((out / "samples").glob("*.parquet"))) >= 3, process)
    time.sleep(chance.uniform(0, 0.1))
    engine_runs.end_all(process.pid)
    process.wait(30)

    assert start(place, out.name).wait(240) == 0
    assert engine_runs.hashes(out) == engine_runs.hashes(place / "undisturbed")


def test_a_node_that_dies_is_made_good_by_the_rest_of_the_cluster(place: Path) -> None:
    """The raylet of the second of two nodes is killed while both make segments: its tasks are done again on the first."""
    out = place / "node"
    process = start(place, out.name, "two-nodes")
    wait_for(lambda: list((out / "segments").glob("*.parquet")), process)
    os.kill(int((place / "node.raylet").read_text()), signal.SIGKILL)
    assert process.wait(240) == 0
    assert engine_runs.hashes(out) == engine_runs.hashes(place / "undisturbed")
