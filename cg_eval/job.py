"""The bench on a cluster: pages go to a pool of Ray Data actors, each with its own interpreter and detector.

The only file of this package that knows Ray.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cg_data import storage
from cg_data.analyze.annotate import annotate_truth
from cg_data.errors import UserError
from cg_data.progress import Progress, silent
from cg_data.records import Event, Sample, Segment
from cg_data.rows import (
    ANNOTATION_SCHEMA,
    SAMPLE_SCHEMA,
    annotation_from_row,
    event_from_row,
    sample_from_row,
    segment_from_row,
    steps_to_bytes,
    to_row,
)
from cg_data.settings import InstructSettings
from cg_data.vocabulary import FINDING_OF_WAVEFORM, FindingKind, LabelKind, SampleKind, Split
from cg_eval import bench, metrics
from cg_eval.baselines import Majority, Question
from cg_eval.settings import EvalSettings

_GROUP = 8
"""Pages that an actor works on at a time. Fixed, for the cut into batches may move the last bit of a probability."""
_SIGNAL = ["mask", "eeg_steps", "picture"]
ITEM_SCHEMA = pa.schema([field for field in SAMPLE_SCHEMA if field.name not in _SIGNAL])
"""``bench/items.parquet``: samples without the signal, which the segment has."""
EVENT_SCHEMA = pa.schema({"segment_id": pa.string(), "events": ANNOTATION_SCHEMA.field("events").type})
"""``bench/events.parquet``: what the detector found on the held-out pages at its working thresholds."""


def run_bench(
    *,
    segments_uri: str,
    samples_uri: str,
    model_folder: str,
    detector_folder: str,
    out_uri: str,
    settings: EvalSettings,
    instruct: InstructSettings,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Put the bench to a model and the held-out pages to the detector; Ray must be up.

    Args:
        segments_uri: folder of segment shards; those of split test are asked about.
        samples_uri: folder of sample shards; those of split train give the majority answers.
        model_folder: exported model, as `cg_train.model.interpreter.Interpreter.load` reads it.
        detector_folder: trained detector, as `cg_data.detect.detector.Detector.load` reads it.
        out_uri: folder that gets items.parquet, answers.parquet, events.parquet and metrics.json.
        settings: size of the bench, and its intervals.
        instruct: how the rules write questions.
        progress: told pages done of pages in all.

    Returns:
        the content of metrics.json (`cg_eval.metrics.summarise`).

    Raises:
        UserError: no held-out segment, or none of them gives a question.
    """
    segments = held_out(segments_uri)
    items = bench.build_items(segments, settings, instruct)
    if not items:
        raise UserError(f"{segments_uri}: the held-out segments give no question. The bench needs reference labels in the test split.")
    majority = Majority.learn(training_questions(samples_uri))
    items_uri = storage.join(out_uri, "items.parquet")
    storage.write_table(items_uri, item_table(items))
    examiner = Examiner(
        segments_uri=segments_uri,
        items_uri=items_uri,
        model_folder=model_folder,
        detector_folder=detector_folder,
        majority=majority,
        settings=settings,
    )
    replies = _examine(examiner, [segment.segment_id for segment in segments], progress)
    answers = {a.item_id: a for reply in replies for a in reply.answers}
    table = bench.score(items, [answers[item.sample_id] for item in items], majority)
    found = {segment_id: events for reply in replies for segment_id, events in reply.events.items()}
    return _store(out_uri, table, segments, found, detector_folder, settings)


def held_out(segments_uri: str) -> list[Segment]:
    """Segments of split test, ordered by id.

    Raises:
        UserError: there is none.
    """
    table = storage.read_table(segments_uri, filters=[("split", "==", Split.TEST.value)])
    if not table.num_rows:
        raise UserError(f"{segments_uri}: no segment belongs to a test subject. Use more subjects, or a larger data.test_fraction.")
    return sorted((segment_from_row(row) for row in table.to_pylist()), key=lambda s: s.segment_id)


def training_questions(samples_uri: str) -> list[Question]:
    """Every training sample's kind, topic and right answer."""
    columns = ["kind", "topic", "messages", "options", "answer_index"]
    rows = storage.read_table(samples_uri, columns=columns, filters=[("split", "==", Split.TRAIN.value)]).to_pylist()
    return [
        Question(
            kind=SampleKind(row["kind"]),
            topic=row["topic"],
            truth=row["options"][row["answer_index"]] if row["options"] else row["messages"][-1]["content"],
        )
        for row in rows
    ]


def item_table(items: Sequence[Sample]) -> pa.Table:
    """Items as a table of `ITEM_SCHEMA`."""
    rows = ({name: value for name, value in to_row(item).items() if name not in _SIGNAL} for item in items)
    return pa.Table.from_pylist(list(rows), schema=ITEM_SCHEMA)


def items_from(items_uri: str, segments: Mapping[str, Segment]) -> list[Sample]:
    """Items of ``items.parquet`` with the signal of their segments."""
    items = []
    for row in storage.read_table(items_uri).to_pylist():
        page = segments[row["segment_id"]]
        items.append(sample_from_row({**row, "mask": page.mask, "eeg_steps": steps_to_bytes(page.eeg_steps)}))
    return items


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """Answers to all items about a group of pages, and all that the detector proposes on each of them."""

    answers: tuple[bench.ItemAnswer, ...]
    events: Mapping[str, tuple[Event, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Examiner:
    """All that an actor needs to begin."""

    segments_uri: str
    items_uri: str
    model_folder: str
    detector_folder: str
    majority: Majority
    settings: EvalSettings


class _ExaminerActor:
    """Loads both models once, then answers group after group."""

    def __init__(self, examiner: Examiner, device: str) -> None:
        import torch

        from cg_data.detect.detector import Detector
        from cg_train.model.interpreter import Interpreter

        if device == "cpu":
            torch.set_num_threads(1)
        self._examiner = examiner
        self._interpreter = Interpreter.load(examiner.model_folder, device)
        self._detector = Detector.load(examiner.detector_folder, device)
        self._segments = {s.segment_id: s for s in held_out(examiner.segments_uri)}
        self._items = items_from(examiner.items_uri, self._segments)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        import numpy as np

        ids = batch["segment_ids"][0].split()
        pages = [self._segments[i] for i in ids]
        items = [item for item in self._items if item.segment_id in set(ids)]
        answers = bench.answer_items(self._interpreter, items, self._segments, self._examiner.majority, self._examiner.settings)
        found = self._detector.propose(np.stack([p.eeg_uv for p in pages]), np.stack([p.mask for p in pages]))
        events = {i: [dataclasses.asdict(event) for event in of_page] for i, of_page in zip(ids, found, strict=True)}
        return {"answers": [json.dumps([dataclasses.asdict(a) for a in answers])], "events": [json.dumps(events)]}


def _examine(examiner: Examiner, segment_ids: Sequence[str], progress: Progress) -> list[Reply]:
    """All groups through a pool of as many actors as there are GPUs, or else CPUs."""
    import ray
    import ray.data

    groups = [segment_ids[i : i + _GROUP] for i in range(0, len(segment_ids), _GROUP)]
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = max(1, min(gpus or int(resources.get("CPU", 1)), len(groups)))
    dataset = ray.data.from_items([{"segment_ids": " ".join(group)} for group in groups], override_num_blocks=len(groups)).map_batches(
        _ExaminerActor,
        fn_constructor_args=(examiner, "cuda" if gpus else "cpu"),
        compute=ray.data.ActorPoolStrategy(size=actors),
        batch_size=1,
        num_cpus=1,
        num_gpus=1 if gpus else 0,
    )
    progress(0, len(segment_ids), "loading models")
    replies: list[Reply] = []
    for row in dataset.iter_rows():
        replies.append(_reply_of(row))
        progress(sum(len(reply.events) for reply in replies), len(segment_ids), "pages")
    return replies


def _reply_of(row: Mapping[str, str]) -> Reply:
    answers = tuple(_answer_of(fields) for fields in json.loads(row["answers"]))
    events = {i: tuple(event_from_row(event) for event in of_page) for i, of_page in json.loads(row["events"]).items()}
    return Reply(answers=answers, events=events)


def _answer_of(fields: Mapping[str, Any]) -> bench.ItemAnswer:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return bench.ItemAnswer(**values)


def _store(
    out_uri: str,
    table: pa.Table,
    segments: Sequence[Segment],
    found: Mapping[str, tuple[Event, ...]],
    detector_folder: str,
    settings: EvalSettings,
) -> dict[str, Any]:
    """Write answers, events and figures; metrics.json last, for its presence says that all is there."""
    from cg_data.detect.detector import read_spec
    from cg_data.detect.references import known_events, references_of
    from cg_eval.detection.bench_figures import detector_figures

    spec = read_spec(detector_folder)
    thresholds = {waveform: spec.threshold(waveform) for waveform in FINDING_OF_WAVEFORM}
    references = [references_of(s, min_box_s=spec.min_box_s) for s in segments]
    detector = detector_figures(
        [known_events(found[s.segment_id], r) for s, r in zip(segments, references, strict=True)],
        [r.marks for r in references],
        [s.subject for s in segments],
        thresholds,
        settings,
    )
    kept = [
        {"segment_id": s.segment_id, "events": [dataclasses.asdict(e) for e in found[s.segment_id] if e.score >= thresholds[e.waveform]]}
        for s in segments
    ]
    figures = metrics.summarise(table, {**detector, "version": spec.version}, settings)
    storage.write_table(storage.join(out_uri, "answers.parquet"), table)
    storage.write_table(storage.join(out_uri, "events.parquet"), pa.Table.from_pylist(kept, schema=EVENT_SCHEMA))
    storage.write_json(storage.join(out_uri, "metrics.json"), figures)
    return figures


def annotation_noise(annotations_uri: str, segments_uri: str) -> dict[str, Any]:
    """How often the findings that training texts rest on agree with the reference labels, page by page.

    Only kinds that the labels hold are compared: a background rhythm, for example, has no reference but the analyser itself.

    Returns:
        `kinds` compared, and under `splits` ("training subjects", "held-out subjects") the number of `pages` and for each kind, and for
        "all" together, `true_pages`, `found_pages`, `both`, `precision`, `recall` (`cg_eval.metrics.Agreement`).
    """
    truth: dict[str, frozenset[str]] = {}
    training: set[str] = set()
    for part in storage.list_files(segments_uri, ".parquet"):
        for segment in map(segment_from_row, storage.read_table(part).to_pylist()):
            truth[segment.segment_id] = reference_kinds(segment)
            training |= {segment.segment_id} if segment.split is Split.TRAIN else set()
    annotations = map(annotation_from_row, storage.read_table(annotations_uri).to_pylist())
    said = {a.segment_id: frozenset(str(f.kind) for f in a.findings) for a in annotations}
    kinds = [str(kind) for kind in FindingKind if any(kind in found for found in truth.values())]
    groups = {"training subjects": [i for i in truth if i in training], "held-out subjects": [i for i in truth if i not in training]}
    return {"kinds": kinds, "splits": {name: _agreement(ids, truth, said, kinds) for name, ids in groups.items() if ids}}


def reference_kinds(segment: Segment) -> frozenset[str]:
    """Kinds of finding that the reference labels of waveforms and artefacts put on a page."""
    waveforms = {str(FINDING_OF_WAVEFORM[event.waveform]) for event in annotate_truth(segment).events}
    return frozenset(waveforms | {label.name for label in segment.labels if label.kind is LabelKind.ARTEFACT})


def _agreement(
    ids: Sequence[str], truth: Mapping[str, frozenset[str]], said: Mapping[str, frozenset[str]], kinds: Iterable[str]
) -> dict[str, Any]:
    parts = metrics.agreement([truth[i] for i in ids], [said.get(i, frozenset()) for i in ids], kinds)
    findings = {**parts, "all": metrics.pooled(parts)}
    return {"pages": len(ids), "findings": {kind: dataclasses.asdict(part) for kind, part in findings.items()}}
