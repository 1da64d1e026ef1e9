"""A stage takes a model folder and leaves a model folder, changed where its recipe says and nowhere else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cg_data.errors import ConfigError
from cg_data.vocabulary import SampleKind
from cg_train.batches import SampleStore
from cg_train.checkpoint import Keeper
from cg_train.model.load import load_model
from cg_train.recipe import LoraSettings, PaddedBatches, StageRecipe, TrainSettings
from cg_train.stage import StageJob, is_exported, make_tiny, run_stage
from cg_train.tracking import ledger, metrics_journal
from tests.cg_train.model_small import PAGE, SIZES

SIGHT = StageRecipe(
    objective="sight",
    mixture={SampleKind.CAPTION: 1.0},
    steps=4,
    global_batch=4,
    batching=PaddedBatches(micro_batch=2),
    learning_rate=5e-3,
    trainable=("vision", "projector"),
    checkpoint_every=2,
)
WORDS = SIGHT.model_copy(
    update={"objective": "dialogue", "trainable": ("language",), "mixture": {SampleKind.BINARY: 1.0, SampleKind.OPEN: 1.0}}
)

pytestmark = pytest.mark.usefixtures("process_group")


@pytest.fixture
def job_of(tmp_path: Path, samples_uri: str, annotations_uri: str, model_folder: str) -> Callable[..., StageJob]:
    def make(recipe: StageRecipe, name: str = "one", model_from: str = model_folder) -> StageJob:
        return StageJob(
            name=name,
            identity="0" * 16,
            recipe=recipe,
            settings=TrainSettings(precision="float32", tiny=SIZES, stage1=WORDS, stage2=WORDS),
            page=PAGE,
            samples_uris=(samples_uri,),
            annotations_uri=annotations_uri,
            model_from=model_from,
            out_folder=str(tmp_path / "models" / name),
            work_folder=str(tmp_path / "train" / name),
            about={"step": name},
        )

    return make


def run(job: StageJob, keeper: Keeper | None = None) -> None:
    run_stage(
        job, SampleStore(job.samples_uris), rank=0, workers=1, keeper=keeper or Keeper(resume_from=(), keep=lambda folder, step: None)
    )


def weights(folder: str) -> Mapping[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


def changed(before: str, after: str) -> set[str]:
    old, new = weights(before), weights(after)
    assert old.keys() == new.keys()
    return {name for name in old if not torch.equal(old[name], new[name])}


def test_sight_changes_the_tower_and_the_projector_alone_and_exports_no_head(job_of: Any, model_folder: str) -> None:
    job = job_of(SIGHT)
    assert not is_exported(job)
    run(job)
    assert is_exported(job)
    assert changed(model_folder, job.out_folder) == {name for name in weights(model_folder) if name.startswith("visual.")}
    load_model(job.out_folder, dtype=torch.float32, attention="sdpa", device="cpu")
    losses = [line["loss"] for line in metrics_journal(Path(job.work_folder), 0).read()]
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_a_stage_goes_on_where_the_one_before_it_ended(job_of: Any) -> None:
    first = job_of(SIGHT)
    run(first)
    second = job_of(WORDS, "two", first.out_folder)
    run(second)
    moved = changed(first.out_folder, second.out_folder)
    assert moved
    assert not [name for name in moved if name.startswith("visual.")]
    said = json.loads((Path(second.out_folder) / "cerebragloss.json").read_text())
    assert said["provenance"]["step"] == "two"


@pytest.mark.parametrize("recipe", [SIGHT, WORDS])
def test_a_stage_that_was_interrupted_ends_as_one_that_was_not(job_of: Any, tmp_path: Path, recipe: StageRecipe) -> None:
    whole, order = job_of(recipe), []

    def keep(folder: Path | None, step: int) -> None:
        assert folder is not None
        shutil.copytree(folder, tmp_path / f"kept-{step}")
        order.append(f"kept {step}")

    def settle() -> None:
        order.append("settled after the export" if is_exported(whole) else "settled")

    run(whole, Keeper(resume_from=(), keep=keep, settle=settle))
    assert order == ["kept 2", "kept 4", "settled"]
    again = dataclasses.replace(whole, out_folder=str(tmp_path / "models" / "again"))
    (tmp_path / "kept-4" / "latest").write_text("")  # the disk was full
    run(again, Keeper(resume_from=(tmp_path / "kept-4", tmp_path / "kept-2"), keep=lambda folder, step: None))
    assert not changed(whole.out_folder, again.out_folder)
    assert [line["step"] for line in metrics_journal(Path(whole.work_folder), 0).read()] == [1, 2, 3, 4]
    assert [line["step"] for line in ledger(Path(whole.work_folder), 0).read()] == [1, 2, 3, 4]


def test_a_checkpoint_of_another_recipe_is_refused(job_of: Any, tmp_path: Path) -> None:
    def keep(folder: Path | None, step: int) -> None:
        assert folder is not None
        shutil.copytree(folder, tmp_path / f"kept-{step}")

    run(job_of(SIGHT), Keeper(resume_from=(), keep=keep))
    other = job_of(SIGHT.model_copy(update={"learning_rate": 1e-3}), "other")
    with pytest.raises(ConfigError, match="other samples or another recipe"):
        run(other, Keeper(resume_from=(tmp_path / "kept-2",), keep=lambda folder, step: None))


def test_the_tiny_model_is_written_once_from_the_training_texts(job_of: Any, tmp_path: Path) -> None:
    job, folder = job_of(WORDS), tmp_path / "models" / "init"
    make_tiny(job, str(folder), rank=0)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    make_tiny(job, str(folder), rank=0)
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    tokenizer = load_model(str(folder), dtype=torch.float32, attention="sdpa", device="cpu").tokenizer
    assert len(tokenizer("Describe the page.")["input_ids"]) < len("Describe the page.")


def test_no_tiny_model_is_written_where_another_is_named(job_of: Any, tmp_path: Path) -> None:
    job = job_of(WORDS)
    named = dataclasses.replace(job, settings=job.settings.model_copy(update={"source": "Qwen/Qwen2.5-VL-3B-Instruct"}))
    make_tiny(named, str(tmp_path / "init"), rank=0)
    assert not (tmp_path / "init").exists()


@pytest.mark.parametrize("changes", [{"lora": LoraSettings(rank=2)}, {}], ids=["adapters", "whole"])
def test_a_stage_with_every_memory_saver_ends_where_one_without_ends(job_of: Any, changes: Mapping[str, Any]) -> None:
    recipe = WORDS.model_copy(update={"trainable": ("projector", "language"), **changes})
    plain = job_of(recipe)
    run(plain)
    saving = {
        "zero_stage": 3,
        "loss": "chunked",
        "checkpointing": ("vision", "language"),
        "offload": {"optimizer": "cpu", "parameters": "cpu"},
    }
    settings = TrainSettings.model_validate(plain.settings.model_dump() | saving)
    thrifty = dataclasses.replace(job_of(recipe, "thrifty"), settings=settings)
    run(thrifty)
    one, other = weights(plain.out_folder), weights(thrifty.out_folder)
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    moved = changed(plain.model_from, thrifty.out_folder)
    assert {name.startswith("visual.merger.") for name in moved} == {True, False}
