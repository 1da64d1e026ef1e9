"""What makes a training step another one, and what does not."""

from __future__ import annotations

import pytest

from cluster.config import read_preset, resolve_config
from cluster.pipeline import fingerprints
from cluster.road import road_of

STAGES = ("sight", "base", "stage1", "stage2")


def _marks(*sets: str) -> dict[str, str]:
    config = resolve_config(read_preset("tiny"), list(sets))
    return fingerprints(road_of(config), config)


def test_a_stage_goes_on_with_another_number_of_workers() -> None:
    names = {"workers": 3, "least_workers": 2, "cpus_per_worker": 0.5, "max_failures": 7}
    assert _marks(*(f"train.compute.{name}={value}" for name, value in names.items())) == _marks()


@pytest.mark.parametrize("setting", ["train.zero_stage=3", "train.precision=bfloat16", "train.compute.threads_per_worker=2"])
def test_what_changes_the_arithmetic_makes_other_stages_of_all(setting: str) -> None:
    before, after = _marks(), _marks(setting)
    assert {name for name in STAGES if before[name] == after[name]} == set()
    assert before["detector"] == after["detector"]
