"""Stages on a real Ray: one worker group for all that are missing, each checkpointed, followed and exported on its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cg_data.progress import silent
from cg_train.job import STAGES, Stage, train_stages
from cg_train.recipe import ComputeSettings, TrainSettings
from cg_train.tracking import TrackingSettings, ledger
from tests.cg_train.model_small import PAGE, SIZES
from tests.cg_train.test_stage import SIGHT, WORDS

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def test_stages_in_a_row_train_in_one_group_each_with_its_own_folder_checkpoints_and_run(
    tmp_path: Path, samples_uri: str, annotations_uri: str
) -> None:
    from mlflow import MlflowClient

    stages, start = [], tmp_path / "models" / "init"
    for name, recipe in (("sight", SIGHT), ("words", WORDS)):
        out = tmp_path / "models" / name
        made = Stage(
            name=name,
            identity=f"identity of {name}",
            recipe=recipe,
            model_from=str(start),
            out_folder=str(out),
            about={"step": name},
            progress=silent,
        )
        stages.append(made)
        start = out
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    figures = train_stages(
        stages,
        settings=TrainSettings(precision="float32", tiny=SIZES, compute=ComputeSettings(workers=2), stage1=WORDS, stage2=WORDS),
        page=PAGE,
        samples_uris=(samples_uri,),
        annotations_uri=annotations_uri,
        tiny_folder=str(tmp_path / "models" / "init"),
        storage_folder=str(tmp_path / "train"),
        tracking=TrackingSettings(uri=store, artifacts_uri=(tmp_path / "artifacts").as_uri()),
    )
    assert [(figure["steps"], figure["samples"]) for figure in figures] == [(4, 16), (4, 16)]
    init, sight, words = (load_file(tmp_path / "models" / name / "model.safetensors") for name in ("init", "sight", "words"))
    assert {name for name in init if not torch.equal(init[name], sight[name])} == {name for name in init if name.startswith("visual.")}
    assert not [name for name in init if name.startswith("visual.") and not torch.equal(sight[name], words[name])]
    assert "checkpoint-words-identity of -00000004" in {path.name for path in (tmp_path / "train" / STAGES).glob("checkpoint-*")}
    for name in ("sight", "words"):
        assert [len(ledger(tmp_path / "train" / name, rank).read()) for rank in (0, 1)] == [4, 4]
    runs = MlflowClient(tracking_uri=store).search_runs(["1"])
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [("sight", "FINISHED"), ("words", "FINISHED")]
