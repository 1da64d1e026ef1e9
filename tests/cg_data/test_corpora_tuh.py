"""The TUH corpora are read in both generations: subjects, splits, and labels to the sample on the derivations of each montage."""

from __future__ import annotations

from pathlib import Path

import pytest

from cg_data.corpora import CORPORA, CorpusName, tusz
from cg_data.corpora.channels import TCP, TCP_WITHOUT_EARS
from cg_data.edf.reader import EdfFile
from cg_data.recording import describe
from cg_data.segments import segments_of
from cg_data.settings import DataSettings
from cg_data.vocabulary import Split
from tests.cg_data import corpus_trees as trees
from tests.cg_data.corpus_trees import brief, broken, csv_of, edf, lbl_of, put, read, tse_of


def test_tusz_of_the_first_generation(tmp_path: Path) -> None:
    found = tusz.sources(str(trees.tusz_v1(tmp_path)))
    assert [(s.uri.rsplit("/", 1)[-1], s.subject, s.split, len(s.label_uris), s.problems) for s in found] == [
        ("00000675_s002_t000.edf", "00000675", Split.VALIDATION, 2, ()),
        ("00006546_s002_t000.edf", "00006546", Split.VALIDATION, 2, ()),
        ("00000258_s002_t000.edf", "00000258", Split.TRAIN, 2, ()),
    ]


@pytest.mark.parametrize(
    ("name", "numbered"),
    [("00000258_s002_t000.edf", "A1-T3"), ("00000675_s002_t000.edf", "A1-T3"), ("00006546_s002_t000.edf", "T3-C3")],
)
def test_channel_numbers_count_along_the_montage_of_the_tree(tmp_path: Path, name: str, numbered: str) -> None:
    _, labels = read(CorpusName.TUSZ, trees.tusz_v1(tmp_path), name)
    assert brief(labels) == [
        ("background", "bckg", 0.0, 10.2775, ""),
        ("seizure", "fnsz", 10.2775, 35.7775, ""),
        ("seizure", "fnsz", 10.2775, 30.5, "Fp1-F7"),
        ("seizure", "fnsz", 12.0, 35.7775, numbered),
        ("background", "bckg", 35.7775, 60.0, ""),
    ]
    assert broken(labels) == {}


def test_the_tcp_montages_are_those_of_the_corpus() -> None:
    assert (len(TCP), TCP[8], TCP[13], TCP[21]) == (22, "A1-T3", "T4-A2", "P4-O2")
    assert (len(TCP_WITHOUT_EARS), TCP_WITHOUT_EARS[8], TCP_WITHOUT_EARS[12], TCP_WITHOUT_EARS[19]) == (20, "T3-C3", "Fp1-F3", "P4-O2")


def test_tusz_of_the_second_generation(tmp_path: Path) -> None:
    source, labels = read(CorpusName.TUSZ, trees.tusz_v2(tmp_path), "aaaaaaac_s001_t001.edf")
    assert (source.subject, source.split, source.problems) == ("aaaaaaac", Split.TRAIN, ())
    assert brief(labels) == [
        ("background", "bckg", 0.0, 36.8868, ""),
        ("background", "bckg", 0.0, 36.8868, "Fp1-F7"),
        ("seizure", "cpsz", 36.8868, 52.5, "Fp1-F7"),
        ("seizure", "seizure", 36.8868, 60.0, ""),
        ("seizure", "gnsz", 40.25, 60.0, "T4-A2"),
    ]


def test_a_subject_in_two_splits_is_in_the_stricter_one_and_a_problem(tmp_path: Path) -> None:
    found = {(s.subject, s.split, s.problems) for s in tusz.sources(str(trees.tusz_v2(tmp_path)))}
    assert found == {
        ("aaaaaaac", Split.TRAIN, ()),
        ("aaaaaabb", Split.VALIDATION, ("split.subject_in_two",)),
        ("aaaaaacc", Split.TEST, ("split.subject_in_two",)),
    }


def test_the_split_is_known_where_a_user_gives_a_folder_inside_the_corpus(tmp_path: Path) -> None:
    root = trees.tusz_v2(tmp_path)
    assert {s.split for s in tusz.sources(str(root / "edf" / "dev"))} == {Split.VALIDATION}


def test_seizures_marked_by_channel_only_are_seizures_of_the_page(tmp_path: Path) -> None:
    stem = tmp_path / "train" / "aaaaaaac" / "s001_2002" / "01_tcp_ar" / "aaaaaaac_s001_t000"
    put(stem.with_suffix(".edf"), edf())
    put(
        stem.with_suffix(".csv"),
        csv_of([("FP1-F7", 5, 9, "fnsz"), ("F7-T3", 8, 12, "fnsz"), ("F7-T3", 20, 21, "seiz"), ("F7-T3", 30, 40, "bckg")]),
    )
    _, labels = read(CorpusName.TUSZ, tmp_path, "aaaaaaac_s001_t000.edf")
    assert brief(labels, kind="seizure", channel="") == [("seizure", "seizure", 5.0, 12.0, ""), ("seizure", "seizure", 20.0, 21.0, "")]


def test_a_described_recording_has_the_labels_and_split_of_its_corpus(tmp_path: Path) -> None:
    source, labels = read(CorpusName.TUSZ, trees.tusz_v2(tmp_path), "aaaaaacc_s001_t000.edf")
    file = EdfFile.open(source.uri)
    recording = describe(file, source=source, corpus="tusz", settings=DataSettings(), labels=labels.labels)
    assert (recording.split, len(recording.labels)) == (Split.TEST, 5)
    assert "aaaaaacc" not in repr(recording).replace(recording.uri, "")
    segments = list(segments_of(file, recording))
    on_page = [(x.name, round(x.onset_s, 4), round(x.duration_s, 4), x.channel) for x in segments[3].labels if x.kind == "seizure"]
    assert on_page == [("cpsz", 6.8868, 3.1132, "Fp1-F7"), ("seizure", 6.8868, 3.1132, "")]


def test_tuab_classifies_whole_recordings(tmp_path: Path) -> None:
    for name in ("train/abnormal/01_tcp_ar/000/00000016/s004_2012_02_08/00000016_s004_t000", "eval/normal/01_tcp_ar/aaaaamcc_s001_t000"):
        put(tmp_path / "edf" / f"{name}.edf", edf())
    put(tmp_path / "edf" / "train" / "aaaaaaaq_s004_t000.edf", edf())
    old, old_labels = read(CorpusName.TUAB, tmp_path, "00000016_s004_t000.edf")
    new, new_labels = read(CorpusName.TUAB, tmp_path, "aaaaamcc_s001_t000.edf")
    stray, stray_labels = read(CorpusName.TUAB, tmp_path, "aaaaaaaq_s004_t000.edf")
    assert (old.subject, old.split, brief(old_labels)) == ("00000016", Split.TRAIN, [("clinical", "abnormal", 0.0, 60.0, "")])
    assert (new.subject, new.split, brief(new_labels)) == ("aaaaamcc", Split.TEST, [("clinical", "normal", 0.0, 60.0, "")])
    assert (stray.problems, stray_labels.labels) == (("source.no_class_folder",), ())


def test_tuep_says_who_has_epilepsy(tmp_path: Path) -> None:
    for name in (
        "epilepsy/01_tcp_ar/003/00000355/s003_2013_01_04/00000355_s003_t000",
        "no_epilepsy_edf/02_tcp_le/003/00000356/s003_2013_01_04/00000356_s003_t000",
        "00_epilepsy/aaaaaanr/s003_2013/01_tcp_ar/aaaaaanr_s003_t000",
        "01_no_epilepsy/aaaaaans/s003_2013/01_tcp_ar/aaaaaans_s003_t000",
    ):
        put(tmp_path / f"{name}.edf", edf())
    put(tmp_path / "00_epilepsy/aaaaaanr/s003_2013/01_tcp_ar/aaaaaanr_s003_t000.csv_bi", csv_of([("TERM", 4, 9, "seiz")]))
    found = {s.subject: s for s in CORPORA[CorpusName.TUEP].sources(str(tmp_path))}
    names = {code: [x[:2] for x in brief(read(CorpusName.TUEP, tmp_path, s.uri.rsplit("/", 1)[-1])[1])] for code, s in found.items()}
    assert names == {
        "00000355": [("clinical", "epilepsy")],
        "00000356": [("clinical", "no_epilepsy")],
        "aaaaaanr": [("clinical", "epilepsy"), ("seizure", "seizure")],
        "aaaaaans": [("clinical", "no_epilepsy")],
    }
    assert {s.split for s in found.values()} == {None}


def test_tuev_marks_six_classes_by_channel(tmp_path: Path) -> None:
    found = CORPORA[CorpusName.TUEV].sources(str(trees.tuev(tmp_path)))
    assert [(s.subject, s.split) for s in found] == [
        ("eval-000", Split.TEST),
        ("eval-032", Split.TEST),
        ("aaaaaaar", Split.TRAIN),
        ("aaaaaaar", Split.TRAIN),
    ]
    _, labels = read(CorpusName.TUEV, tmp_path, "aaaaaaar_00000001.edf")
    assert brief(labels) == [
        ("pattern", "spsw", 1.0, 2.0, "Fp1-F7"),
        ("pattern", "gped", 10.5, 11.5, "T4-A2"),
        ("pattern", "pled", 20.0, 21.0, "P4-O2"),
        ("artefact_code", "eyem", 30.0, 31.0, "Fp1-F3"),
        ("artefact_code", "artf", 31.0, 32.0, "Fp1-F3"),
        ("background", "bckg", 40.0, 41.0, "A1-T3"),
    ]


def test_tuar_of_the_third_version_has_two_tables_beside_the_recording(tmp_path: Path) -> None:
    stem = tmp_path / "edf" / "01_tcp_ar" / "aaaaaaju_s005_t000"
    put(stem.with_suffix(".edf"), edf())
    put(
        stem.with_suffix(".csv"),
        csv_of([("FP1-F7", 1, 2, "eyem_musc"), ("FP1-F7", 3, 4, "musc"), ("T3-C3", 5, 6, "elec"), ("T3-C3", 7, 8, "musc_chew")]),
    )
    put(stem.with_name("aaaaaaju_s005_t000_seiz.csv"), csv_of([("FP1-F7", 20, 30.5, "fnsz")]))
    source, labels = read(CorpusName.TUAR, tmp_path, "aaaaaaju_s005_t000.edf")
    assert (source.subject, source.split) == ("aaaaaaju", None)
    assert brief(labels) == [
        ("artefact_code", "eyem_musc", 1.0, 2.0, "Fp1-F7"),
        ("artefact", "muscle", 3.0, 4.0, "Fp1-F7"),
        ("artefact_code", "elec", 5.0, 6.0, "T3-C3"),
        ("artefact_code", "chew_musc", 7.0, 8.0, "T3-C3"),
        ("seizure", "fnsz", 20.0, 30.5, "Fp1-F7"),
        ("seizure", "seizure", 20.0, 30.5, ""),
    ]


def test_tuar_of_the_second_version_has_one_table_for_each_montage(tmp_path: Path) -> None:
    put(tmp_path / "edf/01_tcp_ar/002/00000254/s005_2010_11_15/00000254_s005_t000.edf", edf())
    put(tmp_path / "edf/02_tcp_le/002/00000255/s005_2010_11_15/00000255_s005_t000.edf", edf(trees.TUH_LE))
    table = "# version: 2.0.0\n#\n# key, channel_label, start_time, stop_time, artifact_label\n#\n"
    table += "{key}, FP1-F7, 30.2787, 32.3535, shiv, 1.0\nother, F7-T3, 1, 2, chew, 1.0\n"
    put(tmp_path / "csv/labels_01_tcp_ar.csv", table.format(key="00000254_s005_t000"))
    put(tmp_path / "csv/labels_02_tcp_le.csv", table.format(key="00000255_s005_t000"))
    for name in ("00000254_s005_t000.edf", "00000255_s005_t000.edf"):
        _, labels = read(CorpusName.TUAR, tmp_path, name)
        assert brief(labels) == [("artefact_code", "shiv", 30.2787, 32.3535, "Fp1-F7")]
        assert broken(labels) == {}


@pytest.mark.parametrize("suffix", [".tse", ".tse_agg"])
def test_tusl_marks_slowing(tmp_path: Path, suffix: str) -> None:
    put(tmp_path / "edf/aaaaaajw/s001_2009/01_tcp_ar/aaaaaajw_s001_t000.edf", edf())
    put(
        tmp_path / f"edf/aaaaaajw/s001_2009/01_tcp_ar/aaaaaajw_s001_t000{suffix}",
        tse_of([(0, 5, "bckg"), (5, 15.25, "slow"), (20, 30, "seiz")]),
    )
    source, labels = read(CorpusName.TUSL, tmp_path, "aaaaaajw_s001_t000.edf")
    assert (source.subject, source.split) == ("aaaaaajw", None)
    assert brief(labels) == [
        ("background", "bckg", 0.0, 5.0, ""),
        ("pattern", "slow", 5.0, 15.25, ""),
        ("seizure", "seizure", 20.0, 30.0, ""),
    ]


def test_damaged_lines_cost_only_themselves(tmp_path: Path) -> None:
    place = tmp_path / "edf/train/aaaaaaac/s001_2002/01_tcp_ar"
    put(place / "aaaaaaac_s001_t000.edf", edf())
    lines = [
        "FP1-F7,1,2,fnsz,1.0",
        "FP1-F7,one,2,fnsz,1.0",
        "FP1-F7,3",
        "FP1-F7,9,8,fnsz,1.0",
        "FP1-F7,70,80,fnsz,1.0",
        "FP1-F7,nan,8,fnsz,1.0",
    ]
    lines += [
        "FP1-F7,50,61.5,gnsz,1.0",
        "FP1-F7,50,200,gnsz,1.0",
        "FP1-F7,5,6,fnsx,1.0",
        "FP1-F7,5,6,Mr John Doe moved,1.0",
        "XX-YY,5,6,fnsz,1.0",
    ]
    put(place / "aaaaaaac_s001_t000.csv", "channel,start_time,stop_time,label,confidence\n" + "\n".join(lines))
    _, labels = read(CorpusName.TUSZ, tmp_path, "aaaaaaac_s001_t000.edf")
    assert brief(labels, channel="Fp1-F7") == [("seizure", "fnsz", 1.0, 2.0, "Fp1-F7"), ("seizure", "gnsz", 50.0, 60.0, "Fp1-F7")]
    assert broken(labels) == {
        "labels.beyond_recording": 2,
        "labels.cut_at_end": 1,
        "labels.end_before_onset": 1,
        "labels.unknown_channel": 1,
        "labels.unknown_term": 1,
        "labels.unknown_term:fnsx": 1,
        "labels.unreadable_line": 3,
    }


def test_damaged_label_files_of_the_first_generation_cost_only_their_lines(tmp_path: Path) -> None:
    place = tmp_path / "edf/train/01_tcp_ar/002/00000258/s002_2003_07_21"
    put(place / "00000258_s002_t000.edf", edf())
    put(place / "00000258_s002_t000.tse", tse_of([(1, 2, "fnsz")]) + "5.0\n7 6 fnsz 1.0\n")
    put(place / "00000258_s002_t000.lbl", lbl_of([(0, 1, 2, "fnsz"), (99, 1, 2, "fnsz"), (1, 1, 2, "(null)")]) + "label = {0, 0, 1\n")
    _, labels = read(CorpusName.TUSZ, tmp_path, "00000258_s002_t000.edf")
    assert brief(labels) == [("seizure", "fnsz", 1.0, 2.0, ""), ("seizure", "fnsz", 1.0, 2.0, "Fp1-F7")]
    assert broken(labels) == {"labels.end_before_onset": 1, "labels.unknown_channel": 1, "labels.unreadable_line": 2}


def test_any_bytes_in_a_label_file_are_survived(tmp_path: Path) -> None:
    place = tmp_path / "edf/train/aaaaaaac/s001_2002/01_tcp_ar"
    put(place / "aaaaaaac_s001_t000.edf", edf())
    for suffix in ("csv", "lbl", "rec", "tse"):
        damaged = put(place / f"aaaaaaac_s001_t000.{suffix}", bytes(range(256)) * 3 + b"\n" + b",,,,\n{}[]\n" * 3)
        _, labels = read(CorpusName.TUSZ, tmp_path, "aaaaaaac_s001_t000.edf")
        assert labels.labels == ()
        assert sum(broken(labels).values()) > 3
        damaged.unlink()


def test_a_recording_without_its_labels_or_of_another_name_is_kept_as_a_problem(tmp_path: Path) -> None:
    put(tmp_path / "edf/train/aaaaaaac/s001_2002/01_tcp_ar/aaaaaaac_s001_t000.edf", edf())
    put(tmp_path / "edf/train/other.edf", edf())
    source, labels = read(CorpusName.TUSZ, tmp_path, "aaaaaaac_s001_t000.edf")
    assert (source.problems, broken(labels)) == ((), {"labels.no_file": 1})
    assert read(CorpusName.TUSZ, tmp_path, "other.edf")[0].problems == ("source.unknown_name",)
