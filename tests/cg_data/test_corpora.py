"""What all corpora keep: every module offers the same two functions, lists without order of chance, works on S3, and invents nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cg_data import storage
from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.channels import channel_name, electrodes_in
from cg_data.corpora.source import Source, one_split_per_subject
from cg_data.edf.reader import EdfFile
from cg_data.errors import StorageError
from cg_data.marks import Marks
from cg_data.records import Label
from cg_data.rows import SEGMENT_SCHEMA
from cg_data.vocabulary import LABEL_NAMES, LabelKind, Split
from tests.cg_data import corpus_trees as trees

TREES: dict[CorpusName, Callable[[Path], Path]] = {
    CorpusName.TUSZ: trees.tusz_v2,
    CorpusName.TUEV: trees.tuev,
    CorpusName.HMC: trees.hmc,
    CorpusName.SLEEP_EDF: trees.sleep_edf,
    CorpusName.DREAMS: trees.dreams,
    CorpusName.CHB_MIT: trees.chb_mit,
    CorpusName.SIENA: trees.siena,
    CorpusName.BIDS: trees.bids,
}


def test_every_corpus_has_its_module() -> None:
    assert set(CORPORA) == set(CorpusName)


@pytest.mark.parametrize("corpus", list(TREES))
def test_sources_are_sorted_and_all_label_files_exist(tmp_path: Path, corpus: CorpusName) -> None:
    found = CORPORA[corpus].sources(str(TREES[corpus](tmp_path)))
    assert [s.uri for s in found] == sorted(s.uri for s in found)
    assert all(Path(uri).is_file() for s in found for uri in (s.uri, *s.label_uris))
    for source in found:
        labels = CORPORA[corpus].labels(source, EdfFile.open(source.uri)).labels
        assert all(label.name in LABEL_NAMES[label.kind] for label in labels)
        assert list(labels) == sorted(labels, key=lambda label: label.onset_s)


@pytest.mark.parametrize("corpus", [corpus for corpus in CorpusName if corpus is not CorpusName.SYNTHETIC])
def test_a_place_without_the_corpus_is_one_sentence(tmp_path: Path, corpus: CorpusName) -> None:
    (tmp_path / "readme.txt").touch()
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StorageError, match=r"Give (the|a) folder that holds"):
            CORPORA[corpus].sources(str(place))


@pytest.mark.parametrize("corpus", [CorpusName.TUSZ, CorpusName.BIDS])
def test_a_corpus_on_s3_is_the_same_corpus(tmp_path: Path, s3: str, corpus: CorpusName) -> None:
    root = TREES[corpus](tmp_path)
    for path in sorted(root.rglob("*.*")):
        if path.is_file():
            storage.write_bytes(f"{s3}/{corpus}/{path.relative_to(root)}", path.read_bytes())
    local, remote = (CORPORA[corpus].sources(uri) for uri in (str(root), f"{s3}/{corpus}"))
    assert [s.uri.removeprefix(f"{s3}/{corpus}/") for s in remote] == [s.uri.removeprefix(f"{root}/") for s in local]
    assert [(s.subject, s.split, s.problems) for s in remote] == [(s.subject, s.split, s.problems) for s in local]
    file = EdfFile.open(local[0].uri)
    assert CORPORA[corpus].labels(remote[0], file) == CORPORA[corpus].labels(local[0], file)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from([None, *Split])), max_size=30))
def test_no_subject_is_ever_in_two_splits(pairs: list[tuple[str, Split | None]]) -> None:
    listed = one_split_per_subject(Source(uri=f"{i}.edf", subject=code, split=split) for i, (code, split) in enumerate(pairs))
    splits = {code: {s.split for s in listed if s.subject == code} for code, _ in pairs}
    assert all(len(found) == 1 for found in splits.values())
    for code, (split,) in ((code, found) for code, found in splits.items()):
        given_splits = {one for other, one in pairs if other == code}
        assert split == (Split.TEST if Split.TEST in given_splits else Split.VALIDATION if Split.VALIDATION in given_splits else split)
        assert any("split.subject_in_two" in s.problems for s in listed if s.subject == code) == (len(given_splits) > 1)


@given(st.floats(-10, 200), st.floats(-10, 300))
def test_kept_labels_lie_within_the_recording_and_none_is_lost_without_a_count(onset_s: float, stop_s: float) -> None:
    marks = Marks(100.0)
    marks.add(LabelKind.SEIZURE, "seizure", onset_s, stop_s)
    found = marks.gathered()
    assert len(found.labels) + sum(p.count for p in found.problems if p.rule != "labels.cut_at_end") == 1
    for label in found.labels:
        assert 0 <= label.onset_s <= label.onset_s + label.duration_s <= 100.0 + 1e-9


def test_states_are_cut_at_the_end_however_long_they_are() -> None:
    marks = Marks(100.0)
    marks.add(LabelKind.STAGE, "n2", 90, 5000)
    marks.add(LabelKind.SEIZURE, "seizure", 90, 100.5)
    assert [label.duration_s for label in marks.gathered().labels] == [10.0, 10.0]
    assert [(p.rule, p.count) for p in marks.gathered().problems] == [("labels.cut_at_end", 1)]


def test_a_label_of_no_known_name_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no name of a label"):
        Marks(100.0).add(LabelKind.STAGE, "n5", 0, 1)


def test_the_parquet_schema_has_every_field_of_a_label() -> None:
    fields = SEGMENT_SCHEMA.field("labels").type.value_type
    assert [fields.field(i).name for i in range(fields.num_fields)] == list(Label.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "name", "electrodes"),
    [
        ("EEG FP1-REF", "Fp1", ("Fp1",)),
        ("FP1-F7", "Fp1-F7", ("Fp1", "F7")),
        ("EEG T7-P7", "T3-T5", ("T3", "T5")),
        ("C3-A1", "C3", ("C3",)),
        ("A1-T3", "A1-T3", ("T3",)),
        ("Fpz-Cz", "Fpz-Cz", ("Cz",)),
        ("POz", "POz", ()),
        ("EKG1", None, ()),
        ("Fp1-Fp1", None, ()),
        ("Fp1-F7-T3", None, ()),
        ("John", None, ()),
        ("", None, ()),
    ],
)
def test_names_of_channels(text: str, name: str | None, electrodes: tuple[str, ...]) -> None:
    assert channel_name(text) == name
    assert electrodes_in(name or "") == electrodes
