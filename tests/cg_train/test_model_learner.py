"""What a stage's settings do to its model: layers are computed again where gradients flow, and nothing is learnt otherwise."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from cg_data.errors import ConfigError
from cg_data.records import Sample
from cg_train.model.learner import Learner, load_learner
from cg_train.recipe import PackedBatches, StageRecipe, Tower, TrainSettings
from cg_train.step import answer_targets
from tests.cg_train.model_small import PAGE, SAMPLES

STAGE1 = StageRecipe(mixture={"open": 1.0}, steps=1, trainable=("projector",))  # type: ignore[arg-type]
STAGE2 = STAGE1.model_copy(update={"trainable": ("projector", "language")})
ALL = STAGE1.model_copy(update={"trainable": ("vision", "projector", "language")})


def _learner(folder: str, annotations_uri: str, recipe: StageRecipe, **settings: Any) -> Learner:
    return load_learner(
        folder,
        recipe=recipe,
        settings=TrainSettings.model_validate({"precision": "float32", "stage1": recipe, "stage2": recipe, **settings}),
        page=PAGE,
        annotations_uri=annotations_uri,
        about={},
        device="cpu",
    )


def _gradients(learner: Learner) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Gradients of a step, and how often layers of each tower were computed in it."""
    counts = {"vision": 0, "language": 0}
    layers = [("vision", b.norm1) for b in learner.model.model.visual.blocks]
    layers += [("language", b.input_layernorm) for b in learner.model.model.language_model.layers]
    for tower, layer in layers:
        layer.register_forward_hook(lambda *_, tower=tower: counts.update({tower: counts[tower] + 1}))
    return _step(learner, SAMPLES[:3]), counts


def _step(learner: Learner, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    learner.network.zero_grad()
    batch = learner.collate(samples, [sample.eeg_uv for sample in samples])
    learner.network(**batch, num_items_in_batch=answer_targets(batch)).loss.backward()
    return {name: p.grad for name, p in learner.network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("recipe", "towers", "vision", "language"),
    [
        (STAGE1, ("vision", "language"), 1, 2),
        (STAGE2, ("vision", "language"), 1, 2),
        (ALL, ("vision", "language"), 2, 2),
        (ALL, ("vision",), 2, 1),
        (STAGE2, (), 1, 1),
    ],
    ids=["stage 1", "stage 2", "all", "vision alone", "none"],
)
def test_layers_are_computed_twice_where_asked_and_gradients_flow_and_gradients_are_equal(
    model_folder: str, annotations_uri: str, recipe: StageRecipe, towers: tuple[Tower, ...], vision: int, language: int
) -> None:
    plain, once = _gradients(_learner(model_folder, annotations_uri, recipe))
    again, counts = _gradients(_learner(model_folder, annotations_uri, recipe, checkpointing=towers))
    assert counts == {"vision": once["vision"] * vision, "language": once["language"] * language}
    assert plain.keys() == again.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-7)


def test_a_stage_that_reads_answers_alone_declares_the_same_parameters(model_folder: str, annotations_uri: str) -> None:
    full, chunked = (_learner(model_folder, annotations_uri, STAGE2, loss=loss) for loss in ("full", "chunked"))
    assert {f"model.{name}" for name in full.declared} == chunked.declared


def test_compiling_without_a_compiler_is_told_before_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CC", "gcc")
    with pytest.raises(ConfigError, match=r"train\.compile: no C compiler here"):
        _learner("no such model", "", STAGE2, compile=True)


PACKED = STAGE2.model_copy(update={"batching": PackedBatches(tokens=2048, images=8)})


@pytest.mark.parametrize("towers", [(), ("language",)], ids=["kept", "again"])
def test_compiled_layers_are_graphs_without_a_break_for_packs_of_any_length_and_gradients_are_equal(
    model_folder: str, annotations_uri: str, towers: tuple[Tower, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs without the code that would be made of them."""
    graphs: list[Any] = []

    def traced(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=traced, fullgraph=True))
    plain = _step(_learner(model_folder, annotations_uri, PACKED), SAMPLES[:4])
    compiled = _learner(model_folder, annotations_uri, PACKED, checkpointing=towers, attention="varlen", compile=True)
    found = _step(compiled, SAMPLES[:4])
    made = len(graphs)
    _step(compiled, SAMPLES[4:7])
    assert len(graphs) == made > 0
    assert plain.keys() == found.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
