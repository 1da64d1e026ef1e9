"""The data engine: bad files are set aside by name, the rest goes on, and a rerun writes the same files."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path

import pytest

from cg_data import storage
from cg_data.corpora.folder import list_recordings
from cg_data.errors import StorageError
from cg_data.records import Quarantined
from cg_data.settings import DataSettings, EngineSettings
from cg_data.shards import read_segments
from cg_data.vocabulary import N_CHANNELS, SEGMENT_SAMPLES

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

GOOD = ("iiic_SZ_sample1.edf", "eegmmi_s001r01_eyes_open.edf")
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


def test_every_file_is_either_read_or_quarantined_with_its_reason(folder: Path, tmp_path: Path) -> None:
    from cg_data.engine import build_segments

    settings = DataSettings(engine=EngineSettings(segments_per_shard=4))
    made = build_segments(list_recordings(str(folder)), corpus="edf", out_uri=str(tmp_path / "segments"), settings=settings)
    assert {Path(q.uri).name: q.reason for q in made.quarantined if "letter" not in q.uri} == BAD
    assert len(made.quarantined) == 3
    assert made.recordings == len(GOOD)
    segments = list(read_segments(str(tmp_path / "segments")))
    assert len(segments) == made.segments == 11
    assert all(segment.eeg_steps.shape == (N_CHANNELS, SEGMENT_SAMPLES) for segment in segments)
    assert max(storage.read_table(shard).num_rows for shard in storage.list_files(str(tmp_path / "segments"))) == 4


def test_a_rerun_after_a_kill_writes_what_is_missing_and_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    from cg_data.engine import build_segments

    place = tmp_path / "segments"
    settings = DataSettings(engine=EngineSettings(segments_per_shard=4))
    uris = list_recordings(str(folder))
    build_segments(uris, corpus="edf", out_uri=str(place), settings=settings)
    whole = hashes(place)
    lost = sorted(place.glob("*.parquet"))[1]
    lost.unlink()
    (place / f".{lost.name}.half").write_bytes(b"half a shard")
    again = build_segments(uris, corpus="edf", out_uri=str(place), settings=settings)
    assert hashes(place) == whole
    assert again.segments == 11


def test_a_users_mistake_in_a_task_is_told_from_a_bug(folder: Path, tmp_path: Path) -> None:
    from cg_data.engine import build_segments
    from cluster.cli import user_error_in

    (tmp_path / "segments").write_text("a file where a folder is to be")
    with pytest.raises(Exception) as raised:
        build_segments(list_recordings(str(folder)), corpus="edf", out_uri=str(tmp_path / "segments"), settings=DataSettings())
    assert isinstance(user_error_in(raised.value), StorageError)


def test_the_quarantine_list_keeps_other_corpora(tmp_path: Path) -> None:
    from cg_data.engine import write_quarantine

    row = Quarantined(uri="letter.edf", sha256="", corpus="edf", reason="format.unknown", message="letter.edf: not EDF.")
    where = str(tmp_path / "quarantine.parquet")
    write_quarantine(where, "other", [dataclasses.replace(row, corpus="other")])
    assert write_quarantine(where, "edf", [row]) == 2
    assert write_quarantine(where, "edf", []) == 1
