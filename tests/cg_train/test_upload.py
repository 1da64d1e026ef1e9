"""Checkpoints on a real Ray that are uploaded while training goes on: the order of things, and what is left when an upload ends badly.

The copy into the run folder is wrapped in the workers: it waits for what training does meanwhile, so a training that waited for it would
never end.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from cg_data.errors import StorageError
from cg_data.progress import silent
from cg_train import job
from cg_train.job import STAGES, Stage, train_stages
from cg_train.recipe import ComputeSettings, TrainSettings
from cg_train.tracking import Journal, TrackingSettings, ledger, metrics_journal
from cg_train.upload import _upload
from tests.cg_train.model_small import PAGE, SIZES
from tests.cg_train.test_stage import WORDS

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

RECIPE = WORDS.model_copy(update={"steps": 8})
WORKERS = 2
LAST = f"checkpoint-words-0000-{RECIPE.steps:08d}-of-{WORKERS}"
Copy = Callable[[Any, Any, str], Any]


def _wait_for_step(root: Path, step: int) -> None:
    until = time.monotonic() + 240
    while len(metrics_journal(root / "train" / "words", 0).read()) < step:
        assert time.monotonic() < until, f"step {step} is not taken while the checkpoint before is uploaded"
        time.sleep(0.02)


def _parts(root: Path) -> list[str]:
    """Of checkpoints on the workers' own disk."""
    return [path.name for path in (root / "own").glob("cg-checkpoint-*")]


def _events(root: Path, rank: int) -> Journal:
    return Journal(root / f"events-{rank}.jsonl")


def _note(root: Path, **what: Any) -> None:
    import ray.train

    _events(root, ray.train.get_context().get_world_rank()).append(what)


def _slowly(copy: Copy, root: Path) -> Copy:
    """Each copy lasts until training has gone a step further, the last one a second."""

    def slow(context: Any, part: Any, name: str) -> Any:
        step = int(name.split("-")[-3])
        _note(root, upload=step, begins=True, parts=len(_parts(root)))
        if step == RECIPE.steps:
            time.sleep(1.0)
        else:
            _wait_for_step(root, step + 1)
        done = copy(context, part, name)
        _note(root, upload=step, begins=False, exported=(root / "models" / "words").exists())
        return done

    return slow


def _killed(copy: Copy, root: Path) -> Copy:
    """The first time that worker 1 has copied half of the part of step 4, and training is further, it is killed."""
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    offered = [reported.checkpoint.path for reported in ray.train.get_all_reported_checkpoints()]
    _note(root, resumes_from=[Path(path).name for path in offered], parts=_parts(root))

    def deadly(context: Any, part: Any, name: str) -> Any:
        if "-00000004-" in name and rank == 1 and not (root / "killed").exists():
            half = sorted(path for path in Path(part.path).rglob("*") if path.is_file())[0]
            target = Path(context.experiment_fs_path, name)
            target.mkdir(exist_ok=True)
            (target / half.name).write_bytes(half.read_bytes()[:100])
            target.with_name(f"{name}-of-a-group-that-is-no-more").mkdir()
            _wait_for_step(root, 5)
            (root / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return copy(context, part, name)

    return deadly


def _on_a_full_disk(copy: Copy, root: Path) -> Copy:
    def full(context: Any, part: Any, name: str) -> Any:
        if "-00000004-" in name:
            raise OSError(28, "No space left on device")
        return copy(context, part, name)

    return full


def _train(root: Path, samples_uri: str, monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Copy, Path], Copy], failures: int = 0) -> None:
    trained = job._stages_worker

    def worker(jobs: Any, tiny_folder: str, system_every_s: float | None) -> Any:
        from ray.train.v2._internal.execution.storage import StorageContext

        tempfile.tempdir = str(root / "own")
        StorageContext.persist_current_checkpoint = wrap(StorageContext.persist_current_checkpoint, root)
        return trained(jobs, tiny_folder, system_every_s)

    monkeypatch.setattr(job, "_stages_worker", worker)
    (root / "own").mkdir(parents=True, exist_ok=True)
    compute = ComputeSettings(workers=WORKERS, max_failures=failures)
    stage = Stage(
        name="words",
        identity="0000",
        recipe=RECIPE,
        model_from=str(root / "models" / "init"),
        out_folder=str(root / "models" / "words"),
        about={},
        progress=silent,
    )
    done = train_stages(
        [stage],
        settings=TrainSettings(precision="float32", tiny=SIZES, compute=compute, stage1=RECIPE, stage2=RECIPE),
        page=PAGE,
        samples_uris=(samples_uri,),
        annotations_uri="",
        tiny_folder=stage.model_from,
        storage_folder=str(root / "train"),
        tracking=TrackingSettings(uri=f"sqlite:///{root / 'mlflow.db'}", artifacts_uri=(root / "artifacts").as_uri()),
    )
    list(done)


def _registered(root: Path) -> list[int]:
    """Steps of the checkpoints that Ray knows, as it ordered them."""
    told = json.loads((root / "train" / STAGES / "checkpoint_manager_snapshot.json").read_text())
    return [result["metrics"]["step"] for result in told["checkpoint_results"]]


def _of_the_work(root: Path) -> tuple[Any, ...]:
    """Curve, ledgers and weights, without times."""
    work = root / "train" / "words"
    curve = [(line["step"], line["loss"], line["samples"], line["tokens"]) for line in metrics_journal(work, 0).read()]
    weights = {name: tensor.numpy().tobytes() for name, tensor in load_file(root / "models" / "words" / "model.safetensors").items()}
    return curve, [ledger(work, rank).read() for rank in range(WORKERS)], weights


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, samples_uri: str, ray_session: None) -> Path:
    """A run whose uploads are slow."""
    root = tmp_path_factory.mktemp("slow")
    with pytest.MonkeyPatch.context() as patch:
        _train(root, samples_uri, patch, _slowly)
    return root


def test_training_goes_on_during_an_upload_and_waits_for_it_before_the_next_and_before_the_export(slow: Path) -> None:
    for rank in range(WORKERS):
        events = _events(slow, rank).read()
        steps = range(RECIPE.checkpoint_every, RECIPE.steps + 1, RECIPE.checkpoint_every)
        assert [(event["upload"], event["begins"]) for event in events] == [(step, begins) for step in steps for begins in (True, False)]
        assert max(event["parts"] for event in events if event["begins"]) <= WORKERS
        assert not any(event["exported"] for event in events if not event["begins"])
    assert _registered(slow) == [6, 8]
    assert (slow / "models" / "words").exists()
    assert not _parts(slow)


def test_a_worker_killed_during_an_upload_goes_on_from_the_checkpoint_before_and_ends_with_the_same_bytes(
    tmp_path: Path, slow: Path, samples_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(tmp_path, samples_uri, monkeypatch, _killed, failures=1)
    first, second = [event for event in _events(tmp_path, 1).read() if "resumes_from" in event]
    assert (first["resumes_from"], first["parts"]) == ([], [])
    assert second["resumes_from"] == ["checkpoint-words-0000-00000002-of-2"]
    assert [name.rsplit("-", 1)[1] for name in second["parts"]] == ["1"], "what the killed worker left, taken away after this"
    assert _of_the_work(tmp_path) == _of_the_work(slow)
    assert _registered(tmp_path) == [6, 8]
    assert {path.name for path in (tmp_path / "train" / STAGES).glob("checkpoint-*")} == {LAST.replace("8-", "6-", 1), LAST}
    assert not _parts(tmp_path)


def test_an_upload_that_fails_ends_the_run_with_a_sentence_and_leaves_the_checkpoint_before(
    tmp_path: Path, samples_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match=r"stages: the disk is full\. Free some space"):
        _train(tmp_path, samples_uri, monkeypatch, _on_a_full_disk)
    assert _registered(tmp_path) == [2]
    assert not (tmp_path / "models" / "words").exists()
    assert len(metrics_journal(tmp_path / "train" / "words", 0).read()) <= 6, "training waits before the next checkpoint"
    assert not _parts(tmp_path)


def test_a_run_folder_that_is_not_what_it_was_is_named_when_a_part_is_copied_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray.train
    from ray.train.v2._internal.execution.storage import StorageContext

    place = StorageContext(storage_path=str(tmp_path), experiment_dir_name=STAGES)
    monkeypatch.setattr(ray.train, "get_context", lambda: types.SimpleNamespace(get_storage=lambda: place))
    part = tmp_path / "part"
    part.mkdir()
    (part / "weights").write_text("w")
    shutil.rmtree(place.experiment_fs_path)
    with pytest.raises(StorageError, match=r"stages: the checkpoint cannot be written, the folder is not what it was"):
        _upload(ray.train.Checkpoint.from_directory(str(part)), "checkpoint")
    assert not part.exists()
