from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cg_data.errors import ConfigError
from cg_train.checkpoint import Position, load, save
from cg_train.recipe import TrainSettings
from cg_train.step import engine_config, make_engine, train_steps
from tests.cg_train.test_step import RECIPE, SETTINGS, STEPS, step_batches
from tests.cg_train.train_small import SmallModel


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
            save(engine, tmp_path, Position(step=3, fingerprint="f", workers=1))
            drawn = torch.rand(2), np.random.random(2)
    other = _engine(1, zero_stage, **offload)  # other weights: what is equal afterwards was loaded
    assert load(other, tmp_path, fingerprint="f", workers=1) == Position(step=3, fingerprint="f", workers=1)
    assert torch.equal(torch.rand(2), drawn[0])
    np.testing.assert_array_equal(np.random.random(2), drawn[1])
    resumed = [(r.step, r.loss, r.grad_norm, r.lr) for r in train_steps(other, step_batches(0, 1, start=3), declared=None)]
    assert resumed == undisturbed[3:]


@pytest.mark.usefixtures("process_group")
def test_a_checkpoint_of_another_plan_or_of_more_workers_is_refused(tmp_path: Path) -> None:
    engine = _engine(0, 2)
    save(engine, tmp_path, Position(step=0, fingerprint="f", workers=1))
    with pytest.raises(ConfigError, match="other samples or another recipe"):
        load(engine, tmp_path, fingerprint="g", workers=1)
    with pytest.raises(ConfigError, match=r"made by 1 workers, and compute\.workers is 2"):
        load(engine, tmp_path, fingerprint="f", workers=2)
