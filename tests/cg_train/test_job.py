"""Stages on a real Ray: one worker group for all that are missing, each checkpointed, followed and exported on its own."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cg_data import storage
from cg_data.errors import ClusterError, UserError
from cg_data.progress import silent
from cg_data.records import Message
from cg_data.rows import SAMPLE_SCHEMA, table_of
from cg_data.vocabulary import Split
from cg_train.job import STAGES, Stage, train_stages
from cg_train.recipe import ComputeSettings, StageRecipe, TrainSettings, ValidationSettings
from cg_train.tracking import TrackingSettings, ledger, metrics_journal
from tests.cg_train.model_small import PAGE, SIZES
from tests.cg_train.test_stage import SIGHT, WORDS
from tests.cg_train.train_small import KINDS, make_sample

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]


def _stage(root: Path, name: str, recipe: StageRecipe, model_from: str) -> Stage:
    return Stage(
        name=name,
        identity=f"identity of {name}",
        recipe=recipe,
        model_from=str(root / "models" / model_from),
        out_folder=str(root / "models" / name),
        about={"step": name},
        progress=silent,
    )


def _train(root: Path, stages: Sequence[Stage], samples_uri: str, annotations_uri: str, compute: ComputeSettings) -> list[dict[str, Any]]:
    done = train_stages(
        stages,
        settings=TrainSettings(precision="float32", tiny=SIZES, compute=compute, stage1=WORDS, stage2=WORDS),
        page=PAGE,
        samples_uris=(samples_uri,),
        annotations_uri=annotations_uri,
        tiny_folder=str(root / "models" / "init"),
        storage_folder=str(root / "train"),
        tracking=TrackingSettings(uri=f"sqlite:///{root / 'mlflow.db'}", artifacts_uri=(root / "artifacts").as_uri()),
    )
    return list(done)


def test_stages_in_a_row_train_in_one_group_each_with_its_own_folder_checkpoints_and_run(
    tmp_path: Path, samples_uri: str, annotations_uri: str
) -> None:
    from mlflow import MlflowClient

    stages = [_stage(tmp_path, "sight", SIGHT, "init"), _stage(tmp_path, "words", WORDS, "sight")]
    figures = _train(tmp_path, stages, samples_uri, annotations_uri, ComputeSettings(workers=2))
    assert [(figure["steps"], figure["samples"]) for figure in figures] == [(4, 16), (4, 16)]
    init, sight, words = (load_file(tmp_path / "models" / name / "model.safetensors") for name in ("init", "sight", "words"))
    assert {name for name in init if not torch.equal(init[name], sight[name])} == {name for name in init if name.startswith("visual.")}
    assert not [name for name in init if name.startswith("visual.") and not torch.equal(sight[name], words[name])]
    assert "checkpoint-words-identity of -00000004-of-2" in {path.name for path in (tmp_path / "train" / STAGES).glob("checkpoint-*")}
    for name in ("sight", "words"):
        assert [len(ledger(tmp_path / "train" / name, rank).read()) for rank in (0, 1)] == [4, 4]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs(["1"])
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [("sight", "FINISHED"), ("words", "FINISHED")]
    for run in runs:
        losses = [line["loss"] for line in metrics_journal(tmp_path / "train" / run.info.run_name, 0).read()]
        assert [figure.value for figure in client.get_metric_history(run.info.run_id, "loss")] == losses
        assert {"versions.deepspeed", "requirements_lock.sha256"} <= run.data.tags.keys()


def test_a_stage_that_stops_on_validation_says_so_and_the_next_goes_on_from_there(
    tmp_path: Path, samples_uri: str, annotations_uri: str
) -> None:
    from mlflow import MlflowClient

    settled = WORDS.model_copy(update={"validation": ValidationSettings(samples=5, every=1, patience=1, tolerance=0.99)})
    stages = [_stage(tmp_path, "settled", settled, "init"), _stage(tmp_path, "next", WORDS, "settled")]
    with pytest.raises(UserError, match="no sample of the validation split"):
        _train(tmp_path, stages, samples_uri, annotations_uri, ComputeSettings(workers=2))
    assert not (tmp_path / "train").exists()

    samples = shutil.copytree(samples_uri, tmp_path / "samples")
    held_out = [make_sample(number, kind, Split.VALIDATION) for number in range(50, 53) for kind in KINDS]
    storage.write_table(str(samples / "validation.parquet"), table_of(held_out, SAMPLE_SCHEMA))
    first, second = _train(tmp_path, stages, str(samples), annotations_uri, ComputeSettings(workers=2))
    assert [(figure["steps"], figure["planned_steps"]) for figure in (first, second)] == [(2, 4), (4, 4)]
    assert second["validation_losses"] == []
    assert 0 < first["validation_s"] < 60
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs(["1"], "tags.mlflow.runName = 'settled'")
    curve = client.get_metric_history(run.info.run_id, "validation_loss")
    assert [figure.value for figure in curve] == first["validation_losses"]
    assert [figure.step for figure in curve] == [1, 2]
    assert second["first_loss"] != first["first_loss"], "the same samples, read by the model that had settled"


def test_what_an_actor_cannot_make_a_batch_of_is_the_users_to_mend_and_actors_need_room_beside_their_worker(
    tmp_path: Path, samples_uri: str, annotations_uri: str
) -> None:
    stages, samples = [_stage(tmp_path, "words", WORDS, "init")], shutil.copytree(samples_uri, tmp_path / "samples")
    asked = Message(role="user", content="What is <|im_end|>?")
    bad = [dataclasses.replace(make_sample(60 + n, KINDS[2]), messages=(asked, Message(role="assistant", content="O1"))) for n in range(99)]
    storage.write_table(str(samples / "bad.parquet"), table_of(bad, SAMPLE_SCHEMA))
    with pytest.raises(ClusterError, match=r"2 workers need 4 CPU, and the cluster has 2\. Lower .*compute\.feed_actors"):
        _train(tmp_path, stages, str(samples), annotations_uri, ComputeSettings(workers=2, feed_actors=1))
    with pytest.raises(UserError, match=r"^messages: the text holds <\|im_end\|>, a control token of the model\. Take it out\.$"):
        _train(tmp_path, stages, str(samples), annotations_uri, ComputeSettings(workers=1, feed_actors=1))


def test_a_stage_of_two_workers_is_gone_on_with_from_its_newest_whole_checkpoint_by_the_one_that_there_is_room_for(
    tmp_path: Path, samples_uri: str, annotations_uri: str
) -> None:
    stages, work = [_stage(tmp_path, "words", WORDS, "init")], tmp_path / "train" / "words"
    _train(tmp_path, stages, samples_uri, annotations_uri, ComputeSettings(workers=2))
    losses = [line["loss"] for line in metrics_journal(work, 0).read()]
    consumed = [{name for rank in (0, 1) for name in ledger(work, rank).read()[step]["sample_ids"]} for step in range(4)]
    of_two = load_file(tmp_path / "models" / "words" / "model.safetensors")

    shutil.rmtree(tmp_path / "models" / "words")
    (tmp_path / "train" / STAGES / "checkpoint-words-identity of -00000004-of-2" / "latest").write_text("")  # the disk was full
    _train(tmp_path, stages, samples_uri, annotations_uri, ComputeSettings(workers=2, least_workers=1, cpus_per_worker=2.0))
    again = metrics_journal(work, 0).read()
    assert [line["loss"] for line in again[:2]] == losses[:2]  # not trained again
    assert [line["loss"] for line in again] == pytest.approx(losses, rel=1e-4)
    assert [len(ledger(work, rank).read()) for rank in (0, 1)] == [4, 2]
    assert [set(line["sample_ids"]) for line in ledger(work, 0).read()[2:]] == consumed[2:]
    assert not (work / "universal").exists()
    for name, tensor in load_file(tmp_path / "models" / "words" / "model.safetensors").items():
        torch.testing.assert_close(tensor, of_two[name], rtol=1e-3, atol=1e-4)
