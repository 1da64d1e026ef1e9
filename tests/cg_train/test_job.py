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
from cg_train import job
from cg_train.job import STAGES, Stage, train_stages
from cg_train.recipe import ComputeSettings, StageRecipe, TrainSettings, ValidationSettings
from cg_train.tracking import TrackingSettings, ledger, metrics_journal
from tests.cg_train.model_small import PAGE, SIZES
from tests.cg_train.test_stage import SIGHT, WORDS
from tests.cg_train.train_small import KINDS, make_sample

SETTLED = WORDS.model_copy(update={"validation": ValidationSettings(samples=5, every=1, patience=1, tolerance=0.99)})

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


STAGES_OF = {
    "sight": (SIGHT, "init"),
    "words": (WORDS, "sight"),
    "settled": (SETTLED, "init"),
    "next": (WORDS, "settled"),
    "alone": (WORDS, "init"),
}


def _stages(root: Path) -> list[Stage]:
    return [_stage(root, name, recipe, model_from) for name, (recipe, model_from) in STAGES_OF.items()]


@dataclasses.dataclass(frozen=True)
class Trained:
    root: Path
    samples_uri: str
    figures: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, samples_uri: str, annotations_uri: str, ray_session: None) -> Trained:
    """`STAGES_OF`, in this order, by one group of two workers, after it was refused for want of validation samples."""
    root = tmp_path_factory.mktemp("stages")
    with pytest.raises(UserError, match="no sample of the validation split"):
        _train(root, _stages(root), samples_uri, annotations_uri, ComputeSettings(workers=2))
    assert not (root / "train").exists()
    samples = shutil.copytree(samples_uri, root / "samples")
    held_out = [make_sample(number, kind, Split.VALIDATION) for number in range(50, 53) for kind in KINDS]
    storage.write_table(str(samples / "validation.parquet"), table_of(held_out, SAMPLE_SCHEMA))
    figures = _train(root, _stages(root), str(samples), annotations_uri, ComputeSettings(workers=2))
    return Trained(root=root, samples_uri=str(samples), figures=dict(zip(STAGES_OF, figures, strict=True)))


def _client(root: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


def test_stages_in_a_row_train_in_one_group_each_with_its_own_folder_checkpoints_and_run(trained: Trained) -> None:
    root = trained.root
    init, sight, words = (load_file(root / "models" / name / "model.safetensors") for name in ("init", "sight", "words"))
    assert {name for name in init if not torch.equal(init[name], sight[name])} == {name for name in init if name.startswith("visual.")}
    assert not [name for name in init if name.startswith("visual.") and not torch.equal(sight[name], words[name])]
    assert "checkpoint-alone-identity of -00000004-of-2" in {path.name for path in (root / "train" / STAGES).glob("checkpoint-*")}
    for name in ("sight", "words"):
        assert (trained.figures[name]["steps"], trained.figures[name]["samples"]) == (4, 16)
        assert [len(ledger(root / "train" / name, rank).read()) for rank in (0, 1)] == [4, 4]
    runs = _client(root).search_runs(["1"])
    assert sorted((run.info.run_name, run.info.status) for run in runs) == [(name, "FINISHED") for name in sorted(STAGES_OF)]
    for run in runs:
        losses = [line["loss"] for line in metrics_journal(root / "train" / run.info.run_name, 0).read()]
        assert [figure.value for figure in _client(root).get_metric_history(run.info.run_id, "loss")] == losses
        assert {"versions.deepspeed", "requirements_lock.sha256"} <= run.data.tags.keys()


def test_losses_that_are_told_are_means_over_the_tokens_of_the_first_and_the_last_tenth_of_the_steps(tmp_path: Path) -> None:
    journal = metrics_journal(tmp_path, 0)
    losses, tokens = [4.0, 1.0, *[9.0] * 9, 3.0, 2.0], [100, 300, *[50] * 9, 10, 30]
    for step, (loss, count) in enumerate(zip(losses, tokens, strict=True), start=1):
        journal.append({"step": step, "loss": loss, "tokens": count, "samples": 4, "seconds": 1.0})
    figures = job._summary(journal)
    assert (figures["first_loss"], figures["last_loss"]) == (1.75, 2.25)


def test_a_stage_that_stops_on_validation_says_so_and_the_next_goes_on_from_there(trained: Trained) -> None:
    first, second = trained.figures["settled"], trained.figures["next"]
    assert [(figure["steps"], figure["planned_steps"]) for figure in (first, second)] == [(2, 4), (4, 4)]
    assert second["validation_losses"] == []
    assert 0 < first["validation_s"] < 60
    (run,) = _client(trained.root).search_runs(["1"], "tags.mlflow.runName = 'settled'")
    curve = _client(trained.root).get_metric_history(run.info.run_id, "validation_loss")
    assert [figure.value for figure in curve] == first["validation_losses"]
    assert [figure.step for figure in curve] == [1, 2]
    assert second["first_loss"] != first["first_loss"], "the same samples, read by the model that had settled"


def test_a_stage_of_two_workers_is_gone_on_with_from_its_newest_whole_checkpoint_by_the_one_that_there_is_room_for(
    trained: Trained, annotations_uri: str
) -> None:
    root, work = trained.root, trained.root / "train" / "alone"
    losses = [line["loss"] for line in metrics_journal(work, 0).read()]
    consumed = [{name for rank in (0, 1) for name in ledger(work, rank).read()[step]["sample_ids"]} for step in range(4)]
    of_two = load_file(root / "models" / "alone" / "model.safetensors")

    shutil.rmtree(root / "models" / "alone")
    (root / "train" / STAGES / "checkpoint-alone-identity of -00000004-of-2" / "latest").write_text("")  # the disk was full
    one = ComputeSettings(workers=2, least_workers=1, cpus_per_worker=2.0)
    _train(root, [_stage(root, "alone", WORDS, "init")], trained.samples_uri, annotations_uri, one)
    again = metrics_journal(work, 0).read()
    assert [line["loss"] for line in again[:2]] == losses[:2]  # not trained again
    assert [line["loss"] for line in again] == pytest.approx(losses, rel=1e-4)
    assert [len(ledger(work, rank).read()) for rank in (0, 1)] == [4, 2]
    assert [set(line["sample_ids"]) for line in ledger(work, 0).read()[2:]] == consumed[2:]
    assert not (work / "universal").exists()
    for name, tensor in load_file(root / "models" / "alone" / "model.safetensors").items():
        torch.testing.assert_close(tensor, of_two[name], rtol=1e-3, atol=1e-4)


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
