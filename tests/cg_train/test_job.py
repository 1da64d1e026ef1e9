"""Stages on a real Ray: one worker group for all that are missing, each checkpointed, followed and exported on its own."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cg_data.progress import silent
from cg_train.job import STAGES, Stage, train_stages
from cg_train.recipe import ComputeSettings, TrainSettings
from cg_train.tracking import TrackingSettings, metrics_journal
from tests.cg_train.model_small import PAGE, SIZES
from tests.cg_train.test_stage import SIGHT, WORDS

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """Sight, then words, by two workers, in a folder of their own."""

    folder: Path
    samples_uri: str
    annotations_uri: str

    def stages(self) -> list[Stage]:
        made, start = [], self.folder / "models" / "init"
        for name, recipe in (("sight", SIGHT), ("words", WORDS)):
            out = self.folder / "models" / name
            made.append(
                Stage(
                    name=name,
                    identity=f"identity of {name}",
                    recipe=recipe,
                    model_from=str(start),
                    out_folder=str(out),
                    about={"step": name},
                    progress=silent,
                )
            )
            start = out
        return made

    def train(self, stages: list[Stage]) -> Iterator[dict[str, Any]]:
        compute = ComputeSettings(workers=2)
        return train_stages(
            stages,
            settings=TrainSettings(precision="float32", tiny=SIZES, compute=compute, stage1=WORDS, stage2=WORDS),
            page=PAGE,
            samples_uri=self.samples_uri,
            annotations_uri=self.annotations_uri,
            tiny_folder=str(self.folder / "models" / "init"),
            storage_folder=str(self.folder / "train"),
            tracking=TrackingSettings(uri=f"sqlite:///{self.folder / 'mlflow.db'}", artifacts_uri=(self.folder / "artifacts").as_uri()),
        )

    def weights(self, name: str) -> Mapping[str, torch.Tensor]:
        return load_file(self.folder / "models" / name / "model.safetensors")


@pytest.fixture
def series(tmp_path: Path, samples_uri: str, annotations_uri: str) -> Series:
    return Series(folder=tmp_path, samples_uri=samples_uri, annotations_uri=annotations_uri)


def test_a_series_that_was_cut_goes_on_after_the_stage_that_is_whole(series: Series) -> None:
    """The second call finds the first stage whole and the second's checkpoints without its folder, as after a kill."""
    from mlflow import MlflowClient

    figures = list(series.train(series.stages()))
    assert [figure["steps"] for figure in figures] == [4, 4]
    assert [figure["samples"] for figure in figures] == [16, 16]
    whole = series.weights("words")
    kept = {path.name for path in (series.folder / "train" / STAGES).glob("checkpoint-*")}
    assert "checkpoint-words-identity of -00000004" in kept
    shutil.rmtree(series.folder / "models" / "words")
    journal = metrics_journal(series.folder / "train" / "words", 0)
    before = [line["loss"] for line in journal.read()]
    assert [figure["steps"] for figure in series.train(series.stages()[1:])] == [4]
    assert [line["loss"] for line in journal.read()] == before
    again = series.weights("words")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    runs = MlflowClient(tracking_uri=f"sqlite:///{series.folder / 'mlflow.db'}").search_runs(["1"])
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [("sight", "FINISHED"), ("words", "FINISHED")]
