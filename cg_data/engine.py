"""The data engine on Ray Data: EDF to segment shards, shards to annotations, annotations to samples. The one file here that knows Ray.

The unit of work is a shard of at most `segments_per_shard` segments of one recording. Shards are written by the tasks, atomically and
under names that follow from content, so the driver holds no data and a killed step, run again, skips what is there and ends with the
same files. Only manifest rows (a name, counts) travel to the driver.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import ray.data

from cg_data import storage
from cg_data.analyze.annotate import annotate, present_kinds
from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.errors import EdfError, StorageError
from cg_data.instruct.general import GeneralShard, plan_shards, read_items, write_shard
from cg_data.instruct.samples import samples_of
from cg_data.instruct.teacher import Taught, teach_shards
from cg_data.instruct.teacher_samples import Taken, taught_samples
from cg_data.instruct.teacher_store import TeacherStore
from cg_data.progress import Progress, silent
from cg_data.recording import describe
from cg_data.records import (
    ANNOTATION_SCHEMA,
    QUARANTINE_SCHEMA,
    SAMPLE_SCHEMA,
    SEGMENT_SCHEMA,
    Annotation,
    Quarantined,
    Sample,
    Segment,
    table_of,
)
from cg_data.segments import count_segments, segments_of
from cg_data.settings import DataSettings, EngineSettings, GeneralSettings, InstructSettings, TeacherSettings
from cg_data.shards import read_annotations, read_segments
from cg_data.vocabulary import FindingKind, Split

if TYPE_CHECKING:
    from cg_data.detect.detector import Detector


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """Segments `start` to `stop` of one recording, to be written to `out`."""

    uri: str
    start: int
    stop: int
    out: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SegmentsSummary:
    recordings: int
    segments: int
    subjects: int
    quarantined: tuple[Quarantined, ...]


def build_segments(uris: list[str], *, corpus: str, out_uri: str, settings: DataSettings, progress: Progress = silent) -> SegmentsSummary:
    """Write the segment shards of `uris` to `out_uri`; a file that is refused goes to the summary's quarantine, the rest goes on."""
    looked = list(_run(uris, partial(_look, corpus=corpus, settings=settings), settings.engine))
    good = [row for row in looked if not row["reason"]]
    plans = [plan for row in good for plan in _plans(row, out_uri, settings.engine.segments_per_shard)]
    total, done = sum(plan.stop - plan.start for plan in plans), 0
    written = []
    for row in _run([dataclasses.asdict(plan) for plan in plans], partial(_write_shard, corpus=corpus, settings=settings), settings.engine):
        written.append(row)
        done += row["planned"]
        progress(done, total, f"{sum(not r['reason'] for r in written)} shards")
    refused = [row for row in looked + written if row["reason"]]
    fields = ("uri", "sha256", "corpus", "reason", "message")
    bad = {row["uri"]: Quarantined(**{name: row[name] for name in fields}) for row in refused}
    for row in written:
        if row["uri"] in bad:
            storage.delete(row["out"])
    kept = [row for row in good if row["uri"] not in bad]
    return SegmentsSummary(
        recordings=len(kept),
        segments=sum(row["segments"] for row in written if row["uri"] not in bad),
        subjects=len({row["subject"] for row in kept}),
        quarantined=tuple(bad[uri] for uri in sorted(bad)),
    )


def write_quarantine(out_uri: str, corpus: str, rows: Iterable[Quarantined]) -> int:
    """Replace the rows of `corpus` in the quarantine list and return how many rows the list has."""
    kept = storage.read_table(out_uri).to_pylist() if storage.exists(out_uri) else []
    others = [Quarantined(**row) for row in kept if row["corpus"] != corpus]
    merged = sorted([*others, *rows], key=lambda row: (row.corpus, row.uri))
    storage.write_table(out_uri, table_of(merged, QUARANTINE_SCHEMA))
    return len(merged)


def annotate_segments(
    segments_uri: str, *, detector_uri: str, out_uri: str, settings: EngineSettings, progress: Progress = silent
) -> dict[str, int]:
    """Detect and analyse every segment shard in actors; returns counts of segments, events kept and events removed."""
    shards = _missing(segments_uri, out_uri)
    dataset = ray.data.from_items([{"shard": shard} for shard in shards], override_num_blocks=max(1, len(shards)))
    annotated = dataset.map_batches(
        _Annotator,
        fn_constructor_kwargs={"detector_uri": detector_uri, "out_uri": out_uri, "settings": settings},
        batch_size=1,
        concurrency=settings.detect_actors,
        num_cpus=settings.cpus_per_actor,
        num_gpus=settings.gpus_per_actor,
    )
    if shards:
        for done, _ in enumerate(annotated.iter_rows(), 1):
            progress(done, len(shards), "shards")
    return annotation_counts(out_uri)


def annotation_counts(uri: str) -> dict[str, int]:
    """Segments, events kept and events removed in a folder of annotations, read shard by shard."""
    counts: Counter[str] = Counter(segments=0, events=0, removed=0)
    for shard in storage.list_files(uri, ".parquet"):
        table = storage.read_table(shard, columns=["events", "removed"])
        counts["segments"] += table.num_rows
        counts["events"] += len(table["events"].combine_chunks().flatten())
        counts["removed"] += len(table["removed"].combine_chunks().flatten())
    return dict(counts)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SamplesSummary:
    """Samples of each kind; with a teacher what was asked of it, and what its answers came to (`cg_data.instruct.teacher_samples`)."""

    kinds: dict[str, int]
    taught: Taught | None
    taken: dict[str, int]


def build_samples(
    segments_uri: str,
    annotations_uri: str,
    *,
    out_uri: str,
    settings: InstructSettings,
    teacher: TeacherSettings,
    teacher_uri: str,
    engine: EngineSettings,
    say: Callable[[str], None],
    progress: Progress = silent,
) -> SamplesSummary:
    """Write the dialogues of every annotated shard, by rule and, where `teacher` has an address, by a teacher whose answers stand.

    Answers are balanced over the whole corpus: the prevalence of each finding among training segments is counted first. The teacher is
    asked from this process, so that its key stays here and one bound holds for all; the tasks read its answers from `teacher_uri`.
    """
    shards = [shard.rsplit("/", 1)[-1] for shard in storage.list_files(annotations_uri, ".parquet")]
    names = [storage.join(annotations_uri, shard) for shard in shards]
    store, taught = TeacherStore(uri=teacher_uri), None
    if teacher.url:
        pairs = [(storage.join(segments_uri, shard), storage.join(annotations_uri, shard)) for shard in shards]
        taught = teach_shards(pairs, settings=teacher, store=store, say=say, progress=progress)
    share = _prevalence(list(_run(names, _count_present, engine)))
    work = partial(
        _write_samples,
        segments_uri=segments_uri,
        annotations_uri=annotations_uri,
        out_uri=out_uri,
        settings=settings,
        teacher=teacher,
        store=store,
        share=share,
    )
    counts: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for done, row in enumerate(_run(shards, work, engine), 1):
        counts.update({kind: n for kind, n in row["counts"].items() if n})
        taken.update(json.loads(row["taken"]))
        progress(done, len(shards), f"{counts.total()} samples")
    return SamplesSummary(kinds=dict(sorted(counts.items())), taught=taught, taken=dict(sorted(taken.items())))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GeneralSummary:
    samples: int
    refused: tuple[Quarantined, ...]


def build_general(
    settings: GeneralSettings, *, out_uri: str, refused_uri: str, engine: EngineSettings, progress: Progress = silent
) -> GeneralSummary:
    """Write the general samples of a list to `out_uri`, and what of it is refused to `refused_uri`, shard by shard under equal names."""
    shards = list(plan_shards(read_items(settings.json_file), settings.items_per_shard))
    names = {shard.name for shard in shards}
    for stale in (uri for uri in storage.list_files(out_uri, ".parquet") if uri.rsplit("/", 1)[-1] not in names):
        storage.delete(stale)  # of the list as it was before it was changed
    work = partial(_write_general, out_uri=out_uri, refused_uri=refused_uri, settings=settings)
    samples, refused = 0, []
    for done, row in enumerate(_run([dataclasses.asdict(shard) for shard in shards], work, engine), 1):
        samples += row["samples"]
        refused += storage.read_table(storage.join(refused_uri, row["name"])).to_pylist()
        progress(done, len(shards), f"{samples} samples")
    return GeneralSummary(samples=samples, refused=tuple(Quarantined(**row) for row in refused))


def _write_general(shard: dict[str, Any], out_uri: str, refused_uri: str, settings: GeneralSettings) -> dict[str, Any]:
    write_shard(GeneralShard(**shard), out_uri=out_uri, refused_uri=refused_uri, settings=settings)
    return {"name": shard["name"], "samples": storage.read_table(storage.join(out_uri, shard["name"]), ["sample_id"]).num_rows}


def _run(items: list[Any], work: Any, engine: EngineSettings) -> Iterator[dict[str, Any]]:
    """Apply `work` to each item in Ray Data tasks, one item a block; rows come as they are ready."""
    if not items:
        return
    rows = [{"item": item} for item in items]
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(partial(_call, work=work), num_cpus=engine.cpus_per_task)
    for row in dataset.iter_rows():
        yield row["result"]


def _call(row: dict[str, Any], work: Any) -> dict[str, Any]:
    return {"result": work(row["item"])}


def _look(uri: str, corpus: str, settings: DataSettings) -> dict[str, Any]:
    """Header and labels of one file, as a manifest row; `reason` is empty where the file is good."""
    row = {"uri": uri, "sha256": "", "corpus": corpus, "recording_id": "", "subject": "", "segments": 0, "reason": "", "message": ""}
    try:
        edf = EdfFile.open(uri)
        row["sha256"] = edf.sha256
        recording = describe(edf, source=Source(uri=uri), corpus=corpus, settings=settings)
    except EdfError as error:
        return row | {"reason": error.reason, "message": str(error)}
    return row | {"recording_id": recording.recording_id, "subject": recording.subject, "segments": count_segments(recording)}


def _plans(row: dict[str, Any], out_uri: str, per_shard: int) -> list[ShardPlan]:
    starts = range(0, row["segments"], per_shard)
    return [
        ShardPlan(
            uri=row["uri"],
            start=start,
            stop=min(start + per_shard, row["segments"]),
            out=storage.join(out_uri, f"{row['recording_id']}-{start:06d}.parquet"),
        )
        for start in starts
    ]


def _write_shard(plan: dict[str, Any], corpus: str, settings: DataSettings) -> dict[str, Any]:
    row = {"uri": plan["uri"], "out": plan["out"], "corpus": corpus, "sha256": "", "segments": 0, "reason": "", "message": ""}
    row["planned"] = plan["stop"] - plan["start"]
    if storage.exists(plan["out"]):
        return row | {"segments": row["planned"]}
    try:
        edf = EdfFile.open(plan["uri"])
        row["sha256"] = edf.sha256
        recording = describe(edf, source=Source(uri=plan["uri"]), corpus=corpus, settings=settings)
        segments = list(segments_of(edf, recording, settings=settings, start=plan["start"], stop=plan["stop"]))
    except EdfError as error:
        return row | {"reason": error.reason, "message": str(error)}
    storage.write_table(plan["out"], table_of(segments, SEGMENT_SCHEMA))
    return row | {"segments": len(segments)}


def _missing(source_uri: str, out_uri: str) -> list[str]:
    """Shards of `source_uri` that have no twin in `out_uri` yet."""
    there = {uri.rsplit("/", 1)[-1] for uri in storage.list_files(out_uri, ".parquet")}
    shards = storage.list_files(source_uri, ".parquet")
    if not shards:
        raise StorageError(f"{source_uri}: no segment shards here. Run `cg data segments` first.")
    return [shard for shard in shards if shard.rsplit("/", 1)[-1] not in there]


class _Annotator:
    """An actor that holds the detector: reads a shard, renders, detects, analyses and writes the annotations beside no other copy."""

    def __init__(self, detector_uri: str, out_uri: str, settings: EngineSettings) -> None:
        from cg_data.detect.detector import Detector  # torch takes seconds to import, and tasks without a detector need none

        self._detector = Detector.load(detector_uri, device="cuda" if settings.gpus_per_actor else "cpu")
        self._out_uri = out_uri
        self._batch = settings.detect_batch

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for shard in batch["shard"]:
            annotations = annotate_all(list(read_segments(str(shard))), self._detector, self._batch)
            out = storage.join(self._out_uri, str(shard).rsplit("/", 1)[-1])
            storage.write_table(out, table_of(annotations, ANNOTATION_SCHEMA))
        return {"shard": batch["shard"]}


def annotate_all(segments: list[Segment], detector: Detector, batch: int) -> list[Annotation]:
    """Annotations of `segments`, detected in batches."""
    annotations = []
    for start in range(0, len(segments), batch):
        part = segments[start : start + batch]
        events = detector.detect(np.stack([s.eeg_uv for s in part]), np.stack([s.mask for s in part]))
        annotations += [annotate(s, e, detector_version=detector.version) for s, e in zip(part, events, strict=True)]
    return annotations


def _count_present(annotations_uri: str) -> dict[str, Any]:
    """How many training segments of one shard there are, and how many show each kind of finding."""
    kinds: Counter[str] = Counter()
    total = 0
    for annotation in read_annotations(annotations_uri):
        if annotation.split == Split.TRAIN:
            total += 1
            kinds.update(kind.value for kind in present_kinds(annotation))
    return {"total": total, "kinds": {kind.value: kinds[kind.value] for kind in FindingKind}}


def _prevalence(rows: list[dict[str, Any]]) -> dict[FindingKind, float]:
    total = max(1, sum(row["total"] for row in rows))
    return {kind: sum(row["kinds"][kind.value] for row in rows) / total for kind in FindingKind}


def _write_samples(
    shard: str,
    segments_uri: str,
    annotations_uri: str,
    out_uri: str,
    settings: InstructSettings,
    teacher: TeacherSettings,
    store: TeacherStore,
    share: dict[FindingKind, float],
) -> dict[str, Any]:
    """What the teacher said of a page takes the place of what the rules say of it in the same kind."""
    segments = read_segments(storage.join(segments_uri, shard))
    annotations = read_annotations(storage.join(annotations_uri, shard))
    samples: list[Sample] = []
    taken: Counter[str] = Counter()
    for segment, annotation in zip(segments, annotations, strict=True):
        by_rule = samples_of(segment, annotation, settings=settings, prevalence=share)
        taught = taught_samples(segment, annotation, settings=teacher, store=store) if teacher.url else Taken()
        kinds = {sample.kind for sample in taught.samples}
        samples += [*(sample for sample in by_rule if sample.kind not in kinds), *taught.samples]
        taken.update(taught.counts)
    storage.write_table(storage.join(out_uri, shard), table_of(samples, SAMPLE_SCHEMA))
    return {"counts": dict(Counter(sample.kind.value for sample in samples)), "taken": json.dumps(taken)}
