"""Every file is looked at once; its name stays outside; what could not be read is tried again."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from cg_data import register, storage
from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.source import Source
from cg_data.register import Listed
from cg_data.settings import DataSettings
from tests.cg_data.edf_bytes import Spec, make, note

SETTINGS = DataSettings(subject_salt="a secret")
DOE = "Jane_Doe_1951"


def files_in(folder: Path) -> list[Listed]:
    return register.listed(CORPORA[CorpusName.FOLDER].sources(str(folder)), SETTINGS.subject_salt)


def look(folder: Path, place: Path) -> dict[str, register.Entry]:
    """Look at what is new in `folder`; the register lies in `place`."""
    new = register.unknown(files_in(folder), register.entries(str(place)))
    for batch in register.batches(new):
        register.look_all(batch, corpus=CorpusName.FOLDER, settings=SETTINGS, register_uri=str(place))
    return register.entries(str(place))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "edf"
    place.mkdir()
    (place / f"{DOE}.edf").write_bytes(make(Spec(patient="MCH-1 F 02-MAY-1951 " + DOE, n_records=35)))
    (place / "plus.edf").write_bytes(make(Spec(plus="EDF+C", notes=[note(3, 4, "Sleep stage N2")])))
    (place / f"{DOE}_letter.edf").write_text("Dear colleague, ...")
    return place


def test_good_files_are_described_and_bad_ones_have_their_reason(folder: Path, tmp_path: Path) -> None:
    found = sorted(look(folder, tmp_path / "register").values(), key=lambda entry: (entry.reason, entry.windows))
    assert [(entry.reason, entry.windows) for entry in found] == [("", 1), ("", 3), ("format.unknown", 0)]


def test_no_name_enters_the_register(folder: Path, tmp_path: Path) -> None:
    look(folder, tmp_path / "register")
    for path in (tmp_path / "register").iterdir():
        rows = str(storage.read_table(str(path)).to_pylist())
        assert "Doe" not in rows
        assert "MCH" not in rows
        assert str(folder) not in rows


def test_a_recording_comes_back_as_it_was_described(folder: Path, tmp_path: Path) -> None:
    entries = look(folder, tmp_path / "register")
    (plus,) = [entry for entry in entries.values() if entry.windows == 1]
    recording, _ = register.recordings(plus.shard, [plus.key])[plus.key]
    assert [(label.name, label.onset_s, label.duration_s) for label in recording.labels] == [("n2", 3.0, 4.0)]
    assert recording.recording_id == plus.recording_id
    assert recording.uri == ""
    assert recording.runs_s == ((0.0, 12.0),)


def test_a_second_look_opens_only_new_and_changed_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "register"
    before = look(folder, place)
    (folder / "new.edf").write_bytes(make(Spec(patient="P-9 X X X", n_records=20)))
    os.utime(folder / "plus.edf", ns=(1, 1))
    opened: list[str] = []
    real = register.open_file
    monkeypatch.setattr(register, "open_file", lambda uri: opened.append(uri.rsplit("/", 1)[-1]) or real(uri))
    after = look(folder, place)
    assert sorted(opened) == ["new.edf", "plus.edf"]
    assert len(after) == len(before) + 2


def test_a_file_that_could_not_be_read_is_tried_again(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "register"
    (gone,) = register.listed([Source(uri=str(folder / "gone.edf"))], SETTINGS.subject_salt)
    register.look_all([gone], corpus=CorpusName.FOLDER, settings=SETTINGS, register_uri=str(place))
    entry = register.entries(str(place))[gone.key]
    assert entry.reason == register.UNREADABLE
    assert "gone.edf" not in entry.message
    assert register.unknown([gone], register.entries(str(place))) == [gone]


def test_one_recording_under_two_names_is_read_once(folder: Path, tmp_path: Path) -> None:
    (folder / "plus_copy.edf").write_bytes((folder / "plus.edf").read_bytes())
    entries = look(folder, tmp_path / "register")
    good, refused = register.good_and_refused(files_in(folder), entries, CorpusName.FOLDER)
    assert sorted(Path(file.source.uri).name for file in good.values()) == [f"{DOE}.edf", "plus.edf"]
    assert [(Path(row.uri).name, row.reason) for row in refused] == [
        (f"{DOE}_letter.edf", "format.unknown"),
        ("plus_copy.edf", register.DUPLICATE),
    ]
    assert refused[0].message.startswith(f"{DOE}_letter.edf: ")


def test_label_files_belong_to_the_key(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(b"x")
    (tmp_path / "a.csv").write_bytes(b"1")
    source = Source(uri=str(tmp_path / "a.edf"), label_uris=(str(tmp_path / "a.csv"),))
    (first,) = register.listed([source], "s")
    (tmp_path / "a.csv").write_bytes(b"22")
    assert register.listed([source], "s")[0].key != first.key
    assert register.listed([source], "t")[0].key != register.listed([source], "s")[0].key


def test_batches_are_bounded_in_files_and_bytes() -> None:
    one = Listed(source=Source(uri="x"), key="", bytes=1)
    many = [dataclasses.replace(one, key=f"{i:06d}") for i in range(10_000)]
    assert max(len(batch) for batch in register.batches(many)) == 64
    large = [dataclasses.replace(file, bytes=600 << 20) for file in many[:100]]
    assert [len(batch) for batch in register.batches(large)] == [1] * 100
    assert len(list(register.batches(many[:60]))) == 60
