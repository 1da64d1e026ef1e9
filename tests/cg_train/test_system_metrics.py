from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cg_train.system_metrics import watched
from cg_train.tracking import system_journal


@pytest.mark.slow
def test_a_node_is_watched_while_the_training_lasts_and_goes_on_with_the_next_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    node = platform.node()
    journal = system_journal(tmp_path, node)
    for least in (2, 4):
        with watched(tmp_path, 0.1):
            deadline = time.monotonic() + 120
            while len(journal.read()) < least and time.monotonic() < deadline:
                time.sleep(0.05)
        ended = journal.read()
        assert len(ended) >= least
    time.sleep(0.3)
    assert journal.read() == ended
    assert [line["step"] for line in ended] == list(range(1, len(ended) + 1))
    names = {"cpu_utilization_percentage", "system_memory_usage_megabytes", "network_receive_megabytes"}
    assert {f"system/{node}/{name}" for name in names} <= ended[0].keys()


@pytest.mark.parametrize(("rank", "every_s"), [("1", 0.1), ("0", None)])
def test_other_workers_and_a_run_without_it_start_nothing(
    rank: str, every_s: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(subprocess, "Popen", None)
    with watched(tmp_path, every_s):
        pass


@pytest.mark.slow
def test_a_watcher_whose_worker_was_killed_ends(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", "cg_train.system_metrics", str(tmp_path), "0.1", str(gone.pid)]
    assert subprocess.run(command, timeout=300).returncode == 0
