from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cg_data.errors import ConfigError, UserError
from cg_train.batches import StepBatch
from cg_train.flops import Meter
from cg_train.recipe import PaddedBatches, StageRecipe, TrainSettings
from cg_train.step import (
    BUCKET_ELEMENTS,
    LIVE_ELEMENTS,
    StepReport,
    engine_config,
    import_deepspeed,
    learning_rate_factor,
    make_engine,
    together,
    train_steps,
)
from tests.cg_train.train_small import SmallModel, in_group, join_group, small_batch

STEPS = 6
RECIPE = StageRecipe(
    mixture={"open": 1.0},
    steps=STEPS,
    global_batch=8,
    batching=PaddedBatches(micro_batch=2),
    learning_rate=1e-2,
    trainable=("vision", "language"),
)  # type: ignore[arg-type]
SETTINGS = TrainSettings(precision="float32", zero_stage=2, stage1=RECIPE, stage2=RECIPE)


def step_batches(rank: int, workers: int, start: int = 0) -> Iterator[Any]:
    for step in range(start, STEPS):
        rows = range(step * 8 + rank * 8 // workers, step * 8 + (rank + 1) * 8 // workers)
        micro = tuple(small_batch(rows[at : at + 2]) for at in range(0, len(rows), 2))
        yield lambda step=step, rows=rows, micro=micro: StepBatch(step=step, sample_ids=tuple(map(str, rows)), micro_batches=micro)


def _train(rank: int, workers: int, settings: TrainSettings = SETTINGS) -> tuple[list[StepReport], dict[str, torch.Tensor]]:
    model = SmallModel()
    engine = make_engine(model, RECIPE, engine_config(RECIPE, settings, workers), steps=STEPS, gpu=False)
    declared = frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)
    reports = list(train_steps(engine, step_batches(rank, workers), declared=declared))
    return reports, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _worker(rank: int, port: int, folder: str) -> None:
    join_group(port, rank, 2)
    reports, weights = _train(rank, 2)
    torch.save((reports, weights), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_the_rate_warms_up_to_one_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, steps=20, warmup_fraction=0.2) for step in range(20)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert all(a > b for a, b in itertools.pairwise(factors[4:]))
    assert learning_rate_factor(20, steps=20, warmup_fraction=0.2) == 0.0
    assert learning_rate_factor(0, steps=3, warmup_fraction=0.0) == 1.0


@pytest.mark.usefixtures("process_group")
def test_steps_are_those_of_plain_torch_over_the_whole_batch() -> None:
    reports, weights = _train(0, 1)
    plain = SmallModel()
    optimizer = torch.optim.AdamW([p for p in plain.parameters() if p.requires_grad], lr=RECIPE.learning_rate, weight_decay=0.0)
    for report in reports:
        inputs = small_batch(range((report.step - 1) * 8, report.step * 8))
        loss = plain(**inputs, num_items_in_batch=torch.tensor(report.tokens)).loss
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), RECIPE.gradient_clip)
        factor = learning_rate_factor(report.step - 1, steps=STEPS, warmup_fraction=RECIPE.warmup_fraction)
        optimizer.param_groups[0]["lr"] = RECIPE.learning_rate * factor
        optimizer.step()
        assert report.tokens == int((inputs["labels"][:, 1:] != -100).sum())
        assert report.lr == pytest.approx(RECIPE.learning_rate * factor)
        assert report.loss == pytest.approx(loss.item(), rel=1e-5)
        assert report.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5)
    assert [report.samples for report in reports] == [8] * STEPS
    assert reports[2].sample_ids == tuple(map(str, range(16, 24)))


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(
    ("zero_stage", "offload"), [(2, {"optimizer": "cpu"}), (3, {"optimizer": "cpu"}), (3, {"optimizer": "cpu", "parameters": "cpu"})]
)
def test_what_waits_on_the_cpu_is_trained_as_what_does_not(zero_stage: int, offload: dict[str, str]) -> None:
    reports, _ = _train(0, 1)
    other, _ = _train(0, 1, TrainSettings.model_validate(SETTINGS.model_dump() | {"zero_stage": zero_stage, "offload": offload}))
    assert [r.loss for r in other] == pytest.approx([r.loss for r in reports], rel=1e-5)
    assert [r.grad_norm for r in other] == pytest.approx([r.grad_norm for r in reports], rel=1e-4)
    assert other[-1].loss < other[0].loss


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"zero_stage": 1}, {"stage": 1}),
        ({"offload": {"optimizer": "cpu"}}, {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": True}}),
        (
            {"zero_stage": 3, "offload": {"optimizer": "nvme", "parameters": "cpu", "nvme_folder": "/nvme"}},
            {
                "stage": 3,
                "offload_optimizer": {"device": "nvme", "pin_memory": True, "nvme_path": "/nvme"},
                "offload_param": {"device": "cpu", "pin_memory": True},
            },
        ),
    ],
)
def test_what_is_set_reaches_the_engine_and_deepspeed_understands_it(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    settings = TrainSettings.model_validate(SETTINGS.model_dump() | {"precision": "bfloat16", "compute": {"gpu": True}} | changes)
    config = engine_config(RECIPE, settings, 2)
    zero = config["zero_optimization"]
    assert {name: zero[name] for name in expected} == expected
    assert ("offload_optimizer" in zero, "offload_param" in zero) == tuple(
        place != "gpu" for place in (settings.offload.optimizer, settings.offload.parameters)
    )
    assert config["bf16"] == {"enabled": True}
    understood = DeepSpeedZeroConfig(**zero)
    assert understood.reduce_bucket_size == BUCKET_ELEMENTS
    assert understood.max_live_parameters == LIVE_ELEMENTS


@pytest.mark.usefixtures("process_group")
def test_nvme_that_deepspeed_cannot_use_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    deepspeed = import_deepspeed(gpu=False)
    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, "async_io", False)
    offload = {"optimizer": "nvme", "nvme_folder": "/nvme"}
    settings = TrainSettings.model_validate(SETTINGS.model_dump() | {"zero_stage": 3, "offload": offload})
    with pytest.raises(ConfigError, match=r"train\.offload nvme: .* Install libaio, or use cpu"):
        make_engine(SmallModel(), RECIPE, engine_config(RECIPE, settings, 1), steps=STEPS, gpu=False)


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_two_workers_train_what_one_trains(tmp_path: Path) -> None:
    in_group(_worker, str(tmp_path))
    (first, weights), (second, _) = (torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2))
    assert [(r.loss, r.grad_norm, r.tokens) for r in first] == [(r.loss, r.grad_norm, r.tokens) for r in second]
    alone, expected = _train(0, 1)
    assert [r.loss for r in first] == pytest.approx([r.loss for r in alone], rel=1e-5)
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"vision.weight"}, "4 parameters that were not declared got gradients, the first is language.0.bias"),
        (None, "1 declared .* unused"),
    ],
)
def test_gradients_elsewhere_than_declared_stop_the_first_step(declared: set[str] | None, message: str) -> None:
    model = SmallModel()
    names = frozenset(declared or {name for name, _ in model.named_parameters()})
    engine = make_engine(model, RECIPE, engine_config(RECIPE, SETTINGS, 1), steps=STEPS, gpu=False)
    with pytest.raises(ConfigError, match=message):
        next(train_steps(engine, step_batches(0, 1), declared=names))


@pytest.mark.usefixtures("process_group")
def test_speed_and_utilisation_are_those_of_the_seconds_that_a_step_took() -> None:
    class _Fixed(Meter):
        def read(self, micro: Any) -> tuple[float, float, float]:
            return 100.0 * len(micro), 4e9, 6e9

    engine = make_engine(SmallModel(), RECIPE, engine_config(RECIPE, SETTINGS, 1), steps=STEPS, gpu=False)
    shape: Any = None
    for peak in (1e12, None):
        report = next(
            train_steps(
                engine, step_batches(0, 1), declared=None, meter=_Fixed(shape=shape, recipe=RECIPE, settings=SETTINGS, peak_flops=peak)
            )
        )
        assert report.tokens_per_s == pytest.approx(400 / report.seconds)
        expected = (None, None) if peak is None else (4e9 / (peak * report.seconds), 6e9 / (peak * report.seconds))
        assert (report.mfu, report.hfu) == (expected if peak is None else pytest.approx(expected))


@pytest.mark.usefixtures("process_group")
def test_a_users_error_in_one_worker_is_raised() -> None:
    def fail() -> None:
        raise ConfigError("sample s1 has 5000 tokens")

    assert together(lambda: 7, "cpu") == 7
    with pytest.raises(UserError, match="5000 tokens"):
        together(fail, "cpu")
