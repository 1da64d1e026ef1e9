"""Stages of two workers whose samples are packed, against the same stage of one worker and padded micro-batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cg_data import storage
from cg_data.errors import UserError
from cg_data.rows import SAMPLE_SCHEMA, table_of
from cg_data.vocabulary import SampleKind
from cg_train.batches import SampleStore
from cg_train.checkpoint import Keeper
from cg_train.model.lengths import length_files
from cg_train.model.load import load_model
from cg_train.packs import SampleLengths, shares
from cg_train.plan import make_plan
from cg_train.recipe import Batching, PackedBatches, PaddedBatches, StageRecipe
from cg_train.stage import StageJob, run_stage
from cg_train.tracking import ledger, metrics_journal
from tests.cg_train.general_small import LARGE, MIXED, PHOTO, general, job_of
from tests.cg_train.model_small import PAGE, PICTURES
from tests.cg_train.train_small import in_group, join_group

MAX_TOKENS = 128
RECIPE = MIXED.model_copy(
    update={"mixture": {SampleKind.CAPTION: 1.0, SampleKind.GENERAL: 7.0}, "global_batch": 8, "steps": 6, "max_tokens": MAX_TOKENS}
)
PACKED = PackedBatches(tokens=280, images=2)
RUNS: dict[str, tuple[Batching, int]] = {
    "packed-zero0": (PACKED, 0),
    "packed-zero2": (PACKED, 2),
    "packed-zero3": (PACKED, 3),
    "by-length": (PaddedBatches(micro_batch=2, by_length=True), 2),
}


def _job(folder: Path, name: str, batching: Batching, zero_stage: int, **places: Any) -> StageJob:
    recipe = RECIPE.model_copy(update={"batching": batching})
    job = job_of(folder / name, recipe, **places)
    return dataclasses.replace(job, settings=job.settings.model_copy(update={"zero_stage": zero_stage}))


def _run(job: StageJob, rank: int, workers: int) -> None:
    run_stage(job, SampleStore(job.samples_uris), rank=rank, workers=workers, keeper=Keeper(resume_from=(), keep=lambda folder, step: None))


def _worker(rank: int, port: int, jobs: list[StageJob]) -> None:
    join_group(port, rank, 2)
    for job in jobs:
        _run(job, rank, 2)


@pytest.fixture
def places(tmp_path: Path, samples_uri: str, annotations_uri: str, model_folder: str) -> dict[str, Any]:
    words = [general(number, None) for number in range(20, 29)]
    storage.write_table(str(tmp_path / "general" / "0.parquet"), table_of([LARGE, PHOTO, *words], SAMPLE_SCHEMA))
    samples_uris = (samples_uri, str(tmp_path / "general"))
    return {"samples_uris": samples_uris, "annotations_uri": annotations_uri, "model_folder": model_folder}


def _lengths(store: SampleStore, job: StageJob) -> SampleLengths:
    processor = load_model(job.model_from, dtype=torch.float32, attention="sdpa", device="cpu").processor
    return length_files(str(Path(job.work_folder).parent / "lengths"), store, processor, page=PAGE, pictures=PICTURES).read()


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_two_workers_with_packs_learn_what_one_learns_from_padded_micro_batches(tmp_path: Path, places: dict[str, Any]) -> None:
    """Packs differ in number from step to step, and in some micro-batches one worker has nothing to look at; none waits for ever."""
    jobs = {name: _job(tmp_path, name, *batching_and_stage, **places) for name, batching_and_stage in RUNS.items()}
    in_group(_worker, [*jobs.values()])
    alone = _job(tmp_path, "alone", PaddedBatches(micro_batch=8), 2, **places)
    _run(alone, 0, 1)
    expected = metrics_journal(Path(alone.work_folder), 0).read()
    weights = load_file(Path(alone.out_folder) / "model.safetensors")
    for name, job in jobs.items():
        found = metrics_journal(Path(job.work_folder), 0).read()
        assert [line["tokens"] for line in found] == [line["tokens"] for line in expected], name
        assert [line["loss"] for line in found] == pytest.approx([line["loss"] for line in expected], rel=1e-4), name
        assert found[0]["loss"] == pytest.approx(expected[0]["loss"], rel=1e-6), name
        if RUNS[name][1]:  # of ZeRO stage 0 DeepSpeed tells no norm
            norms, of_alone = ([line["grad_norm"] for line in lines] for lines in (found, expected))
            assert norms == pytest.approx(of_alone, rel=1e-3), name
            assert norms[0] == pytest.approx(of_alone[0], rel=1e-5), name
        learnt = load_file(Path(job.out_folder) / "model.safetensors")
        for key, tensor in weights.items():
            torch.testing.assert_close(learnt[key], tensor, rtol=1e-3, atol=2e-4, msg=lambda text, at=(name, key): f"{at}: {text}")
    _check_cuts(jobs["packed-zero2"])


def _check_cuts(job: StageJob) -> None:
    store = SampleStore(job.samples_uris)
    lengths, plan = _lengths(store, job), make_plan(store.index, job.recipe)
    cuts = [shares(rows, lengths, batching=PACKED, workers=2) for rows in plan.rows]
    assert len({len(cut[0]) for cut in cuts}) > 1
    sights = [[int(lengths.images[pack].sum()) for pack in packs] for cut in cuts for packs in zip(*cut, strict=True)]
    assert any(min(seen) == 0 < max(seen) for seen in sights)
    ids = np.array(store.index.column("sample_id").to_pylist())
    for rank in range(2):
        eaten = [line["sample_ids"] for line in ledger(Path(job.work_folder), rank).read()]
        assert eaten == [[*ids[np.concatenate(cut[rank])]] for cut in cuts]


@pytest.mark.usefixtures("process_group")
def test_a_sample_longer_than_the_recipe_allows_stops_the_stage_before_its_first_step(tmp_path: Path, places: dict[str, Any]) -> None:
    job = _job(tmp_path, "short", PACKED, 2, **places)
    short = dataclasses.replace(job, recipe=StageRecipe.model_validate(job.recipe.model_dump() | {"max_tokens": 64}))
    with pytest.raises(UserError, match=r"sample \w+ \(\w+\) has \d+ tokens, more than max_tokens 64"):
        _run(short, 0, 1)
    assert not metrics_journal(Path(short.work_folder), 0).read()
