"""What `cg doctor` finds missing."""

from __future__ import annotations

import os

import pytest
from rich.console import Console

from cluster.config import read_preset, resolve_config
from cluster.doctor import examine

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("workers", "least", "enough"), [(CORES, CORES, True), (CORES + 1, 1, True), (CORES + 1, CORES + 1, False)])
def test_cores_are_enough_when_the_fewest_workers_have_one(monkeypatch: pytest.MonkeyPatch, workers: int, least: int, enough: bool) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = resolve_config(read_preset("tiny"), [f"train.compute.workers={workers}", f"train.compute.least_workers={least}"])
    console = Console(record=True, width=200)
    examine(config, console)
    line = next(line for line in console.export_text().splitlines() if "Cores for training" in line)
    assert f"{CORES} of {least}" in line
    assert ("ok" in line) == enough


@pytest.mark.parametrize(("least", "said"), [(4, "4 asked"), (2, "2 to 4 asked")])
def test_workers_that_a_cluster_is_asked_for_are_told(monkeypatch: pytest.MonkeyPatch, least: int, said: str) -> None:
    monkeypatch.setattr("cluster.doctor.check_address", lambda address: None)
    config = resolve_config(
        read_preset("tiny"), ["cluster.address=10.0.0.1:6379", "train.compute.workers=4", f"train.compute.least_workers={least}"]
    )
    console = Console(record=True, width=200)
    examine(config, console)
    assert said in console.export_text()
