"""Reading shards back as records, one Parquet file in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator

from cg_data import storage
from cg_data.records import Annotation, Sample, Segment
from cg_data.rows import annotation_from_row, sample_from_row, segment_from_row


def read_segments(uri: str) -> Iterator[Segment]:
    """Segments of one shard, or of a folder of shards in order of their names."""
    for part in _parts(uri):
        yield from map(segment_from_row, storage.read_table(part).to_pylist())


def read_annotations(uri: str) -> Iterator[Annotation]:
    """Annotations of one shard, or of a folder of shards in order of their names."""
    for part in _parts(uri):
        yield from map(annotation_from_row, storage.read_table(part).to_pylist())


def read_samples(uri: str) -> Iterator[Sample]:
    """Samples of one shard, or of a folder of shards in order of their names."""
    for part in _parts(uri):
        yield from map(sample_from_row, storage.read_table(part).to_pylist())


def _parts(uri: str) -> list[str]:
    return [uri] if uri.endswith(".parquet") else storage.list_files(uri, ".parquet")
