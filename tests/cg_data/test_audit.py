"""The audit finds the noise that was planted, tells whose it is, and keeps to what a reader looked at."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from cg_data import manifest, storage
from cg_data.analyze.annotate import annotate, annotate_truth
from cg_data.audit import Audit, Rate, Truth, audit, count_shard
from cg_data.errors import ConfigError, StorageError
from cg_data.instruct.samples import samples_of
from cg_data.intervals import ratio
from cg_data.manifest import Shard
from cg_data.records import ANNOTATION_SCHEMA, SAMPLE_SCHEMA, SEGMENT_SCHEMA, Annotation, Label, Message, Sample, Segment, table_of
from cg_data.settings import InstructSettings
from cg_data.verify import Folders
from cg_data.vocabulary import LabelKind, SampleKind, SampleSource
from tests.cg_data.test_instruct_samples import page

PLANTED = Truth(planted=True)
ALL_KINDS = InstructSettings(details=2)
CAPTIONS = InstructSettings(captions=1, binaries=0, mcqs=0, complex_mcqs=0, opens=0, descriptions=0, conversations=0, details=0)
Making = Callable[[Segment, Annotation], list[Sample]]


@cache
def pairs_of(number: int) -> list[tuple[Segment, Annotation]]:
    """Pages of twenty subjects with what their labels say."""
    segments = [page(index) for index in range(number)]
    return [(segment, annotate_truth(segment)) for segment in segments]


def by_rule(settings: InstructSettings) -> Making:
    return lambda segment, annotation: samples_of(segment, annotation, settings=settings, prevalence={})


def written(folder: Path, pairs: list[tuple[Segment, Annotation]], making: Making, shards: int = 3) -> Folders:
    """The three folders as the engine leaves them, the pages dealt out over some shards."""
    folders = Folders(segments=str(folder / "segments"), annotations=str(folder / "annotations"), samples=str(folder / "samples"))
    rows: dict[str, list[Shard]] = {place: [] for place in dataclasses.astuple(folders)}
    for number in range(shards):
        part = pairs[number::shards]
        samples = [sample for segment, annotation in part for sample in making(segment, annotation)]
        tables = (
            table_of([s for s, _ in part], SEGMENT_SCHEMA),
            table_of([a for _, a in part], ANNOTATION_SCHEMA),
            table_of(samples, SAMPLE_SCHEMA),
        )
        for place, table in zip(rows, tables, strict=True):
            name = f"{number}.parquet"
            made = storage.write_table(storage.join(place, name), table)
            rows[place].append(Shard(name=name, rows=made.rows, bytes=made.bytes, sha256=made.sha256))
    for place, own in rows.items():
        manifest.write_manifest(place, own)
    return folders


def row(rates: tuple[Rate, ...], name: str) -> Rate:
    (found,) = [rate for rate in rates if rate.name == name]
    return found


def yes_no(answers: Callable[[Segment, bool], bool]) -> Making:
    """One question for each page, "Are there blinks?", answered by `answers` of the page and of the truth."""

    def make(segment: Segment, annotation: Annotation) -> list[Sample]:
        (sample,) = samples_of(segment, annotation, settings=CAPTIONS, prevalence={})
        blinks = any(label.name == "positive_sharp_transient" for label in segment.labels)
        text = "Yes." if answers(segment, blinks) else "No."
        said = (Message(role="user", content="EEG page, 10 s, 19 channels. Are blinks seen?"), Message(role="assistant", content=text))
        return [dataclasses.replace(sample, kind=SampleKind.BINARY, topic="blink", messages=said, source=SampleSource.LLM)]

    return make


def test_samples_of_the_truth_have_no_noise_and_leave_little_out(tmp_path: Path) -> None:
    pairs = pairs_of(60)
    found = audit(written(tmp_path, pairs, by_rule(ALL_KINDS)), PLANTED)
    assert (found.subjects, found.pages) == (20, 60)
    assert found.samples > 400
    for rates in (found.sentences, found.claims, found.findings, found.written):
        assert [rate for rate in rates if rate.contradicted or rate.unsupported] == []
    assert row(found.sentences, "all").items > 1000
    assert {rate.name for rate in found.sentences} == {"all", *SampleKind} - {SampleKind.GENERAL}
    assert row(found.omitted, "all").share.value < 0.05


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_rate_that_was_planted_lies_in_the_interval(tmp_path: Path, share: float) -> None:
    """Answers turned about with a known probability, differently for each subject."""
    pairs = pairs_of(240)
    turned = {s.segment_id: random.Random(f"{share}{s.segment_id}").random() < share for s, _ in pairs}
    found = audit(written(tmp_path, pairs, yes_no(lambda segment, true: true != turned[segment.segment_id])), PLANTED)
    rate = row(found.sentences, "binary")
    assert (rate.items, rate.contradicted) == (240, sum(turned.values()))
    assert rate.share.value == pytest.approx(sum(turned.values()) / 240)
    assert rate.share.low is not None
    assert rate.share.high is not None
    assert rate.share.low < share < rate.share.high
    assert rate.share.high - rate.share.low < 0.2


def test_whose_noise_it_is_shows_in_what_was_written_from(tmp_path: Path) -> None:
    """An annotation without events is silent: its captions are true to it and false to the truth."""
    pairs = pairs_of(60)
    blind = audit(written(tmp_path / "a", [(s, annotate(s, (), detector_version="d")) for s, _ in pairs], by_rule(CAPTIONS)), PLANTED)
    assert row(blind.written, "all").share.value == 0
    assert row(blind.sentences, "caption").share.value > 0.1
    assert row(blind.omitted, "blink").share.value == 1
    liar = audit(written(tmp_path / "b", pairs, yes_no(lambda _, true: not true)), PLANTED)
    assert row(liar.written, "all").share.value == row(liar.sentences, "all").share.value == 1


def test_a_finding_that_is_not_there_is_counted_under_its_name(tmp_path: Path) -> None:
    pairs = pairs_of(60)
    found = audit(written(tmp_path, pairs, yes_no(lambda _, true: True)), PLANTED)
    said = row(found.findings, "blink")
    assert said.items == 60
    assert said.contradicted == sum(not any(x.name == "positive_sharp_transient" for x in s.labels) for s, _ in pairs)
    assert row(found.claims, "finding").contradicted == said.contradicted


def read_by(segment: Segment, marks: dict[str, set[str]]) -> Segment:
    """The page with its waveform marks as those of readers, each of whom marks some waveforms."""
    marked = [
        dataclasses.replace(label, reader=reader)
        for label in segment.labels
        for reader, names in marks.items()
        if label.kind is LabelKind.WAVEFORM and label.name in names
    ]
    states = [label for label in segment.labels if label.kind is not LabelKind.WAVEFORM]
    return dataclasses.replace(segment, labels=(*states, *marked))


def test_only_what_a_reader_looked_for_is_held_against_the_marks(tmp_path: Path) -> None:
    """The reader marked spindles alone: a blink may well be there. Where it is seen is not told either."""
    pairs = [(read_by(s, {"1": {"sleep_spindle"}}), a) for s, a in pairs_of(60)]
    found = audit(written(tmp_path, pairs, by_rule(ALL_KINDS)), Truth(planted=False, reader="1"))
    assert {rate.name for rate in found.findings} == {"all", "sleep_spindle"}
    assert {rate.name for rate in found.omitted} == {"all", "sleep_spindle"}
    assert {rate.name for rate in found.claims} <= {"all", "finding", "time", "count", "duration"}
    assert row(found.sentences, "all").share.value == 0
    assert found.truth == "marks of reader 1"


def test_readers_are_kept_apart(tmp_path: Path) -> None:
    readers = {"1": {"sleep_spindle", "k_complex"}, "2": {"k_complex"}}
    marked = [(read_by(s, readers), a) for s, a in pairs_of(60)]
    extra = Label(kind=LabelKind.WAVEFORM, name="sleep_spindle", onset_s=4.0, duration_s=1.0, channel="Cz", reader="2")
    pairs = [(dataclasses.replace(s, labels=(*s.labels, *([extra] if i % 7 == 0 else []))), a) for i, (s, a) in enumerate(marked)]
    folders = written(tmp_path, pairs, by_rule(CAPTIONS))
    first, second = (audit(folders, Truth(planted=False, reader=reader)) for reader in ("1", "2"))
    assert row(first.findings, "sleep_spindle").share.value == 0
    assert row(second.findings, "sleep_spindle").share.value > 0.5
    assert row(second.omitted, "sleep_spindle").share.value > 0.5
    with pytest.raises(ConfigError, match="no marks of reader 3 here"):
        audit(folders, Truth(planted=False, reader="3"))


def test_shards_add_up_and_the_result_is_plain(tmp_path: Path) -> None:
    pairs = pairs_of(30)
    one = audit(written(tmp_path / "1", pairs, by_rule(CAPTIONS), shards=1), PLANTED)
    four = audit(written(tmp_path / "4", pairs, by_rule(CAPTIONS), shards=4), PLANTED)
    assert json.dumps(one.to_json(), sort_keys=True) == json.dumps(four.to_json(), sort_keys=True)
    assert isinstance(one, Audit)
    tally = count_shard("0.parquet", folders=written(tmp_path / "2", pairs, by_rule(CAPTIONS), shards=2), truth=PLANTED, marked={})
    assert (tally.pages, tally.samples) == (15, 15)


def test_without_samples_it_says_what_to_do(tmp_path: Path) -> None:
    folders = Folders(segments=str(tmp_path / "a"), annotations=str(tmp_path / "b"), samples=str(tmp_path / "c"))
    with pytest.raises(StorageError, match="Run the step"):
        audit(folders, PLANTED)


def test_a_share_counts_items_and_its_interval_counts_subjects() -> None:
    parts, wholes = np.array([1.0, 0.0, 4.0]), np.array([10.0, 5.0, 5.0])
    found = ratio(parts, wholes, resamples=2000, seed=1)
    assert found.value == pytest.approx(0.25)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.25 < found.high
    many = ratio(np.repeat(parts, 30), np.repeat(wholes, 30), resamples=2000, seed=1)
    assert many.low is not None
    assert many.low > found.low
    with pytest.raises(ValueError, match="at least one"):
        ratio(np.zeros(3), np.zeros(3), resamples=10, seed=1)
