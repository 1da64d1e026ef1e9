from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cg_data import storage
from cg_data.errors import ConfigError
from cg_data.rows import SEGMENT_SCHEMA, table_of
from cg_data.settings import PageSettings
from cg_data.vocabulary import Split
from cg_train.checkpoint import Keeper
from cg_train.detector_run import DetectorJob, run_detector
from cg_train.recipe import DetectorRecipe
from cg_train.tracking import metrics_journal, progress_journal
from tests.cg_train.train_small import make_segment

PAGE = PageSettings(pixels_per_row=8, pixels_per_second=16, subcolumns=1, multiple_of=32)
RECIPE = DetectorRecipe(epochs=2, batch=4, page=PAGE)


@pytest.fixture
def job(tmp_path: Path) -> DetectorJob:
    splits = [Split.TRAIN] * 9 + [Split.VALIDATION] * 2 + [Split.TEST]
    segments = [make_segment(number, split) for number, split in enumerate(splits)]
    storage.write_table(str(tmp_path / "segments" / "0.parquet"), table_of(segments, SEGMENT_SCHEMA))
    work = tmp_path / "train"
    work.mkdir()
    return DetectorJob(recipe=RECIPE, segments_uri=str(tmp_path / "segments"), out_folder=str(tmp_path / "detector"), work_folder=str(work))


def test_a_detector_that_is_continued_is_the_undisturbed_one(job: DetectorJob, tmp_path: Path) -> None:
    def keep(folder: Path | None, step: int) -> None:
        assert folder is not None
        shutil.copytree(folder, tmp_path / f"checkpoint-{step}")

    figures = run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=None, keep=keep))
    assert (figures["train_segments"], figures["validation_segments"]) == (9, 2)
    assert storage.read_json(f"{job.out_folder}/metrics.json") == figures
    undisturbed = storage.read_json(f"{job.out_folder}/detector.json"), metrics_journal(Path(job.work_folder), 0).read()

    shutil.rmtree(job.out_folder)
    run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=tmp_path / "checkpoint-1", keep=lambda folder, step: None))
    assert (storage.read_json(f"{job.out_folder}/detector.json"), metrics_journal(Path(job.work_folder), 0).read()) == undisturbed
    assert [line["step"] for line in progress_journal(Path(job.work_folder)).read()] == [1, 2, 3, 4]


def test_a_checkpoint_of_other_segments_and_a_folder_without_validation_are_refused(job: DetectorJob, tmp_path: Path) -> None:
    (tmp_path / "fingerprint").write_text("of something else")
    with pytest.raises(ConfigError, match="other segments"):
        run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=tmp_path, keep=lambda folder, step: None))
    storage.write_table(f"{job.segments_uri}/0.parquet", table_of([make_segment(0, Split.TRAIN)], SEGMENT_SCHEMA))
    with pytest.raises(ConfigError, match="no segment of the validation split"):
        run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=None, keep=lambda folder, step: None))
