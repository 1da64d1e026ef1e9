"""BIDS-EEG: SzCORE events, HED-SCORE tags and plain names become labels; all other text stays in its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.bids_terms import terms_of
from tests.cg_data import corpus_trees as trees
from tests.cg_data.corpus_trees import brief, broken, put, read


def test_subjects_sessions_and_tables_are_found_and_derivatives_left_out(tmp_path: Path) -> None:
    found = CORPORA[CorpusName.BIDS].sources(str(trees.bids(tmp_path)))
    assert [(s.subject, len(s.label_uris), s.problems) for s in found] == [
        ("sub-01", 2, ()),
        ("sub-02", 1, ()),
        ("sub-03", 0, ("source.not_in_participants",)),
    ]


def test_recordings_of_every_format_are_listed(tmp_path: Path) -> None:
    for suffix in ("edf", "bdf", "set", "vhdr", "vmrk", "json", "fdt"):
        put(tmp_path / f"sub-01/eeg/sub-01_task-{suffix}_eeg.{suffix}", b"")
    found = CORPORA[CorpusName.BIDS].sources(str(tmp_path))
    assert [s.uri.rsplit(".", 1)[-1] for s in found] == ["bdf", "edf", "set", "vhdr"]


def test_szcore_events_are_seizures_by_channel_and_type(tmp_path: Path) -> None:
    _, labels = read(CorpusName.BIDS, trees.bids(tmp_path), "sub-01_ses-01_task-szMonitoring_run-00_eeg.edf")
    assert brief(labels) == [
        ("artefact_code", "bad", 0.0, 60.0, "O1"),
        ("background", "bckg", 0.0, 60.0, ""),
        ("seizure", "sz_foc_ia", 12.5, 22.75, "F7"),
        ("seizure", "sz_foc_ia", 12.5, 22.75, "T3"),
        ("seizure", "seizure", 30.0, 40.0, ""),
        ("artefact_code", "impd", 45.0, 50.0, ""),
    ]


def test_hed_tags_and_plain_names(tmp_path: Path) -> None:
    _, labels = read(CorpusName.BIDS, trees.bids(tmp_path), "sub-02_task-rest_eeg.edf")
    assert brief(labels) == [
        ("artefact", "blink", 2.0, 2.5, "Fp1"),
        ("waveform", "sharp_wave", 3.0, 3.2, "T3-T5"),
        ("waveform", "spike", 3.0, 3.2, "T3-T5"),
        ("waveform", "sleep_spindle", 4.0, 5.0, "C3"),
        ("stage", "n2", 20.0, 50.0, ""),
    ]
    assert broken(labels) == {"labels.unknown_term": 1}
    assert "Doe" not in repr(labels)


def test_without_an_event_table_the_files_own_annotations_count(tmp_path: Path) -> None:
    _, labels = read(CorpusName.BIDS, trees.bids(tmp_path), "sub-03_task-rest_eeg.edf")
    assert brief(labels) == [("seizure", "seizure", 5.0, 7.0, "")]
    assert broken(labels) == {"annotations.not_listed": 1}
    assert "Roe" not in repr(labels)


def test_what_a_reader_looked_for_is_told_by_trial_type(tmp_path: Path) -> None:
    trees.bids(tmp_path)
    rows = "onset\tduration\ttrial_type\tchannel\n0\tn/a\tsearched:spike\tn/a\n10\t20\tsearched:sleep_spindle\tC3\n0\t1\tsearched:Doe\tC3\n"
    put(tmp_path / "sub-02/eeg/sub-02_task-rest_events.tsv", rows)
    _, labels = read(CorpusName.BIDS, tmp_path, "sub-02_task-rest_eeg.edf")
    assert brief(labels) == [("searched", "spike", 0.0, 60.0, ""), ("searched", "sleep_spindle", 10.0, 30.0, "C3")]
    assert broken(labels) == {"labels.unknown_term": 1}


@pytest.mark.parametrize(
    "row", ["x\t1\tspike\tFp1", "2\t-1\tspike\tFp1", "3\t1\tspike\tFp1-", "3\t1\tunsure:spike\tO2,Q9", "99\t1\tspike\tO2"]
)
def test_where_a_mark_was_lost_its_waveform_was_not_looked_for(tmp_path: Path, row: str) -> None:
    trees.bids(tmp_path)
    searches = "0\tn/a\tsearched:spike\tn/a\n0\tn/a\tsearched:k_complex\tn/a\n"
    table = f"onset\tduration\ttrial_type\tchannels\n{searches}{row}\n5\t1\tspike\tO2\n"
    put(tmp_path / "sub-02/eeg/sub-02_task-rest_events.tsv", table)
    _, labels = read(CorpusName.BIDS, tmp_path, "sub-02_task-rest_eeg.edf")
    assert brief(labels, kind="searched") == [("searched", "k_complex", 0.0, 60.0, "")]
    assert ("waveform", "spike", 5.0, 6.0, "O2") in brief(labels)


def test_damaged_tables_are_counted(tmp_path: Path) -> None:
    stem = "sub-02/eeg/sub-02_task-rest"
    trees.bids(tmp_path)
    rows = ["onset\tduration\ttrial_type\tchannel", "x\t1\tspike\tFp1", "2\t-1\tspike\tFp1", "3\t1\tspike\tFp1-", "4", "5\t1\tspike\tO2"]
    put(tmp_path / f"{stem}_events.tsv", "".join(f"{row}\n" for row in rows))
    put(tmp_path / f"{stem}_channels.tsv", "no table")
    _, labels = read(CorpusName.BIDS, tmp_path, "sub-02_task-rest_eeg.edf")
    assert brief(labels) == [("waveform", "spike", 5.0, 6.0, "O2")]
    assert broken(labels) == {
        "labels.end_before_onset": 1,
        "labels.unknown_channel": 1,
        "labels.unknown_term": 1,
        "labels.unreadable_file": 1,
        "labels.unreadable_line": 1,
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sz", ["seizure"]),
        ("sz_foc_a_nm_sensory", ["sz_foc_a"]),
        ("sz_foc_f2b", ["sz_foc_f2b"]),
        ("sz_gen_m_tonicClonic", ["sz_gen_m"]),
        ("sz_uo_nm", ["sz_uo_nm"]),
        ("K-complex", ["k_complex"]),
        ("Spike and slow wave", ["spike_or_sharp_and_slow_wave"]),
        ("Eyes closed", ["closed"]),
        ("Data-feature, sc:Eye-blink-artifact, sc:Seizure-PNES", ["blink", "nesz"]),
        ("Lateralized-periodic-discharges, ECG-artifact", ["pled", "ecg"]),
        ("the spike of Mr Doe", []),
        ("szymanski", []),
        ("", []),
    ],
)
def test_words_of_events(text: str, names: list[str]) -> None:
    assert [name for _, name in terms_of(text)] == names
