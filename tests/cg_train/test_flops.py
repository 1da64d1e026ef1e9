"""Operations by formula against those that torch counts in a real backward pass, and against the papers' formulas."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cg_train.flops import flops_of, load_of_batch
from cg_train.hardware import known_gpus, peak_flops
from cg_train.model.answers import AnswerReader, answer_loss
from cg_train.model.load import set_trainable
from cg_train.model.shape import Shape, config_of, shape_of
from cg_train.recipe import LoraSettings, StageRecipe, TrainSettings, checkpointed
from cg_train.step import answer_targets
from tests.cg_train.model_small import SAMPLES, batch_of, build

STAGE1 = StageRecipe(mixture={"open": 1.0}, steps=1, trainable=("projector",))  # type: ignore[arg-type]
STAGE2 = STAGE1.model_copy(update={"trainable": ("projector", "language")})
ADAPTERS = STAGE2.model_copy(update={"lora": LoraSettings(rank=16)})
ALL = STAGE1.model_copy(update={"trainable": ("vision", "projector", "language")})


def settings_of(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate({"stage1": STAGE1, "stage2": STAGE2, **changes})


def _counted(recipe: StageRecipe, settings: TrainSettings) -> tuple[float, float, Shape, Any]:
    """Operations that torch does for samples of equal length (no padding) with eager attention, which it counts whole: those of the forward
    pass and all."""
    built, processor = build()
    built.set_attn_implementation("eager")
    built.config.text_config.use_cache = False
    model, _ = set_trainable(built.train(), recipe.trainable, recipe.lora)
    for tower in checkpointed(recipe, settings.checkpointing):
        {"vision": built.model.visual, "language": built.model.language_model}[tower].activation_checkpointing_enable()
    network = model if settings.loss == "full" else AnswerReader(model, answer_loss("chunked"))
    batch = batch_of([SAMPLES[2], SAMPLES[2]], processor)
    with FlopCounterMode(display=False) as counter:
        loss = network(**batch, num_items_in_batch=answer_targets(batch)).loss
        forward = counter.get_total_flops()
        loss.backward()
    return forward, counter.get_total_flops(), shape_of(built.config, recipe), batch


@pytest.mark.parametrize(
    ("recipe", "towers", "loss"),
    [
        (STAGE1, (), "full"),
        (STAGE1, ("language",), "full"),
        (STAGE2, (), "full"),
        (STAGE2, ("vision", "language"), "chunked"),
        (ADAPTERS, ("language",), "full"),
        (ALL, ("vision", "language"), "full"),
    ],
    ids=["stage 1", "stage 1 again", "stage 2", "stage 2 again, pieces", "adapters again", "all again"],
)
def test_operations_are_those_that_torch_counts(recipe: StageRecipe, towers: tuple[str, ...], loss: str) -> None:
    settings = settings_of(checkpointing=towers, loss=loss)
    forward, counted, shape, batch = _counted(recipe, settings)
    flops = flops_of(shape, load_of_batch(batch), recipe, settings)
    if (
        "vision" in recipe.trainable
    ):  # patches become tokens once, and need no gradient: much in a tower of two layers, nothing in one of 32
        counted += 2 * 2.0 * shape.vision.hidden * 3 * 2 * 14**2 * float(batch["image_grid_thw"].prod(1).sum())
    assert flops.hardware == pytest.approx(counted, rel=0.06)
    assert flops.forward == pytest.approx(forward, rel=0.06)
    assert (flops.model < flops.hardware) == bool(towers or loss != "full")


def test_a_language_model_alone_that_learns_whole_costs_what_palms_appendix_b_says() -> None:
    """6 N + 12 L H Q T for each token of sequences of T tokens."""
    recipe = STAGE1.model_copy(update={"trainable": ("language",)})
    shape = shape_of(config_of(settings_of(source="Qwen/Qwen2.5-VL-7B-Instruct")), recipe)
    tokens = 2048
    text = load_of_batch(
        {
            "attention_mask": torch.ones(1, tokens),
            "labels": torch.zeros(1, tokens),
            "image_grid_thw": torch.zeros(1, 3, dtype=torch.int64),
        }
    )
    n = shape.matrices["language"] + shape.vocabulary * shape.text.hidden
    expected = tokens * (6 * n + 12 * shape.text.layers * shape.text.hidden * tokens)
    assert flops_of(shape, text, recipe, settings_of()).model == pytest.approx(expected)


def test_twice_as_many_samples_are_twice_the_operations() -> None:
    *_, shape, batch = _counted(STAGE2, settings_of())
    load = load_of_batch(batch)
    one, two = (flops_of(shape, part, STAGE2, settings_of()) for part in (load, load.times(2)))
    assert dataclasses.astuple(two) == pytest.approx(dataclasses.astuple(one.times(2)))


def test_padding_is_not_counted() -> None:
    _, processor = build()
    alone, padded = batch_of(SAMPLES[2:3], processor), batch_of([SAMPLES[2], SAMPLES[0]], processor)
    other = batch_of(SAMPLES[:1], processor)
    assert padded["input_ids"].numel() > alone["input_ids"].numel() + other["input_ids"].numel()
    parts = [load_of_batch(batch) for batch in (alone, other)]
    assert dataclasses.astuple(load_of_batch(padded)) == tuple(
        getattr(parts[0], field.name) + getattr(parts[1], field.name) for field in dataclasses.fields(parts[0])
    )


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A800-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("A100", 312),
    ],
)
def test_a_gpu_is_known_by_the_drivers_name(name: str, tflops: float) -> None:
    assert peak_flops(name, "bfloat16") == tflops * 1e12


def test_what_is_not_known_has_no_peak() -> None:
    assert peak_flops("NVIDIA GeForce GTX 1080", "bfloat16") is None
    assert peak_flops("NVIDIA A100-SXM4-80GB", "float32") is None
    assert len(known_gpus()) == len(set(known_gpus()))
