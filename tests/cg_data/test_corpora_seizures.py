"""CHB-MIT and Siena: seizures from lists beside the recordings, with the slips that their releases have."""

from __future__ import annotations

from pathlib import Path

from cg_data.corpora import CORPORA, CorpusName
from tests.cg_data import corpus_trees as trees
from tests.cg_data.corpus_trees import brief, broken, edf, put, read


def test_chb_mit_cases_1_and_21_are_one_person(tmp_path: Path) -> None:
    found = CORPORA[CorpusName.CHB_MIT].sources(str(trees.chb_mit(tmp_path)))
    assert [(s.subject, s.uri.rsplit("/", 1)[-1]) for s in found[::4]] == [("chb01", "chb01_01.edf"), ("chb01", "chb21_01.edf")]
    assert {s.split for s in found} == {None}


def test_chb_mit_seizures_come_from_the_summary(tmp_path: Path) -> None:
    trees.chb_mit(tmp_path)
    for name, seizures in (("chb01_01.edf", []), ("chb01_03.edf", [(29, 40)]), ("chb21_16+.edf", [(10, 20), (30, 44)])):
        _, labels = read(CorpusName.CHB_MIT, tmp_path, name)
        assert brief(labels) == [("seizure", "seizure", float(start), float(stop), "") for start, stop in seizures]
        assert broken(labels) == {}


def test_a_chb_mit_recording_that_the_summary_leaves_out_is_a_problem(tmp_path: Path) -> None:
    _, labels = read(CorpusName.CHB_MIT, trees.chb_mit(tmp_path), "chb01_99.edf")
    assert (labels.labels, broken(labels)) == ((), {"labels.no_entry": 1})


def test_a_damaged_chb_mit_summary_is_counted(tmp_path: Path) -> None:
    put(tmp_path / "chb02" / "chb02_01.edf", edf(trees.CHB_LABELS))
    summary = "File Name: chb02_01.edf\nNumber of Seizures in File: 3\nSeizure Start Time: 5 seconds\nSeizure Start Time: 10 seconds\n"
    summary += (
        "Seizure End Time: 20 seconds\nSeizure End Time: 25 seconds\nSeizure Start Time: ?? seconds\nSeizure Start Time: 50 seconds\n"
    )
    put(tmp_path / "chb02" / "chb02-summary.txt", summary)
    _, labels = read(CorpusName.CHB_MIT, tmp_path, "chb02_01.edf")
    assert brief(labels) == [("seizure", "seizure", 10.0, 20.0, "")]
    assert broken(labels) == {"labels.count_differs": 1, "labels.unpaired_mark": 3, "labels.unreadable_line": 1}


def test_siena_clock_times_become_seconds_of_the_recording(tmp_path: Path) -> None:
    trees.siena(tmp_path)
    source, labels = read(CorpusName.SIENA, tmp_path, "PN00-1.edf")
    assert (source.subject, source.split) == ("PN00", None)
    assert brief(labels) == [("seizure", "seizure", 25.0, 36.0, "")]
    assert read(CorpusName.SIENA, tmp_path, "PN00-2.edf")[1].labels == ()


def test_siena_seizures_of_one_file_over_midnight(tmp_path: Path) -> None:
    _, labels = read(CorpusName.SIENA, trees.siena(tmp_path), "PN01-1.edf")
    assert [x[2:4] for x in brief(labels)] == [(20.0, 40.0), (70.0, 85.0)]


def test_siena_second_seizure_without_a_registration_time(tmp_path: Path) -> None:
    _, labels = read(CorpusName.SIENA, trees.siena(tmp_path), "PN12-1.2.edf")
    assert [x[2:4] for x in brief(labels)] == [(10.0, 20.0), (60.0, 70.0)]


def test_siena_slips_of_the_pen_are_problems_and_not_seizures_of_an_hour(tmp_path: Path) -> None:
    trees.siena(tmp_path)
    hour, unreadable = (read(CorpusName.SIENA, tmp_path, name)[1] for name in ("PN00-3.edf", "PN06-1.edf"))
    assert (hour.labels, broken(hour)) == ((), {"labels.beyond_recording": 1})
    assert (unreadable.labels, broken(unreadable)) == ((), {"labels.unpaired_mark": 1, "labels.unreadable_line": 1})
