"""The records that travel between the rooms, and their Parquet schemas.

Each record is a frozen value; `to_row` turns it into plain Python for `pyarrow.Table.from_pylist(rows, schema=...)`, and
`segment_from_row`, `annotation_from_row`, `sample_from_row` read it back. Ids are content hashes, so a rerun writes the same rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cg_data.vocabulary import (
    N_CHANNELS,
    SEGMENT_SAMPLES,
    UV_PER_STEP,
    Band,
    EventSource,
    Eyes,
    FindingKind,
    LabelKind,
    Montage,
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


def content_id(*parts: object) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of `parts` as canonical JSON: equal content, equal id."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A reference mark of a reader or of a corpus. `onset_s` counts from the start of the recording or of the segment that holds it.

    `channel` is an electrode ("Fp1"), a derivation ("Fp1-F7"), or "" for a mark of the whole page. `name` is one of
    `vocabulary.LABEL_NAMES[kind]`. `reader` tells the readers of one recording apart ("1", "2"); "" where there is one.
    """

    kind: LabelKind
    name: str
    onset_s: float
    duration_s: float
    channel: str = ""
    reader: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """One EDF file of one corpus, as the reader found it. `runs_s` are its contiguous stretches, (start, stop) in seconds.

    `uri` stays in the driver and in the quarantine list: file names may carry identity, so no shard holds them. `signals` are the
    indices of the file's signals that are read, all at `sfreq_hz`; `channels` says in our spelling what each of them is: an electrode
    ("Fp1"), a difference ("Fp1-F7") or an ear ("A1"). `electrodes` are those of the nineteen that follow from them, in page order;
    `montage` is that of the segments and `mains_hz` the centre of their notch, or None.
    """

    recording_id: str
    uri: str
    sha256: str
    corpus: str
    subject: str
    split: Split
    sfreq_hz: float
    duration_s: float
    runs_s: tuple[tuple[float, float], ...]
    signals: tuple[int, ...]
    channels: tuple[str, ...]
    electrodes: tuple[str, ...]
    montage: Montage
    mains_hz: float | None
    flags: tuple[str, ...]
    labels: tuple[Label, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Ten seconds of nineteen channels. `eeg_steps` is int16 `(19, 2000)` at 0.1 uV per step; `mask` is True where the electrode exists;
    the other rows are zero. Labels are clipped to the segment and count from its start.
    """

    segment_id: str
    recording_id: str
    sha256: str
    corpus: str
    subject: str
    split: Split
    start_s: float
    montage: str
    sfreq_recorded_hz: float
    filter_version: str
    flags: tuple[str, ...]
    mask: npt.NDArray[np.bool_]
    eeg_steps: npt.NDArray[np.int16]
    labels: tuple[Label, ...]

    @property
    def eeg_uv(self) -> npt.NDArray[np.float32]:
        """The signal in microvolts, float32 `(19, 2000)`."""
        return self.eeg_steps.astype(np.float32) * np.float32(UV_PER_STEP)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One waveform on one channel. `probability` is the calibrated score (equal to `score` until a calibration is fitted)."""

    event_id: str
    waveform: Waveform
    channel: str
    onset_s: float
    duration_s: float
    score: float
    probability: float
    source: EventSource


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RemovedEvent:
    """An event that cleaning took out, with the name of the rule that did."""

    event: Event
    rule: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RegionRhythm:
    """Background of one region: strongest band, frequency of its peak, half peak-to-peak amplitude (CerebraGloss 2026, section 3), and
    the RMS amplitude from 8 to 13 Hz, by which pages are compared for reactivity."""

    region: Region
    band: Band
    dominant_hz: float
    amplitude_uv: float
    alpha_uv: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A statement of an analyser with its evidence: `value` beside the `threshold` it passed, both in `unit`.

    `channels` is where, `onset_s` and `duration_s` when (0 and 10 for the whole page).
    """

    finding_id: str
    kind: FindingKind
    channels: tuple[str, ...]
    onset_s: float
    duration_s: float
    value: float
    threshold: float
    unit: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PosteriorRhythm:
    """The posterior dominant rhythm of a page (IFCN glossary, Kane et al. 2017).

    `frequency_hz` is that of the whole region, `peak_ratio` how far its peak stands above the aperiodic fit, `amplitude_uv` half of the
    peak-to-peak amplitude. A side without a peak or without an electrode has None; `symmetric` says that both sides are within 1 Hz and is
    None where one is unknown. `reactivity` is the ratio of posterior alpha power, eyes closed over eyes open, where the page holds both.
    """

    rhythm_id: str
    channels: tuple[str, ...]
    frequency_hz: float
    peak_ratio: float
    amplitude_uv: float
    left_hz: float | None
    right_hz: float | None
    left_uv: float | None
    right_uv: float | None
    symmetric: bool | None
    reactivity: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dipole:
    """How one discharge (a group of epileptiform events) lies on the scalp at its peak, and the ids of the events that it rests on.

    `maximum` is the electrode of the greatest voltage against the average reference, `polarity` and `amplitude_uv` (without sign, against
    the baseline before the discharge) are those at the maximum; `field` are the electrodes of the same sign above half of it.
    `longitudinal_reversal` and `transverse_reversal` name the electrode at which neighbouring derivations of a bipolar chain turn against
    each other, "" where none does; `end_of_chain` says that the maximum ends its longitudinal chain, so that no reversal can be there.
    A tangential dipole has its second pole, of the other sign, at `opposite` ("" for a radial one) with `opposite_uv` (without sign).
    """

    dipole_id: str
    kind: FindingKind
    onset_s: float
    duration_s: float
    peak_s: float
    maximum: str
    polarity: Polarity
    amplitude_uv: float
    field: tuple[str, ...]
    side: Side
    region: Region
    longitudinal_reversal: str
    transverse_reversal: str
    end_of_chain: bool
    orientation: Orientation
    opposite: str
    opposite_uv: float
    event_ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """All that is known of a segment in structure: events kept and removed, background per region, the posterior dominant rhythm (None
    where there is none), the dipoles of its discharges, findings, stage, eyes, seizure."""

    segment_id: str
    recording_id: str
    corpus: str
    subject: str
    split: Split
    start_s: float
    events: tuple[Event, ...]
    removed: tuple[RemovedEvent, ...]
    background: tuple[RegionRhythm, ...]
    posterior: PosteriorRhythm | None
    dipoles: tuple[Dipole, ...]
    findings: tuple[Finding, ...]
    stage: Stage
    eyes: Eyes
    seizure: bool
    detector_version: str
    analyser_version: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn. `evidence` holds the ids of the events and findings that the turn's statements rest on."""

    role: str
    content: str
    evidence: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One dialogue about one segment, its signal inline so that a training shard stands alone.

    A `general` sample is about no segment: `mask` is `(0,)` and `eeg_steps` `(0, 2000)`, and `picture` holds the bytes of a JPEG or PNG
    file, or None where the dialogue is text alone. Multiple-choice samples carry `options` and `answer_index` (else empty and -1);
    `topic` names what is asked (a `FindingKind`, "stage", "description" and so on), so that scores can be given by topic.
    """

    sample_id: str
    segment_id: str
    recording_id: str
    corpus: str
    subject: str
    split: Split
    kind: SampleKind
    topic: str
    messages: tuple[Message, ...]
    options: tuple[str, ...]
    answer_index: int
    source: SampleSource
    prompt_version: str
    detector_version: str
    mask: npt.NDArray[np.bool_]
    eeg_steps: npt.NDArray[np.int16]
    picture: bytes | None = None

    @property
    def has_page(self) -> bool:
        """True where the dialogue is about a page of EEG."""
        return self.eeg_steps.size > 0

    @property
    def eeg_uv(self) -> npt.NDArray[np.float32]:
        """The signal in microvolts, float32 `(19, 2000)`, or `(0, 2000)` where there is no page."""
        return self.eeg_steps.astype(np.float32) * np.float32(UV_PER_STEP)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Quarantined:
    """A file, or an item of a list, that was refused: `reason` is the stable name of the rule, `message` the sentence for a person."""

    uri: str
    sha256: str
    corpus: str
    reason: str
    message: str


_EEG = pa.list_(pa.int16(), N_CHANNELS * SEGMENT_SAMPLES)
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
        "eeg_steps": _EEG,
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
        # Lists of any length, for a general sample has no signal: Parquet cannot give back a missing list of fixed size.
        "mask": pa.list_(pa.bool_()),
        "eeg_steps": pa.list_(pa.int16()),
        "picture": pa.binary(),
    }
)
QUARANTINE_SCHEMA = pa.schema({name: pa.string() for name in ("uri", "sha256", "corpus", "reason", "message")})


def to_row(record: Segment | Annotation | Sample | Quarantined) -> dict[str, Any]:
    """A record as a plain dictionary for Arrow; arrays are flattened in C order."""
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.ravel()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def _labels(rows: list[dict[str, Any]]) -> tuple[Label, ...]:
    return tuple(Label(**{**row, "kind": LabelKind(row["kind"])}) for row in rows)


def event_from_row(row: dict[str, Any]) -> Event:
    return Event(**{**row, "waveform": Waveform(row["waveform"]), "source": EventSource(row["source"])})


def _signal(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "split": Split(row["split"]),
        "mask": np.asarray(row["mask"], dtype=np.bool_),
        "eeg_steps": np.asarray(row["eeg_steps"], dtype=np.int16).reshape(len(row["mask"]), SEGMENT_SAMPLES),
    }


def segment_from_row(row: dict[str, Any]) -> Segment:
    return Segment(**{**row, **_signal(row), "flags": tuple(row["flags"]), "labels": _labels(row["labels"])})


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


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of a table as dictionaries, the signal columns as numpy views (``to_pylist`` would make 38,000 Python integers of each)."""
    eeg = table.column("eeg_steps").combine_chunks() if "eeg_steps" in table.column_names else None
    rows: list[dict[str, Any]] = table.drop_columns([] if eeg is None else ["eeg_steps"]).to_pylist()
    if eeg is not None:
        for row, signal in zip(rows, eeg, strict=True):
            row["eeg_steps"] = signal.values.to_numpy()
    return rows
