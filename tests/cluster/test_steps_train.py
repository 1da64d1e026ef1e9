"""What makes a training step another one, and what does not."""

from __future__ import annotations

import pytest

from cluster.config import read_preset, resolve_config
from cluster.pipeline import fingerprints
from cluster.road import road_of
from cluster.steps_train import _figure

STAGES = ("sight", "base", "stage1", "stage2")


def _marks(*sets: str) -> dict[str, str]:
    config = resolve_config(read_preset("tiny"), list(sets))
    return fingerprints(road_of(config), config)


def test_a_stage_goes_on_with_another_number_of_workers() -> None:
    names = {"workers": 3, "least_workers": 2, "cpus_per_worker": 0.5, "feed_actors": 1, "max_failures": 7}
    assert _marks(*(f"train.compute.{name}={value}" for name, value in names.items())) == _marks()


@pytest.mark.parametrize("setting", ["train.zero_stage=3", "train.precision=bfloat16", "train.compute.threads_per_worker=2"])
def test_what_changes_the_arithmetic_makes_other_stages_of_all(setting: str) -> None:
    before, after = _marks(), _marks(setting)
    assert {name for name in STAGES if before[name] == after[name]} == set()
    assert before["detector"] == after["detector"]


def test_a_stage_says_what_validation_saw_what_it_cost_and_that_it_stopped_there() -> None:
    done = {"first_loss": 3.0, "last_loss": 1.0, "seconds": 90.0, "steps": 60, "planned_steps": 60, "validation_losses": []}
    assert _figure(done) == "loss 3.00 to 1.00"
    seen = {**done, "validation_losses": [2.5, 2.0, 2.1], "validation_s": 10.0}
    assert _figure(seen) == "loss 3.00 to 1.00, on validation 2.50 to 2.10 (10% of the time)"
    assert _figure({**seen, "steps": 30}).endswith("; stopped after 30 of 60 steps, for the latter no longer fell")


def test_the_recipes_look_at_validation_and_stage_1_can_stop_by_it() -> None:
    for preset in ("qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen2.5-vl-7b-lora"):
        train = resolve_config(read_preset(preset), ["train.stage1.validation.patience=4"]).train
        assert train.stage1.validation is not None
        assert (train.stage1.validation.patience, train.stage1.validation.tolerance) == (4, 0.01)
        assert train.stage2.validation is not None
        assert train.stage2.validation.patience is None
