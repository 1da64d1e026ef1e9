"""Training of the detector from its shards to the saved folder, as every worker runs it, with checkpoints. Knows nothing of Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cg_data import storage
from cg_data.errors import ConfigError
from cg_data.records import content_id
from cg_data.vocabulary import Split
from cg_train import tracking
from cg_train.checkpoint import Keeper, newest_whole, seal
from cg_train.detector_data import SegmentStore
from cg_train.recipe import DetectorRecipe

if TYPE_CHECKING:
    from cg_train.detector import EpochReport, TrainerState

DETECTOR = "detector"
_STATE, _FINGERPRINT = "detector.pt", "fingerprint"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DetectorJob:
    """What a worker must know. Paths are absolute; `work_folder` takes journals, `out_folder` the detector."""

    recipe: DetectorRecipe
    segments_uri: str
    out_folder: str
    work_folder: str


def run_detector(job: DetectorJob, *, rank: int, workers: int, keeper: Keeper) -> dict[str, Any]:
    """Train, choose thresholds and save; every worker of an initialised process group calls it.

    Returns:
        Figures for the closing table.

    Raises:
        UserError: on all workers alike, for all read the same segments and the same recipe.
    """
    from cg_data.detect.detector import save_detector
    from cg_train.detector import train
    from cg_train.detector_card import write_card, write_training

    segments, validation = (_segments(job, split) for split in (Split.TRAIN, Split.VALIDATION))
    name = content_id("detector", job.recipe.model_dump(mode="json"), workers, segments.content)
    whole = newest_whole(keeper.resume_from, rank=rank, workers=workers)
    state = None if whole is None else _load(whole, name)
    reporter = _Reporter(job, keeper, name, rank)
    reporter.begin(state)
    trained = train(
        job.recipe,
        segments,
        validation,
        held=segments.held,
        rank=rank,
        world_size=workers,
        device=_device(job.recipe),
        state=state,
        on_epoch=reporter.epoch,
        on_step=reporter.step,
    )
    keeper.settle()
    figures = {"train_segments": len(segments), "validation_segments": len(validation), **trained.validation}
    if rank == 0:
        save_detector(trained.network, trained.spec, job.out_folder)
        stores = {Split.TRAIN: segments, Split.VALIDATION: validation}
        write_training(job.out_folder, job.recipe, trained.network, trained.points, stores)
        write_card(job.out_folder, figures, "the validation subjects, on whom the thresholds were chosen")
        storage.write_json(storage.join(job.out_folder, "metrics.json"), figures)
    return figures


def final_figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What `run_detector` returns as the numbers that are compared between runs."""
    names = ("map50", "map5095", "precision", "recall", "f1")
    single = {f"validation.{name}": metrics[name] for name in names}
    classes = {f"validation.ap50.{name}": row["ap50"] for name, row in metrics["waveforms"].items() if row["ap50"] is not None}
    return single | classes


def _segments(job: DetectorJob, split: Split) -> SegmentStore:
    """Raises:
    ConfigError: there is nothing to learn from, or to choose thresholds on.
    """
    store = SegmentStore(job.segments_uri, split, min_box_s=job.recipe.min_box_s)
    if not len(store) and store.unknown:
        raise ConfigError(
            f"{job.segments_uri}: nobody marked waveforms on the {store.unknown} segments of the {split} split there. "
            "Train on a corpus with marks, or write them beside the recordings as <name>.marks.csv."
        )
    if not len(store):
        raise ConfigError(f"{job.segments_uri}: no segment of the {split} split there. Give more subjects or change the fractions.")
    return store


def _device(recipe: DetectorRecipe) -> str:
    import torch

    return f"cuda:{torch.cuda.current_device()}" if recipe.compute.gpu else "cpu"


def _load(folder: Path, name: str) -> TrainerState:
    import torch

    if (folder / _FINGERPRINT).read_text() != name:
        raise ConfigError(
            f"{folder.parent}: the checkpoints there were made with other segments, another recipe or another number of workers. "
            "Choose another --run folder, or delete that folder to train the detector anew."
        )
    state: TrainerState = torch.load(folder / _STATE, weights_only=True)
    return state


class _Reporter:
    """Journals and checkpoints of one worker; only worker 0 has something to write."""

    def __init__(self, job: DetectorJob, keeper: Keeper, name: str, rank: int) -> None:
        self._keeper, self._name, self._first = keeper, name, rank == 0
        self._metrics = tracking.metrics_journal(Path(job.work_folder), 0)
        self._progress = tracking.progress_journal(Path(job.work_folder))

    def begin(self, state: TrainerState | None) -> None:
        """Forget what comes after the state that training continues from."""
        if self._first:
            self._metrics.cut(0 if state is None else int(state["epochs_done"]))
            self._progress.cut(0 if state is None else int(state["steps_done"]))

    def step(self, done: float, total: float, note: str = "") -> None:
        if self._first:
            self._progress.append({"step": done, "total": total, "note": note})

    def epoch(self, report: EpochReport) -> None:
        """Journal the epoch (its number is the step) and keep the state, which is the same on all workers."""
        if not self._first:
            self._keeper.keep(None, report.epoch)
            return
        losses = {f"loss_{name}": loss for name, loss in report.losses.items()}
        self._metrics.append({"step": report.epoch, "time_ms": tracking.now_ms(), "lr": report.learning_rate, **losses})
        with self._keeper.part() as folder:
            self._save(folder, report)
            self._keeper.keep(folder, report.epoch)

    def _save(self, folder: Path, report: EpochReport) -> None:
        import torch

        torch.save(report.state, folder / _STATE)
        (folder / _FINGERPRINT).write_text(self._name)
        seal(folder, rank=0, parts=1)
