"""Ray Train around the training room: the only file here that knows Ray.

A run is named by its storage folder and name; started again under the same name after any kind of death, it continues from the last
checkpoint that Ray registered. A user's mistake is returned by the workers as a value, for an exception would make Ray start them again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cg_data import storage
from cg_data.errors import ClusterError, ConfigError, UserError
from cg_data.progress import Progress
from cg_data.settings import PageSettings
from cg_train.plan import accumulation
from cg_train.recipe import ComputeSettings, DetectorRecipe, StageRecipe, TrainSettings
from cg_train.stage import Keeper, StageJob, plan_of, run_stage
from cg_train.tracking import Journal, Tracker, TrackingSettings, metrics_journal

if TYPE_CHECKING:
    import ray.train

_POLL_S = 0.5


def train_stage(
    *,
    name: str,
    recipe: StageRecipe,
    settings: TrainSettings,
    page: PageSettings,
    samples_uri: str,
    model_from: str,
    out_folder: str,
    storage_folder: str,
    tracking: TrackingSettings,
    about: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Fine-tune one stage on a running Ray and export it as a Hugging Face folder.

    Args:
        name: of the stage; journals and checkpoints go to ``storage_folder/name``, and a call under the same name continues there.
        model_from: the exported folder (or "tiny", or a Hugging Face id) to start from.
        out_folder: where the exported folder goes; it appears when it is whole.
        about: provenance that the exported folder carries.

    Returns:
        Figures for the closing table: steps, samples, tokens (those with a loss), first and last loss, seconds of training.

    Raises:
        UserError: something that the user can mend.
        ray.train.TrainingFailedError: workers died more often than `max_failures`.
    """
    folder = storage.local_path(storage_folder).absolute()
    accumulation(recipe, settings.compute.workers)
    job = StageJob(
        recipe=recipe,
        settings=settings,
        page=page,
        samples_uri=_absolute(samples_uri),
        model_from=model_from,
        out_folder=str(storage.local_path(out_folder).absolute()),
        work_folder=str(folder / name),
        about=about,
    )
    _, plan = plan_of(job)
    config = {"stage": name, "recipe": recipe.model_dump(mode="json"), "train": settings.model_dump(mode="json", exclude=_OTHER_RECIPES)}
    follower = _Follower(
        journal=metrics_journal(folder / name, 0),
        tracker=Tracker(tracking, folder=folder / name, name=name, config={**config, "page": page.model_dump(mode="json")}),
        progress=progress,
        total=plan.steps,
        note=_stage_note,
    )
    _fit(functools.partial(_stage_worker, job), name=name, folder=folder, compute=settings.compute, follower=follower)
    return _summary(metrics_journal(folder / name, 0))


_OTHER_RECIPES = {"detector", "base", "stage1", "stage2"}


def _stage_note(line: Mapping[str, Any]) -> str:
    return f"loss {line['loss']:.3f}, {line['samples'] / line['seconds']:.1f} samples/s"


def _summary(journal: Journal) -> dict[str, Any]:
    lines = journal.read()
    return {
        "steps": len(lines),
        "samples": sum(line["samples"] for line in lines),
        "tokens": sum(line["tokens"] for line in lines),
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
        "seconds": sum(line["seconds"] for line in lines),
    }


def _stage_worker(job: StageJob) -> UserError | None:
    context = _prepare_worker(job.settings.compute)
    with _checkpoint_folder() as folder:
        try:
            keeper = Keeper(resume_from=folder, keep=_report)
            run_stage(job, rank=context.get_world_rank(), workers=context.get_world_size(), keeper=keeper)
        except UserError as error:
            return error
    return None


def _fit(worker: Callable[[], UserError | None], *, name: str, folder: Path, compute: ComputeSettings, follower: _Follower) -> None:
    """Run `worker` in every process of a Ray Train worker group, with `follower` beside it in a thread."""
    # The controller registers checkpoints when it polls; what it has not registered is lost with the run.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    _check_resources(compute)
    trainer = TorchTrainer(
        lambda: worker(),
        scaling_config=ScalingConfig(
            num_workers=compute.workers, use_gpu=compute.gpu, resources_per_worker={"CPU": compute.cpus_per_worker, "GPU": int(compute.gpu)}
        ),
        torch_config=TorchConfig(backend="nccl" if compute.gpu else "gloo"),
        run_config=RunConfig(
            name=name,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=compute.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    with follower:
        try:
            outcome = trainer.fit().return_value
        except TrainingFailedError as error:
            raise _mendable(error) or error from None
    if outcome is not None:
        raise outcome


def _mendable(error: Any) -> UserError | None:
    """The user's mistake behind a failed training, if that is what it was."""
    for failure in getattr(error, "worker_failures", {}).values():
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, UserError):
                return cause
            if isinstance(cause, OSError) and "No space left" in str(cause):
                return storage.storage_error("the checkpoint folder", cause)
            cause = getattr(cause, "cause", None) or cause.__cause__
    return None


def _check_resources(compute: ComputeSettings) -> None:
    """Raises:
    ClusterError: the cluster never had what the workers ask for, so they would wait for ever.
    """
    import ray

    offered = ray.cluster_resources()
    wanted = {"CPU": compute.workers * compute.cpus_per_worker, "GPU": float(compute.workers * compute.gpu)}
    for resource, amount in wanted.items():
        if offered.get(resource, 0.0) < amount:
            raise ClusterError(
                f"train.compute: {compute.workers} workers need {amount:g} {resource}, and the cluster has {offered.get(resource, 0.0):g}. "
                "Lower compute.workers or start a larger cluster."
            )


def _prepare_worker(compute: ComputeSettings) -> ray.train.TrainContext:
    """Threads and silence of a worker process."""
    import ray.train
    import torch

    torch.set_num_threads(compute.threads_per_worker)
    for name in ("ray.train", "transformers", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray.train.get_context()


@contextlib.contextmanager
def _checkpoint_folder() -> Iterator[Path | None]:
    """The last checkpoint that Ray registered, as a local folder."""
    import ray.train

    last = ray.train.get_checkpoint()
    if last is None:
        yield None
    else:
        with last.as_directory() as folder:
            yield Path(folder)


def _report(folder: Path, step: int) -> None:
    """Hand this worker's part of a checkpoint to Ray, which merges the parts of all and registers them as one."""
    import ray.train

    ray.train.report({"step": step}, checkpoint=ray.train.Checkpoint.from_directory(str(folder)), checkpoint_dir_name=f"checkpoint-{step:08d}")


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())


class _Follower:
    """Reads the journal of worker 0 while it grows: progress for who watches, figures for MLflow."""

    def __init__(
        self, *, journal: Journal, tracker: Tracker, progress: Progress, total: float, note: Callable[[Mapping[str, Any]], str]
    ) -> None:
        self._journal, self._tracker, self._progress, self._total, self._note = journal, tracker, progress, total, note
        self._offset = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._tracker.finish("FINISHED" if kind is None else "FAILED")

    def _follow(self) -> None:
        self._tracker.log([])  # opens the run, which takes seconds, while the workers start
        while True:
            ended = self._stop.wait(_POLL_S)
            lines, self._offset = self._journal.read_from(self._offset)
            if lines:
                self._progress(lines[-1]["step"], self._total, self._note(lines[-1]))
                self._tracker.log(lines)
            if ended:
                return
