"""The data engine: bad files are set aside by name, the rest goes on, and a rerun writes the same files."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cg_data.corpora import CORPORA, CorpusName
from cg_data.errors import ConfigError, StorageError
from cg_data.records import Quarantined
from cg_data.settings import DataSettings, EngineSettings
from cg_data.shards import read_segments
from cg_data.vocabulary import N_CHANNELS, SEGMENT_SAMPLES
from tests.cg_data.engine_runs import write_folder

if TYPE_CHECKING:
    from cg_data.engine import SegmentsSummary

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

GOOD = ("iiic_SZ_sample1.edf", "eegmmi_s001r01_eyes_open.edf")
SETTINGS = DataSettings(engine=EngineSettings(segments_per_shard=6))
BAD = {"yasa_n2_15s.edf": "montage.channels_missing", "eegmmi_s001r01_crlf_damaged.edf": "data.line_ends"}


@pytest.fixture(scope="module")
def folder(real_eeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two usable recordings, two that must be refused, and a text file that calls itself EDF."""
    place = tmp_path_factory.mktemp("recordings")
    for path in real_eeg.rglob("*.edf"):
        if path.name in (*GOOD, *BAD):
            shutil.copy(path, place / path.name)
    (place / "letter.edf").write_text("Dear colleague, ...")
    return place


def hashes(place: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(place.glob("*.parquet"))}


def build(folder: Path, place: Path, settings: DataSettings = SETTINGS) -> SegmentsSummary:
    from cg_data.engine import build_segments

    return build_segments(
        CORPORA[CorpusName.FOLDER].sources(str(folder)),
        corpus=CorpusName.FOLDER,
        register_uri=str(place / "recordings"),
        out_uri=str(place / "segments"),
        settings=settings,
    )


def test_every_file_is_either_read_or_quarantined_with_its_reason(folder: Path, tmp_path: Path) -> None:
    made = build(folder, tmp_path)
    assert {Path(q.uri).name: q.reason for q in made.quarantined if "letter" not in q.uri} == BAD
    assert len(made.quarantined) == 3
    assert made.recordings == len(GOOD)
    segments = list(read_segments(str(tmp_path / "segments")))
    assert len(segments) == made.segments == 11
    assert all(segment.eeg_steps.shape == (N_CHANNELS, SEGMENT_SAMPLES) for segment in segments)


def test_one_recording_fills_several_shards_and_several_share_one(tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    write_folder(tmp_path / "long", 1)
    many = build(tmp_path / "long", tmp_path / "a", SETTINGS)
    assert (many.segments, many.new_shards) == (18, 3)
    (tmp_path / "short").mkdir()
    write_folder(tmp_path / "short", 4, minutes=1)
    few = build(tmp_path / "short", tmp_path / "b", DataSettings(engine=EngineSettings(segments_per_shard=360)))
    assert (few.segments, few.new_shards) == (24, 1)


def test_a_rerun_after_a_kill_writes_what_is_missing_and_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    build(folder, tmp_path)
    place = tmp_path / "segments"
    whole = hashes(place)
    (place / "_manifest.json").unlink()
    lost = sorted(place.glob("*.parquet"))[0]
    lost.unlink()
    (place / f".{lost.name}.{'0' * 32}").write_bytes(b"half a shard")
    (place / "0123456789abcdef.parquet").write_bytes(b"of another plan")
    again = build(folder, tmp_path)
    assert hashes(place) == whole
    assert again.segments == 11


def test_added_files_are_read_and_nothing_is_read_again(folder: Path, tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    shutil.copytree(folder, grown)
    build(grown, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.parquet"))}
    write_folder(grown, 1)
    shutil.copy(grown / GOOD[0], grown / "copy of it.edf")
    made = build(grown, tmp_path)
    assert (made.recordings, made.segments, made.new_shards) == (3, 29, 3)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [q.reason for q in made.quarantined].count("recording.duplicate") == 1
    assert build(grown, tmp_path).new_shards == 0


def test_a_recording_that_went_missing_is_named_before_anything_is_done(folder: Path, tmp_path: Path) -> None:
    shrunk = tmp_path / "shrunk"
    shutil.copytree(folder, shrunk)
    build(shrunk, tmp_path)
    (shrunk / GOOD[0]).unlink()
    with pytest.raises(ConfigError, match="1 of the recordings read here before"):
        build(shrunk, tmp_path)


def test_a_users_mistake_in_a_task_is_told_from_a_bug(folder: Path, tmp_path: Path) -> None:
    from cluster.cli import user_error_in

    (tmp_path / "segments").write_text("a file where a folder is to be")
    with pytest.raises(Exception) as raised:
        build(folder, tmp_path)
    assert isinstance(user_error_in(raised.value), StorageError)


def test_the_quarantine_list_keeps_other_corpora(tmp_path: Path) -> None:
    from cg_data.engine import write_quarantine

    row = Quarantined(uri="letter.edf", sha256="", corpus="edf", reason="format.unknown", message="letter.edf: not EDF.")
    where = str(tmp_path / "quarantine.parquet")
    write_quarantine(where, "other", [dataclasses.replace(row, corpus="other")])
    assert write_quarantine(where, "edf", [row]) == 2
    assert write_quarantine(where, "edf", []) == 1
