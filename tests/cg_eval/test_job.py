"""cg_eval.job, the parts that need neither Ray nor a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cg_data import storage
from cg_data.analyze.annotate import annotate_truth
from cg_data.errors import UserError
from cg_data.instruct.samples import prevalence, samples_of
from cg_data.records import Event, Label, Segment
from cg_data.rows import ANNOTATION_SCHEMA, SAMPLE_SCHEMA, SEGMENT_SCHEMA, table_of
from cg_data.settings import InstructSettings
from cg_data.vocabulary import EventSource, FindingKind, LabelKind, SampleKind, Split, Waveform
from cg_eval import bench, job
from cg_eval.settings import EvalSettings


def _spindle(channel: str) -> Event:
    return Event(
        event_id=channel, waveform=Waveform.SLEEP_SPINDLE, channel=channel, onset_s=5.4, duration_s=1.1, score=0.9, probability=0.9,
        source=EventSource.DETECTOR,
    )  # fmt: skip


def _store(folder: Path, segments: list[Segment], found: dict[str, list[Event]]) -> tuple[str, str]:
    """Segments and their annotations, where `found` stands in for what a detector kept."""
    annotations = []
    for segment in segments:
        labelled = [
            Label(kind=LabelKind.WAVEFORM, name=e.waveform, onset_s=e.onset_s, duration_s=e.duration_s, channel=e.channel)
            for e in found.get(segment.segment_id, [])
        ]
        annotations.append(annotate_truth(dataclasses.replace(segment, labels=tuple(labelled))))
    segments_uri, annotations_uri = str(folder / "segments"), str(folder / "annotations")
    storage.write_table(f"{segments_uri}/a.parquet", table_of(segments, SEGMENT_SCHEMA))
    storage.write_table(f"{annotations_uri}/a.parquet", table_of(annotations, ANNOTATION_SCHEMA))
    return annotations_uri, segments_uri


def test_annotation_noise_counts_pages_with_missed_and_invented_findings(tmp_path: Path, segments: list[Segment]) -> None:
    """Spindles are planted on every second of twelve pages; the detector misses one and invents one."""
    pages = [dataclasses.replace(s, split=Split.TRAIN if i < 6 else Split.TEST) for i, s in enumerate(segments[:12])]
    found = {p.segment_id: [_spindle("C3"), _spindle("C4")] for i, p in enumerate(pages) if (i % 2 == 0 and i != 0) or i == 11}
    noise = job.annotation_noise(*_store(tmp_path, pages, found))
    training, held_out = (noise["splits"][name]["findings"]["sleep_spindle"] for name in ("training subjects", "held-out subjects"))
    assert (training["precision"], training["recall"]) == (1.0, pytest.approx(2 / 3))
    assert (held_out["precision"], held_out["recall"]) == (0.75, 1.0)
    assert FindingKind.ALPHA_RHYTHM not in noise["kinds"]


def test_what_was_looked_for_is_on_no_page(segments: list[Segment]) -> None:
    looked = tuple(Label(kind=LabelKind.SEARCHED, name=waveform, onset_s=0.0, duration_s=10.0) for waveform in Waveform)
    for segment in segments[:4]:
        assert job.reference_kinds(dataclasses.replace(segment, labels=segment.labels + looked)) == job.reference_kinds(segment)


def test_no_test_subject_is_the_users_to_mend(tmp_path: Path, segments: list[Segment]) -> None:
    pages = [dataclasses.replace(s, split=Split.TRAIN) for s in segments[:2]]
    _, segments_uri = _store(tmp_path, pages, {})
    with pytest.raises(UserError, match="no segment belongs to a test subject"):
        job.held_out(segments_uri)


def test_items_come_back_from_their_table_with_their_signal(tmp_path: Path, segments: list[Segment]) -> None:
    items = bench.build_items(segments[:6], EvalSettings(), InstructSettings())
    stored = str(tmp_path / "items.parquet")
    storage.write_table(stored, job.item_table(items))
    assert "eeg_steps" not in storage.read_table(stored).column_names
    again = job.items_from(stored, {s.segment_id: s for s in segments})
    assert [i.messages for i in again] == [i.messages for i in items]
    assert [i.eeg_steps.tobytes() for i in again] == [i.eeg_steps.tobytes() for i in items]


def test_majority_answers_come_from_training_samples_alone(tmp_path: Path, segments: list[Segment]) -> None:
    pages = [dataclasses.replace(s, split=Split.TRAIN if i < 3 else Split.VALIDATION) for i, s in enumerate(segments[:6])]
    annotations = [annotate_truth(page) for page in pages]
    shares = prevalence([])
    samples = [s for p, a in zip(pages, annotations, strict=True) for s in samples_of(p, a, settings=InstructSettings(), prevalence=shares)]
    storage.write_table(str(tmp_path / "s" / "a.parquet"), table_of(samples, SAMPLE_SCHEMA))
    questions = job.training_questions(str(tmp_path / "s"))
    assert len(questions) == sum(s.split is Split.TRAIN for s in samples) > 0
    choices = {s.options[s.answer_index] for s in samples if s.kind is SampleKind.MCQ and s.split is Split.TRAIN}
    assert {q.truth for q in questions if q.kind is SampleKind.MCQ} == choices
