"""What must hold of every folder that a stage leaves: another program reads it whole, and finds the model that was trained."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, Qwen2_5_VLForConditionalGeneration

from cg_data.errors import StorageError
from cg_train.model import learner
from cg_train.model.load import load_model, set_trainable
from cg_train.recipe import LoraSettings, StageRecipe, TrainSettings
from cg_train.stage import StageJob
from tests.cg_train.model_small import PAGE, SAMPLES, SIZES, batch_of
from tests.cg_train.test_stage import WORDS, run

pytestmark = pytest.mark.usefixtures("process_group")
STAGE2 = WORDS.model_copy(update={"trainable": ("projector", "language")})
KINDS: dict[str, tuple[StageRecipe, int]] = {
    "whole": (STAGE2, 2),
    "adapters": (STAGE2.model_copy(update={"lora": LoraSettings(rank=2, alpha=4)}), 2),
    "whole-scattered": (STAGE2, 3),
    "adapters-scattered": (STAGE2.model_copy(update={"lora": LoraSettings(rank=2, alpha=4)}), 3),
    "projector": (STAGE2.model_copy(update={"trainable": ("projector",)}), 2),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Left:
    """The folder of a stage, the one that it started from, and what the live model said at the moment of its export."""

    folder: Path
    base: Path
    live_logits: torch.Tensor
    recipe: StageRecipe


@pytest.fixture(scope="module", params=KINDS)
def left(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, samples_uri: str, model_folder: str) -> Left:
    recipe, zero_stage = KINDS[request.param]
    folder, said = tmp_path_factory.mktemp(request.param), list[torch.Tensor]()
    job = StageJob(
        name="words",
        identity="0" * 16,
        recipe=recipe,
        settings=TrainSettings(precision="float32", zero_stage=zero_stage, tiny=SIZES, stage1=WORDS, stage2=WORDS),
        page=PAGE,
        samples_uris=(samples_uri,),
        annotations_uri="",
        model_from=model_folder,
        out_folder=str(folder / "model"),
        work_folder=str(folder / "train"),
        about={},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "export_folder", _asked_first(learner.export_folder, said, job))
        run(job)
    return Left(folder=folder / "model", base=Path(model_folder), live_logits=said[0], recipe=recipe)


def _asked_first(export: Callable[..., Any], said: list[torch.Tensor], job: StageJob) -> Callable[..., Any]:
    """`export`, before which the model that is exported answers."""

    def ask(model: Any, processor: Any, folder: str, **rest: Any) -> Any:
        live = _without_engine(model, job) if job.settings.zero_stage == 3 else model.eval()
        with torch.inference_mode():
            said.append(live(**batch_of(SAMPLES[:2], processor)).logits)
        return export(model, processor, folder, **rest)

    return ask


def _without_engine(model: Any, job: StageJob) -> Any:
    """A model of the same parts and weights: asked itself, one whose weights an engine scatters would be scattered again."""
    start = load_model(job.model_from, dtype=torch.float32, attention="sdpa", device="cpu").model
    twin, _ = set_trainable(start, job.recipe.trainable, job.recipe.lora)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def _weights(folder: Path) -> Mapping[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def _hash(weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].numpy().tobytes())
    return digest.hexdigest()


def _tower(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if name.startswith("visual.") and not name.startswith("visual.merger.")}


def test_plain_transformers_finds_every_weight_and_no_other(left: Left) -> None:
    _, found = AutoModelForImageTextToText.from_pretrained(left.folder, output_loading_info=True)
    assert {fault: keys for fault, keys in found.items() if keys} == {}
    load_model(str(left.folder), dtype=torch.float32, attention="sdpa", device="cpu")


def test_names_shapes_and_formats_are_those_that_transformers_itself_writes(left: Left, tmp_path: Path) -> None:
    """In the layout of the hub (``model.layers``, ``visual.blocks``), which vLLM maps too; nothing of adapters or an engine in it."""
    fresh = Qwen2_5_VLForConditionalGeneration._from_config(AutoConfig.from_pretrained(left.folder))
    fresh.save_pretrained(tmp_path)

    def described(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
        return {name: (tensor.shape, tensor.dtype) for name, tensor in _weights(folder).items()}

    assert described(left.folder) == described(tmp_path)
    assert {name.split(".")[0] for name in _weights(left.folder)} == {"model", "visual"}
    assert not [name for name in _weights(left.folder) if "lora" in name or "base_layer" in name or "modules_to_save" in name]


def test_the_frozen_tower_has_the_hash_of_the_one_that_it_was_and_what_learns_has_not(left: Left) -> None:
    before, after = _weights(left.base), _weights(left.folder)
    assert len(_tower(after)) > 10
    assert _hash(_tower(after)) == _hash(_tower(before))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert [name for name in moved if name.startswith("visual.merger.")]
    assert bool([name for name in moved if name.startswith("model.")]) == ("language" in left.recipe.trainable)


@torch.inference_mode()
def test_the_folder_says_what_the_live_model_said(left: Left) -> None:
    """To the last bit where weights were written as they were, but for rounding where adapters were merged into them."""
    model = AutoModelForImageTextToText.from_pretrained(left.folder).eval()
    logits = model(**batch_of(SAMPLES[:2], AutoProcessor.from_pretrained(left.folder))).logits
    untrained = AutoModelForImageTextToText.from_pretrained(left.base).eval()
    assert (untrained(**batch_of(SAMPLES[:2], AutoProcessor.from_pretrained(left.base))).logits - logits).abs().max() > 1e-2
    if left.recipe.lora is None:
        assert torch.equal(logits, left.live_logits)
    else:
        torch.testing.assert_close(logits, left.live_logits, rtol=0, atol=1e-5 * float(left.live_logits.abs().max()))


@pytest.mark.parametrize("fault", ["missing", "unexpected"])
def test_a_folder_that_lacks_a_weight_or_has_one_more_is_refused(model_folder: str, tmp_path: Path, fault: str) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    weights = dict(_weights(tmp_path / "model"))
    if fault == "missing":
        del weights["visual.merger.ln_q.weight"]
    else:
        weights["model.layers.0.self_attn.q_proj.lora_A.weight"] = torch.zeros(2, 2)
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StorageError, match=f"{fault} weights: "):
        load_model(str(tmp_path / "model"), dtype=torch.float32, attention="sdpa", device="cpu")
