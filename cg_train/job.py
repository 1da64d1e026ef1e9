"""Ray Train around the training room: this file, `cg_train.upload` (checkpoints) and `cg_train.feed` (Ray Data) alone know Ray.

A run is named by its storage folder and name; started again under the same name after any kind of death, it continues from the last
checkpoint that Ray registered. A user's mistake is returned by the workers as a value, for an exception would make Ray start them again.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cg_data import storage
from cg_data.errors import ClusterError, UserError
from cg_data.progress import Progress
from cg_data.settings import PageSettings
from cg_train.batches import Feed, SampleStore, made_here
from cg_train.detector_run import DETECTOR, DetectorJob, final_figures, run_detector
from cg_train.follow import Following, tracked
from cg_train.hardware import Gpus
from cg_train.memory import check_fit
from cg_train.packs import check_batching
from cg_train.plan import make_plan
from cg_train.provenance import provenance
from cg_train.recipe import RECIPES, ComputeSettings, DetectorRecipe, StageRecipe, TrainSettings
from cg_train.stage import StageJob, is_exported, make_tiny, open_store, run_stage
from cg_train.system_metrics import watched
from cg_train.tracking import Journal, TrackingSettings, figures_journal, metrics_journal, now_ms, progress_journal
from cg_train.upload import keeper_of, registered_checkpoints
from cg_train.validation import held_out

if TYPE_CHECKING:
    import pyarrow as pa
    import ray.train
    import ray.train.torch

_POLL_S = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a series.

    `name` is where journals go (``storage_folder/name``); `identity` names the work, so that a series called again goes on after the last
    checkpoint of the same work and not of other work. `model_from` is the folder or Hugging Face id to start from, perhaps written by the
    stage before; `out_folder` appears when it is whole, with `about` in it.
    """

    name: str
    identity: str
    recipe: StageRecipe
    model_from: str
    out_folder: str
    about: Mapping[str, Any]
    progress: Progress


def train_stages(
    stages: Sequence[Stage],
    *,
    settings: TrainSettings,
    page: PageSettings,
    samples_uris: Sequence[str],
    annotations_uri: str,
    tiny_folder: str,
    storage_folder: str,
    tracking: TrackingSettings,
) -> Iterator[dict[str, Any]]:
    """Fine-tune stages one after the other in one worker group, for a group takes long to start; each ends as a Hugging Face folder.

    Args:
        samples_uris: folders of sample shards, all of which a stage may draw from; one that is not there holds no samples.
        annotations_uri: of the segments that the samples are about, for a stage that trains the tower's sight.
        tiny_folder: where the untrained tiny model is written if `settings.source` is "tiny" and it is not there.

    Yields:
        For each stage when it is done, figures for the closing table: steps and how many were planned, samples, tokens (those with a
        loss), mean loss of the first and of the last tenth of the steps, seconds of training, losses on the validation set and seconds of
        looking at it.

    Raises:
        UserError: something that the user can mend, such as stages that do not fit into the GPUs' memory.
        ray.train.TrainingFailedError: workers died more often than `max_failures`.
    """
    folder = storage.local_path(storage_folder).absolute()
    jobs = [
        StageJob(
            name=stage.name,
            identity=stage.identity,
            recipe=stage.recipe,
            settings=settings,
            page=page,
            samples_uris=tuple(map(_absolute, samples_uris)),
            annotations_uri=_absolute(annotations_uri),
            model_from=stage.model_from,
            out_folder=str(storage.local_path(stage.out_folder).absolute()),
            work_folder=str(folder / stage.name),
            about=stage.about,
        )
        for stage in stages
    ]
    index = SampleStore(samples_uris).index
    steps = [_planned_steps(stage.recipe, index, settings.compute) for stage in stages]
    for stage in stages:
        if stage.recipe.validation is not None:
            held_out(samples_uris, stage.recipe)  # refused here, before anything starts, if there are none
    if settings.compute.gpu:
        _check_resources(settings.compute)
        _check_memory(stages, settings, page, samples_uris)
    worker = functools.partial(_stages_worker, jobs, str(storage.local_path(tiny_folder).absolute()), tracking.system_every_s)
    made_of = provenance(samples_uris)
    with Following(tracking, folder):
        group = _Background(lambda: _fit(worker, name=STAGES, folder=folder, compute=settings.compute))
        for stage, job, total in zip(stages, jobs, steps, strict=True):
            with _stage_tracked(job, made_of, tracking), _stage_follower(stage, job, total):
                group.wait(None if job is jobs[-1] else functools.partial(is_exported, job))
            yield _summary(metrics_journal(Path(job.work_folder), 0)) | {"planned_steps": total}


def _check_memory(stages: Sequence[Stage], settings: TrainSettings, page: PageSettings, samples_uris: Sequence[str]) -> None:
    """Raises:
    ConfigError: a stage does not fit into the memory of the cluster's smallest GPU; said before any worker starts.
    """
    from cg_train.forecast import forecast, tokenizer_of

    # Of all sizes that the group may have, each GPU holds the most in the smallest.
    gpus = dataclasses.replace(gpus_of_cluster(), count=settings.compute.sizes[0])
    tokenizer, store = tokenizer_of(stages[0].model_from), SampleStore(samples_uris)
    expected = [forecast(stage.name, stage.recipe, settings, page=page, store=store, tokenizer=tokenizer, gpus=gpus) for stage in stages]
    check_fit([one.need for one in expected], settings, gpus)


def gpus_of_cluster() -> Gpus:
    """How many GPUs the running Ray has, and kind and memory of the smallest, asked on every node that has some, busy or not.

    Raises:
        ClusterError: it has none.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    if not nodes:
        raise ClusterError("the cluster has no GPU. Give --gpus and --gpu-memory-gb, or join a cluster that has (RAY_ADDRESS).")
    # Without a GPU of its own the question does not wait for one; of one call, the process does not stay on the GPU.
    ask = ray.remote(num_cpus=0, max_calls=1)(_memory_and_name)
    places = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    memory_bytes, name = min(ray.get([ask.options(scheduling_strategy=place).remote() for place in places]))
    return Gpus(count=int(sum(node["Resources"]["GPU"] for node in nodes)), memory_bytes=memory_bytes, name=name)


def _memory_and_name() -> tuple[int, str]:
    """Of this node's smallest GPU."""
    import torch

    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return min((device.total_memory, device.name) for device in devices)


STAGES = "stages"
"""Folder of Ray Train's checkpoints of all stages."""


def _planned_steps(recipe: StageRecipe, index: pa.Table, compute: ComputeSettings) -> int:
    """Raises:
    UserError: the recipe cannot be followed; said before anything starts.
    """
    for workers in compute.sizes:
        check_batching(recipe, workers)
    return make_plan(index, recipe).steps


def _stage_tracked(job: StageJob, made_of: Mapping[str, Any], tracking: TrackingSettings) -> contextlib.AbstractContextManager[None]:
    params = {
        "stage": job.name,
        "recipe": job.recipe.model_dump(mode="json"),
        "train": job.settings.model_dump(mode="json", exclude=set(RECIPES)),
        "page": job.page.model_dump(mode="json"),
    }
    return tracked(Path(job.work_folder), name=job.name, params=params, tags=made_of, config=tracking.config)


def _stage_follower(stage: Stage, job: StageJob, steps: int) -> _Follower:
    journal = metrics_journal(Path(job.work_folder), 0)
    return _Follower(journal, lambda line: stage.progress(line["step"], steps, _stage_note(line)))


def _stage_note(line: Mapping[str, Any]) -> str:
    used = "" if line.get("mfu") is None else f", MFU {line['mfu']:.0%}"
    return f"loss {line['loss']:.3f}, {line['samples'] / line['seconds']:.1f} samples/s{used}"


def _summary(journal: Journal) -> dict[str, Any]:
    lines = journal.read()
    tenth = math.ceil(len(lines) / 10)  # batches of a mixture differ by more than training changes
    return {
        "steps": len(lines),
        "samples": sum(line["samples"] for line in lines),
        "tokens": sum(line["tokens"] for line in lines),
        "first_loss": _mean_loss(lines[:tenth]),
        "last_loss": _mean_loss(lines[-tenth:]),
        "seconds": sum(line["seconds"] for line in lines),
        "validation_losses": [line["validation_loss"] for line in lines if "validation_loss" in line],
        "validation_s": sum(line.get("validation_s", 0.0) for line in lines),
    }


def _mean_loss(lines: Sequence[Mapping[str, Any]]) -> float:
    """Over all tokens that carry a loss."""
    return sum(line["loss"] * line["tokens"] for line in lines) / sum(line["tokens"] for line in lines)


def _stages_worker(jobs: Sequence[StageJob], tiny_folder: str, system_every_s: float | None) -> UserError | None:
    context = _prepare_worker(jobs[0].settings.compute)
    rank, workers = context.get_world_rank(), context.get_world_size()
    with registered_checkpoints() as folders:
        try:
            store = open_store(jobs[0])
            make_tiny(jobs[0], tiny_folder, rank=rank)
            for job in jobs:
                if is_exported(job):  # before the group was started anew
                    continue
                keeper = keeper_of(f"{job.name}-{job.identity[:12]}", folders)
                with watched(Path(job.work_folder), system_every_s):
                    run_stage(job, store, rank=rank, workers=workers, keeper=keeper, feed=_feed(job.settings.compute))
        except UserError as error:
            return error
    return None


def _feed(compute: ComputeSettings) -> Feed:
    if not compute.feed_actors:
        return made_here
    from cg_train.feed import streamed

    return functools.partial(streamed, actors=compute.feed_actors)


def train_detector(
    *,
    recipe: DetectorRecipe,
    segments_uri: str,
    out_folder: str,
    storage_folder: str,
    tracking: TrackingSettings,
    progress: Progress,
) -> dict[str, Any]:
    """Train the waveform detector on a running Ray; `out_folder` gets what `cg_data.detect.detector.save_detector` writes, and
    training.json, MODEL_CARD.md and metrics.json.

    Journals and checkpoints go to ``storage_folder/detector``, and another call continues there.

    Returns:
        train_segments, validation_segments, and the figures of `cg_train.detection_metrics.detection_metrics` on the latter.

    Raises:
        UserError: something that the user can mend.
        ray.train.TrainingFailedError: workers died more often than `max_failures`.
    """
    folder = storage.local_path(storage_folder).absolute()
    job = DetectorJob(
        recipe=recipe, segments_uri=_absolute(segments_uri), out_folder=_absolute(out_folder), work_folder=str(folder / DETECTOR)
    )
    run = tracked(
        folder / DETECTOR,
        name=DETECTOR,
        params={"stage": DETECTOR, "recipe": recipe.model_dump(mode="json")},
        tags=provenance([segments_uri]),
        config=tracking.config,
        artifacts=str(storage.local_path(out_folder).absolute()),
    )
    follower = _Follower(progress_journal(folder / DETECTOR), lambda line: progress(line["step"], line["total"], line["note"]))
    worker = functools.partial(_detector_worker, job, tracking.system_every_s)
    with Following(tracking, folder), run, follower:
        metrics: dict[str, Any] = _fit(worker, name=DETECTOR, folder=folder, compute=recipe.compute)
        figures = figures_journal(folder / DETECTOR)
        figures.cut(-1)
        figures.append({"step": 0, "time_ms": now_ms(), **final_figures(metrics)})
    return metrics


def _detector_worker(job: DetectorJob, system_every_s: float | None) -> dict[str, Any] | UserError:
    context = _prepare_worker(job.recipe.compute)
    with registered_checkpoints() as folders:
        try:
            keeper = keeper_of(DETECTOR, folders)
            with watched(Path(job.work_folder), system_every_s):
                return run_detector(job, rank=context.get_world_rank(), workers=context.get_world_size(), keeper=keeper)
        except UserError as error:
            return error


def _fit(worker: Callable[[], Any], *, name: str, folder: Path, compute: ComputeSettings) -> Any:
    """Run `worker` in every process of a Ray Train worker group; gives what worker 0 returns.

    Raises:
        UserError: worker 0 returned it, or it is what ended the workers.
    """
    # The controller registers checkpoints when it polls; what it has not registered is lost with the run.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1")
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig

    _check_resources(compute)
    trainer = _trainer_class()(
        worker,
        scaling_config=ScalingConfig(
            num_workers=_asked(compute), use_gpu=compute.gpu, resources_per_worker={"CPU": compute.cpus_per_worker, "GPU": int(compute.gpu)}
        ),
        torch_config=TorchConfig(backend="nccl" if compute.gpu else "gloo"),
        run_config=RunConfig(
            name=name,
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=compute.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        outcome = trainer.fit().return_value
    except TrainingFailedError as error:
        raise _mendable(error) or error from None
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def _trainer_class() -> type[ray.train.torch.TorchTrainer]:
    """Ray's trainer without the helper actors that have nothing to do here, each of which imports Ray Train anew in a process of its own
    and takes most of a hundredth of a core as long as it lives.

    One serves the Ray Data sets of a trainer, and here each worker has its own (`cg_train.feed`). On a single node one more cleans up after
    a controller whose node lives on, one watches for the loss of other nodes, and one asks an autoscaler for more of them.
    """
    import ray
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.execution.callback import ControllerCallback
    from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

    alone, idle = len(ray.nodes()) == 1, {"DatasetsCallback"}
    if alone:
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
        idle.add("PlacementGroupCleanerCallback")

    class Contented(FixedScalingPolicy):
        def after_controller_start(self, train_run_context: Any) -> None:
            pass

        def _maybe_send_resource_request(self) -> None:
            pass

    class EndsAtOnce(ControllerCallback):
        """Without the destructors of Ray's library, the last thing of a process that has said goodbye to Ray: there the controller now and
        then waits for a lock that it holds itself, for ever, with 0.7 GB, if it has outlived the node.
        """

        def after_controller_start(self, train_run_context: Any) -> None:
            atexit.register(os._exit, 0)

    class LeanTrainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            kept = [callback for callback in super()._create_default_callbacks() if type(callback).__name__ not in idle]
            return [*kept, EndsAtOnce()]

        def _initialize_and_run_controller(self, **made: Any) -> Any:
            if alone and type(made["scaling_policy"]) is FixedScalingPolicy:
                made["scaling_policy"] = Contented(self.scaling_config)
            return super()._initialize_and_run_controller(**made)

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


def _asked(compute: ComputeSettings) -> int | tuple[int, int]:
    """As Ray Train takes it: a number of workers, or the least and the most."""
    return compute.workers if len(compute.sizes) == 1 else (compute.sizes[0], compute.workers)


def _check_resources(compute: ComputeSettings) -> None:
    """Raises:
    ClusterError: the cluster never had what the workers ask for, so they would wait for ever.
    """
    import ray

    offered = ray.cluster_resources()
    least = compute.sizes[0]
    wanted = {"CPU": least * compute.cpus_of_worker, "GPU": float(least * compute.gpu)}
    for resource, amount in wanted.items():
        if offered.get(resource, 0.0) < amount:
            raise ClusterError(
                f"train.compute: {least} workers need {amount:g} {resource}, and the cluster has {offered.get(resource, 0.0):g}. "
                "Lower compute.workers, compute.cpus_per_worker or compute.feed_actors, or start a larger cluster."
            )


def _prepare_worker(compute: ComputeSettings) -> ray.train.TrainContext:
    """Threads, GPU memory and silence of a worker process."""
    import ray.train
    import torch

    if compute.gpu:  # packs differ in length; memory in fixed pieces would be full of holes
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    torch.set_num_threads(compute.threads_per_worker)
    for name in ("ray.train", "transformers", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray.train.get_context()


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).absolute())


class _Background:
    """A call in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="worker group", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 - raised again by `wait`
            self._failure = failure

    def wait(self, until: Callable[[], bool] | None) -> None:
        """Wait until the call has ended, or before that for `until` to be true; what the call raised is raised here."""
        while self._thread.is_alive() and not (until is not None and until()):
            self._thread.join(_POLL_S)
        if self._failure is not None:
            raise self._failure


class _Follower:
    """Watches a journal while it grows, is cut and grows again, and hands its newest line to who watches."""

    def __init__(self, journal: Journal, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._journal, self._tell = journal, tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        told, ended = None, False
        while not ended:
            ended = self._stop.wait(_POLL_S)
            line = self._journal.last()
            if line is not None and line != told:
                self._tell(line)
                told = line
