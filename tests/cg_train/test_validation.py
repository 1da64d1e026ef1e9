"""Validation sees the same samples whoever looks, leaves training as it is, and ends a stage that has settled."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from cg_data import storage
from cg_data.errors import UserError
from cg_data.rows import SAMPLE_SCHEMA, table_of
from cg_data.vocabulary import SampleKind, Split
from cg_train.batches import SampleStore
from cg_train.checkpoint import Keeper
from cg_train.packs import SampleLengths
from cg_train.plan import fixed_rows
from cg_train.recipe import Batching, LoraSettings, PackedBatches, PaddedBatches, StageRecipe, TrainSettings, ValidationSettings
from cg_train.stage import StageJob, run_stage
from cg_train.tracking import metrics_journal
from cg_train.validation import groups_of, has_settled
from tests.cg_train.model_small import PAGE, SIZES
from tests.cg_train.train_small import KINDS, in_group, join_group, make_sample

RECIPE = StageRecipe(
    mixture={SampleKind.BINARY: 2.0, SampleKind.OPEN: 1.0},
    steps=6,
    global_batch=4,
    batching=PaddedBatches(micro_batch=2),
    learning_rate=5e-3,
    trainable=("projector", "language"),
    lora=LoraSettings(rank=2, dropout=0.3),
    checkpoint_every=100,
)
LOOKS = ValidationSettings(samples=9, every=2)
ON_THE_CLOCK = {"seconds", "data_wait_s", "time_ms", "memory_bytes", "validation_s", "validation_loss", "validation_samples"}


@pytest.fixture(scope="module")
def uris(tmp_path_factory: pytest.TempPathFactory, samples_uri: str) -> tuple[str, str]:
    """Folders of training samples, and of those of seven validation pages."""
    folder = tmp_path_factory.mktemp("validation") / "held-out"
    held_out = [make_sample(number, kind, Split.VALIDATION) for number in range(50, 57) for kind in KINDS]
    storage.write_table(str(folder / "0.parquet"), table_of(held_out, SAMPLE_SCHEMA))
    return samples_uri, str(folder)


def job_of(root: Path, name: str, uris: tuple[str, str], model: str, recipe: StageRecipe, zero_stage: int = 0) -> StageJob:
    return StageJob(
        name=name,
        identity="0" * 16,
        recipe=recipe,
        settings=TrainSettings(precision="float32", zero_stage=zero_stage, tiny=SIZES, stage1=recipe, stage2=recipe),  # type: ignore[arg-type]
        page=PAGE,
        samples_uris=uris,
        annotations_uri="",
        model_from=model,
        out_folder=str(root / name / "model"),
        work_folder=str(root / name / "work"),
        about={},
    )


def run(job: StageJob, keeper: Keeper | None = None, rank: int = 0, workers: int = 1) -> list[dict[str, Any]]:
    keeper = keeper or Keeper(resume_from=(), keep=lambda folder, step: None)
    run_stage(job, SampleStore(job.samples_uris), rank=rank, workers=workers, keeper=keeper)
    return metrics_journal(Path(job.work_folder), 0).read()


def test_the_set_has_the_mixture_and_is_the_same_whatever_the_order_of_shards() -> None:
    kinds = [*itertools.repeat("binary", 30), *itertools.repeat("open", 5), *itertools.repeat("mcq", 9)]
    index = pa.table({"sample_id": [f"{kind}-{n:02d}" for n, kind in enumerate(kinds)], "kind": kinds})

    def named(table: pa.Table, samples: int) -> set[str]:
        return set(table.column("sample_id").take(pa.array(fixed_rows(table, RECIPE, samples))).to_pylist())

    few = named(index, 9)
    assert (len(few), sum(name.startswith("binary") for name in few)) == (9, 6)
    assert named(index.take(pa.array(np.random.default_rng(0).permutation(len(kinds)))), 9) == few
    assert few < named(index, 30)
    assert len(named(index, 30)) == 25, "there are but five open ones"


LENGTHS = SampleLengths(tokens=np.array([20, 50, 30, 90, 10, 40, 60, 70, 80, 99, 5], dtype=np.int32), images=np.ones(11, dtype=np.int32))
CUTS: list[tuple[Batching, list[list[int]]]] = [
    (PaddedBatches(micro_batch=2), [[0, 1], [2, 3], [4, 5], [6, 7], [8]]),
    (PaddedBatches(micro_batch=2, by_length=True), [[1, 5], [2, 0], [3, 8], [4], [7, 6]]),
    # 450 tokens in five packs, of which each next sample goes into the one that holds the fewest
    (PackedBatches(tokens=100, images=2), [[0, 7], [1, 5], [2, 6], [3], [4, 8]]),
]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize(("batching", "expected"), CUTS)
def test_every_sample_is_counted_once_and_workers_pass_equally_often(batching: Batching, expected: list[list[int]], workers: int) -> None:
    recipe, rows = RECIPE.model_copy(update={"batching": batching}), np.arange(9)
    mine = [groups_of(rows, LENGTHS if recipe.needs_lengths else None, recipe, rank=rank, workers=workers) for rank in range(workers)]
    assert len({len(groups) for groups in mine}) == 1
    counted = [group.rows.tolist() for groups in mine for group in groups if group.counted]
    assert sorted(counted) == expected


def test_a_loss_that_no_longer_falls_by_the_tolerance_settles_after_the_patience() -> None:
    rule = ValidationSettings(every=1, patience=2, tolerance=0.1)
    assert not has_settled([], rule)
    assert not has_settled([3.0, 2.0, 1.9], rule)
    assert has_settled([3.0, 2.0, 1.9, 1.85], rule)
    assert not has_settled([3.0, 2.0, 1.9, 1.79], rule)
    assert not has_settled([1.0] * 9, rule.model_copy(update={"patience": None}))


@pytest.mark.usefixtures("process_group")
def test_validation_leaves_training_as_it_is(tmp_path: Path, uris: tuple[str, str], model_folder: str) -> None:
    """To the bit, with dropout, which draws random numbers in training alone."""
    plain = job_of(tmp_path, "plain", uris, model_folder, RECIPE)
    watched = job_of(tmp_path, "watched", uris, model_folder, RECIPE.model_copy(update={"validation": LOOKS}))
    lines = [[{k: v for k, v in line.items() if k not in ON_THE_CLOCK} for line in run(job)] for job in (plain, watched)]
    assert lines[0] == lines[1]
    seen = [line for line in metrics_journal(Path(watched.work_folder), 0).read() if "validation_loss" in line]
    assert [(line["step"], line["validation_samples"]) for line in seen] == [(2, 9), (4, 9), (6, 9)]
    one, other = (load_file(Path(job.out_folder) / "model.safetensors") for job in (plain, watched))
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())


@pytest.mark.usefixtures("process_group")
def test_a_stage_stops_when_it_has_settled_and_a_kill_after_that_changes_nothing(
    tmp_path: Path, uris: tuple[str, str], model_folder: str
) -> None:
    rule = LOOKS.model_copy(update={"patience": 1, "tolerance": 0.99})
    job = job_of(tmp_path, "settled", uris, model_folder, RECIPE.model_copy(update={"validation": rule}))
    kept = tmp_path / "kept"

    def keep(folder: Path | None, step: int) -> None:
        assert (folder, step) == (folder, 4)
        shutil.copytree(str(folder), kept)

    assert [line["step"] for line in run(job, Keeper(resume_from=(), keep=keep))] == [1, 2, 3, 4]
    before = load_file(Path(job.out_folder) / "model.safetensors")
    shutil.rmtree(job.out_folder)
    again = run(job, Keeper(resume_from=(kept,), keep=lambda folder, step: None))
    assert [line["step"] for line in again] == [1, 2, 3, 4]
    assert all(torch.equal(before[name], tensor) for name, tensor in load_file(Path(job.out_folder) / "model.safetensors").items())
    to_its_end = run(job_of(tmp_path, "to-its-end", uris, model_folder, RECIPE))
    assert [line["lr"] for line in again] == [line["lr"] for line in to_its_end[:4]], "the schedule is that of the planned length"


@pytest.mark.usefixtures("process_group")
def test_a_stage_killed_before_it_has_settled_remembers_what_it_saw(tmp_path: Path, uris: tuple[str, str], model_folder: str) -> None:
    """Three looks in a row decide; the first two were before the kill, and a later one is dropped with the steps that are taken again."""
    rule = LOOKS.model_copy(update={"every": 1, "patience": 3, "tolerance": 0.99})
    job = job_of(tmp_path, "killed", uris, model_folder, RECIPE.model_copy(update={"validation": rule, "checkpoint_every": 2}))
    kept = tmp_path / "kept"

    def keep(folder: Path | None, step: int) -> None:
        if step == 2:
            shutil.copytree(str(folder), kept)

    whole = run(job, Keeper(resume_from=(), keep=keep))
    assert [line["step"] for line in whole] == [1, 2, 3, 4]
    before = load_file(Path(job.out_folder) / "model.safetensors")
    shutil.rmtree(job.out_folder)
    with (Path(job.work_folder) / "metrics-rank0.jsonl").open("w") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in whole[:3])
    again = run(job, Keeper(resume_from=(kept,), keep=lambda folder, step: None))
    assert [(line["step"], line["validation_loss"]) for line in again] == [(line["step"], line["validation_loss"]) for line in whole]
    assert all(torch.equal(before[name], tensor) for name, tensor in load_file(Path(job.out_folder) / "model.safetensors").items())


@pytest.mark.usefixtures("process_group")
def test_packs_see_what_padded_passes_see_and_the_last_step_is_looked_at(tmp_path: Path, uris: tuple[str, str], model_folder: str) -> None:
    looks = LOOKS.model_copy(update={"every": 2})
    recipe = RECIPE.model_copy(update={"validation": looks, "lora": None, "steps": 3})
    packed = recipe.model_copy(update={"batching": PackedBatches(tokens=140, images=2), "max_tokens": 128})
    seen = [
        [(line["step"], line["validation_loss"]) for line in run(job) if "validation_loss" in line]
        for job in (job_of(tmp_path, "padded", uris, model_folder, recipe), job_of(tmp_path, "packed", uris, model_folder, packed))
    ]
    assert [[step for step, _ in looked] for looked in seen] == [[2, 3], [2, 3]]
    assert [loss for _, loss in seen[1]] == pytest.approx([loss for _, loss in seen[0]], rel=1e-4)


@pytest.mark.usefixtures("process_group")
def test_a_validation_sample_that_is_too_long_for_packs_is_told_before_the_first_step(
    tmp_path: Path, uris: tuple[str, str], model_folder: str
) -> None:
    long = make_sample(60, SampleKind.OPEN, Split.VALIDATION)
    long = dataclasses.replace(long, messages=(long.messages[0], dataclasses.replace(long.messages[1], content="Fp1 " * 400)))
    storage.write_table(str(tmp_path / "long" / "0.parquet"), table_of([long], SAMPLE_SCHEMA))
    packed = {"batching": PackedBatches(tokens=140, images=2), "max_tokens": 128, "validation": LOOKS.model_copy(update={"samples": 99})}
    job = job_of(tmp_path, "refused", uris, model_folder, RECIPE.model_copy(update=packed))
    with pytest.raises(UserError, match=f"{long.sample_id} .* more than max_tokens 128"):
        run(dataclasses.replace(job, samples_uris=(*uris, str(tmp_path / "long"))))
    assert not metrics_journal(Path(job.work_folder), 0).read()


@pytest.mark.usefixtures("process_group")
def test_a_loss_that_is_not_finite_is_told_and_does_not_settle_a_stage(tmp_path: Path, uris: tuple[str, str], model_folder: str) -> None:
    """Weights that are no longer finite after the step are seen at once, not at the next step."""
    wild = RECIPE.model_copy(update={"validation": LOOKS.model_copy(update={"every": 1}), "learning_rate": 1e30, "warmup_fraction": 0.0})
    job = job_of(tmp_path, "wild", uris, model_folder, wild)
    with pytest.raises(UserError, match="the loss on validation is nan: training diverged"):
        run(job)
    assert not Path(job.out_folder).exists()


def _worker(rank: int, port: int, jobs: list[StageJob]) -> None:
    join_group(port, rank, 2)
    for job in jobs:
        run(job, rank=rank, workers=2)
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_two_workers_see_what_one_sees_at_every_zero_stage(tmp_path: Path, uris: tuple[str, str], model_folder: str) -> None:
    recipe = RECIPE.model_copy(update={"validation": LOOKS, "lora": None, "steps": 4})
    alone = run(job_of(tmp_path, "alone", uris, model_folder, recipe))
    jobs = [job_of(tmp_path, f"zero{stage}", uris, model_folder, recipe, zero_stage=stage) for stage in (0, 1, 2, 3)]
    packed = recipe.model_copy(update={"batching": PackedBatches(tokens=140, images=2), "max_tokens": 128})
    as_in_presets = job_of(tmp_path, "packed", uris, model_folder, packed, zero_stage=2)
    settings = as_in_presets.settings.model_copy(update={"attention": "varlen", "loss": "chunked", "checkpointing": ("language",)})
    jobs.append(dataclasses.replace(as_in_presets, settings=settings))
    in_group(_worker, jobs)
    expected = [line["validation_loss"] for line in alone if "validation_loss" in line]
    for job in jobs:
        lines = metrics_journal(Path(job.work_folder), 0).read()
        assert [line["validation_loss"] for line in lines if "validation_loss" in line] == pytest.approx(expected, rel=1e-6), job.name
    ranks = [[{**line, "time_ms": 0} for line in metrics_journal(Path(jobs[0].work_folder), rank).read()] for rank in range(2)]
    looks = [[line["validation_loss"] for line in lines if "validation_loss" in line] for lines in ranks]
    assert looks[0] == looks[1], "alike to the bit, for each worker decides by it"


@pytest.mark.usefixtures("process_group")
def test_a_set_without_a_sample_of_the_mixture_is_refused(tmp_path: Path, uris: tuple[str, str], model_folder: str) -> None:
    job = job_of(tmp_path, "none", uris, model_folder, RECIPE.model_copy(update={"validation": LOOKS}))
    with pytest.raises(UserError, match="no sample of the validation split"):
        run(dataclasses.replace(job, samples_uris=uris[:1]))
