"""An inspection says what a corpus holds and what is wrong with it, from headers and label files, and never stops at a bad file."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.header_file import HeaderFile
from cg_data.inspect import InspectedFile, inspect, inspect_file, summarise
from cg_data.settings import DataSettings
from cg_data.vocabulary import CHANNELS
from tests.cg_data import corpus_trees as trees
from tests.cg_data.corpus_trees import edf, put
from tests.cg_data.edf_bytes import Spec, make, note

SETTINGS = DataSettings()


def test_a_corpus_is_counted(tmp_path: Path) -> None:
    found = inspect(CorpusName.TUSZ, str(trees.tusz_v2(tmp_path)), settings=SETTINGS)
    assert (found.files, found.accepted, found.subjects, found.duration_s) == (5, 5, 3, 300.0)
    assert {split: (t.files, t.subjects, t.duration_s) for split, t in found.splits.items()} == {
        "test": (2, 1, 120.0),
        "train": (1, 1, 60.0),
        "validation": (2, 1, 120.0),
    }
    assert (found.sfreqs_hz, found.electrodes) == ({100.0: 5}, {19: 5})
    assert list(found.channels.items())[:2] == [("EEG FP1-LE", 5), ("EEG FP2-LE", 5)]
    assert {(t.kind, t.name): (t.count, round(t.duration_s, 3)) for t in found.labels} == {
        ("background", "bckg"): (10, 368.868),
        ("seizure", "cpsz"): (5, 78.066),
        ("seizure", "gnsz"): (5, 98.75),
        ("seizure", "seizure"): (5, 115.566),
    }
    (moved,) = [t for t in found.problems if t.rule == "split.subject_in_two"]
    assert (moved.files, len(moved.examples)) == (4, 3)


def test_bad_files_are_refused_with_their_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    place = tmp_path / "edf/train/aaaaaaac/s001_2002/01_tcp_ar"
    put(place / "aaaaaaac_s001_t000.edf", edf())
    put(place / "aaaaaaac_s001_t001.edf", b"no EDF at all")
    put(place / "aaaaaaac_s001_t002.edf", edf(duration_s=5))
    put(place / "aaaaaaac_s001_t003.edf", make(Spec(unit=b"%")))
    put(place / "aaaaaaac_s001_t004.edf", edf(labels=["EOG LOC"]))
    found = inspect(CorpusName.TUSZ, str(tmp_path), settings=SETTINGS)
    assert (found.files, found.accepted) == (5, 1)
    refused = {t.rule: t.examples for t in found.refused}
    assert set(refused) == {"format.unknown", "signal.too_short", "signal.unit", "montage.channels_missing"}
    assert refused["signal.unit"][0].startswith(f"{place}/aaaaaaac_s001_t003.edf: signal 'EEG Fp1-REF' is in '%'")
    assert {t.rule: t.count for t in found.problems}["labels.no_file"] == 4


def test_only_the_header_of_a_recording_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EdfFile, "open", classmethod(lambda cls, uri: pytest.fail(f"{uri} was read whole")))
    found = inspect(CorpusName.TUSZ, str(trees.tusz_v1(tmp_path)), settings=SETTINGS)
    assert (found.accepted, found.duration_s) == (3, 180.0)


def test_damage_inside_the_signal_shows_when_files_are_read_whole(tmp_path: Path) -> None:
    data = edf(labels=CHANNELS)
    head = 256 * (len(CHANNELS) + 1)
    put(tmp_path / "a.edf", data[:head] + data[head:].replace(b"\n", b"\r\n"))
    quick, thorough = (inspect(CorpusName.FOLDER, str(tmp_path), settings=SETTINGS, thorough=t) for t in (False, True))
    assert quick.accepted == 1
    assert [t.rule for t in thorough.refused] == ["data.line_ends"]


def test_annotations_inside_a_file_are_counted_without_their_text(tmp_path: Path) -> None:
    put(tmp_path / "a.edf", edf(CHANNELS, notes=[note(1, 2, "Eyes closed"), note(5, 0, "Mrs Roe coughs")]))
    found = inspect(CorpusName.FOLDER, str(tmp_path), settings=SETTINGS)
    assert [(t.name, t.count, t.duration_s) for t in found.labels] == [("closed", 1, 2.0)]
    assert {t.rule: t.count for t in found.problems} == {"annotations.not_listed": 1, "sfreq.below_band": 1}
    assert "Roe" not in repr(found)


def test_label_files_that_cannot_be_fetched_refuse_the_file_for_now(tmp_path: Path) -> None:
    (source,) = CORPORA[CorpusName.TUSZ].sources(str(put(tmp_path / "aaaaaaac_s001_t000.edf", edf()).parent))
    gone = dataclasses.replace(source, label_uris=(f"{tmp_path}/gone.csv",))
    assert inspect_file(gone, CorpusName.TUSZ, settings=SETTINGS).reason == "storage.unreadable"


@pytest.mark.parametrize("plus", ["", "EDF+C", "EDF+D"])
def test_a_header_tells_what_the_whole_file_tells(tmp_path: Path, plus: str) -> None:
    starts_s = [float(k if k < 12 else k + 7) for k in range(24)] if plus == "EDF+D" else None
    spec = Spec(n_records=24, plus=plus, starts_s=starts_s, notes=[note(1, 2, "Eyes open")] if plus else [])
    path = str(put(tmp_path / "a.edf", make(spec) + b"\x00" * 99))
    quick, whole = HeaderFile(path), EdfFile.open(path)
    for name in ("name", "labels", "patient", "annotations", "runs_s"):
        assert getattr(quick, name) == getattr(whole, name)
    assert quick.sfreq_hz(3) == whole.sfreq_hz(3)
    assert (quick.read_uv([0], 2, 3) == whole.read_uv([0], 2, 3)).all()


@pytest.mark.parametrize(("n_records", "kept_bytes", "duration_s"), [(-1, None, 12.0), (12, 4, 8.0), (500, None, 12.0)])
def test_the_length_follows_from_the_size_where_the_header_is_wrong(
    tmp_path: Path, n_records: int, kept_bytes: int | None, duration_s: float
) -> None:
    spec = Spec()
    data = make(spec)
    record = 2 * 200 * len(spec.labels)
    data = data[:236] + f"{n_records:<8}".encode() + data[244 : None if kept_bytes is None else -kept_bytes * record]
    assert HeaderFile(str(put(tmp_path / "a.edf", data))).runs_s == ((0.0, duration_s),)


def test_totals_of_many_rows_do_not_grow_with_their_number() -> None:
    rows = (
        InspectedFile(uri=f"{i}.edf", subject=str(i % 7), split="train", duration_s=10.0, sfreq_hz=200.0, channels=("Fp1",), electrodes=1)
        if i % 10
        else InspectedFile(uri=f"{i}.edf", reason="data.none", message=f"{i}.edf: there is not one whole data record.")
        for i in range(5000)
    )
    found = summarise(rows)
    assert (found.files, found.accepted, found.subjects, found.duration_s) == (5000, 4500, 7, 45_000.0)
    assert [(t.rule, t.files, len(t.examples)) for t in found.refused] == [("data.none", 500, 3)]
    assert len(repr(found)) < 2000


def test_real_recordings_are_inspected_as_they_are_described(real_eeg: Path) -> None:
    found = inspect(CorpusName.FOLDER, str(real_eeg), settings=SETTINGS)
    with (real_eeg / "MANIFEST.csv").open(newline="") as file:
        durations_s = {row["file"]: float(row["duration_s"]) for row in csv.DictReader(file)}
    refused = {example.split(": ")[0].removeprefix(f"{real_eeg}/") for total in found.refused for example in total.examples}
    assert found.files == len(durations_s)
    assert found.duration_s == pytest.approx(sum(s for name, s in durations_s.items() if name not in refused))
    row = inspect_file(Source(uri=str(real_eeg / "epviz_demo.edf")), CorpusName.FOLDER, settings=SETTINGS)
    assert (row.electrodes, row.sfreq_hz, row.reason) == (19, 200.0, "")
    assert [(t.kind, t.count) for t in row.labels if t.kind == "seizure"] == [("seizure", 1)]
