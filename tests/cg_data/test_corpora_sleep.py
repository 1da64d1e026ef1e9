"""The sleep corpora: stages of HMC, Sleep-EDF and DREAMS, and the waveforms of both DREAMS readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cg_data.corpora import CORPORA, CorpusName
from cg_data.edf.reader import read_annotations
from cg_data.errors import EdfError
from tests.cg_data import corpus_trees as trees
from tests.cg_data.corpus_trees import annotations_only, brief, broken, edf, put, read

STAGES = [("wake", 0, 30), ("n1", 30, 60), ("n2", 60, 90), ("n3", 90, 120), ("rem", 120, 150)]
AS_LABELS = [("stage", name, float(start), float(stop), "") for name, start, stop in STAGES]


def test_hmc_lists_recordings_and_not_their_scorings(tmp_path: Path) -> None:
    found = CORPORA[CorpusName.HMC].sources(str(trees.hmc(tmp_path)))
    assert [(s.subject, s.split, [uri.rsplit("/", 1)[-1] for uri in s.label_uris]) for s in found] == [
        ("SN001", None, ["SN001_sleepscoring.txt"]),
        ("SN002", None, ["SN002_sleepscoring.edf"]),
        ("SN003", None, []),
    ]


@pytest.mark.parametrize("name", ["SN001.edf", "SN002.edf"])
def test_hmc_stages_are_the_same_from_text_and_from_edf(tmp_path: Path, name: str) -> None:
    _, labels = read(CorpusName.HMC, trees.hmc(tmp_path), name)
    assert brief(labels) == AS_LABELS
    assert broken(labels) == {}


def test_hmc_without_a_scoring_or_with_a_damaged_one_keeps_the_recording(tmp_path: Path) -> None:
    trees.hmc(tmp_path)
    assert broken(read(CorpusName.HMC, tmp_path, "SN003.edf")[1]) == {"labels.no_file": 1}
    put(
        tmp_path / "SN001_sleepscoring.txt",
        "Date, Time, Recording onset, Duration, Annotation\n, , x, 30, Sleep stage W, \n1\n",
    )
    put(tmp_path / "SN002_sleepscoring.edf", b"0       not an EDF file")
    assert broken(read(CorpusName.HMC, tmp_path, "SN001.edf")[1]) == {"labels.unreadable_line": 2}
    assert broken(read(CorpusName.HMC, tmp_path, "SN002.edf")[1]) == {"labels.unreadable_file": 1}


def test_sleep_edf_finds_the_hypnogram_whoever_scored_it(tmp_path: Path) -> None:
    found = CORPORA[CorpusName.SLEEP_EDF].sources(str(trees.sleep_edf(tmp_path)))
    assert [(s.subject, s.uri.rsplit("/", 1)[-1], s.label_uris[0].rsplit("/", 1)[-1]) for s in found] == [
        ("SC400", "SC4001E0-PSG.edf", "SC4001EC-Hypnogram.edf"),
        ("SC400", "SC4002E0-PSG.edf", "SC4002EC-Hypnogram.edf"),
        ("ST701", "ST7011J0-PSG.edf", "ST7011JP-Hypnogram.edf"),
    ]


def test_stages_3_and_4_are_n3_and_movement_is_no_stage(tmp_path: Path) -> None:
    _, labels = read(CorpusName.SLEEP_EDF, trees.sleep_edf(tmp_path), "SC4001E0-PSG.edf")
    assert [x[1:4] for x in brief(labels)] == [
        ("wake", 0.0, 30.0),
        ("n1", 30.0, 60.0),
        ("n3", 60.0, 90.0),
        ("n3", 90.0, 120.0),
        ("rem", 150.0, 180.0),
    ]
    assert broken(labels) == {}


def test_dreams_keeps_the_marks_of_both_readers(tmp_path: Path) -> None:
    found = CORPORA[CorpusName.DREAMS].sources(str(trees.dreams(tmp_path)))
    assert [s.subject for s in found] == ["DatabaseKcomplexes/excerpt1", "DatabaseSpindles/excerpt1", "DatabaseSubjects/subject1"]
    kcomplexes, spindles = (CORPORA[CorpusName.DREAMS].labels(s, trees.EdfFile.open(s.uri)) for s in found[:2])
    assert brief(spindles, kind="waveform", reader="1") == [
        ("waveform", "sleep_spindle", 10.24, 11.04, "C3"),
        ("waveform", "sleep_spindle", 30.5, 31.75, "C3"),
    ]
    assert brief(spindles, kind="waveform", reader="2") == [("waveform", "sleep_spindle", 10.3, 11.0, "C3")]
    assert brief(kcomplexes, kind="waveform", reader="2") == [("waveform", "k_complex", 10.3, 11.0, "Cz")]
    assert len([x for x in kcomplexes.labels if x.kind == "waveform"]) == 3


def test_each_dreams_reader_looked_for_one_waveform_on_one_channel_all_the_time(tmp_path: Path) -> None:
    trees.dreams(tmp_path)
    searched = {}
    for folder in ("DatabaseKcomplexes", "DatabaseSpindles", "DatabaseSubjects"):
        (source,) = CORPORA[CorpusName.DREAMS].sources(str(tmp_path / folder))
        labels = CORPORA[CorpusName.DREAMS].labels(source, trees.EdfFile.open(source.uri)).labels
        searched[folder] = [(x.name, x.onset_s, x.duration_s, x.channel, x.reader) for x in labels if x.kind == "searched"]
    assert searched == {
        "DatabaseKcomplexes": [("k_complex", 0.0, 60.0, "Cz", reader) for reader in ("1", "2")],
        "DatabaseSpindles": [("sleep_spindle", 0.0, 60.0, "C3", reader) for reader in ("1", "2")],
        "DatabaseSubjects": [],
    }


def test_dreams_hypnograms_have_five_second_steps(tmp_path: Path) -> None:
    trees.dreams(tmp_path)
    excerpt = CORPORA[CorpusName.DREAMS].sources(str(tmp_path / "DatabaseSpindles"))[0]
    labels = CORPORA[CorpusName.DREAMS].labels(excerpt, trees.EdfFile.open(excerpt.uri))
    assert [x[1:4] for x in brief(labels, kind="stage")] == [
        ("wake", 0.0, 10.0),
        ("n1", 10.0, 15.0),
        ("n2", 15.0, 30.0),
        ("n3", 35.0, 40.0),
        ("n3", 40.0, 45.0),
        ("rem", 45.0, 50.0),
        ("wake", 55.0, 60.0),
    ]
    _, night = read(CorpusName.DREAMS, tmp_path, "subject1.edf")
    assert brief(night) == [("stage", "n3", 0.0, 60.0, "")]  # by AASM, not by the older rules


def test_damaged_dreams_files_cost_only_their_lines(tmp_path: Path) -> None:
    put(tmp_path / "excerpt2.edf", edf(("C3-A1",)))
    put(tmp_path / "Visual_scoring1_excerpt2.txt", "[vis1_Spindles/C3-A1]\n1 x\n2\n3 0.5\n90 1\n")
    put(tmp_path / "Visual_scoring2_excerpt2.txt", "1 2\n")
    put(tmp_path / "Hypnogram_excerpt2.txt", "[hypnogram]\n5\nwake\n7\n2\n")
    _, labels = read(CorpusName.DREAMS, tmp_path, "excerpt2.edf")
    assert brief(labels, kind="searched") == []  # spindles of the lost lines may be anywhere
    assert [x[1:4] for x in brief(labels)] == [("wake", 0.0, 5.0), ("sleep_spindle", 3.0, 3.5), ("n2", 15.0, 20.0)]
    assert broken(labels) == {
        "labels.beyond_recording": 1,
        "labels.unknown_term": 1,
        "labels.unreadable_file": 1,
        "labels.unreadable_line": 3,
    }


def test_notes_of_a_file_without_signal_are_read_record_by_record(tmp_path: Path) -> None:
    notes = [(float(i), 0.5, f"n{i}") for i in range(7)]
    one, many = (put(tmp_path / f"{n}.edf", annotations_only(notes, per_record=n)) for n in (10, 2))
    for path in (one, many):
        assert [(x.onset_s, x.duration_s, x.text) for x in read_annotations(str(path))] == notes
    with pytest.raises(EdfError, match="no signal named 'EDF Annotations'"):
        read_annotations(str(put(tmp_path / "signal.edf", edf())))
