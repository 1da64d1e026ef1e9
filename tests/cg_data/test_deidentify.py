"""A clean copy has the signal to the bit and nothing that names a person, wherever in the file it was hidden."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path

import mne
import numpy as np
import pyedflib
import pytest

from cg_data.deidentify import deidentify, deidentify_all
from cg_data.edf.reader import EdfFile
from cg_data.errors import ConfigError, EdfError
from cg_data.recording import pseudonym
from cg_data.settings import PUBLIC_SALT
from tests.cg_data.edf_bytes import TAL_SAMPLES, Spec, digital_signal, make, note, patched, signal_field

SALT = "a secret"
PLANTED = ("Jane", "Doe", "MRN778", "Ward9", "Dr.Who", "12-MAR-1961", "Bochum", "cousin", "Zebra", "SN4711")
SPEC = Spec(
    labels=("EEG Fp1-REF", "EEG Fp2-REF", "C3-A2", "ECG II Jane", "DC7", "SaO2"),
    n_records=30,
    plus="EDF+D",
    starts_s=[float(k if k < 12 else k + 5) for k in range(30)],
    patient="MRN778 F 12-MAR-1961 Jane_Doe",
    notes=(note(1.0, 2.0, "Eyes closed"), note(2.0, 0.0, "call cousin of Jane Doe"), note(4.0, 0.5, "spike@@EEG Fp1-REF")),
)


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A file with identity in every field that can hold text, behind its end, and in the names of file and folder."""
    data, n = make(SPEC), len(SPEC.labels) + 1
    data = patched(data, 88, b"Startdate 12-MAR-2009 MRN778 Dr.Who SN4711", 80)
    data = patched(data, 168, b"12.03.09", 8)
    data = patched(data, 176, b"09.15.00", 8)
    data = patched(data, 192, b"EDF+D Jane Doe of Bochum", 44)
    for i in range(n - 1):
        data = patched(data, signal_field(n, "transducer", i), b"cap of Jane Doe, Ward9", 80)
        data = patched(data, signal_field(n, "prefiltering", i), b"HP:0.1Hz LP:70Hz" if i else b"LP:70Hz seen by Dr.Who", 80)
        data = patched(data, signal_field(n, "reserved", i), b"Zebra", 32)
    data = patched(data, signal_field(n, "unit", 5), b"Bochum", 8)
    data = patched(data, signal_field(n, "physical_min", 5), b"Jane", 8)
    path = tmp_path / "Jane Doe" / "Jane_Doe_12-MAR-1961.edf"
    path.parent.mkdir()
    path.write_bytes(data + b"behind the last record: Jane Doe, Bochum")
    return path


def test_nothing_that_names_a_person_is_left(planted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        made = deidentify(str(planted), str(tmp_path / "clean"), SALT)
    data = Path(made.uri).read_bytes()
    for word in PLANTED:
        assert word.encode() not in data
        assert word.lower() not in made.uri.removeprefix(str(tmp_path)).lower()
        assert word not in caplog.text
    assert b"2009" not in data
    assert b"12.03.09" not in data


def test_the_signal_and_its_times_are_those_of_the_original(planted: Path, tmp_path: Path) -> None:
    before, after = EdfFile.open(str(planted)), EdfFile.open(deidentify(str(planted), str(tmp_path / "clean"), SALT).uri)
    assert after.runs_s == before.runs_s == ((0.0, 12.0), (17.0, 35.0))
    for i in range(len(SPEC.labels)):
        for start_s, stop_s in before.runs_s:
            assert np.array_equal(after.read_digital([i], start_s, stop_s), before.read_digital([i], start_s, stop_s))
    assert np.array_equal(after.read_uv([0], 0.0, 12.0), before.read_uv([0], 0.0, 12.0))
    assert after.header.record_s == before.header.record_s
    assert after.flags == ()


def test_words_on_the_list_stay(planted: Path, tmp_path: Path) -> None:
    made = deidentify(str(planted), str(tmp_path / "clean"), SALT)
    file = EdfFile.open(made.uri)
    assert file.labels == ("EEG Fp1-REF", "EEG Fp2-REF", "C3-A2", "CH 4", "DC7", "SaO2", "EDF Annotations")
    assert [(n.onset_s, n.duration_s, n.text) for n in file.annotations] == [(1.0, 2.0, "Eyes closed"), (4.0, 0.5, "spike@@EEG Fp1-REF")]
    assert (made.notes_kept, made.notes_dropped, made.labels_replaced) == (2, 1, 1)


def test_what_a_reader_looked_for_stays(tmp_path: Path) -> None:
    notes = (note(0.0, 12.0, "searched:spike"), note(0.0, 12.0, "searched:k_complex@@EEG Cz-REF"))
    (tmp_path / "a.edf").write_bytes(make(Spec(plus="EDF+C", notes=notes)))
    kept = EdfFile.open(deidentify(str(tmp_path / "a.edf"), str(tmp_path / "clean"), SALT).uri).annotations
    assert {n.text for n in kept} == {"searched:spike", "searched:k_complex@@EEG Cz-REF"}


def test_what_is_said_after_a_seizure_mark_goes_and_the_mark_stays(tmp_path: Path) -> None:
    spec = Spec(n_records=12, plus="EDF+C", notes=(note(3.0, 0.0, "seizure starts, Jane Doe calls out"),))
    (tmp_path / "a.edf").write_bytes(make(spec))
    (kept,) = EdfFile.open(deidentify(str(tmp_path / "a.edf"), str(tmp_path / "clean"), SALT).uri).annotations
    assert kept.text == "seizure starts"


@pytest.mark.parametrize("label", ["12.03.61", "EEG 12-03-61", "Fp1 12 3", "Jane", "EEG Fp1-Jane", "MRN778", "C3 1961"])
def test_a_label_that_may_tell_who_it_was_becomes_a_number(label: str, tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(make(Spec(labels=("EEG Fp1", label))))
    assert EdfFile.open(deidentify(str(tmp_path / "a.edf"), str(tmp_path / "clean"), SALT).uri).labels == ("EEG Fp1", "CH 2")


@pytest.mark.parametrize(
    "text", ["seizure # 120361 starts", "Eyes closed, Jane", "spike@@Jane", "spike@@EEG Fp1-Jane", "Sleep stage W J", "searched:Jane"]
)
def test_a_note_that_only_begins_like_one_on_the_list_goes(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(make(Spec(plus="EDF+C", notes=(note(3.0, 0.0, text),))))
    assert EdfFile.open(deidentify(str(tmp_path / "a.edf"), str(tmp_path / "clean"), SALT).uri).annotations == ()


def test_the_pseudonym_is_the_one_of_the_data_engine(tmp_path: Path) -> None:
    for name, patient in (("a", "MRN778 F 12-MAR-1961 Jane_Doe"), ("b", "MRN778 F X Jane_Roe"), ("c", "X X X X"), ("d", "X X X X")):
        (tmp_path / f"{name}.edf").write_bytes(make(Spec(patient=patient), digital_signal(Spec(), seed=ord(name))))
    subjects = [Path(deidentify(str(tmp_path / f"{name}.edf"), str(tmp_path / "clean"), SALT).uri).parent.name for name in "abcd"]
    assert subjects == [pseudonym(code, SALT) for code in ("MRN778", "MRN778", "c", "d")]


def test_a_record_start_without_room_is_no_shift_of_the_signal(tmp_path: Path) -> None:
    start = b"+0\x14\x14\x00"
    spec = Spec(plus="EDF+C", n_records=12, record_s=1000.25, sfreq_hz=4.0, labels=("Fp1", "Fp2"))
    data, n = make(spec), len(spec.labels) + 1
    head, records = patched(data[: 256 * (n + 1)], signal_field(n, "samples", n - 1), b"3", 8), data[256 * (n + 1) :]
    size, signal = len(records) // 12, len(records) // 12 - 2 * TAL_SAMPLES
    parts = [records[k * size : k * size + signal] + (start.ljust(6, b"\x00") if k == 0 else b"noise!") for k in range(12)]
    (tmp_path / "a.edf").write_bytes(head + b"".join(parts))
    with pytest.raises(EdfError) as raised:
        deidentify(str(tmp_path / "a.edf"), str(tmp_path / "clean"), SALT)
    assert raised.value.reason == "annotations.no_room"
    assert not [path for path in (tmp_path / "clean").rglob("*") if path.is_file()]


def test_other_programs_read_the_copy(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(make(Spec(plus="EDF+C", notes=(note(1.0, 2.0, "Eyes closed"),))))
    uri = deidentify(str(tmp_path / "a.edf"), str(tmp_path / "clean"), SALT).uri
    raw = mne.io.read_raw_edf(uri, verbose="ERROR")
    assert list(raw.annotations.description) == ["Eyes closed"]
    with pyedflib.EdfReader(uri) as file:
        assert file.getPatientName() in ("", "X")
        assert np.array_equal(file.readSignal(3, digital=True), EdfFile.open(uri).read_digital([3], 0.0, 12.0)[0])


def test_one_subject_keeps_its_intervals_and_another_has_its_own(tmp_path: Path) -> None:
    dates = {}
    for name, patient, date in (("a", "P-1 X X X", b"12.03.09"), ("b", "P-1 X X X", b"15.03.09"), ("c", "P-2 X X X", b"12.03.09")):
        (tmp_path / f"{name}.edf").write_bytes(patched(make(Spec(patient=patient)), 168, date, 8))
        head = Path(deidentify(str(tmp_path / f"{name}.edf"), str(tmp_path / "clean"), SALT).uri).read_bytes()[:256]
        dates[name] = datetime.datetime.strptime(head[168:176].decode(), "%d.%m.%y").date()
    assert dates["b"] - dates["a"] == datetime.timedelta(days=3)
    assert dates["a"] != datetime.date(2009, 3, 12)
    assert dates["c"] != dates["a"]


def test_a_copy_never_lies_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(make(Spec()))
    deidentify(str(tmp_path / "a.edf"), str(tmp_path / "clean"), SALT)
    with pytest.raises(ConfigError, match="there is a file already"):
        deidentify(str(tmp_path / "a.edf"), str(tmp_path / "clean"), SALT)


def test_a_damaged_file_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.edf").write_bytes(make(Spec())[:5000])
    (tmp_path / "b.edf").write_bytes(make(Spec()))
    uris = [str(tmp_path / name) for name in ("a.edf", "b.edf")]
    cleaned, failed = deidentify_all(uris, str(tmp_path / "clean"), SALT)
    assert len(cleaned) == 1
    assert [(uri, type(error)) for uri, error in failed] == [(uris[0], EdfError)]


def test_a_key_that_everybody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="CG_SUBJECT_SALT"):
        deidentify_all([], str(tmp_path), PUBLIC_SALT)
