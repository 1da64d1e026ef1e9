"""Ablations on a real Ray of two CPUs: killed and gone on with, one that fails beside one that does not, and none done twice."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from cg_data import storage
from cg_data.analyze.annotate import annotate_truth
from cg_data.detect.detector import save_detector
from cg_data.detect.thresholds import WorkingPoint
from cg_data.instruct.samples import prevalence, samples_of
from cg_data.rows import ANNOTATION_SCHEMA, SAMPLE_SCHEMA, SEGMENT_SCHEMA, table_of
from cg_data.vocabulary import WAVEFORMS, Split
from cg_train.detector_card import write_training
from cg_train.detector_data import SegmentStore
from cg_train.tracking import metrics_journal, quiet
from cluster.config import RunConfig, read_preset, resolve_config
from cluster.pipeline import fingerprints
from cluster.road import road_of
from cluster.runfolder import FinishedStep, RunFolder, StepResult
from tests.cg_data.engine_runs import end_all
from tests.detectors_small import SIGNAL, planted_page, recipe_of, spec_of, untrained

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SETS = (
    "train.sight=null",
    "train.base=null",
    "train.compute.workers=1",
    "train.stage1.steps=2",
    "train.stage2.steps=2",
    "train.stage2.mixture={binary: 1, caption: 1}",
    "evaluate.max_segments=4",
    "evaluate.description_segments=1",
    "evaluate.max_new_tokens=8",
    "evaluate.resamples=100",
    "cluster.local_cpus=2",
    "cluster.object_store_mib=128",
)
ABLATIONS = [
    {"name": "longer", "about": "stage 1 of three steps", "sets": ["train.stage1.steps=3"]},
    {"name": "no-captions", "about": "stage 2 without captions", "sets": ["train.stage2.mixture.caption=0"]},
    {"name": "odd", "about": "micro-batches that do not share the batch", "sets": ["train.stage2.batching.micro_batch=3"]},
]


def _data(folder: RunFolder, config: RunConfig) -> None:
    """What the data steps and the detector's training leave, made of a few planted pages."""
    splits = [*[Split.TRAIN] * 3, Split.VALIDATION, *[Split.TEST] * 2]
    pages = [dataclasses.replace(planted_page(n, splits[n % 6]), subject=f"subject-{n % 6}") for n in range(24)]
    notes = [annotate_truth(page) for page in pages]
    made = [samples_of(p, a, settings=config.data.instruct, prevalence=prevalence([])) for p, a in zip(pages, notes, strict=True)]
    storage.write_table(folder.at("segments", "synthetic", "a.parquet"), table_of(pages, SEGMENT_SCHEMA))
    storage.write_table(folder.at("annotations", "synthetic", "a.parquet"), table_of(notes, ANNOTATION_SCHEMA))
    storage.write_table(folder.at("samples", "synthetic", "a.parquet"), table_of([s for of in made for s in of], SAMPLE_SCHEMA))
    network = untrained()
    save_detector(network, spec_of(), folder.at("detector"))
    point = WorkingPoint(threshold=0.5, precision=0, recall=0, f1=0, false_per_minute=0, false_per_minute_upper=0, met=True)
    stores = {one: SegmentStore(folder.at("segments", "synthetic"), one, min_box_s=0.15) for one in (Split.TRAIN, Split.VALIDATION)}
    write_training(folder.at("detector"), recipe_of(SIGNAL), network, dict.fromkeys(WAVEFORMS, point), stores)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that has its data and its detector, and no model yet."""
    folder = RunFolder(uri=str(tmp_path_factory.mktemp("sweep") / "run"))
    config = resolve_config(read_preset("tiny"), list(SETS))
    _data(folder, config)
    marks = fingerprints(road_of(config), config)
    for name in ("corpus", "segments", "detector", "annotations", "samples"):
        result = StepResult(counts={}, figure="", products={})
        folder.record(FinishedStep(name=name, fingerprint=marks[name], inputs="", seconds=0.0, result=result))
    folder.store_config(config)
    (folder.path.parent / "own.yaml").write_text(yaml.safe_dump({"ablations": ABLATIONS}))
    return folder


def _start(run: RunFolder) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cluster.cli", "train", "sweep", "--run", run.uri, "--sweep", str(run.path.parent / "own.yaml")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, f"the sweep was over before it could be killed: {process.communicate()[0]}"
        time.sleep(0.05)


def _written(run: RunFolder, *parts: str) -> int:
    return (run.path.joinpath("sweep", *parts, "model.safetensors")).stat().st_mtime_ns


def test_a_killed_sweep_goes_on_tells_what_failed_and_does_nothing_twice(run: RunFolder) -> None:
    process = _start(run)
    _wait_for(run.path / "sweep" / "longer" / "models" / "stage2", process)
    end_all(process.pid)
    process.communicate()
    done = [_written(run, "longer", "models", stage) for stage in ("stage1", "stage2")]
    assert not (run.path / "sweep" / "comparison.csv").exists()

    again = _start(run)
    said = again.communicate()[0]
    assert again.returncode == 1, said  # odd failed
    assert "odd: global_batch 8 is not a multiple of workers x micro_batch" in said
    assert "Tune" not in said
    assert "Traceback" not in said
    assert [_written(run, "longer", "models", stage) for stage in ("stage1", "stage2")] == done
    base, longer, no_captions, odd = csv.DictReader((run.path / "sweep" / "comparison.csv").open())
    assert [row["ablation"] for row in (base, longer, no_captions, odd)] == ["base", "longer", "no-captions", "odd"]
    for row, name in ((longer, "longer"), (no_captions, "no-captions")):
        assert row["failed because"] == ""
        assert -1 <= float(row["choice difference low"]) <= float(row["choice difference high"]) <= 1
        lines = [line for stage in ("stage1", "stage2") for line in metrics_journal(run.path / "sweep" / name / "train" / stage, 0).read()]
        assert len(lines) == {"longer": 5, "no-captions": 4}[name]
        assert int(row["tokens"]) == sum(line["tokens"] for line in lines)
    assert odd["failed because"].startswith("global_batch 8 is not a multiple")


@pytest.mark.parametrize("place", ["segments/synthetic", "samples/synthetic", "detector", "models/stage1"])
def test_a_trial_refers_to_what_it_shares(run: RunFolder, place: str) -> None:
    """After the sweep above: of what is alike there is one copy, that of the run."""
    shared = run.path / "sweep" / "no-captions" / place
    assert shared.is_symlink()
    assert shared.resolve() == (run.path / place).resolve()


def test_each_trial_is_a_run_of_mlflow_above_those_of_its_stages(run: RunFolder) -> None:
    quiet()
    from mlflow import MlflowClient

    runs = {one.info.run_id: one for one in MlflowClient(tracking_uri=f"sqlite:///{run.path / 'mlflow.db'}").search_runs(["1"])}
    trials = {one.info.run_name: one for one in runs.values() if "about" in one.data.tags}
    assert {name: one.info.status for name, one in trials.items()} == {"longer": "FINISHED", "no-captions": "FINISHED", "odd": "FAILED"}
    assert trials["longer"].data.params["sets"] == "train.stage1.steps=3"
    assert trials["longer"].data.metrics["tokens"] > 0
    below = [
        (runs[tags["mlflow.parentRunId"]].info.run_name, one.info.run_name)
        for one in runs.values()
        if "mlflow.parentRunId" in (tags := one.data.tags)
    ]
    assert sorted(below) == [("longer", "stage1"), ("longer", "stage2"), ("no-captions", "stage2")]
