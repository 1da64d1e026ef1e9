"""A user's table of marks: read as documented, its faults counted, and no text of it anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cg_data import register
from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.marks_csv import labels_of_csv
from cg_data.corpora.source import Source
from cg_data.inspect import inspect_file
from cg_data.marks import Labels
from cg_data.settings import DataSettings
from tests.cg_data.corpus_trees import brief, broken, edf, put, read
from tests.cg_data.edf_bytes import note

HEAD = "onset_s,duration_s,channel,waveform,reader\n"


def table(tmp_path: Path, text: str | bytes) -> Labels:
    return labels_of_csv(str(put(tmp_path / "a.marks.csv", text)), 60.0)


def test_marks_and_searches_are_read(tmp_path: Path) -> None:
    rows = (
        "1.5,0.8,EEG C3-REF,sleep_spindle,1\n2,0.1,FP1-F7,spike,2\n3,1,,k_complex,\n,,C3,searched:sleep_spindle,1\n10,20,,searched:spike,\n"
    )
    found = table(tmp_path, HEAD + rows)
    assert brief(found, kind="waveform") == [
        ("waveform", "sleep_spindle", 1.5, 2.3, "C3"),
        ("waveform", "spike", 2.0, 2.1, "Fp1-F7"),
        ("waveform", "k_complex", 3.0, 4.0, ""),
    ]
    assert [x.reader for x in found.labels if x.kind == "waveform"] == ["1", "2", ""]
    assert brief(found, kind="searched") == [
        ("searched", "sleep_spindle", 0.0, 60.0, "C3"),
        ("searched", "spike", 10.0, 30.0, ""),
    ]
    assert broken(found) == {}


def test_without_a_search_each_reader_looked_for_what_is_marked_where_it_is_marked(tmp_path: Path) -> None:
    found = table(tmp_path, HEAD + "1,1,C3,sleep_spindle,1\n5,1,C3,sleep_spindle,1\n1,1,Cz,k_complex,2\n")
    assert [(x.name, x.onset_s, x.duration_s, x.channel, x.reader) for x in found.labels if x.kind == "searched"] == [
        ("k_complex", 0.0, 60.0, "Cz", "2"),
        ("sleep_spindle", 0.0, 60.0, "C3", "1"),
    ]


def test_spaces_other_columns_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    text = "\ufeffwaveform, note, channel, onset_s ,duration_s\r\nspike, Jane said so, T3, 1.0, 0.1\r\n\r\n,,,,\r\n"
    assert brief(table(tmp_path, text), kind="waveform") == [("waveform", "spike", 1.0, 1.1, "T3")]
    assert broken(table(tmp_path, text)) == {}


def test_every_fault_is_counted_and_costs_its_row(tmp_path: Path) -> None:
    rows = [
        "1,0.1,T3,spike,",
        "2,0.1,T3,Spikes of Jane Doe,",
        "3,0.1,T3,searched:everything,",
        "x,0.1,T3,spike,",
        "4,,T3,spike,",
        "5,0.1",
        "6,0.1,EKG,spike,",
        "7,-1,T3,spike,",
        "99,0.1,T3,spike,",
        "8,0.1,T3,spike,Dr Jane Doe",
    ]
    found = table(tmp_path, HEAD + "\n".join(rows) + "\n")
    assert brief(found) == [("waveform", "spike", 1.0, 1.1, "T3")]
    assert broken(found) == {
        "labels.beyond_recording": 1,
        "labels.end_before_onset": 1,
        "labels.unknown_channel": 1,
        "labels.unknown_reader": 1,
        "labels.unknown_term": 2,
        "labels.unreadable_line": 3,
    }
    assert "Doe" not in str(found)


@pytest.mark.parametrize("search", ["", ",,,searched:spike,\n,,,searched:k_complex,\n"])
def test_where_a_mark_was_lost_its_waveform_may_be_anywhere(tmp_path: Path, search: str) -> None:
    found = table(tmp_path, HEAD + "1,0.1,T3,spike,\n2,?,T3,spike,\n3,1,Cz,k_complex,\n" + search)
    assert {x.name for x in found.labels if x.kind == "searched"} == {"k_complex"}
    of_something = table(tmp_path, HEAD + "1,0.1,T3,spike,\n3,1,Cz\n" + search)
    assert {x.name for x in of_something.labels if x.kind == "searched"} == set()


@pytest.mark.parametrize(
    "text", ["onset_s,duration_s,channel\n1,1,C3\n", "", "onset_s;duration_s;channel;waveform\n", HEAD + '1,1,C3,"spike,\n2,1,C3,spike,\n']
)
def test_what_is_no_such_table_is_one_problem(tmp_path: Path, text: str) -> None:
    assert table(tmp_path, text).labels == ()
    assert broken(table(tmp_path, text)) == {"labels.unreadable_file": 1}


def test_a_table_lies_beside_its_recording_and_adds_to_the_annotations_inside(tmp_path: Path) -> None:
    put(tmp_path / "sub/a.edf", edf(notes=[note(5, 2, "seizure")]))
    put(tmp_path / "sub/b.edf", edf())
    put(tmp_path / "sub/a.marks.csv", HEAD + "1,0.1,T3,spike,\n")
    put(tmp_path / "a.marks.csv", HEAD + "2,0.1,T3,spike,\n")
    _, labels = read(CorpusName.FOLDER, tmp_path, "a.edf")
    assert [x[:3] for x in brief(labels)] == [("searched", "spike", 0.0), ("waveform", "spike", 1.0), ("seizure", "seizure", 5.0)]
    assert read(CorpusName.FOLDER, tmp_path, "b.edf")[1].labels == ()
    (alone,) = CORPORA[CorpusName.FOLDER].sources(str(tmp_path / "sub" / "a.edf"))
    assert alone.label_uris == (str(tmp_path / "sub" / "a.marks.csv"),)


def test_a_changed_table_makes_its_recording_new_and_no_other(tmp_path: Path) -> None:
    def keys() -> dict[str, str]:
        listed = register.listed(CORPORA[CorpusName.FOLDER].sources(str(tmp_path)), "salt")
        return {file.source.uri.rsplit("/", 1)[-1]: file.key for file in listed}

    for name in ("a.edf", "b.edf"):
        put(tmp_path / name, edf())
    before = keys()
    put(tmp_path / "a.marks.csv", HEAD + "1,0.1,T3,spike,\n")
    with_table = keys()
    os.utime(tmp_path / "a.marks.csv", ns=(1, 1))
    assert len({before["a.edf"], with_table["a.edf"], keys()["a.edf"]}) == 3
    assert before["b.edf"] == with_table["b.edf"] == keys()["b.edf"]


def test_an_inspection_counts_searches_apart_from_marks(tmp_path: Path) -> None:
    put(tmp_path / "a.edf", edf())
    put(tmp_path / "a.marks.csv", HEAD + "1,0.1,T3,spike,\n4,0.1,T3,spike,\n")
    (source,) = CORPORA[CorpusName.FOLDER].sources(str(tmp_path))
    row = inspect_file(Source(uri=source.uri, label_uris=source.label_uris), CorpusName.FOLDER, settings=DataSettings())
    assert [(t.kind, t.name, t.count) for t in row.labels] == [("searched", "spike", 1), ("waveform", "spike", 2)]


@pytest.mark.parametrize("search", ["", ",,,searched:spike,\n,,,searched:k_complex,\n"])
@pytest.mark.parametrize("unsure", ["?,1,Cz,unsure:spike", "1,1,Q9,unsure:spike", "99,1,Cz,unsure:spike", "1,1,Cz,unsure:spike,Jane"])
def test_where_something_unsure_was_lost_its_waveform_may_be_anywhere(tmp_path: Path, search: str, unsure: str) -> None:
    found = table(tmp_path, HEAD + f"1,0.1,T3,spike,\n3,1,Cz,k_complex,\n{unsure}\n" + search)
    assert {x.name for x in found.labels if x.kind == "searched"} == {"k_complex"}


def test_what_a_reader_is_not_sure_of_is_neither_mark_nor_search(tmp_path: Path) -> None:
    found = table(tmp_path, HEAD + "1,1,C3,sleep_spindle,1\n5,0.5,C3,unsure:sleep_spindle,1\n7,1,C3,unsure:Jane,1\n")
    assert brief(found, kind="unsure") == [("unsure", "sleep_spindle", 5.0, 5.5, "C3")]
    assert brief(found, kind="searched") == [("searched", "sleep_spindle", 0.0, 60.0, "C3")]
    assert broken(found) == {"labels.unknown_term": 1}
