"""The records of `cg_data.records` as rows of Parquet files: their schemas, and the way there and back."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cg_data.records import (
    Annotation,
    Dipole,
    Event,
    Finding,
    Label,
    Message,
    PosteriorRhythm,
    Quarantined,
    RegionRhythm,
    RemovedEvent,
    Sample,
    Segment,
)
from cg_data.vocabulary import (
    N_CHANNELS,
    SEGMENT_SAMPLES,
    Band,
    EventSource,
    Eyes,
    FindingKind,
    LabelKind,
    Orientation,
    Polarity,
    Region,
    SampleKind,
    SampleSource,
    Side,
    Split,
    Stage,
    Waveform,
)

ROWS_VERSION = "rows-2"
"""Changes with the layout of rows, so that no shard of before is taken for one of now."""
_MASK = pa.list_(pa.bool_(), N_CHANNELS)
_LABEL = pa.struct(
    {
        "kind": pa.string(),
        "name": pa.string(),
        "onset_s": pa.float64(),
        "duration_s": pa.float64(),
        "channel": pa.string(),
        "reader": pa.string(),
    }
)
_EVENT_FIELDS = {
    "event_id": pa.string(),
    "waveform": pa.string(),
    "channel": pa.string(),
    "onset_s": pa.float64(),
    "duration_s": pa.float64(),
    "score": pa.float32(),
    "probability": pa.float32(),
    "source": pa.string(),
}
_EVENT = pa.struct(_EVENT_FIELDS)
_REMOVED = pa.struct({"event": _EVENT, "rule": pa.string()})
_RHYTHM = pa.struct(
    {
        "region": pa.string(),
        "band": pa.string(),
        "dominant_hz": pa.float64(),
        "amplitude_uv": pa.float64(),
        "alpha_uv": pa.float64(),
    }
)
_FINDING = pa.struct(
    {
        "finding_id": pa.string(),
        "kind": pa.string(),
        "channels": pa.list_(pa.string()),
        "onset_s": pa.float64(),
        "duration_s": pa.float64(),
        "value": pa.float64(),
        "threshold": pa.float64(),
        "unit": pa.string(),
    }
)
_POSTERIOR = pa.struct(
    {
        "rhythm_id": pa.string(),
        "channels": pa.list_(pa.string()),
        **{name: pa.float64() for name in ("frequency_hz", "peak_ratio", "amplitude_uv", "left_hz", "right_hz", "left_uv", "right_uv")},
        "symmetric": pa.bool_(),
        "reactivity": pa.float64(),
    }
)
_DIPOLE = pa.struct(
    {
        "dipole_id": pa.string(),
        "kind": pa.string(),
        "onset_s": pa.float64(),
        "duration_s": pa.float64(),
        "peak_s": pa.float64(),
        "maximum": pa.string(),
        "polarity": pa.string(),
        "amplitude_uv": pa.float64(),
        "field": pa.list_(pa.string()),
        "side": pa.string(),
        "region": pa.string(),
        "longitudinal_reversal": pa.string(),
        "transverse_reversal": pa.string(),
        "end_of_chain": pa.bool_(),
        "orientation": pa.string(),
        "opposite": pa.string(),
        "opposite_uv": pa.float64(),
        "event_ids": pa.list_(pa.string()),
    }
)
_MESSAGE = pa.struct({"role": pa.string(), "content": pa.string(), "evidence": pa.list_(pa.string())})
_PROVENANCE = {
    "segment_id": pa.string(),
    "recording_id": pa.string(),
    "corpus": pa.string(),
    "subject": pa.string(),
    "split": pa.string(),
}

SEGMENT_SCHEMA = pa.schema(
    {
        **_PROVENANCE,
        "sha256": pa.string(),
        "start_s": pa.float64(),
        "montage": pa.string(),
        "sfreq_recorded_hz": pa.float64(),
        "filter_version": pa.string(),
        "flags": pa.list_(pa.string()),
        "mask": _MASK,
        "eeg_steps": pa.binary(),
        "labels": pa.list_(_LABEL),
    }
)
ANNOTATION_SCHEMA = pa.schema(
    {
        **_PROVENANCE,
        "start_s": pa.float64(),
        "events": pa.list_(_EVENT),
        "removed": pa.list_(_REMOVED),
        "background": pa.list_(_RHYTHM),
        "posterior": _POSTERIOR,
        "dipoles": pa.list_(_DIPOLE),
        "findings": pa.list_(_FINDING),
        "stage": pa.string(),
        "eyes": pa.string(),
        "seizure": pa.bool_(),
        "detector_version": pa.string(),
        "analyser_version": pa.string(),
    }
)
SAMPLE_SCHEMA = pa.schema(
    {
        "sample_id": pa.string(),
        **_PROVENANCE,
        "kind": pa.string(),
        "topic": pa.string(),
        "messages": pa.list_(_MESSAGE),
        "options": pa.list_(pa.string()),
        "answer_index": pa.int32(),
        "source": pa.string(),
        "prompt_version": pa.string(),
        "detector_version": pa.string(),
        # A list of any length, for a general sample has no signal: Parquet cannot give back a missing list of fixed size.
        "mask": pa.list_(pa.bool_()),
        "eeg_steps": pa.binary(),
        "picture": pa.binary(),
    }
)
QUARANTINE_SCHEMA = pa.schema({name: pa.string() for name in ("uri", "sha256", "corpus", "reason", "message")})


def to_row(record: Segment | Annotation | Sample | Quarantined) -> dict[str, Any]:
    """A record as a plain dictionary for Arrow; its signal as `steps_to_bytes`."""
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def steps_to_bytes(eeg_steps: npt.NDArray[np.int16]) -> bytes:
    """Steps of 0.1 uV as they lie in a table: int16, little-endian, channel after channel. Lists of numbers are read five times slower.

    Raises:
        TypeError: they are not int16.
    """
    return eeg_steps.astype("<i2", copy=False, casting="equiv").tobytes()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value if value.dtype == np.bool_ else steps_to_bytes(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def labels_from_rows(rows: list[dict[str, Any]]) -> tuple[Label, ...]:
    """The labels of a segment."""
    return tuple(Label(**{**row, "kind": LabelKind(row["kind"])}) for row in rows)


def event_from_row(row: dict[str, Any]) -> Event:
    return Event(**{**row, "waveform": Waveform(row["waveform"]), "source": EventSource(row["source"])})


def _signal(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "split": Split(row["split"]),
        "mask": np.asarray(row["mask"], dtype=np.bool_),
        "eeg_steps": np.frombuffer(row["eeg_steps"], dtype="<i2").reshape(len(row["mask"]), SEGMENT_SAMPLES),
    }


def segment_from_row(row: dict[str, Any]) -> Segment:
    return Segment(**{**row, **_signal(row), "flags": tuple(row["flags"]), "labels": labels_from_rows(row["labels"])})


def _tuples(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {**row, **{name: tuple(row[name]) for name in names}}


def _dipole(row: dict[str, Any]) -> Dipole:
    parsed = {
        "kind": FindingKind(row["kind"]),
        "polarity": Polarity(row["polarity"]),
        "side": Side(row["side"]),
        "region": Region(row["region"]),
        "orientation": Orientation(row["orientation"]),
    }
    return Dipole(**{**_tuples(row, "field", "event_ids"), **parsed})


def annotation_from_row(row: dict[str, Any]) -> Annotation:
    parsed = {
        "split": Split(row["split"]),
        "stage": Stage(row["stage"]),
        "eyes": Eyes(row["eyes"]),
        "events": tuple(event_from_row(e) for e in row["events"]),
        "removed": tuple(RemovedEvent(event=event_from_row(r["event"]), rule=r["rule"]) for r in row["removed"]),
        "background": tuple(RegionRhythm(**{**r, "region": Region(r["region"]), "band": Band(r["band"])}) for r in row["background"]),
        "posterior": None if row["posterior"] is None else PosteriorRhythm(**_tuples(row["posterior"], "channels")),
        "dipoles": tuple(_dipole(d) for d in row["dipoles"]),
        "findings": tuple(Finding(**{**f, "kind": FindingKind(f["kind"]), "channels": tuple(f["channels"])}) for f in row["findings"]),
    }
    return Annotation(**{**row, **parsed})


def sample_from_row(row: dict[str, Any]) -> Sample:
    parsed = {
        "kind": SampleKind(row["kind"]),
        "source": SampleSource(row["source"]),
        "messages": tuple(Message(**{**m, "evidence": tuple(m["evidence"])}) for m in row["messages"]),
        "options": tuple(row["options"]),
    }
    return Sample(**{**row, **_signal(row), **parsed})


def table_of(records: list[Any], schema: pa.Schema) -> pa.Table:
    """Records of one type as an Arrow table of `schema`."""
    return pa.Table.from_pylist([to_row(record) for record in records], schema=schema)
