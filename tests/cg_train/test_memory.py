"""Predicted memory against what a real engine and a real backward pass hold."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from cg_data.errors import ConfigError
from cg_train.hardware import Gpus
from cg_train.memory import (
    MOST_PACK_TOKENS,
    RECOMMENDED_SHARE,
    Longest,
    Need,
    check_fit,
    fits,
    fullest,
    kept_bytes,
    memory_of,
    overrides,
    recommend,
)
from cg_train.model.build import build_tiny, train_tokenizer
from cg_train.model.learner import learning
from cg_train.model.shape import Shape, config_of, shape_of
from cg_train.recipe import LoraSettings, Module, PackedBatches, PaddedBatches, StageRecipe, TrainSettings
from cg_train.step import answer_targets, engine_config, make_engine
from tests.cg_train.model_small import PAGE, SAMPLES, SIZES, batch_of, texts
from tests.cg_train.train_small import in_group, join_group

PADDED = PaddedBatches(micro_batch=2)
STAGE1 = StageRecipe(mixture={"open": 1.0}, steps=1, global_batch=4, batching=PADDED, trainable=("projector",))  # type: ignore[arg-type]
STAGE2 = STAGE1.model_copy(update={"trainable": ("projector", "language")})
ADAPTERS = STAGE2.model_copy(update={"lora": LoraSettings(rank=4)})
ALL = STAGE1.model_copy(update={"trainable": ("vision", "projector", "language")})
SIZE = 1000
PAPER = Longest(tokens=1100, patches=3040, targets=200)


def settings_of(recipe: StageRecipe, **changes: Any) -> TrainSettings:
    return TrainSettings.model_validate({"stage1": recipe, "stage2": recipe, **changes})


def _shape_of_matrices() -> Shape:
    """Three matrices, one of which is frozen; all that states depend on is how many parameters there are."""
    large = config_of(settings_of(STAGE1, source="Qwen/Qwen2.5-VL-3B-Instruct"))
    counts: Mapping[Module, int] = {"vision": SIZE**2, "projector": 0, "language": 2 * SIZE**2}
    learning: Mapping[Module, int] = {**counts, "vision": 0}
    return dataclasses.replace(shape_of(large, STAGE1), whole=counts, learning=learning, persistent=0)


class _Matrices(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.first, self.second = (torch.nn.Linear(SIZE, SIZE, bias=False) for _ in range(3))
        self.frozen.requires_grad_(False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(self.frozen(inputs))).float().pow(2).mean()


def _large_tensors() -> dict[int, int]:
    """Bytes of large storages by their place; gradients hang on parameters and are no objects of their own."""
    gc.collect()
    found = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            for tensor in (thing, thing.grad if thing.is_leaf else None):
                if tensor is not None and tensor.untyped_storage().nbytes() >= SIZE**2:
                    found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return found


def _measure(rank: int, port: int, folder: str) -> None:
    join_group(port, rank, 2)
    held, kept = {}, []
    for precision in ("bfloat16", "float32"):
        for stage in range(4):
            settings = settings_of(STAGE2, precision=precision, zero_stage=stage)
            config = engine_config(STAGE2, settings, 2)
            zero = config["zero_optimization"]
            zero |= {"reduce_bucket_size": SIZE, "stage3_prefetch_bucket_size": 0, "stage3_max_live_parameters": 0}
            dtype = getattr(torch, precision)
            before = _large_tensors().keys()
            engine = make_engine(_Matrices().to(dtype), STAGE2, config, steps=4, gpu=False)
            for last in (False, True, False):  # the third lies between two steps, with gradients and moments there
                engine.set_gradient_accumulation_boundary(last)
                loss = engine(torch.randn(1, SIZE, dtype=dtype))
                engine.backward(loss)
                if last:
                    engine.step()
            states = [state for state in engine.optimizer.state.values() if "exp_avg" in state]
            moments = sum(state["exp_avg"].nbytes + state["exp_avg_sq"].nbytes for state in states)
            everything = sum(size for place, size in _large_tensors().items() if place not in before)
            held[precision, stage] = {"all": everything, "moments": moments}
            kept.append(engine)  # so that the memory of one is not given to the next
    torch.save(held, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_states_are_those_that_an_engine_of_two_workers_holds_at_every_zero_stage(tmp_path: Path) -> None:
    in_group(_measure, str(tmp_path))
    held = torch.load(tmp_path / "0.pt", weights_only=False)
    assert len(held) == 8
    for (precision, stage), found in held.items():
        settings = settings_of(STAGE2, precision=precision, zero_stage=stage)
        memory = memory_of(_shape_of_matrices(), STAGE2, settings, PAPER, Gpus(count=2, memory_bytes=1e9, name="none"))
        assert found["all"] == pytest.approx(memory.states, rel=0.02), (precision, stage)
        assert found["moments"] == pytest.approx(memory.moments, rel=0.02), (precision, stage)


def _kept(recipe: StageRecipe, settings: TrainSettings) -> tuple[int, Shape, Longest]:
    """Bytes that autograd saves in a forward pass up to the last hidden states, weights aside; and what the formula asks."""
    sizes = SIZES.model_copy(update={"text_heads": 4, "text_kv_heads": 2, "text_layers": 3, "text_intermediate": 128})
    built, processor = build_tiny(sizes, train_tokenizer(texts(), sizes.vocabulary), PAGE)
    model, _ = learning(built.train(), recipe, settings)
    model.to(getattr(torch, settings.precision))
    batch = batch_of(SAMPLES[:2], processor)
    targets = int(answer_targets(batch))
    batch.pop("labels")
    weights = {p.untyped_storage().data_ptr() for p in built.parameters()}
    saved: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            alive.append(tensor)
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        built.model(**batch)
    longest = Longest(
        tokens=batch["input_ids"].shape[1], patches=int(batch["image_grid_thw"].prod(1)[0]), targets=targets // len(SAMPLES[:2])
    )
    return sum(saved.values()), shape_of(built.config, recipe), longest


@pytest.mark.parametrize("towers", [(), ("vision", "language")], ids=["kept", "computed again"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recipe", [STAGE1, STAGE2, ADAPTERS, ALL], ids=["stage 1", "stage 2", "adapters", "all"])
def test_activations_are_what_autograd_keeps(
    recipe: StageRecipe, precision: str, towers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.nn.functional, "linear", torch._C._nn.linear)  # an engine of ZeRO stage 3 puts another in its place for good
    settings = settings_of(recipe, precision=precision, checkpointing=towers)
    kept, shape, longest = _kept(recipe, settings)
    assert kept == pytest.approx(kept_bytes(shape, recipe, settings, fullest(recipe.batching, longest)), rel=0.15)


@pytest.mark.parametrize("recipe", [STAGE1, STAGE2], ids=["stage 1", "stage 2"])
def test_zero_stage_3_keeps_the_inputs_of_frozen_weights_too(recipe: StageRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepspeed.runtime.zero.linear import zero3_linear_wrap

    monkeypatch.setattr(torch.nn.functional, "linear", zero3_linear_wrap)
    settings = settings_of(recipe, precision="float32", zero_stage=3)
    kept, shape, longest = _kept(recipe, settings)
    assert kept == pytest.approx(kept_bytes(shape, recipe, settings, fullest(recipe.batching, longest)), rel=0.15)


def _planned(recipe: StageRecipe, gpus: Gpus, *, size: str = "7B", **changes: Any) -> tuple[Shape, TrainSettings]:
    settings = settings_of(recipe, source=f"Qwen/Qwen2.5-VL-{size}-Instruct", **changes)
    return shape_of(config_of(settings), recipe), settings


A100 = Gpus(count=8, memory_bytes=80e9, name="A100")
TUNE = STAGE2.model_copy(update={"global_batch": 256})


def test_optimizer_steps_with_one_more_copy_in_the_weights_precision_than_float32_has() -> None:
    shape, settings = _planned(TUNE, A100)
    of_bfloat16 = memory_of(shape, TUNE, settings, PAPER, A100).step
    of_float32 = memory_of(shape, TUNE, settings_of(TUNE, precision="float32"), PAPER, A100).step
    assert of_bfloat16 == pytest.approx(of_float32 * 6 / 4)


AGAIN: Mapping[str, Any] = {"checkpointing": ["language"]}
ONE_STEP: Mapping[str, Any] = {"compile": True, "zero_stage": 1}


@pytest.mark.parametrize(
    ("recipe", "size", "changes", "backward_gb", "update_gb"),
    [
        (STAGE2, "3B", AGAIN, 61.1, 70.0),
        (STAGE2, "3B", {**AGAIN, "compile": True}, 60.7, 70.0),
        (STAGE2, "3B", {**AGAIN, **ONE_STEP}, 57.9, 70.0),
        (STAGE2, "3B", ONE_STEP, 80.1, 70.0),
        (STAGE1, "3B", ONE_STEP, 27.3, 8.3),
        (ADAPTERS.model_copy(update={"lora": LoraSettings(rank=16)}), "7B", {**AGAIN, **ONE_STEP}, 22.8, 18.5),
    ],
    ids=["again", "compiled and again", "gradients sent once", "compiled and kept", "stage 1", "adapters"],
)
def test_plan_is_within_a_tenth_of_what_an_h100_measured(
    recipe: StageRecipe, size: str, changes: Mapping[str, Any], backward_gb: float, update_gb: float
) -> None:
    """`benchmarks/train_step.py`, 2026-11-27: ten packs of 6,860 tokens and six or seven pages each."""
    gpus = Gpus(count=1, memory_bytes=85.0e9, name="H100")
    packed = recipe.model_copy(update={"batching": PackedBatches(tokens=6860, images=7)})
    shape, settings = _planned(packed, gpus, size=size, attention="varlen", loss="chunked", **changes)
    memory = memory_of(shape, packed, settings, Longest(tokens=1360, patches=3040, targets=300), gpus)
    held = memory.states + memory.buckets
    assert (held + memory.activations + memory.logits) / 1e9 == pytest.approx(backward_gb, rel=0.1)
    assert (held + memory.step) / 1e9 == pytest.approx(update_gb, rel=0.1)


def test_sixteen_bytes_a_parameter_at_zero_stage_0_and_their_parts_at_stage_3() -> None:
    """Figure 1 of the ZeRO paper: 7.5 billion parameters on 64 GPUs take 120 GB, 31.4, 16.6 and 1.9 GB of states."""
    large = config_of(settings_of(STAGE1, source="Qwen/Qwen2.5-VL-7B-Instruct"))
    counts: Mapping[Module, int] = {"vision": 0, "projector": 0, "language": 7_500_000_000}
    shape = dataclasses.replace(shape_of(large, STAGE1), whole=counts, learning=counts, persistent=0)
    gpus = Gpus(count=64, memory_bytes=80e9, name="V100")
    states = [memory_of(shape, STAGE2, settings_of(STAGE2, zero_stage=stage), PAPER, gpus).states / 1e9 for stage in range(4)]
    assert states == pytest.approx([120, 31.4, 16.6, 1.9], rel=0.02)


def test_settings_lower_what_they_are_for_and_nothing_else_by_more_than_they_say() -> None:
    shape, plain = _planned(TUNE, A100)
    before = memory_of(shape, TUNE, plain, PAPER, A100)

    def after(**changes: Any) -> Any:
        return memory_of(shape, TUNE, settings_of(TUNE, **changes), PAPER, A100)

    again, pieces, offloaded = after(checkpointing=["language"]), after(loss="chunked"), after(offload={"optimizer": "cpu"})
    assert again.activations < before.activations / 3
    assert dataclasses.replace(again, activations=before.activations) == before
    assert pieces.logits < before.logits
    assert (offloaded.master, offloaded.moments, offloaded.gradients, offloaded.step) == (0, 0, 0, 0)
    assert offloaded.host == pytest.approx(before.master + before.moments + 3 * before.gradients)
    assert after(zero_stage=3).weights < before.weights / 7


def test_a_stage_that_does_not_fit_is_refused_with_settings_that_do() -> None:
    shape, settings = _planned(TUNE, A100, zero_stage=0)
    needs = [Need(name="stage2", recipe=TUNE, shape=shape, longest=PAPER)]
    with pytest.raises(
        ConfigError, match=r"train\.stage2: about \d+ GB on each GPU .* A100 has 80 GB\. What fits: .*--set train\.zero_stage="
    ):
        check_fit(needs, settings, A100)
    found = recommend(needs, settings, A100)
    assert found is not None
    check_fit(*found, A100)


def test_what_fits_nowhere_asks_for_more_gpus() -> None:
    shape, settings = _planned(TUNE, A100)
    needs, small = [Need(name="stage2", recipe=TUNE, shape=shape, longest=PAPER)], Gpus(count=1, memory_bytes=4e9, name="small")
    assert recommend(needs, settings, small) is None
    with pytest.raises(ConfigError, match="No setting fits: give more or larger GPUs"):
        check_fit(needs, settings, small)


@pytest.mark.parametrize("memory_gb", [40, 80, 141])
@pytest.mark.parametrize("count", [1, 4, 8, 16])
@pytest.mark.parametrize("size", ["3B", "7B"])
@pytest.mark.parametrize("lora", [None, LoraSettings()], ids=["whole", "adapters"])
def test_what_is_recommended_fits_both_stages_and_divides_the_batch(
    size: str, count: int, memory_gb: int, lora: LoraSettings | None
) -> None:
    gpus, needs = Gpus(count=count, memory_bytes=memory_gb * 1e9, name="some"), []
    for name, recipe in (("stage1", STAGE1), ("stage2", STAGE2.model_copy(update={"lora": lora}))):
        tuned = recipe.model_copy(update={"global_batch": 256})
        shape, settings = _planned(tuned, gpus, size=size, loss="chunked")
        needs.append(Need(name=name, recipe=tuned, shape=shape, longest=PAPER))
    found = recommend(needs, settings, gpus)
    assert found is not None
    check_fit(*found, gpus)
    assert not [need for need in found[0] if need.recipe.global_batch % (need.recipe.batching.micro_batch * count)]
    if found[1].checkpointing:  # then keeping the activations of one sample of each did not fit
        kept = settings.model_copy(update={"zero_stage": 2})
        alone = [
            dataclasses.replace(need, recipe=need.recipe.model_copy(update={"batching": PaddedBatches(micro_batch=1)})) for need in needs
        ]
        assert not all(fits(need.memory(kept, gpus), gpus, share=RECOMMENDED_SHARE) for need in alone)


def test_packs_that_are_recommended_hold_the_longest_sample_and_more_where_there_is_room() -> None:
    packed = STAGE2.model_copy(update={"global_batch": 256, "batching": PackedBatches(tokens=4096, images=8)})
    found = []
    for memory_gb in (40, 80):
        gpus = Gpus(count=8, memory_bytes=memory_gb * 1e9, name="some")
        shape, settings = _planned(packed, gpus, size="7B", loss="chunked")
        better = recommend([Need(name="stage2", recipe=packed, shape=shape, longest=PAPER)], settings, gpus)
        assert better is not None
        check_fit(*better, gpus)
        batching = better[0][0].recipe.batching
        assert isinstance(batching, PackedBatches)
        assert packed.max_tokens <= batching.tokens <= MOST_PACK_TOKENS
        assert batching.images / batching.tokens == pytest.approx(8 / 4096)
        assert f"--set train.stage2.batching.tokens={batching.tokens} " in overrides(*better, gpus.count)
        found.append((better[1].zero_stage, batching.tokens))
    assert found[0] != found[1]


def test_what_is_recommended_with_scattered_weights_is_not_compiled() -> None:
    packed = STAGE2.model_copy(update={"global_batch": 256, "batching": PackedBatches(tokens=4096, images=8)})
    gpus = Gpus(count=8, memory_bytes=40e9, name="small")
    shape, settings = _planned(packed, gpus, size="7B", loss="chunked", compile=True)
    better = recommend([Need(name="stage2", recipe=packed, shape=shape, longest=PAPER)], settings, gpus)
    assert better is not None
    assert better[1].zero_stage == 3
    assert "--set train.compile=false" in overrides(*better, gpus.count)
    TrainSettings.model_validate(better[1].model_dump())


def test_a_full_pack_takes_what_as_many_tokens_of_a_padded_micro_batch_take() -> None:
    longest = Longest(tokens=1024, patches=3040, targets=1024)
    padded = fullest(PaddedBatches(micro_batch=4), longest)
    packed = fullest(PackedBatches(tokens=4096, images=4), longest)
    assert packed == dataclasses.replace(padded, row=4096)
    assert fullest(PackedBatches(tokens=4096, images=99), longest).patches == 4 * 4096  # each visual token is four patches
