"""Held-out pages with their reference marks, and what a detector found on them: the rows from which every figure is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cg_data import storage
from cg_data.detect.references import References, references_of
from cg_data.records import Event, Label, Segment
from cg_data.rows import SEGMENT_SCHEMA, event_from_row, labels_from_rows
from cg_data.vocabulary import Waveform

PAGE_SCHEMA = pa.schema([SEGMENT_SCHEMA.field(name) for name in ("segment_id", "recording_id", "corpus", "subject", "mask", "labels")])
"""``pages.parquet``: the pages of an evaluation with their labels."""
_EVENT = pa.struct(
    {
        "event_id": pa.string(),
        "waveform": pa.string(),
        "channel": pa.string(),
        "onset_s": pa.float64(),
        "duration_s": pa.float64(),
        # Double precision: a score that equals its threshold must still do so when it is read back.
        "score": pa.float64(),
        "probability": pa.float64(),
        "source": pa.string(),
    }
)
EVENT_SCHEMA = pa.schema({"segment_id": pa.string(), "events": pa.list_(_EVENT)})
"""``<name>/events.parquet``: all that a detector proposes on each page, down to its score floor."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A segment without its signal: `mask` `(19,)`, and its labels."""

    segment_id: str
    recording_id: str
    corpus: str
    subject: str
    mask: npt.NDArray[np.bool_]
    labels: tuple[Label, ...]

    def references(self, min_box_s: float) -> References:
        """What is known of the page; two readers' marks of one event are one."""
        return references_of(self, min_box_s=min_box_s)

    def of_reader(self, reader: str) -> Page:
        """The page as one reader labelled it."""
        return dataclasses.replace(self, labels=tuple(label for label in self.labels if label.reader == reader))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a detector proposes on each of the pages, in their order, with its working point and marking convention."""

    version: str
    min_box_s: float
    thresholds: Mapping[Waveform, float]
    events: tuple[tuple[Event, ...], ...]


def page_of(segment: Segment) -> Page:
    return Page(
        segment_id=segment.segment_id,
        recording_id=segment.recording_id,
        corpus=segment.corpus,
        subject=segment.subject,
        mask=segment.mask,
        labels=segment.labels,
    )


def write_pages(uri: str, pages: Iterable[Page]) -> None:
    rows = [{**dataclasses.asdict(page), "labels": [dataclasses.asdict(label) for label in page.labels]} for page in pages]
    storage.write_table(uri, pa.Table.from_pylist(rows, schema=PAGE_SCHEMA))


def read_pages(uri: str) -> list[Page]:
    """Pages by id.

    Raises:
        StorageError: there are none.
    """
    return [_page_from_row(row) for row in sorted(storage.read_table(uri).to_pylist(), key=lambda row: row["segment_id"])]


def _page_from_row(row: dict[str, Any]) -> Page:
    return Page(**{**row, "mask": np.asarray(row["mask"], dtype=np.bool_), "labels": labels_from_rows(row["labels"])})


def write_found(folder_uri: str, segment_ids: Sequence[str], found: Found) -> None:
    """Write ``events.parquet`` and ``working_point.json``."""
    rows = [
        {"segment_id": segment_id, "events": [dataclasses.asdict(event) for event in events]}
        for segment_id, events in zip(segment_ids, found.events, strict=True)
    ]
    storage.write_table(storage.join(folder_uri, "events.parquet"), pa.Table.from_pylist(rows, schema=EVENT_SCHEMA))
    point = {"version": found.version, "min_box_s": found.min_box_s, "thresholds": {str(w): t for w, t in found.thresholds.items()}}
    storage.write_json(storage.join(folder_uri, "working_point.json"), point)


def read_found(folder_uri: str, pages: Sequence[Page]) -> Found:
    """What a detector found on `pages`, in their order.

    Raises:
        StorageError: a file is missing.
    """
    rows = storage.read_table(storage.join(folder_uri, "events.parquet")).to_pylist()
    events = {row["segment_id"]: tuple(event_from_row(event) for event in row["events"]) for row in rows}
    point = storage.read_json(storage.join(folder_uri, "working_point.json"))
    return Found(
        version=point["version"],
        min_box_s=point["min_box_s"],
        thresholds={Waveform(w): threshold for w, threshold in point["thresholds"].items()},
        events=tuple(events[page.segment_id] for page in pages),
    )
