"""Ray Train around the training room: the only file here that knows Ray.

A run is named by its storage folder and name; started again under the same name after any kind of death, it continues from the last
checkpoint that Ray registered. A user's mistake is returned by the workers as a value, for an exception would make Ray start them again.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cg_data import storage
from cg_data.errors import ClusterError, UserError
from cg_data.progress import Progress
from cg_data.settings import PageSettings
from cg_train.checkpoint import Keeper
from cg_train.detector_run import DETECTOR, DetectorJob, run_detector
from cg_train.plan import accumulation
from cg_train.recipe import ComputeSettings, DetectorRecipe, StageRecipe, TrainSettings
from cg_train.stage import StageJob, plan_of, run_stage
from cg_train.tracking import Journal, Tracker, TrackingSettings, metrics_journal, progress_journal

if TYPE_CHECKING:
    import ray.train
    import ray.train.torch

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
        model_from: the folder or Hugging Face id of the model to start from.
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
        model_from=_absolute(model_from) if Path(model_from).exists() else model_from,
        out_folder=str(storage.local_path(out_folder).absolute()),
        work_folder=str(folder / name),
        about=about,
    )
    _, plan = plan_of(job)
    config = {"stage": name, "recipe": recipe.model_dump(mode="json"), "train": settings.model_dump(mode="json", exclude=_OTHER_RECIPES)}
    journal = metrics_journal(folder / name, 0)
    tracker = Tracker(tracking, folder=folder / name, name=name, config={**config, "page": page.model_dump(mode="json")})
    follower = _Follower(
        tracker, (journal, lambda lines: progress(lines[-1]["step"], plan.steps, _stage_note(lines[-1]))), (journal, tracker.log)
    )
    _fit(functools.partial(_stage_worker, job), name=name, folder=folder, compute=settings.compute, follower=follower)
    return _summary(journal)


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


def train_detector(
    *,
    recipe: DetectorRecipe,
    segments_uri: str,
    out_folder: str,
    storage_folder: str,
    tracking: TrackingSettings,
    progress: Progress,
) -> dict[str, Any]:
    """Train the waveform detector on a running Ray; `out_folder` gets detector.json, weights.safetensors and metrics.json.

    Journals and checkpoints go to ``storage_folder/detector``, and another call continues there.

    Returns:
        train_segments, validation_segments, and map50 on the validation segments.

    Raises:
        UserError: something that the user can mend.
        ray.train.TrainingFailedError: workers died more often than `max_failures`.
    """
    folder = storage.local_path(storage_folder).absolute()
    job = DetectorJob(
        recipe=recipe, segments_uri=_absolute(segments_uri), out_folder=_absolute(out_folder), work_folder=str(folder / DETECTOR)
    )
    tracker = Tracker(
        tracking, folder=folder / DETECTOR, name=DETECTOR, config={"stage": DETECTOR, "recipe": recipe.model_dump(mode="json")}
    )
    follower = _Follower(
        tracker,
        (progress_journal(folder / DETECTOR), lambda lines: progress(lines[-1]["step"], lines[-1]["total"], lines[-1]["note"])),
        (metrics_journal(folder / DETECTOR, 0), tracker.log),
    )
    return _fit(functools.partial(_detector_worker, job), name=DETECTOR, folder=folder, compute=recipe.compute, follower=follower)


def _detector_worker(job: DetectorJob) -> dict[str, Any] | UserError:
    context = _prepare_worker(job.recipe.compute)
    with _checkpoint_folder() as folder:
        try:
            keeper = Keeper(resume_from=folder, keep=_report)
            return run_detector(job, rank=context.get_world_rank(), workers=context.get_world_size(), keeper=keeper)
        except UserError as error:
            return error


def _fit(worker: Callable[[], Any], *, name: str, folder: Path, compute: ComputeSettings, follower: _Follower) -> Any:
    """Run `worker` in every process of a Ray Train worker group, with `follower` beside it in a thread; gives what worker 0 returns.

    Raises:
        UserError: worker 0 returned it, or it is what ended the workers.
    """
    # The controller registers checkpoints when it polls; what it has not registered is lost with the run.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig

    _check_resources(compute)
    trainer = _trainer_class()(
        worker,
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
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def _trainer_class() -> type[ray.train.torch.TorchTrainer]:
    """Ray's trainer without the helper actors that have nothing to do here, each of which imports Ray Train anew in a process of its own.

    One serves Ray Data sets, and training reads its shards itself. On a single node one more cleans up after a controller whose node
    lives on, and one watches for the loss of other nodes.
    """
    import ray
    from ray.train.torch import TorchTrainer

    idle = {"DatasetsCallback"}
    if len(ray.nodes()) == 1:
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
        idle.add("PlacementGroupCleanerCallback")

    class LeanTrainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            return [callback for callback in super()._create_default_callbacks() if type(callback).__name__ not in idle]

    return LeanTrainer


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


def _report(folder: Path | None, step: int) -> None:
    """Hand this worker's part of a checkpoint to Ray, which merges the parts of all and registers them as one."""
    import ray.train

    part = None if folder is None else ray.train.Checkpoint.from_directory(str(folder))
    ray.train.report({"step": step}, checkpoint=part, checkpoint_dir_name=f"checkpoint-{step:08d}")


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())


class _Follower:
    """Reads journals while they grow and hands new lines to whom they concern: who watches, and MLflow."""

    def __init__(self, tracker: Tracker, *readers: tuple[Journal, Callable[[list[dict[str, Any]]], None]]) -> None:
        self._tracker, self._readers = tracker, readers
        self._offsets = [0] * len(readers)
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
            for number, (journal, tell) in enumerate(self._readers):
                lines, self._offsets[number] = journal.read_from(self._offsets[number])
                if lines:
                    tell(lines)
            if ended:
                return
