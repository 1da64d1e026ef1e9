"""From a segment and its events to the annotation: everything that is known of a page, in structure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from cg_data.analyze.artefacts import artefacts_of
from cg_data.analyze.background import (
    WINDOW_S,
    Bools,
    Spectrum,
    asymmetry_findings,
    background_findings,
    finding,
    peak_to_peak_uv,
    regions_of,
    spectrum_of,
    without_line,
)
from cg_data.analyze.cleaning import clean_events, drop_edge_remnants, drop_missing_electrodes, in_order
from cg_data.analyze.dipoles import dipoles_of
from cg_data.analyze.layout import REGION_INDEX, in_page_order
from cg_data.analyze.posterior import page_reactivity, posterior_rhythm
from cg_data.analyze.slowing import reached_by_eyes, slowing_finding
from cg_data.corpora.channels import electrodes_in
from cg_data.records import Annotation, Event, Finding, Label, PosteriorRhythm, RegionRhythm, RemovedEvent, Segment, content_id
from cg_data.vocabulary import (
    CHANNEL_INDEX,
    CHANNELS,
    EPILEPTIFORM,
    FAMILY_OF,
    FINDING_OF_WAVEFORM,
    SEGMENT_S,
    SEGMENT_SAMPLES,
    SFREQ_HZ,
    EventSource,
    Eyes,
    Family,
    FindingKind,
    LabelKind,
    Region,
    Stage,
    Waveform,
)

ANALYSER_VERSION = "analyser-3"
"""Goes up with any change of a threshold or rule in `cg_data.analyze`."""
TRUTH_VERSION = "reference-labels"
"""`detector_version` of an annotation whose events are reference labels."""
DISCHARGING_S = 3.0
"""Where discharges take longer than this of a page, its slow waves and the difference of its sides are theirs: nothing is said of slowing
or asymmetry."""
_EYES = frozenset({FindingKind.BLINK, FindingKind.LATERAL_EYE_MOVEMENT})
_SLEEP_WAVEFORMS = frozenset({Waveform.SLEEP_SPINDLE, Waveform.K_COMPLEX})


def annotate(segment: Segment, events: tuple[Event, ...], *, detector_version: str) -> Annotation:
    """Clean the detector's events and measure the rest; stage, eyes and seizure come from the segment's labels."""
    kept, removed = clean_events(events, segment.mask)
    return _assemble(segment, kept, removed, detector_version, labelled=[])


def annotate_truth(segment: Segment) -> Annotation:
    """The same analysers over the reference labels: waveforms become events of a reader with score 1.

    A reader's marks are not second-guessed: only remnants at the page's edges are set aside, and marks on electrodes that the page does
    not show. Labelled artefacts replace measured ones of their kind.
    """
    marks = [label for label in segment.labels if label.kind == LabelKind.WAVEFORM and label.channel in CHANNEL_INDEX]
    there, missing = drop_missing_electrodes([_event(segment.segment_id, label) for label in marks], segment.mask)
    kept, remnants = drop_edge_remnants(there)
    return _assemble(segment, tuple(kept), in_order([*missing, *remnants]), TRUTH_VERSION, labelled=_labelled_artefacts(segment))


def present_kinds(annotation: Annotation) -> frozenset[FindingKind]:
    return frozenset(f.kind for f in annotation.findings)


def has_finding(annotation: Annotation, kind: FindingKind) -> bool:
    return kind in present_kinds(annotation)


def _event(segment_id: str, label: Label) -> Event:
    place = (label.name, label.channel, round(label.onset_s, 4), round(label.duration_s, 4))
    return Event(
        event_id=content_id("event", segment_id, EventSource.READER, *place),
        waveform=Waveform(label.name),
        channel=label.channel,
        onset_s=label.onset_s,
        duration_s=label.duration_s,
        score=1.0,
        probability=1.0,
        source=EventSource.READER,
    )


def _labelled_artefacts(segment: Segment) -> list[Finding]:
    """Reference labels of artefacts as findings, one for each label; a label without channel means the whole head."""
    labels = [(label, _channels(label, segment.mask)) for label in segment.labels if label.kind == LabelKind.ARTEFACT]
    return [
        finding(segment.segment_id, FindingKind(label.name), channels, 1.0, 0.0, "reference label", (label.onset_s, label.duration_s))
        for label, channels in labels
        if channels
    ]


def _channels(label: Label, mask: Bools) -> tuple[str, ...]:
    """The electrodes of `mask` `(19,)` that a label is about; a mark on a derivation is about both of its electrodes."""
    named = electrodes_in(label.channel) if label.channel else CHANNELS
    return tuple(name for name in named if mask[CHANNEL_INDEX[name]])


def _assemble(
    segment: Segment, events: tuple[Event, ...], removed: tuple[RemovedEvent, ...], detector_version: str, *, labelled: list[Finding]
) -> Annotation:
    stage = Stage(covering_name(segment.labels, LabelKind.STAGE) or Stage.UNKNOWN)
    eyes = Eyes(covering_name(segment.labels, LabelKind.EYES) or Eyes.UNKNOWN)
    seizure = covering_name(segment.labels, LabelKind.SEIZURE) is not None
    measured = _measure(segment, events, _State(stage=stage, eyes=eyes, seizure=seizure))
    said = event_findings(segment.segment_id, events)
    # Eye movements are measured only where the detector is silent about them, and never beside the marks of a reader.
    by_events = _EYES if detector_version == TRUTH_VERSION else _EYES & {f.kind for f in said}
    replaced = by_events | {f.kind for f in labelled}
    findings = [*(f for f in measured.findings if f.kind not in replaced), *labelled, *said]
    order = {kind: i for i, kind in enumerate(FindingKind)}
    return Annotation(
        segment_id=segment.segment_id,
        recording_id=segment.recording_id,
        corpus=segment.corpus,
        subject=segment.subject,
        split=segment.split,
        start_s=segment.start_s,
        events=events,
        removed=removed,
        background=measured.background,
        posterior=measured.posterior,
        dipoles=dipoles_of(segment.segment_id, events, segment.eeg_uv, segment.mask),
        findings=tuple(sorted(findings, key=lambda f: (order[f.kind], f.onset_s, f.finding_id))),
        stage=stage,
        eyes=eyes,
        seizure=seizure,
        detector_version=detector_version,
        analyser_version=ANALYSER_VERSION,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """What labels say of the page."""

    stage: Stage
    eyes: Eyes
    seizure: bool

    @property
    def awake(self) -> bool:
        return self.stage == Stage.WAKE or (self.stage == Stage.UNKNOWN and self.eyes != Eyes.UNKNOWN)

    def asleep(self, events: tuple[Event, ...]) -> bool:
        """By label, or without one by spindles or K-complexes on the page."""
        if self.stage == Stage.UNKNOWN:
            return not self.awake and any(e.waveform in _SLEEP_WAVEFORMS for e in events)
        return self.stage != Stage.WAKE


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    background: tuple[RegionRhythm, ...]
    posterior: PosteriorRhythm | None
    findings: list[Finding]


def _measure(segment: Segment, events: tuple[Event, ...], state: _State) -> _Measured:
    segment_id, eeg_uv = segment.segment_id, segment.eeg_uv
    spectrum = spectrum_of(eeg_uv)
    artefacts = artefacts_of(segment_id, eeg_uv, segment.mask, spectrum, deep_sleep=state.stage == Stage.N3)
    if artefacts.line_hz is not None:
        spectrum = without_line(spectrum, artefacts.line_hz)
    usable = segment.mask & ~artefacts.unusable
    disturbed = _disturbed(events, artefacts.findings) | _discharging_channels(events)
    peak_to_peak = peak_to_peak_uv(eeg_uv)
    regions = regions_of(spectrum, peak_to_peak, usable, disturbed)
    discharging = _discharging_s(events) >= DISCHARGING_S
    posterior, slowing = None, None
    if not state.asleep(events):
        reactivity = page_reactivity(eeg_uv, segment.labels, usable)
        posterior = posterior_rhythm(segment_id, spectrum, peak_to_peak, usable, awake=state.awake, reactivity=reactivity)
        if not state.seizure and not discharging:
            steady = usable & ~disturbed & ~_moved_by_eyes(spectrum, events, artefacts.findings)
            slowing = slowing_finding(segment_id, spectrum, steady, posterior, awake=state.awake)
    findings = [
        *background_findings(segment_id, regions, posterior),
        *([] if discharging else asymmetry_findings(segment_id, spectrum, usable & ~disturbed)),
        *([] if slowing is None else [slowing]),
        *artefacts.findings,
    ]
    return _Measured(background=tuple(region.rhythm for region in regions), posterior=posterior, findings=findings)


def _disturbed(events: tuple[Event, ...], findings: Iterable[Finding]) -> Bools:
    """Channels with eye movements or muscle, `(19,)`."""
    names = {e.channel for e in events if FAMILY_OF[FINDING_OF_WAVEFORM[e.waveform]] == Family.ARTEFACT}
    names |= {name for f in findings if f.kind == FindingKind.MUSCLE for name in f.channels}
    return np.array([name in names for name in CHANNELS], dtype=np.bool_)


def _discharging_channels(events: tuple[Event, ...]) -> Bools:
    """Channels with discharges in more than half of the spectral windows, `(19,)`: the median over the windows is not their background."""
    starts_s = np.arange(0, SEGMENT_S - WINDOW_S + 1, WINDOW_S / 2)
    touched = np.zeros((len(CHANNELS), len(starts_s)), dtype=np.bool_)
    for e in events:
        if e.waveform in EPILEPTIFORM:
            touched[CHANNEL_INDEX[e.channel]] |= (e.onset_s < starts_s + WINDOW_S) & (e.onset_s + e.duration_s > starts_s)
    result: Bools = 2 * touched.sum(axis=1) > len(starts_s)
    return result


def _discharging_s(events: tuple[Event, ...]) -> float:
    """Seconds of the page that discharges take on any channel."""
    taken = np.zeros(SEGMENT_SAMPLES, dtype=np.bool_)
    for e in events:
        if e.waveform in EPILEPTIFORM:
            taken[int(e.onset_s * SFREQ_HZ) : int(np.ceil((e.onset_s + e.duration_s) * SFREQ_HZ))] = True
    return float(taken.sum()) / SFREQ_HZ


def _moved_by_eyes(spectrum: Spectrum, events: tuple[Event, ...], findings: Iterable[Finding]) -> Bools:
    """Channels in the field of the eye movements on the page, `(19,)`: the frontal ones, with lateral movements the temporal ones too, and
    those that the average reference brings in."""
    kinds = {f.kind for f in findings} | {FINDING_OF_WAVEFORM[e.waveform] for e in events}
    moved = np.zeros(len(CHANNELS), dtype=np.bool_)
    if not _EYES.isdisjoint(kinds):
        moved |= reached_by_eyes(spectrum)
        moved[REGION_INDEX[Region.FRONTAL]] = True
        moved[REGION_INDEX[Region.TEMPORAL]] |= FindingKind.LATERAL_EYE_MOVEMENT in kinds
    return moved


def event_findings(segment_id: str, events: Iterable[Event]) -> list[Finding]:
    """One finding for each kind among the events: all its channels, the span from first to last, the highest probability."""
    by_kind: dict[FindingKind, list[Event]] = {}
    for event in events:
        by_kind.setdefault(FINDING_OF_WAVEFORM[event.waveform], []).append(event)
    found = []
    for kind, members in by_kind.items():
        onset_s = min(e.onset_s for e in members)
        end_s = max(e.onset_s + e.duration_s for e in members)
        channels = in_page_order({e.channel for e in members})
        value = max(e.probability for e in members)
        found.append(finding(segment_id, kind, channels, value, 0.0, "probability", (onset_s, end_s - onset_s)))
    return found


def covering_name(labels: Iterable[Label], kind: LabelKind) -> str | None:
    """The name of `kind` that covers more than half of the page, or None; marks of single channels do not count."""
    covered_s: dict[str, float] = {}
    for label in labels:
        if label.kind == kind and not label.channel:
            covered_s[label.name] = covered_s.get(label.name, 0.0) + label.duration_s
    longest = max(covered_s, key=lambda name: covered_s[name], default=None)
    return longest if longest is not None and covered_s[longest] > SEGMENT_S / 2 else None
