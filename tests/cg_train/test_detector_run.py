"""From shards to the saved folder: what is left out is counted, what is continued is the undisturbed one, what cannot be is said."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cg_data import storage
from cg_data.detect.detector import Detector
from cg_data.errors import ConfigError
from cg_data.records import Segment
from cg_data.rows import SEGMENT_SCHEMA, table_of
from cg_data.vocabulary import Split, Waveform
from cg_train.checkpoint import Keeper, seal
from cg_train.detector_run import DetectorJob, run_detector
from cg_train.tracking import metrics_journal, progress_journal
from tests.detectors_small import NETWORKS, noise_pages, planted_page, recipe_of

SPLITS = [Split.TRAIN] * 9 + [Split.VALIDATION] * 2 + [Split.TEST]
PAGES = [planted_page(number, split) for number, split in enumerate(SPLITS)]
NOBODY = [dataclasses.replace(page, labels=()) for page in PAGES]


def forget(folder: Path | None, step: int) -> None:
    """A keeper that keeps nothing."""


@pytest.fixture
def job_of(tmp_path: Path) -> Callable[..., DetectorJob]:
    def make(pages: list[Segment], kind: str = "signal") -> DetectorJob:
        storage.write_table(str(tmp_path / "segments" / "0.parquet"), table_of(pages, SEGMENT_SCHEMA))
        (tmp_path / "train").mkdir(exist_ok=True)
        return DetectorJob(
            recipe=recipe_of(NETWORKS[kind]),
            segments_uri=str(tmp_path / "segments"),
            out_folder=str(tmp_path / "detector"),
            work_folder=str(tmp_path / "train"),
        )

    return make


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_detector_that_is_continued_is_the_undisturbed_one(job_of: Callable[..., DetectorJob], tmp_path: Path, kind: str) -> None:
    def keep(folder: Path | None, step: int) -> None:
        assert folder is not None
        shutil.copytree(folder, tmp_path / f"checkpoint-{step}")

    def settle() -> None:
        assert (tmp_path / "checkpoint-2").exists()
        assert not (tmp_path / "detector").exists()
        (tmp_path / "settled").touch()

    job = job_of(PAGES, kind)
    figures = run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=(), keep=keep, settle=settle))
    assert (tmp_path / "settled").exists()
    assert (figures["train_segments"], figures["validation_segments"]) == (9, 2)
    assert storage.read_json(f"{job.out_folder}/metrics.json") == figures
    undisturbed = storage.read_bytes(f"{job.out_folder}/detector.json"), _figures(job)

    shutil.rmtree(job.out_folder)
    run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=(tmp_path / "checkpoint-1",), keep=forget))
    assert (storage.read_bytes(f"{job.out_folder}/detector.json"), _figures(job)) == undisturbed
    assert [line["step"] for line in progress_journal(Path(job.work_folder)).read()] == [1, 2, 3, 4]


def _figures(job: DetectorJob) -> list[dict[str, Any]]:
    """What was journalled, but for when."""
    return [{name: value for name, value in line.items() if name != "time_ms"} for line in metrics_journal(Path(job.work_folder), 0).read()]


def test_what_was_chosen_on_the_validation_pages_is_what_the_saved_detector_works_with(job_of: Callable[..., DetectorJob]) -> None:
    job = job_of(PAGES)
    figures = run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=(), keep=forget))
    detector = Detector.load(job.out_folder)
    written = storage.read_json(f"{job.out_folder}/detector.json")
    assert len(written["thresholds"]) == len(written["calibrations"]) == 9
    assert detector.spec.thresholds == written["thresholds"]
    assert all(row["threshold"] == detector.spec.threshold(Waveform(name)) for name, row in figures["waveforms"].items())
    assert all(e.score >= detector.spec.threshold(e.waveform) for e in detector.detect(*noise_pages(1))[0])


def test_pages_that_nobody_marked_are_not_learnt_from(job_of: Callable[..., DetectorJob]) -> None:
    job = job_of([*PAGES[:6], *NOBODY[6:9], *PAGES[9:]])
    figures = run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=(), keep=forget))
    assert figures["train_segments"] == 6


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        (NOBODY, r"nobody marked waveforms on the 9 segments of the train split there. Train on a corpus with marks, or write them beside"),
        ([*PAGES[:9], *NOBODY[9:]], "on the 2 segments of the validation split"),
        (PAGES[:9], "no segment of the validation split there. Give more subjects"),
        (PAGES[9:], "no segment of the train split"),
        ([*PAGES[:2], *PAGES[9:]], "4 pages a step, but only 2 training segments"),
    ],
)
def test_a_corpus_without_marks_or_without_a_split_is_refused(job_of: Callable[..., DetectorJob], pages: list[Segment], words: str) -> None:
    job = job_of(pages)
    with pytest.raises(ConfigError, match=words):
        run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=(), keep=forget))
    assert not storage.exists(f"{job.out_folder}/detector.json")


def test_a_checkpoint_of_other_segments_is_refused(job_of: Callable[..., DetectorJob], tmp_path: Path) -> None:
    (tmp_path / "fingerprint").write_text("of something else")
    seal(tmp_path, rank=0, parts=1)
    with pytest.raises(ConfigError, match="other segments"):
        run_detector(job_of(PAGES), rank=0, workers=1, keeper=Keeper(resume_from=(tmp_path,), keep=forget))
