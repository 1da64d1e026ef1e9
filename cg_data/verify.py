"""Whether the shards of a run are what their manifests say: nothing missing, doubled, changed or out of step."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from cg_data import manifest, storage
from cg_data.manifest import Shard
from cg_data.packing import Piece
from cg_data.rows import ANNOTATION_SCHEMA, SAMPLE_SCHEMA, SEGMENT_SCHEMA

_SHOWN = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Folders:
    """The three folders of a corpus; one that was not made yet has no manifest."""

    segments: str
    annotations: str
    samples: str


def verify_folders(folders: Folders) -> list[str]:
    """Faults that the manifests alone tell: files that are missing or unknown, windows that lie in two shards, twins without a partner."""
    problems = [f"{folder}: {p}" for folder in dataclasses.astuple(folders) for p in manifest.problems_of(folder)]
    segments = manifest.read_manifest(folders.segments)
    problems += [f"{folders.segments}: {p}" for p in doubled(piece for shard in segments.values() for piece in shard.pieces)]
    for folder in (folders.annotations, folders.samples):
        twins = manifest.read_manifest(folder)
        unknown = sorted(twins.keys() - segments.keys())
        missing = sorted(segments.keys() - twins.keys()) if twins else []
        problems += [f"{folder}: {name}: there are no segments of this name" for name in unknown]
        problems += [f"{folder}: {name}: not made yet for these segments" for name in missing]
    return problems


def doubled(pieces: Iterable[Piece]) -> list[str]:
    """Recordings of which windows lie in more than one shard."""
    by_recording: dict[str, list[Piece]] = {}
    for piece in pieces:
        by_recording.setdefault(piece.recording_id, []).append(piece)
    problems = []
    for recording_id, own in sorted(by_recording.items()):
        ordered = sorted(own)
        if any(b.start < a.stop for a, b in itertools.pairwise(ordered)):
            problems.append(f"recording {recording_id}: some of its windows lie in two shards")
    return problems


def verify_shard(name: str, *, folders: Folders) -> list[str]:
    """Faults inside one shard and its twins: bytes, schema, rows, ids and what the samples rest on."""
    problems: list[str] = []
    tables: dict[str, pa.Table] = {}
    for folder, schema in ((folders.segments, SEGMENT_SCHEMA), (folders.annotations, ANNOTATION_SCHEMA), (folders.samples, SAMPLE_SCHEMA)):
        shard = manifest.read_manifest(folder).get(name)
        uri = storage.join(folder, name)
        if shard is None or not storage.exists(uri):
            continue
        fault = manifest.changed(folder, shard)
        if fault:
            problems.append(f"{folder}: {fault}")
            continue
        tables[folder] = storage.read_table(uri)
        if not tables[folder].schema.equals(schema):
            problems.append(f"{folder}: {name}: its columns are not those of this version")
            del tables[folder]
        elif folder == folders.segments:
            problems += [f"{folder}: {name}: {p}" for p in _of_segments(tables[folder], shard)]
    if folders.segments in tables and folders.annotations in tables:
        problems += [f"{folders.annotations}: {name}: {p}" for p in _twins(tables[folders.segments], tables[folders.annotations])]
        if folders.samples in tables:
            problems += [f"{folders.samples}: {name}: {p}" for p in _of_samples(tables[folders.samples], tables[folders.annotations])]
    return problems


def _of_segments(table: pa.Table, shard: Shard) -> list[str]:
    ids = table.column("segment_id").to_pylist()
    recordings = table.column("recording_id").to_pylist()
    expected = [piece.recording_id for piece in shard.pieces for _ in range(piece.windows)]
    problems = [] if len(set(ids)) == len(ids) else ["a segment is in it twice"]
    return problems if recordings == expected else [*problems, "its rows are not the windows that the manifest names"]


def _twins(segments: pa.Table, annotations: pa.Table) -> list[str]:
    same = segments.column("segment_id").to_pylist() == annotations.column("segment_id").to_pylist()
    return [] if same else ["its rows do not follow those of the segments"]


def _of_samples(samples: pa.Table, annotations: pa.Table) -> list[str]:
    """Samples about unknown pages, samples that are there twice, and statements that rest on nothing that the page's annotation holds."""
    known = {row["segment_id"]: _evidence(row) for row in annotations.select(["segment_id", *_EVIDENCE]).to_pylist()}
    ids = samples.column("sample_id").to_pylist()
    problems = [] if len(set(ids)) == len(ids) else ["a sample is in it twice"]
    lost, unfounded = [], []
    for row in samples.select(["sample_id", "segment_id", "messages"]).to_pylist():
        evidence = {key for message in row["messages"] for key in message["evidence"]}
        if row["segment_id"] not in known:
            lost.append(row["sample_id"])
        elif not evidence <= known[row["segment_id"]]:
            unfounded.append(row["sample_id"])
    return problems + _named("samples about pages that are not here", lost) + _named("samples that rest on unknown findings", unfounded)


_EVIDENCE = ("events", "removed", "findings", "posterior", "dipoles")


def _evidence(row: dict[str, Any]) -> set[str]:
    """Ids of all that a statement about a page may rest on."""
    events = [event["event_id"] for event in row["events"]] + [removed["event"]["event_id"] for removed in row["removed"]]
    rhythm = [row["posterior"]["rhythm_id"]] if row["posterior"] else []
    return {*events, *rhythm, *(f["finding_id"] for f in row["findings"]), *(d["dipole_id"] for d in row["dipoles"])}


def _named(what: str, ids: Sequence[str]) -> list[str]:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return [f"{len(ids)} {what} ({', '.join(ids[:_SHOWN])}{more})"] if ids else []
