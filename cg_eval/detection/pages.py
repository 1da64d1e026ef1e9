"""Held-out pages with their reference marks, and what a detector found on them: the rows from which every figure is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cg_data import storage
from cg_data.detect.boxes import Marks, marks_of_labels
from cg_data.detect.references import known_events, references_of
from cg_data.records import Event, Label, Segment
from cg_data.rows import SEGMENT_SCHEMA, event_from_row, labels_from_rows
from cg_data.vocabulary import SEGMENT_S, LabelKind, Waveform

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

    @property
    def waveforms(self) -> tuple[Label, ...]:
        """The marks of waveforms among its labels."""
        return tuple(label for label in self.labels if label.kind is LabelKind.WAVEFORM)

    @property
    def is_known(self) -> bool:
        """Whether its labels say of some waveform where it is, or where it is not."""
        references = references_of(self, min_box_s=0.0)
        return bool(len(references.marks) or references.known)

    def marks_of(self, reader: str, min_box_s: float) -> Marks:
        """Reference marks of one reader."""
        return marks_of_labels((label for label in self.labels if label.reader == reader), self.mask, min_box_s)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a detector proposes on each of the pages, in their order, with its working point and marking convention."""

    name: str
    version: str
    min_box_s: float
    thresholds: Mapping[Waveform, float]
    events: tuple[tuple[Event, ...], ...]

    def judgeable(self, pages: Sequence[Page]) -> tuple[list[tuple[Event, ...]], list[Marks]]:
        """Of each page the events that its labels call right or wrong, and its marks as this detector was taught to mark."""
        references = [references_of(page, min_box_s=self.min_box_s) for page in pages]
        events = [known_events(found, known) for found, known in zip(self.events, references, strict=True)]
        return events, [known.marks for known in references]


def minutes_of(pages: Sequence[Page]) -> float:
    """Time that the pages last, in minutes."""
    return len(pages) * SEGMENT_S / 60


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


def read_found(folder_uri: str, name: str, pages: Sequence[Page]) -> Found:
    """What a detector found on `pages`, in their order.

    Raises:
        StorageError: a file is missing.
    """
    rows = storage.read_table(storage.join(folder_uri, "events.parquet")).to_pylist()
    events = {row["segment_id"]: tuple(event_from_row(event) for event in row["events"]) for row in rows}
    point = storage.read_json(storage.join(folder_uri, "working_point.json"))
    return Found(
        name=name,
        version=point["version"],
        min_box_s=point["min_box_s"],
        thresholds={Waveform(w): threshold for w, threshold in point["thresholds"].items()},
        events=tuple(events[page.segment_id] for page in pages),
    )
