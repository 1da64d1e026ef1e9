"""One stage of fine-tuning from its model to the exported folder, as every worker runs it. Knows nothing of Ray: torchrun can start it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cg_data.records import content_id
from cg_data.settings import PageSettings
from cg_train import checkpoint, tracking
from cg_train.batches import BatchMaker, Collate, Feed, SampleStore, finished, made_here, training_texts
from cg_train.flops import Meter
from cg_train.hardware import peak_flops
from cg_train.packs import Rows, SampleLengths, check_lengths
from cg_train.plan import Plan, make_plan
from cg_train.recipe import StageRecipe, TrainSettings
from cg_train.step import StepReport, engine_config, import_deepspeed, make_engine, together, train_steps
from cg_train.validation import Validator, groups_of, has_settled, held_out

if TYPE_CHECKING:
    import torch

    from cg_train.model.learner import Learner


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StageJob:
    """What a worker must know. Paths are absolute; `work_folder` takes journals, `about` goes into the exported folder.

    `identity` names the work: what other work of this `name` left is not gone on with.
    """

    name: str
    identity: str
    recipe: StageRecipe
    settings: TrainSettings
    page: PageSettings
    samples_uris: tuple[str, ...]
    annotations_uri: str
    model_from: str
    out_folder: str
    work_folder: str
    about: Mapping[str, Any]


def is_exported(job: StageJob) -> bool:
    """True once the exported folder of this stage is there; it appears whole."""
    return Path(job.out_folder).exists()


def open_store(job: StageJob) -> SampleStore:
    """The samples of `job`, for every stage that learns from them: what is decoded for one is there for the next.

    Raises:
        UserError: on all workers alike, if there are none.
    """
    _init_group(job)
    return together(lambda: SampleStore(job.samples_uris), _device(job))


def make_tiny(job: StageJob, folder: str, *, rank: int) -> None:
    """Write the untrained tiny model, with a tokenizer trained on the training samples' text, if `job` is to use one that is not there.

    Raises:
        UserError: on all workers alike.
    """
    if job.settings.source == "tiny":
        import cg_train.model.learner  # noqa: F401 - takes seconds: all workers now, not the others after worker 0 has written

        _init_group(job)
        together(lambda: _write_tiny(job, folder) if rank == 0 else None, _device(job))


def _write_tiny(job: StageJob, folder: str) -> None:
    if Path(folder).exists():
        return
    from cg_train.model.build import build_tiny, train_tokenizer
    from cg_train.model.export import export_folder

    tiny = job.settings.tiny
    model, processor = build_tiny(tiny, train_tokenizer(training_texts(job.samples_uris), tiny.vocabulary), job.page)
    export_folder(model, processor, folder, page=job.page, about={**job.about, "trained": "nothing yet"})


def _init_group(job: StageJob) -> Any:
    deepspeed = import_deepspeed(gpu=job.settings.compute.gpu)
    deepspeed.init_distributed("nccl" if job.settings.compute.gpu else "gloo")
    return deepspeed


_NUMERICS = {"precision", "attention", "compile", "zero_stage", "offload", "loss", "source", "tiny", "pictures"}


def fingerprint(job: StageJob, plan: Plan) -> str:
    """Content hash of all that a checkpoint depends on; how often checkpoints are written is not part of it."""
    recipe = job.recipe.model_dump(mode="json", exclude={"checkpoint_every", "validation"})
    numerics = job.settings.model_dump(mode="json", include=_NUMERICS)
    return content_id("stage", plan.fingerprint, recipe, numerics, job.page.model_dump(mode="json"))


def run_stage(
    job: StageJob, store: SampleStore, *, rank: int, workers: int, keeper: checkpoint.Keeper, feed: Feed = made_here
) -> StepReport | None:
    """Train to the last step of the plan, or until validation says that nothing more comes of it, and export the model; every worker of an
    initialised process group calls it.

    Args:
        feed: has the batches made; whoever makes them, they are the same.

    Returns:
        The last step that this call took; None if a checkpoint already held the last one.

    Raises:
        UserError: on all workers alike.
    """
    deepspeed = _init_group(job)
    work = _begin(job, store, keeper.resume_from, rank=rank, workers=workers)
    last = _train(job, work, keeper, feed)
    keeper.settle()
    with _whole_parameters(deepspeed, work.engine.module, job.settings.zero_stage):
        together(lambda: work.learner.export(job.out_folder) if rank == 0 else None, _device(job))
    work.engine.destroy()
    return last


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What a worker has in hand when it takes its first step, after `done` steps of the plan."""

    learner: Learner
    engine: Any
    validator: Validator | None
    make: BatchMaker
    journals: _Journals
    fingerprint: str
    done: int


def _begin(job: StageJob, store: SampleStore, resume_from: Sequence[Path], *, rank: int, workers: int) -> _Work:
    """From the newest whole checkpoint, if there is one; the journals end with it."""
    device = _device(job)
    whole = checkpoint.newest_whole(resume_from, rank=rank, workers=workers)
    states = together(lambda: _put_together(job, whole, rank, workers), device)
    config = engine_config(job.recipe, job.settings, workers, universal=states is not None)
    plan, learner = together(lambda: (make_plan(store.index, job.recipe), _learner(job, device)), device)
    lengths = _lengths(job, store, plan.rows, learner, rank=rank, workers=workers)
    validator = _validator(job, learner, rank=rank, workers=workers)
    engine = make_engine(learner.network, job.recipe, config, steps=plan.steps, gpu=job.settings.compute.gpu)
    name = fingerprint(job, plan)
    _seed(job.recipe.seed, rank)
    done = together(lambda: 0 if whole is None else checkpoint.load(engine, whole, fingerprint=name, states=states).step, device)
    if states is not None and rank == 0:
        shutil.rmtree(states)
    journals = _Journals(Path(job.work_folder), rank, workers)
    together(lambda: journals.cut(done), device)
    make = _maker(job, store, plan, lengths, learner.collate, rank=rank, workers=workers)
    return _Work(learner=learner, engine=engine, validator=validator, make=make, journals=journals, fingerprint=name, done=done)


def _train(job: StageJob, work: _Work, keeper: checkpoint.Keeper, feed: Feed) -> StepReport | None:
    """The steps that are left, each journaled, looked at by validation and kept where the recipe says so."""
    engine, learner, validator, steps = work.engine, work.learner, work.validator, work.make.plan.steps
    stop = _Stop(job.recipe, _of_rank_0(work.journals.validation_losses))
    declared = None if work.done else learner.declared
    last = None
    finish = functools.partial(finished, dtype=learner.model.dtype, gpu=job.settings.compute.gpu)
    with contextlib.closing(feed(work.make, range(steps if stop.reached else work.done, steps), finish)) as batches:
        for last in train_steps(engine, batches, declared=declared, targets=learner.targets, meter=_meter(job, learner)):
            look = validator.look(engine) if validator is not None and validator.is_due(last.step, steps=steps) else {}
            stop.hear(look)
            together(functools.partial(work.journals.note, last, look), _device(job))
            if stop.reached or last.step % job.recipe.checkpoint_every == 0 or last.step == steps:
                _keep(engine, keeper, checkpoint.Position(step=last.step, fingerprint=work.fingerprint))
            if stop.reached:
                break
    return last


def _seed(seed: int, rank: int) -> None:
    """Of dropout, which alone draws random numbers in training; a checkpoint brings the state of its own."""
    import torch

    torch.manual_seed(seed + rank)


def _learner(job: StageJob, device: str) -> Learner:
    from cg_train.model.learner import load_learner

    return load_learner(
        job.model_from,
        recipe=job.recipe,
        settings=job.settings,
        page=job.page,
        annotations_uri=job.annotations_uri,
        about=job.about,
        device=device,
    )


def _validator(job: StageJob, learner: Learner, *, rank: int, workers: int) -> Validator | None:
    settings, device = job.recipe.validation, _device(job)
    if settings is None:
        return None
    store, rows = together(lambda: held_out(job.samples_uris, job.recipe), device)
    groups = groups_of(rows, _lengths(job, store, rows, learner, rank=rank, workers=workers), job.recipe, rank=rank, workers=workers)
    make = functools.partial(Validator, store, groups, learner.collate, learner.targets, every=settings.every, samples=len(rows))
    return together(make, device)


class _Stop:
    """The rule by which validation ends a stage, decided from all losses so far: alike on all workers, and again after a kill."""

    def __init__(self, recipe: StageRecipe, losses: Sequence[float]) -> None:
        self._settings, self._losses = recipe.validation, [*losses]

    def hear(self, look: Mapping[str, float]) -> None:
        self._losses += [look["validation_loss"]] if look else []

    @property
    def reached(self) -> bool:
        return self._settings is not None and has_settled(self._losses, self._settings)


def _of_rank_0(read: Callable[[], list[float]]) -> list[float]:
    """What worker 0 reads, on every worker: the others may not see its disk."""
    import torch.distributed as dist

    told = [read() if dist.get_rank() == 0 else []]
    dist.broadcast_object_list(told, src=0)
    return told[0]


def _meter(job: StageJob, learner: Learner) -> Meter | None:
    """On GPUs, where speed is what is paid for; the tower's sight has no tokens."""
    if not job.settings.compute.gpu or job.recipe.objective != "dialogue":
        return None
    import torch

    from cg_train.model.shape import shape_of

    peak = peak_flops(torch.cuda.get_device_name(_device(job)), job.settings.precision)
    return Meter(shape=shape_of(learner.model.config, job.recipe), recipe=job.recipe, settings=job.settings, peak_flops=peak)


def _device(job: StageJob) -> str:
    return f"cuda:{os.environ['LOCAL_RANK']}" if job.settings.compute.gpu else "cpu"


def _put_together(job: StageJob, folder: Path | None, rank: int, workers: int) -> Path | None:
    """Where states of another number of workers have been put together for this one; None if there is no need."""
    if folder is None or not checkpoint.is_of_other_size(folder, workers):
        return None
    into = Path(job.work_folder) / "universal"
    if rank == 0:
        checkpoint.put_together(folder, into)
    return into


def _keep(engine: Any, keeper: checkpoint.Keeper, position: checkpoint.Position) -> None:
    with keeper.part() as folder:
        checkpoint.save(engine, folder, position)
        keeper.keep(folder, position.step)


def _lengths(job: StageJob, store: SampleStore, rows: Rows, learner: Learner, *, rank: int, workers: int) -> SampleLengths | None:
    """Counted by all workers together, and kept for the other stages; every sample of `rows` fits. None where the recipe needs none."""
    if not job.recipe.needs_lengths:
        return None
    from cg_train.model.lengths import length_files

    folder, device = str(Path(job.work_folder).parent / "lengths"), _device(job)
    files = together(lambda: length_files(folder, store, learner.processor, page=job.page, pictures=job.settings.pictures), device)
    together(lambda: files.write(rank=rank, workers=workers), device)
    lengths = together(files.read, device)
    together(lambda: check_lengths(store.index, rows, lengths, job.recipe.max_tokens), device)
    return lengths


def _maker(
    job: StageJob, store: SampleStore, plan: Plan, lengths: SampleLengths | None, collate: Collate, *, rank: int, workers: int
) -> BatchMaker:
    return BatchMaker(
        store=store,
        plan=plan,
        rank=rank,
        workers=workers,
        batching=job.recipe.batching,
        lengths=lengths,
        seed=job.recipe.seed,
        gain_log2=job.recipe.gain_log2,
        collate=collate,
    )


class _Journals:
    """Figures and consumed samples of one worker."""

    def __init__(self, folder: Path, rank: int, workers: int) -> None:
        self._metrics, self._ledger = tracking.metrics_journal(folder, rank), tracking.ledger(folder, rank)
        self._left = tracking.journals_from(folder, workers) if rank == 0 else []

    def cut(self, done: int) -> None:
        self._metrics.cut(done)
        self._ledger.cut(done)
        for journal in self._left:  # of workers that are no more
            journal.cut(done)

    def validation_losses(self) -> list[float]:
        return [line["validation_loss"] for line in self._metrics.read() if "validation_loss" in line]

    def note(self, report: StepReport, look: Mapping[str, float]) -> None:
        """`look` is what validation saw after this step, nothing if it did not look."""
        line = {**dataclasses.asdict(report), **look, "time_ms": tracking.now_ms()}
        self._ledger.append({"step": report.step, "sample_ids": line.pop("sample_ids")})
        self._metrics.append(line)


def _whole_parameters(deepspeed: Any, model: torch.nn.Module, zero_stage: int) -> contextlib.AbstractContextManager[Any]:
    """Parameters that ZeRO stage 3 has scattered are put together on every worker for as long as the context lasts."""
    if zero_stage < 3:
        return contextlib.nullcontext()
    return deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=None)
