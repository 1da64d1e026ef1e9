"""What is done for one shard, as plain functions: the engine runs them in Ray tasks and actors, benchmarks and tests run them bare.

Each writes its file atomically and returns the manifest row of it; a shard that is there already is only counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cg_data import register, storage
from cg_data.analyze.annotate import annotate, present_kinds
from cg_data.errors import EdfError, StorageError
from cg_data.formats import open_file
from cg_data.instruct.check import Rejected, grounded_sample
from cg_data.instruct.facts import Facts, facts_of
from cg_data.instruct.general import GeneralShard, write_shard
from cg_data.instruct.samples import Prevalence, samples_of
from cg_data.instruct.teacher_samples import Taken, taught_samples
from cg_data.instruct.teacher_store import TeacherStore
from cg_data.manifest import Shard
from cg_data.packing import Piece, ShardPlan
from cg_data.records import Annotation, Sample, Segment
from cg_data.rows import ANNOTATION_SCHEMA, SAMPLE_SCHEMA, SEGMENT_SCHEMA, segment_from_row, table_of
from cg_data.segments import segments_of
from cg_data.settings import GeneralSettings, InstructSettings, TeacherSettings
from cg_data.shards import read_annotations, read_segments
from cg_data.vocabulary import Split

if TYPE_CHECKING:
    from cg_data.detect.detector import Detector

_PRESENT = "train.present."
TRAIN_PAGES = "train.pages"
_TEACHER = "teacher."
_REJECTED = "rejected."
_ROWS_AT_A_TIME = 128


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a recording is read: its file, and its row of the register."""

    uri: str
    key: str
    register_shard: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SegmentOrder:
    """One segment shard to be made: its pieces with the place of each recording."""

    out: str
    pieces: tuple[Piece, ...]
    places: tuple[Place, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A recording that could not be read after all."""

    recording_id: str
    reason: str
    message: str


def orders_of(plans: Sequence[ShardPlan], places: dict[str, Place], folder_uri: str) -> list[SegmentOrder]:
    """Plans with the places of their recordings (by id)."""
    return [
        SegmentOrder(
            out=storage.join(folder_uri, plan.name), pieces=plan.pieces, places=tuple(places[piece.recording_id] for piece in plan.pieces)
        )
        for plan in plans
    ]


def make_segments(order: SegmentOrder) -> Shard | Refusal:
    """Read, filter and write the windows of one shard; the first recording that cannot be read is named instead."""
    if storage.exists(order.out):
        return dataclasses.replace(counted(order.out), pieces=order.pieces)
    try:
        written = storage.write_parts(order.out, SEGMENT_SCHEMA, _tables(_segments(order), SEGMENT_SCHEMA))
    except _UnreadableError as refused:
        return refused.refusal
    return _shard(order.out, written, pieces=order.pieces)


class _UnreadableError(Exception):
    """Ends a shard of which a recording cannot be read."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


def _segments(order: SegmentOrder) -> Iterator[Segment]:
    for piece, place in zip(order.pieces, order.places, strict=True):
        try:
            yield from segments_of_piece(piece, place)
        except EdfError as error:
            raise _UnreadableError(Refusal(recording_id=piece.recording_id, reason=error.reason, message=str(error))) from error
        except StorageError as error:
            refusal = Refusal(recording_id=piece.recording_id, reason=register.UNREADABLE, message=str(error))
            raise _UnreadableError(refusal) from error


def _tables(records: Iterable[Any], schema: pa.Schema) -> Iterator[pa.Table]:
    """Records as tables of some rows each, so that a shard's signals are not in memory together."""
    rest = iter(records)
    while part := list(itertools.islice(rest, _ROWS_AT_A_TIME)):
        yield table_of(part, schema)


def segments_of_piece(piece: Piece, place: Place) -> Iterator[Segment]:
    """The segments of one piece, from its file and its row of the register."""
    recording, index = register.recordings(place.register_shard, [place.key])[place.key]
    yield from segments_of(open_file(place.uri, index), recording, start=piece.start, stop=piece.stop)


class Annotator:
    """Renders, detects and analyses in one place: signals go in, annotation shards come out, no picture leaves it."""

    def __init__(self, detector: Detector | None, *, out_uri: str, batch: int) -> None:
        self._detector, self._out_uri, self._batch = detector, out_uri, batch

    def __call__(self, segments: pa.Table, name: str) -> Shard:
        """Annotate the rows of one segment shard and write the shard of the same name."""
        annotations = annotate_all([segment_from_row(row) for row in segments.to_pylist()], self._detector, self._batch)
        out = storage.join(self._out_uri, name)
        written = storage.write_table(out, table_of(annotations, ANNOTATION_SCHEMA))
        return _shard(out, written, counts=annotation_counts(annotations))


def annotate_all(segments: Sequence[Segment], detector: Detector | None, batch: int) -> list[Annotation]:
    """Annotations of `segments`, detected `batch` at a time; without events where there is no detector."""
    if detector is None:
        return [annotate(segment, (), detector_version="") for segment in segments]
    annotations = []
    for start in range(0, len(segments), batch):
        part = segments[start : start + batch]
        events = detector.detect(np.stack([s.eeg_uv for s in part]), np.stack([s.mask for s in part]))
        annotations += [annotate(s, e, detector_version=detector.version) for s, e in zip(part, events, strict=True)]
    return annotations


def annotation_counts(annotations: Sequence[Annotation]) -> dict[str, int]:
    """Events kept and removed, and how many training pages there are and show each kind of finding."""
    counts: Counter[str] = Counter()
    for annotation in annotations:
        counts["events"] += len(annotation.events)
        counts["removed"] += len(annotation.removed)
        if annotation.split == Split.TRAIN:
            counts[TRAIN_PAGES] += 1
            counts.update(f"{_PRESENT}{kind.value}" for kind in present_kinds(annotation))
    return dict(counts)


def recount_annotations(uri: str) -> Shard:
    """Manifest row of an annotation shard that an interrupted run left."""
    return dataclasses.replace(counted(uri), counts=dict(sorted(annotation_counts(list(read_annotations(uri))).items())))


def present_share(shards: Sequence[Shard]) -> dict[str, float]:
    """Share of the training pages of a corpus that show each kind of finding, from its manifest."""
    totals: Counter[str] = Counter()
    for shard in shards:
        totals.update(shard.counts)
    pages = max(1, totals[TRAIN_PAGES])
    return {name.removeprefix(_PRESENT): n / pages for name, n in totals.items() if name.startswith(_PRESENT)}


def make_samples(
    name: str,
    *,
    segments_uri: str,
    annotations_uri: str,
    out_uri: str,
    settings: InstructSettings,
    teacher: TeacherSettings,
    store: TeacherStore,
    share: Prevalence,
) -> Shard:
    """Write the dialogues about the pages of one shard; what the teacher said of a page replaces what the rules say in the same kind.

    A file that an interrupted run left is written again, for what was rejected on the way stands in no file.
    """
    out = storage.join(out_uri, name)
    segments = read_segments(storage.join(segments_uri, name))
    annotations = read_annotations(storage.join(annotations_uri, name))
    counts: Counter[str] = Counter()

    def samples() -> Iterator[Sample]:
        for segment, annotation in zip(segments, annotations, strict=True):
            told = samples_of(segment, annotation, settings=settings, prevalence=share)
            by_rule = _borne_out(told, facts_of(segment, annotation), counts)
            taught = taught_samples(segment, annotation, settings=teacher, store=store) if teacher.url else Taken()
            kinds = {sample.kind for sample in taught.samples}
            own = [*(sample for sample in by_rule if sample.kind not in kinds), *taught.samples]
            counts.update({f"{_TEACHER}{what}": n for what, n in taught.counts.items()})
            counts.update(sample.kind.value for sample in own)
            yield from own

    written = storage.write_parts(out, SAMPLE_SCHEMA, _tables(samples(), SAMPLE_SCHEMA))
    return _shard(out, written, counts=counts)


def _borne_out(samples: Iterable[Sample], facts: Facts, counts: Counter[str]) -> list[Sample]:
    """What the annotation bears out of samples by rule; a rule that says more than it knows is counted, not learnt from."""
    kept = []
    for sample in samples:
        checked = grounded_sample(sample, facts)
        if isinstance(checked, Rejected):
            counts[f"{_REJECTED}{checked.kind.value}: {checked.reason}"] += 1
        else:
            kept.append(checked)
    return kept


def split_counts(counts: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Counts of the samples of each kind, of those by rule that were rejected, and of what became of a teacher's answers."""
    rejected = {name.removeprefix(_REJECTED): n for name, n in counts.items() if name.startswith(_REJECTED)}
    taught = {name.removeprefix(_TEACHER): n for name, n in counts.items() if name.startswith(_TEACHER)}
    return {name: n for name, n in counts.items() if not name.startswith((_TEACHER, _REJECTED))}, rejected, taught


def make_general(shard: GeneralShard, *, out_uri: str, refused_uri: str, settings: GeneralSettings) -> Shard:
    """Write the general samples of a part of a list."""
    write_shard(shard, out_uri=out_uri, refused_uri=refused_uri, settings=settings)
    return counted(storage.join(out_uri, shard.name))


def counted(uri: str) -> Shard:
    """Rows, bytes and hash of a file that is there."""
    data = storage.read_bytes(uri)
    rows = pq.read_metadata(pa.BufferReader(data)).num_rows
    written = storage.Written(rows=rows, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    return _shard(uri, written)


def _shard(uri: str, written: storage.Written, *, pieces: tuple[Piece, ...] = (), counts: Mapping[str, int] | None = None) -> Shard:
    """The manifest row of a file; counts in the order of their names, so that equal shards have equal rows."""
    return Shard(
        name=uri.rsplit("/", 1)[-1],
        rows=written.rows,
        bytes=written.bytes,
        sha256=written.sha256,
        pieces=pieces,
        counts=dict(sorted((counts or {}).items())),
    )
