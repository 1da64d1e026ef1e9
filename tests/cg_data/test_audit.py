"""cg_data.audit: the noise that was planted is found, denials and silence are told apart, and what the truth cannot tell is not judged."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cg_data import storage
from cg_data.analyze.annotate import annotate_truth, event_findings
from cg_data.audit import Audit, Rate, audit
from cg_data.errors import StorageError
from cg_data.instruct.samples import prevalence, samples_of
from cg_data.records import Annotation, Label, Message, Sample, Segment
from cg_data.rows import ANNOTATION_SCHEMA, SAMPLE_SCHEMA, SEGMENT_SCHEMA, table_of
from cg_data.settings import InstructSettings
from cg_data.verify import Folders
from cg_data.vocabulary import FindingKind, LabelKind, SampleKind, SampleSource, Truth, Waveform
from tests.cg_data.test_instruct_samples import page

SETTINGS = InstructSettings(binaries=4)
N_PAGES = 60
HALF = N_PAGES // 2


@pytest.fixture(scope="module")
def segments() -> list[Segment]:
    return [page(index) for index in range(N_PAGES)]


@pytest.fixture(scope="module")
def annotations(segments: list[Segment]) -> list[Annotation]:
    return [annotate_truth(segment) for segment in segments]


def spoken(segments: Sequence[Segment], annotations: Sequence[Annotation]) -> list[Sample]:
    shares = prevalence(frozenset(f.kind for f in a.findings) for a in annotations)
    pairs = zip(segments, annotations, strict=True)
    return [sample for s, a in pairs for sample in samples_of(s, a, settings=SETTINGS, prevalence=shares)]


@pytest.fixture(scope="module")
def samples(segments: list[Segment], annotations: list[Annotation]) -> list[Sample]:
    return spoken(segments, annotations)


def write(place: Path, segments: Sequence[Segment], annotations: Sequence[Annotation], samples: Sequence[Sample]) -> Folders:
    """Two shards of each."""
    folders = Folders(segments=str(place / "segments"), annotations=str(place / "annotations"), samples=str(place / "samples"))
    for name, part in (("a.parquet", slice(0, HALF)), ("b.parquet", slice(HALF, None))):
        here = {segment.segment_id for segment in segments[part]}
        storage.write_table(storage.join(folders.segments, name), table_of(list(segments[part]), SEGMENT_SCHEMA))
        storage.write_table(storage.join(folders.annotations, name), table_of(list(annotations[part]), ANNOTATION_SCHEMA))
        storage.write_table(storage.join(folders.samples, name), table_of([s for s in samples if s.segment_id in here], SAMPLE_SCHEMA))
    return folders


def row(rates: Sequence[Rate], name: str) -> Rate:
    return next(rate for rate in rates if rate.name == name)


def contains(rate: Rate, share: float) -> bool:
    assert rate.contradicted.low is not None
    assert rate.contradicted.high is not None
    return rate.contradicted.low <= share <= rate.contradicted.high


def changed(sample: Sample, change: Callable[[str], str]) -> Sample:
    """`sample` with its last answer changed."""
    *before, last = sample.messages
    return dataclasses.replace(sample, messages=(*before, Message(role="assistant", content=change(last.content))))


def flipped(text: str) -> str:
    return "No." if text.startswith("Yes") else "Yes."


def test_samples_of_the_truth_are_free_of_noise(tmp_path, segments, annotations, samples) -> None:
    found = audit(write(tmp_path, segments, annotations, samples), truth=Truth.PLANTED)
    assert found.segments == N_PAGES
    assert found.subjects == 20
    assert found.unjudged == 0
    assert {rate.name for rate in found.by_sample} == set(SampleKind) - {SampleKind.GENERAL}
    for rate in (*found.held, *found.by_sample, *found.affirmed, *found.denied, *found.omitted, *found.samples, *found.choices):
        assert rate.contradicted.value == 0, rate
        assert rate.unsupported.value == 0, rate


def test_the_rate_of_planted_flips_is_found_and_lies_in_its_interval(tmp_path, segments, annotations, samples) -> None:
    share, rng = 0.2, random.Random(4)
    noisy, flips, asked = [], 0, 0
    for sample in samples:
        if sample.kind == SampleKind.BINARY:
            asked += 1
            if rng.random() < share:
                flips += 1
                sample = changed(sample, flipped)
        noisy.append(sample)
    found = audit(write(tmp_path, segments, annotations, noisy), truth=Truth.PLANTED)
    wrong = row(found.samples, SampleKind.BINARY)
    assert wrong.n == asked
    assert wrong.contradicted.value == pytest.approx(flips / asked)
    assert contains(wrong, share)
    assert row(found.samples, SampleKind.CAPTION).contradicted.value == 0


def without(segment: Segment, annotation: Annotation, waveform: Waveform) -> Annotation:
    """The annotation of a detector that misses one waveform."""
    events = tuple(e for e in annotation.events if e.waveform != waveform)
    measured = tuple(f for f in annotation.findings if f.unit != "probability")
    return dataclasses.replace(annotation, events=events, findings=(*measured, *event_findings(segment.segment_id, events)))


def test_what_a_detector_misses_is_denied_and_left_out_at_the_rate_at_which_it_was_missed(tmp_path, segments, annotations) -> None:
    rng = random.Random(5)
    missed = [without(s, a, Waveform.SLEEP_SPINDLE) if rng.random() < 0.3 else a for s, a in zip(segments, annotations, strict=True)]
    there = [FindingKind.SLEEP_SPINDLE in {f.kind for f in a.findings} for a in annotations]
    gone = [a is not b for a, b in zip(missed, annotations, strict=True)]
    share = sum(g for g, t in zip(gone, there, strict=True) if t) / sum(there)
    found = audit(write(tmp_path, segments, missed, spoken(segments, missed)), truth=Truth.PLANTED)
    omitted = row(found.omitted, FindingKind.SLEEP_SPINDLE)
    assert omitted.n == 2 * sum(there)
    assert omitted.contradicted.value == pytest.approx(share)
    assert contains(omitted, 0.3)
    assert row(found.denied, FindingKind.SLEEP_SPINDLE).contradicted.value > 0
    assert row(found.affirmed, FindingKind.SLEEP_SPINDLE).contradicted.value == 0
    assert row(found.omitted, FindingKind.BLINK).contradicted.value == 0


def test_against_its_own_annotation_a_wrong_detection_is_no_fault_of_the_words(tmp_path, segments, annotations) -> None:
    missed = [without(s, a, Waveform.SLEEP_SPINDLE) for s, a in zip(segments, annotations, strict=True)]
    folders = write(tmp_path, segments, missed, spoken(segments, missed))
    assert row(audit(folders, truth=Truth.PLANTED).held, "all").contradicted.value > 0
    own = audit(folders, truth=Truth.ANNOTATION)
    assert row(own.held, "all").contradicted.value == 0
    assert [rate.name for rate in own.held] == ["all", "measurement"]


def read_by(segment: Segment, reader: str, waveform: str) -> Segment:
    """Only the marks of one waveform, by one reader, and the state."""
    kept = [label for label in segment.labels if not label.channel or label.name == waveform]
    return dataclasses.replace(segment, labels=tuple(dataclasses.replace(one, reader=reader if one.channel else "") for one in kept))


def test_a_reader_of_spindles_judges_nothing_but_spindles(tmp_path, segments, annotations, samples) -> None:
    marked = [read_by(segment, "1", "sleep_spindle") for segment in segments]
    found = audit(write(tmp_path, marked, annotations, samples), truth=Truth.MARKS, reader="1")
    assert found.unjudged > 0
    told = {rate.name for rate in (*found.affirmed, *found.denied)}
    assert FindingKind.SLEEP_SPINDLE in told
    assert told.isdisjoint({FindingKind.K_COMPLEX, FindingKind.BLINK, FindingKind.SPIKE})
    assert {rate.name for rate in found.omitted} == {"all", FindingKind.SLEEP_SPINDLE}
    assert row(found.held, "labels").contradicted.value == 0


def test_a_reader_who_marks_one_channel_says_when_and_not_where(tmp_path, segments, annotations, samples) -> None:
    """The samples name C3, Cz and C4; the reader marked every spindle on Cz alone."""
    marked = [read_by(segment, "1", "sleep_spindle") for segment in segments]
    marked = [dataclasses.replace(s, labels=tuple(one for one in s.labels if one.channel in ("", "Cz"))) for s in marked]
    found = audit(write(tmp_path, marked, annotations, samples), truth=Truth.MARKS, reader="1")
    assert row(found.affirmed, FindingKind.SLEEP_SPINDLE).n > 0
    assert row(found.by_claim, "time").n > 0
    assert row(found.held, "labels").contradicted.value == 0


def test_a_second_reader_who_sees_less_finds_noise(tmp_path, segments, annotations, samples) -> None:
    def second(segment: Segment, *, sees: bool) -> Segment:
        own = read_by(segment, "2", "sleep_spindle").labels
        return dataclasses.replace(
            segment, labels=(*read_by(segment, "1", "sleep_spindle").labels, *(o for o in own if o.channel and sees))
        )

    marked = [second(segment, sees=index % 3 > 0) for index, segment in enumerate(segments)]
    folders = write(tmp_path, marked, annotations, samples)
    assert row(audit(folders, truth=Truth.MARKS, reader="1").affirmed, FindingKind.SLEEP_SPINDLE).contradicted.value == 0
    doubted = row(audit(folders, truth=Truth.MARKS, reader="2").affirmed, FindingKind.SLEEP_SPINDLE)
    assert 0.15 < doubted.contradicted.value < 0.6


def test_a_search_is_no_mark(tmp_path, segments, annotations, samples) -> None:
    """A reader who only looked judges nothing, and beside marks a search changes no figure."""

    def also(segment: Segment) -> Segment:
        looked = Label(kind=LabelKind.SEARCHED, name="k_complex", onset_s=0.0, duration_s=10.0, channel="Cz", reader="2")
        return dataclasses.replace(segment, labels=(*segment.labels, looked))

    marked = [read_by(segment, "1", "sleep_spindle") for segment in segments]
    plain = write(tmp_path / "plain", marked, annotations, samples)
    searched = write(tmp_path / "searched", [also(segment) for segment in marked], annotations, samples)
    for truth in (Truth.MARKS, Truth.PLANTED):
        assert audit(searched, truth=truth) == audit(plain, truth=truth)
    with pytest.raises(StorageError, match="reader 2"):
        audit(searched, truth=Truth.MARKS, reader="2")


def test_a_reader_who_marked_nothing_is_named(tmp_path, segments, annotations, samples) -> None:
    with pytest.raises(StorageError, match="reader 9"):
        audit(write(tmp_path, segments, annotations, samples), truth=Truth.MARKS, reader="9")


def test_a_run_without_samples_says_what_to_do(tmp_path) -> None:
    folders = Folders(segments=str(tmp_path / "a"), annotations=str(tmp_path / "b"), samples=str(tmp_path / "c"))
    with pytest.raises(StorageError, match="cg data instruct"):
        audit(folders, truth=Truth.PLANTED)


def test_shards_out_of_step_are_named(tmp_path, segments, annotations, samples) -> None:
    folders = write(tmp_path, segments, annotations, samples)
    (tmp_path / "segments" / "a.parquet").write_bytes((tmp_path / "segments" / "b.parquet").read_bytes())
    with pytest.raises(StorageError, match=r"segments/a\.parquet.*cg data verify"):
        audit(folders, truth=Truth.PLANTED)


def test_a_choice_with_a_second_right_option_is_ambiguous(tmp_path, segments, annotations, samples) -> None:
    asked = next(s for s in samples if s.kind == SampleKind.MCQ and s.topic != "stage")
    right = asked.options[asked.answer_index]
    place = (asked.answer_index + 1) % 4
    twice = dataclasses.replace(asked, options=tuple(right if i == place else option for i, option in enumerate(asked.options)))
    noisy = [twice if sample is asked else sample for sample in samples]
    choices = row(audit(write(tmp_path, segments, annotations, noisy), truth=Truth.PLANTED).choices, SampleKind.MCQ)
    assert choices.contradicted.value == pytest.approx(1 / choices.n)


def test_a_teachers_samples_are_counted_apart(tmp_path, segments, annotations, samples) -> None:
    taught = [
        dataclasses.replace(changed(s, lambda _: "A seizure is in progress."), source=SampleSource.LLM)
        if s.kind == SampleKind.DESCRIPTION and index % 2
        else s
        for index, s in enumerate(samples)
    ]
    found = audit(write(tmp_path, segments, annotations, taught), truth=Truth.PLANTED)
    assert row(found.by_sample, "description by a teacher").contradicted.value == 1
    assert row(found.by_sample, "description").contradicted.value == 0


def test_a_rate_of_zero_is_no_certainty(tmp_path, segments, annotations, samples) -> None:
    few = audit(write(tmp_path, segments, annotations, samples), truth=Truth.PLANTED, share=0.2)
    caption = row(few.samples, SampleKind.CAPTION).contradicted
    assert caption.value == caption.low == 0
    assert caption.high == pytest.approx(1 - 0.025 ** (1 / few.subjects))


def test_a_share_of_the_pages_is_drawn_and_the_result_is_plain(tmp_path, segments, annotations, samples) -> None:
    found: Audit = audit(write(tmp_path, segments, annotations, samples), truth=Truth.PLANTED, share=0.25)
    assert 0.15 * N_PAGES < found.segments < 0.4 * N_PAGES
    assert json.loads(json.dumps(found.as_json()))["segments"] == found.segments
