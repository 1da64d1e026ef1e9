from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from cg_data.errors import ConfigError, StorageError
from cg_train.model.load import ABOUT_FILE, load_model, module_of, read_about, set_trainable, weights_version
from cg_train.recipe import LoraSettings, Module
from tests.cg_train.model_small import PAGE, SAMPLES, SIZES, batch_of, build, load

WEIGHTS = "model.safetensors"
LORA = LoraSettings(rank=2, alpha=4)
PROJECTIONS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


@pytest.fixture
def folder(model_folder: str, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def _change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def _change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_model_is_loaded_as_it_was_built(model_folder: str) -> None:
    built, _ = build()
    loaded = load(model_folder)
    theirs = loaded.model.state_dict()
    assert {name: value.tolist() for name, value in built.state_dict().items()} == {name: value.tolist() for name, value in theirs.items()}
    assert not loaded.model.training
    assert loaded.page == PAGE
    assert loaded.tokenizer is loaded.processor.tokenizer


def test_a_model_is_loaded_in_the_number_format_asked_for_from_a_path_or_a_uri(model_folder: str) -> None:
    assert load(f"file://{model_folder}", torch.bfloat16).model.dtype == torch.bfloat16
    assert load_model(model_folder, dtype="auto", attention="eager", device="cpu").model.dtype == torch.float32


@pytest.mark.parametrize("name", ["visual.merger.mlp.0.weight", "visual.patch_embed.proj.weight", "model.layers.1.mlp.up_proj.weight"])
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    _change_weights(folder, lambda weights: weights.pop(name))
    with pytest.raises(StorageError, match=rf"missing weights: model\.\S*{name.removeprefix('model.')}\. The folder is incomplete"):
        load(str(folder))


def test_missing_embeddings_are_named(folder: Path) -> None:
    _change_weights(folder, lambda weights: weights.pop("model.embed_tokens.weight"))
    with pytest.raises(StorageError, match=r"missing weights: .*embed_tokens\.weight"):
        load(str(folder))


def test_of_many_missing_tensors_three_are_named_and_the_rest_counted(folder: Path) -> None:
    def keep_language_only(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if name.startswith("visual.merger.")]:
            del weights[name]

    _change_weights(folder, keep_language_only)
    with pytest.raises(StorageError, match=r"missing weights: (model\.visual\.merger\.[a-z_.\d]+, ){2}\S+ and 2 more\."):
        load(str(folder))


def test_a_tensor_that_the_model_has_no_place_for_is_named(folder: Path) -> None:
    _change_weights(folder, lambda weights: weights.update({"visual.merger.mlp.4.weight": torch.zeros(2)}))
    with pytest.raises(StorageError, match=r"unexpected weights: model\.visual\.merger\.mlp\.4\.weight\."):
        load(str(folder))


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    _change_weights(folder, lambda weights: weights.update({"visual.merger.ln_q.weight": torch.zeros(7)}))
    with pytest.raises(StorageError, match=r"mismatched weights: model\.visual\.merger\.ln_q\.weight\."):
        load(str(folder))


@pytest.mark.parametrize("kept", [4, 5000])
def test_a_file_of_weights_that_was_cut_off_is_refused(folder: Path, kept: int) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:kept])
    with pytest.raises(StorageError, match="this model cannot be loaded"):
        load(str(folder))


def test_a_shard_of_the_weights_that_is_not_there_is_named(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    places = {name: first if place < 9 else second for place, name in enumerate(weights)}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    save_file({name: weights[name] for name, place in places.items() if place == first}, folder / first, metadata={"format": "pt"})
    with pytest.raises(StorageError, match=f"this model cannot be loaded .*{second}"):
        load(str(folder))
    save_file({name: weights[name] for name, place in places.items() if place == second}, folder / second, metadata={"format": "pt"})
    assert load(str(folder)).model.dtype == torch.float32


def test_pickled_weights_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    with pytest.raises(StorageError, match="no safetensors in this folder; pickled weights are not read"):
        load(str(folder))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StorageError, match=r"no model in this folder \(config\.json is missing\)"):
            load(str(place))


def test_a_model_of_another_architecture_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    with pytest.raises(ConfigError, match=r"this is a qwen2_vl model\. Give a Qwen2\.5-VL"):
        load(str(folder))


@pytest.mark.parametrize("text", ["{", "{}"])
def test_a_configuration_that_is_none_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(StorageError, match="this model cannot be loaded"):
        load(str(folder))


def test_a_folder_without_its_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(StorageError, match=r"its tokenizer is not the model's \(tokenizer\.json\)"):
        load(str(folder))


@pytest.mark.parametrize(
    "changes", [{"image_mean": [0.5, 0.5, 0.5]}, {"image_std": [0.5, 0.5, 0.5]}, {"patch_size": 16}, {"merge_size": 1}]
)
def test_an_image_processor_that_treats_pixels_otherwise_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    path = folder / "processor_config.json"
    _change_json(path, image_processor=json.loads(path.read_text())["image_processor"] | changes)
    with pytest.raises(ConfigError, match=r"its image processor is not that of Qwen2\.5-VL"):
        load(str(folder))


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash attention is installed here")
def test_an_attention_that_is_not_installed_is_named(model_folder: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.attention flash_attention_2: not installed here .*Use sdpa"):
        load_model(model_folder, dtype=torch.float32, attention="flash_attention_2", device="cpu")


def test_a_name_on_the_hub_is_asked_for_there_and_a_hub_out_of_reach_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def offline(name: str) -> None:
        asked.append(name)
        raise OSError("We couldn't connect to the hub.\nSee the manual.")

    monkeypatch.setattr(AutoConfig, "from_pretrained", offline)
    with pytest.raises(StorageError, match=r"some/model: this model cannot be loaded \(We couldn't connect to the hub\)\."):
        load("some/model")
    assert asked == ["some/model"]


def test_a_model_of_others_says_nothing_of_a_page(folder: Path) -> None:
    (folder / ABOUT_FILE).unlink()
    loaded = load(str(folder))
    assert (loaded.about, loaded.page) == (None, None)


@pytest.mark.parametrize("text", ["{", "{}", '{"page": {"pixels_per_row": 1}, "prompt_version": "p", "version": "v", "provenance": {}}'])
def test_a_damaged_description_is_refused_by_its_name(folder: Path, text: str) -> None:
    (folder / ABOUT_FILE).write_text(text)
    with pytest.raises(StorageError, match=rf"{ABOUT_FILE}: this file is damaged or of another version"):
        read_about(str(folder))
    with pytest.raises(StorageError, match=ABOUT_FILE):
        load(str(folder))


def test_the_version_of_weights_is_that_of_their_bytes_over_all_files(folder: Path) -> None:
    whole = weights_version(folder)
    _change_json(folder / ABOUT_FILE, version="other")
    assert weights_version(folder) == whole
    assert len(whole) == 12
    save_file({"more": torch.zeros(1)}, folder / "more.safetensors")
    with_more = weights_version(folder)
    save_file({"more": torch.ones(1)}, folder / "more.safetensors")
    assert len({whole, with_more, weights_version(folder)}) == 3


def _modules_by_place(model: Any) -> dict[str, Module]:
    """To which module each parameter belongs, found by where it sits and not by its name."""
    merger = {id(parameter) for parameter in model.model.visual.merger.parameters()}
    visual = {id(parameter) for parameter in model.model.visual.parameters()}
    places: dict[str, Module] = {}
    for name, parameter in model.named_parameters():
        places[name] = "projector" if id(parameter) in merger else "vision" if id(parameter) in visual else "language"
    return places


def _learns(model: Any, processor: Any) -> set[str]:
    """Parameters that a backward pass reaches."""
    model.train()(**batch_of(SAMPLES[:2], processor)).loss.backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_every_parameter_belongs_to_the_module_where_it_sits() -> None:
    model, _ = build()
    places = _modules_by_place(model)
    assert set(places.values()) == {"vision", "projector", "language"}
    assert {name: module_of(name) for name in places} == places


def test_a_parameter_belongs_to_its_module_with_adapters_around_it_too() -> None:
    model, _ = build()
    places = _modules_by_place(model)
    wrapped, _ = set_trainable(model, ("language", "projector"), LORA)
    around = ("base_model.model.", "base_layer.", "modules_to_save.default.", "original_module.")
    seen = set()
    for name, _ in wrapped.named_parameters():
        plain = name
        for part in around:
            plain = plain.replace(part, "")
        if "lora_" in name:
            assert module_of(name) == "language"
        else:
            assert module_of(name) == places[plain]
            seen.add(plain)
    assert seen == set(places)


@pytest.mark.parametrize(
    "modules",
    [("projector",), ("language", "projector"), ("vision",), ("vision", "projector", "language")],
    ids=["stage 1", "stage 2", "vision", "all"],
)
def test_exactly_the_declared_modules_learn(modules: tuple[Module, ...]) -> None:
    model, processor = build()
    expected = {name for name, place in _modules_by_place(model).items() if place in modules}
    trainable, names = set_trainable(model, modules, None)
    assert trainable is model
    assert set(names) == expected
    assert len(names) == len(expected)
    assert _learns(model, processor) == expected


def test_a_later_stage_thaws_what_an_earlier_one_froze() -> None:
    model, _ = build()
    set_trainable(model, ("projector",), None)
    _, names = set_trainable(model, ("language", "projector"), None)
    assert {module_of(name) for name in names} == {"language", "projector"}


def test_adapters_sit_in_the_language_model_alone_and_the_projector_learns_as_it_is() -> None:
    model, processor = build()
    merger = [name.removeprefix("model.visual.merger.") for name, _ in model.named_parameters() if "visual.merger." in name]
    wrapped, names = set_trainable(model, ("language", "projector"), LORA)
    layers = "base_model.model.model.language_model.layers"
    adapters = {
        f"{layers}.{layer}.{projection}.lora_{side}.default.weight"
        for layer in range(SIZES.text_layers)
        for projection in PROJECTIONS
        for side in "AB"
    }
    assert set(names) == adapters | {f"base_model.model.model.visual.merger.modules_to_save.default.{name}" for name in merger}
    assert not [name for name, _ in wrapped.named_parameters() if "lora_" in name and "visual" in name]
    assert {parameter.shape[0] for name, parameter in wrapped.named_parameters() if "lora_A" in name} == {LORA.rank}
    assert _learns(wrapped, processor) == set(names)


@pytest.mark.parametrize(("modules", "beside"), [(("language",), set()), (("vision", "language"), {"vision"})])
def test_beside_adapters_exactly_the_declared_modules_learn(modules: tuple[Module, ...], beside: set[str]) -> None:
    model, processor = build()
    whole = {f"base_model.model.{name}" for name, place in _modules_by_place(model).items() if place in beside}
    wrapped, names = set_trainable(model, modules, LORA)
    assert {name for name in names if "lora_" not in name} == whole
    assert {module_of(name) for name in names if "lora_" in name} == {"language"}
    assert _learns(wrapped, processor) == set(names)


@torch.inference_mode()
def test_new_adapters_do_not_change_what_the_model_says() -> None:
    model, processor = build()
    batch = batch_of(SAMPLES[:2], processor)
    before = model(**batch).logits
    wrapped, _ = set_trainable(model, ("language", "projector"), LORA)
    torch.testing.assert_close(wrapped.eval()(**batch).logits, before, rtol=0, atol=0)


def test_equal_seeds_give_equal_adapters_and_leave_the_random_numbers_of_others_alone() -> None:
    drawn = []
    for noise, seed in ((1, 3), (2, 3), (3, 4)):
        model, _ = build()
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        wrapped, _ = set_trainable(model, ("language",), LORA, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)
        drawn.append(torch.cat([value.flatten() for name, value in wrapped.named_parameters() if "lora_A" in name]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_adapters_for_a_language_model_that_does_not_learn_are_refused() -> None:
    model, _ = build()
    with pytest.raises(ConfigError, match=r'lora: .*Add "language" to trainable, or set lora to null'):
        set_trainable(model, ("projector",), LORA)
