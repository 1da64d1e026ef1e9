"""The records that travel between the rooms: frozen values, of which `cg_data.rows` makes Parquet rows and back.

Ids are content hashes, so a rerun writes the same rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

import numpy as np
import numpy.typing as npt

from cg_data.vocabulary import (
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
