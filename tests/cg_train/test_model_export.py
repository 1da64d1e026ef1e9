from __future__ import annotations

import errno
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from cg_data import storage
from cg_data.errors import StorageError
from cg_data.instruct.prompt import PROMPT_VERSION
from cg_train.model.export import export_folder
from cg_train.model.load import ABOUT_FILE, ModelAbout, set_trainable, weights_version
from cg_train.recipe import LoraSettings
from tests.cg_train.model_small import PAGE, SAMPLES, batch_of, build, by_processor, load, pages_of

ABOUT = {"data": "synthetic", "steps": 40, "shares": {"mcq": 0.5}, "note": "a | b\nc"}


@pytest.fixture(scope="module")
def model_and_processor() -> tuple[Any, Any]:
    return build()


def _export(model: Any, processor: Any, folder: Path, about: dict[str, Any] | None = None) -> ModelAbout:
    return export_folder(model, processor, str(folder), page=PAGE, about=ABOUT if about is None else about)


def _plain(folder: Path) -> Any:
    model, found = AutoModelForImageTextToText.from_pretrained(folder, output_loading_info=True)
    assert not any(found.values())
    return model


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_transformers_loads_the_folder_and_says_the_same_to_the_last_bit(
    model_folder: str, tmp_path: Path, dtype: torch.dtype
) -> None:
    live = load(model_folder, dtype)
    model, processor = live.model, live.processor
    with torch.no_grad():
        model.model.visual.merger.mlp[2].weight *= 1.5  # other weights than those that were read
    _export(model, processor, tmp_path / "model")
    again, theirs = _plain(tmp_path / "model"), AutoProcessor.from_pretrained(tmp_path / "model")
    assert again.dtype == dtype
    sample = SAMPLES[0]
    inputs = by_processor(theirs, [sample.messages], pages_of(sample.eeg_uv[None], sample.mask[None]), with_answer=True)
    ours = batch_of([sample], processor)
    assert torch.equal(again(**inputs).logits, model(**{name: value for name, value in ours.items() if name != "labels"}).logits)


def test_the_processor_and_the_ends_of_an_answer_survive(model_and_processor: tuple[Any, Any], tmp_path: Path) -> None:
    model, processor = model_and_processor
    _export(model, processor, tmp_path / "model")
    again, theirs = load(str(tmp_path / "model")).model, AutoProcessor.from_pretrained(tmp_path / "model")
    text = "Ça où, 50 µV 🧠 e\u0301\n"
    assert theirs.tokenizer(text)["input_ids"] == processor.tokenizer(text)["input_ids"]
    assert theirs.tokenizer.all_special_tokens == processor.tokenizer.all_special_tokens
    assert theirs.chat_template == processor.chat_template
    assert again.generation_config.eos_token_id == model.generation_config.eos_token_id


@torch.inference_mode()
def test_merged_adapters_say_what_the_live_model_says(tmp_path: Path) -> None:
    model, processor = build()
    batch = batch_of(SAMPLES[:2], processor)
    base = model(**batch).logits
    wrapped, names = set_trainable(model, ("language", "projector"), LoraSettings(rank=2, alpha=4))
    torch.manual_seed(0)
    parameters = dict(wrapped.named_parameters())
    for name in names:
        parameters[name].add_(0.02 * torch.randn_like(parameters[name]))
    live = wrapped.eval()(**batch).logits
    assert (live - base).abs().max() > 1e-2
    _export(wrapped, processor, tmp_path / "model")
    tolerance = 1e-5 * float(live.abs().max())
    torch.testing.assert_close(_plain(tmp_path / "model")(**batch).logits, live, rtol=0, atol=tolerance)
    torch.testing.assert_close(load(str(tmp_path / "model")).model(**batch).logits, live, rtol=0, atol=tolerance)
    untouched, _ = build()
    _export(untouched, processor, tmp_path / "untouched")
    assert set(load_file(tmp_path / "model" / "model.safetensors")) == set(load_file(tmp_path / "untouched" / "model.safetensors"))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {path.name for path in (tmp_path / "untouched").iterdir()}


def test_merged_adapters_keep_the_number_format_of_the_model(model_folder: str, tmp_path: Path) -> None:
    live = load(model_folder, torch.bfloat16)
    wrapped, _ = set_trainable(live.model, ("language", "projector"), LoraSettings(rank=2, alpha=4))
    _export(wrapped, live.processor, tmp_path / "model")
    assert {value.dtype for value in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.bfloat16}


def test_the_folder_says_with_which_page_prompt_and_provenance_it_was_made(model_and_processor: tuple[Any, Any], tmp_path: Path) -> None:
    written = _export(*model_and_processor, tmp_path / "model")
    assert (written.page, written.prompt_version, written.provenance) == (PAGE, PROMPT_VERSION, ABOUT)
    assert written.version == weights_version(tmp_path / "model")
    assert json.loads((tmp_path / "model" / ABOUT_FILE).read_text()) == written.model_dump(mode="json")
    assert load(str(tmp_path / "model")).about == written


def test_the_card_says_page_prompt_version_provenance_and_that_it_makes_drafts(
    model_and_processor: tuple[Any, Any], tmp_path: Path
) -> None:
    model, _ = model_and_processor
    written = _export(*model_and_processor, tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"# CerebraGloss model {written.version}\n" in card
    assert f"({sum(parameter.numel() for parameter in model.parameters()):,} parameters)" in card
    assert "The page: 4 pixels and 8 microvolts per row, 14 pixels per second" in card
    assert f"Prompt: {PROMPT_VERSION}." in card
    assert "drafts for a reader" in card
    assert "never a diagnosis" in card
    table = card.split("|---|---|\n")[1].splitlines()
    assert table == ["| data | synthetic |", "| note | a / b c |", '| shares | {"mcq": 0.5} |', "| steps | 40 |"]


def test_the_version_follows_the_weights_and_nothing_else(tmp_path: Path) -> None:
    model, processor = build()
    first = _export(model, processor, tmp_path / "first")
    assert _export(model, processor, tmp_path / "second", about={}).version == first.version
    with torch.no_grad():
        model.model.visual.merger.ln_q.weight[0] += 1e-6
    assert _export(model, processor, tmp_path / "third").version != first.version


def test_a_folder_that_is_there_is_replaced_as_a_whole(model_and_processor: tuple[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model-00001-of-00002.safetensors").write_bytes(b"of an earlier export")
    (tmp_path / ".model.export").mkdir()
    (tmp_path / ".model.export" / "left.json").write_text("by an export that was killed")
    _export(*model_and_processor, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert [path.name for path in (tmp_path / "model").glob("*.safetensors")] == ["model.safetensors"]
    assert not (tmp_path / "model" / "left.json").exists()


def test_missing_parents_are_made_and_a_uri_is_a_place(model_and_processor: tuple[Any, Any], tmp_path: Path) -> None:
    export_folder(*model_and_processor, f"file://{tmp_path}/a/b/model", page=PAGE, about={})
    assert (tmp_path / "a" / "b" / "model" / ABOUT_FILE).is_file()


def test_whoever_may_read_the_folder_may_read_its_weights(model_and_processor: tuple[Any, Any], tmp_path: Path) -> None:
    _export(*model_and_processor, tmp_path / "model")
    assert len({path.stat().st_mode for path in (tmp_path / "model").iterdir()}) == 1


_FULL = OSError(errno.ENOSPC, "No space left on device")
_FULL_FOR_WEIGHTS = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("owner", "function", "error"),
    [
        (PreTrainedModel, "save_pretrained", _FULL),
        (PreTrainedModel, "save_pretrained", _FULL_FOR_WEIGHTS),
        (ProcessorMixin, "save_pretrained", _FULL),
        (storage, "write_json", storage.storage_error("cerebragloss.json", _FULL)),
        (Path, "rename", _FULL),
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_the_model_that_was_there(
    model_and_processor: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, function: str, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    replaced = function == "rename"
    before = None if replaced else _export(*model_and_processor, tmp_path / "model")
    monkeypatch.setattr(owner, function, refuse)
    with pytest.raises(StorageError, match=r"the disk is full\. Free some space"):
        _export(*model_and_processor, tmp_path / "model", about={"data": "other"})
    assert [path.name for path in tmp_path.iterdir()] == ([] if replaced else ["model"])
    monkeypatch.undo()
    assert replaced or load(str(tmp_path / "model")).about == before


@contextmanager
def _files_no_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_weights_that_the_system_does_not_let_be_written_are_a_sentence(model_and_processor: tuple[Any, Any], tmp_path: Path) -> None:
    with _files_no_larger_than(100_000), pytest.raises(StorageError, match=r"model: cannot be written \(.*File too large"):
        _export(*model_and_processor, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
