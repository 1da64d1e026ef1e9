"""Four pages written by hand, as facts: quiet wakefulness, N2 sleep, left temporal spikes, and an absence seizure."""

from __future__ import annotations

import dataclasses

from cg_data.analyze.annotate import event_findings
from cg_data.analyze.background import finding
from cg_data.analyze.cleaning import EventGroup
from cg_data.instruct.facts import Facts
from cg_data.records import Annotation, Dipole, Event, Finding, PosteriorRhythm, RegionRhythm
from cg_data.vocabulary import (
    CHANNELS,
    FINDING_OF_WAVEFORM,
    Band,
    EventSource,
    Eyes,
    FindingKind,
    Montage,
    Orientation,
    Polarity,
    Region,
    Side,
    Split,
    Stage,
    Waveform,
)

Group = tuple[Waveform, tuple[str, ...], str, float, float]
Rhythms = tuple[tuple[Band, float, float], ...]


def _group(name: str, group: Group) -> tuple[EventGroup, list[Event]]:
    waveform, channels, maximum, onset_s, duration_s = group
    events = [
        Event(
            event_id=f"{name}-{waveform}-{channel}-{onset_s}",
            waveform=waveform,
            channel=channel,
            onset_s=onset_s,
            duration_s=duration_s,
            score=1.0,
            probability=1.0,
            source=EventSource.READER,
        )
        for channel in channels
    ]
    made = EventGroup(
        kind=FINDING_OF_WAVEFORM[waveform],
        waveform=waveform,
        channels=channels,
        onset_s=onset_s,
        duration_s=duration_s,
        maximum=maximum,
        event_ids=tuple(e.event_id for e in events),
    )
    return made, events


def page_facts(
    name: str,
    *,
    groups: tuple[Group, ...] = (),
    findings: tuple[Finding, ...] = (),
    rhythms: Rhythms = (),
    posterior: PosteriorRhythm | None = None,
    dipoles: tuple[Dipole, ...] = (),
    stage: Stage = Stage.UNKNOWN,
    eyes: Eyes = Eyes.UNKNOWN,
    seizure: bool = False,
    missing: tuple[str, ...] = (),
) -> Facts:
    """Facts of a page from its parts; `rhythms` are band, hertz and microvolts of the four regions in the order of the vocabulary."""
    made = [_group(name, group) for group in groups]
    events = tuple(event for _, members in made for event in members)
    all_findings = (*findings, *event_findings(name, events))
    annotation = Annotation(
        segment_id=name,
        recording_id=name,
        corpus="test",
        subject="subject",
        split=Split.TRAIN,
        start_s=0.0,
        events=events,
        removed=(),
        background=tuple(
            RegionRhythm(region=region, band=band, dominant_hz=hz, amplitude_uv=uv, alpha_uv=uv / 3)
            for region, (band, hz, uv) in zip(Region, rhythms, strict=False)
        ),
        posterior=posterior,
        dipoles=dipoles,
        findings=all_findings,
        stage=stage,
        eyes=eyes,
        seizure=seizure,
        detector_version="d",
        analyser_version="a",
    )
    return Facts(
        annotation=annotation,
        kinds=frozenset(f.kind for f in all_findings),
        groups=tuple(group for group, _ in made),
        missing=missing,
        montage=Montage.AVERAGE,
    )


def _measured(name: str, kind: FindingKind, channels: tuple[str, ...], when_s: tuple[float, float] = (0.0, 10.0)) -> Finding:
    return finding(name, kind, channels, 6.0, 5.0, "times the aperiodic fit", when_s)


def _wake() -> Facts:
    rhythm = PosteriorRhythm(
        rhythm_id="wake-rhythm",
        channels=("P3", "Pz", "P4", "O1", "O2"),
        frequency_hz=9.8,
        peak_ratio=20.0,
        amplitude_uv=32.0,
        left_hz=9.8,
        right_hz=9.7,
        left_uv=31.0,
        right_uv=33.0,
        symmetric=True,
        reactivity=2.4,
    )
    return page_facts(
        "wake",
        groups=tuple((Waveform.POSITIVE_SHARP_TRANSIENT, ("Fp1", "Fp2"), "Fp1", onset_s, 0.4) for onset_s in (1.9, 6.4)),
        findings=(
            _measured("wake", FindingKind.ALPHA_RHYTHM, rhythm.channels),
            _measured("wake", FindingKind.MUSCLE, ("T3", "T4"), (1.0, 3.0)),
        ),
        rhythms=((Band.BETA, 18.0, 12.0), (Band.ALPHA, 10.0, 20.0), (Band.THETA, 6.2, 15.0), (Band.ALPHA, 9.8, 32.0)),
        posterior=rhythm,
        stage=Stage.WAKE,
        eyes=Eyes.CLOSED,
    )


def _sleep() -> Facts:
    spindle = (Waveform.SLEEP_SPINDLE, ("C3", "Cz", "C4"), "Cz")
    return page_facts(
        "sleep",
        groups=((*spindle, 3.0, 0.9), (Waveform.K_COMPLEX, ("Fz", "Cz"), "Cz", 5.5, 0.7), (*spindle, 7.2, 0.9)),
        findings=(
            _measured("sleep", FindingKind.DELTA_ACTIVITY, ("F3", "Fz", "F4")),
            _measured("sleep", FindingKind.DELTA_ACTIVITY, ("C3", "Cz")),
        ),
        rhythms=((Band.DELTA, 1.9, 45.0), (Band.DELTA, 2.2, 38.0), (Band.THETA, 5.0, 20.0), (Band.THETA, 4.8, 25.0)),
        stage=Stage.N2,
        missing=("T6",),
    )


def _focal() -> Facts:
    groups = tuple((Waveform.SPIKE, ("F7", "T3", "T5"), "T3", onset_s, 0.06) for onset_s in (1.5, 4.0, 8.2))
    dipoles = tuple(
        Dipole(
            dipole_id=f"focal-dipole-{onset_s}",
            kind=FindingKind.SPIKE,
            onset_s=onset_s,
            duration_s=0.06,
            peak_s=onset_s + 0.03,
            maximum="T3",
            polarity=Polarity.NEGATIVE,
            amplitude_uv=95.0,
            field=("F7", "T3", "T5"),
            side=Side.LEFT,
            region=Region.TEMPORAL,
            longitudinal_reversal="T3",
            transverse_reversal="",
            end_of_chain=False,
            orientation=Orientation.RADIAL,
            opposite="",
            opposite_uv=0.0,
            event_ids=tuple(f"focal-spike-{channel}-{onset_s}" for channel in ("F7", "T3", "T5")),
        )
        for _, _, _, onset_s, _ in groups
    )
    return page_facts(
        "focal",
        groups=groups,
        findings=(
            _measured("focal", FindingKind.THETA_ACTIVITY, ("T3", "T5")),
            _measured("focal", FindingKind.ASYMMETRY, ("T3", "T5")),
            _measured("focal", FindingKind.SLOWING, ("F7", "T3", "T5")),
            _measured("focal", FindingKind.FLAT_CHANNEL, ("P4",)),
            _measured("focal", FindingKind.ELECTRODE_FAULT, ("O2",), (3.0, 1.0)),
        ),
        rhythms=((Band.ALPHA, 9.0, 15.0), (Band.ALPHA, 9.0, 20.0), (Band.THETA, 5.5, 25.0), (Band.ALPHA, 9.0, 30.0)),
        dipoles=dipoles,
        stage=Stage.WAKE,
    )


def _absence() -> Facts:
    onsets_s = [2.0 + i / 3 for i in range(12)]
    train = [_group("absence", (Waveform.SPIKE_AND_SLOW_WAVE, CHANNELS, "Fz", round(onset_s, 3), 0.3)) for onset_s in onsets_s]
    facts = page_facts(
        "absence", groups=tuple((g.waveform, g.channels, g.maximum, g.onset_s, g.duration_s) for g, _ in train), seizure=True
    )
    joined = EventGroup(
        kind=FindingKind.SPIKE_AND_SLOW_WAVE,
        waveform=Waveform.SPIKE_AND_SLOW_WAVE,
        channels=CHANNELS,
        onset_s=2.0,
        duration_s=3.97,
        maximum="Fz",
        event_ids=tuple(e.event_id for e in facts.annotation.events),
    )
    return dataclasses.replace(facts, groups=(joined,))


PAGES: dict[str, Facts] = {"wake": _wake(), "sleep": _sleep(), "focal": _focal(), "absence": _absence()}
