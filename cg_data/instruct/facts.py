"""What may be said about a page: the annotation, ordered for speaking. Nothing that is not in it is ever put into words."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterable

from cg_data.analyze.annotate import present_kinds
from cg_data.analyze.cleaning import EventGroup, group_events
from cg_data.analyze.layout import in_page_order
from cg_data.analyze.posterior import REACTIVE_RATIO
from cg_data.instruct.wording import MANY
from cg_data.records import Annotation, Dipole, PosteriorRhythm, RegionRhythm, Segment
from cg_data.vocabulary import (
    BAND_EDGES_HZ,
    CHANNELS,
    FAMILY_OF,
    FINDING_OF_WAVEFORM,
    LEFT_CHANNELS,
    REGION_CHANNELS,
    RIGHT_CHANNELS,
    Band,
    Eyes,
    Family,
    FindingKind,
    Montage,
    Region,
    Side,
    Stage,
)

GENERALISED_FRACTION = 0.5
"""A discharge over both sides and at least this share of the electrodes is generalised."""
LATERAL_RATIO = 3
"""One side: at least this many electrodes of it for each of the other."""
TRAIN_GAP_S = 1.0
"""Discharges further apart are no train."""

_RHYTHM_KINDS = {
    Band.ALPHA: FindingKind.ALPHA_RHYTHM,
    Band.BETA: FindingKind.BETA_ACTIVITY,
    Band.THETA: FindingKind.THETA_ACTIVITY,
    Band.DELTA: FindingKind.DELTA_ACTIVITY,
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """Words, and the ids of the events, findings, dipoles and the rhythm that they rest on."""

    text: str
    evidence: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Discharge:
    """The commonest epileptiform discharge of a page: its kind, where, the channel of greatest voltage, and its highest dipole."""

    kind: FindingKind
    location: str
    maximum: str
    dipole: Dipole | None
    evidence: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    annotation: Annotation
    kinds: frozenset[FindingKind]
    groups: tuple[EventGroup, ...]
    missing: tuple[str, ...]
    montage: Montage

    @property
    def n_recorded(self) -> int:
        return len(CHANNELS) - len(self.missing)


def facts_of(segment: Segment, annotation: Annotation) -> Facts:
    return Facts(
        annotation=annotation,
        kinds=present_kinds(annotation),
        groups=group_events(annotation.events, segment.eeg_uv),
        missing=tuple(name for name, exists in zip(CHANNELS, segment.mask, strict=True) if not exists),
        montage=Montage(segment.montage),
    )


def channels_of(facts: Facts, kinds: Iterable[FindingKind]) -> tuple[str, ...]:
    """Electrodes of all findings of `kinds`, in page order."""
    wanted = set(kinds)
    return in_page_order({name for f in facts.annotation.findings if f.kind in wanted for name in f.channels})


def evidence_of(facts: Facts, kinds: Iterable[FindingKind]) -> tuple[str, ...]:
    """Ids of the findings of `kinds`, then of their events."""
    wanted = set(kinds)
    findings = tuple(f.finding_id for f in facts.annotation.findings if f.kind in wanted)
    return findings + tuple(e.event_id for e in facts.annotation.events if FINDING_OF_WAVEFORM[e.waveform] in wanted)


def groups_of(facts: Facts, kind: FindingKind) -> tuple[EventGroup, ...]:
    return tuple(group for group in facts.groups if group.kind == kind)


def region_of(channel: str) -> Region:
    return next(region for region, names in REGION_CHANNELS.items() if channel in names)


def rhythm_of(facts: Facts, region: Region) -> RegionRhythm | None:
    return next((r for r in facts.annotation.background if r.region == region), None)


def band_of(frequency_hz: float) -> Band:
    """The band that a frequency lies in; those beyond the outer edges count to the nearest."""
    return next((band for band, (_, high) in BAND_EDGES_HZ.items() if frequency_hz < high), Band.BETA)


def dominant_rhythm(facts: Facts, region: Region) -> Statement | None:
    """The band of a region's rhythm where one stands out of the aperiodic spectrum; elsewhere the strongest band is chance, hence None.

    Posteriorly that is the posterior dominant rhythm, where there is one.
    """
    posterior = facts.annotation.posterior
    if region is Region.POSTERIOR and posterior is not None:
        band = band_of(posterior.frequency_hz)
        return Statement(text=str(band), evidence=(posterior.rhythm_id, *evidence_of(facts, [_RHYTHM_KINDS[band]])))
    rhythm = rhythm_of(facts, region)
    if rhythm is None:
        return None
    kind, names = _RHYTHM_KINDS[rhythm.band], set(REGION_CHANNELS[region])
    ids = tuple(f.finding_id for f in facts.annotation.findings if f.kind == kind and names.intersection(f.channels))
    return Statement(text=str(rhythm.band), evidence=ids) if ids else None


def side_of(channels: Iterable[str], n_recorded: int) -> Side:
    """Side of a field: generalised over both sides and half of the electrodes, one side with three of it for each of the other."""
    names = set(channels)
    left, right = len(names & LEFT_CHANNELS), len(names & RIGHT_CHANNELS)
    if left and right and len(names) >= GENERALISED_FRACTION * n_recorded:
        return Side.GENERALISED
    if not left and not right:
        return Side.MIDLINE
    if left >= LATERAL_RATIO * right:
        return Side.LEFT
    return Side.RIGHT if right >= LATERAL_RATIO * left else Side.BILATERAL


def is_widespread(channels: Iterable[str]) -> bool:
    """Many electrodes, or some of every region."""
    names = set(channels)
    return len(names) >= MANY or all(names.intersection(region) for region in REGION_CHANNELS.values())


def locate(channels: Iterable[str], maximum: str, n_recorded: int) -> str:
    """Side and region of a field: "generalised", "left temporal", "bilateral frontal", "midline central"."""
    side = side_of(channels, n_recorded)
    return str(side) if side is Side.GENERALISED else f"{side} {region_of(maximum)}"


def main_discharge(facts: Facts) -> Discharge | None:
    """The discharge with the most events on the page, or None. Where it has a dipole, that says where the maximum is."""
    found: dict[tuple[FindingKind, str], list[EventGroup]] = {}
    for group in facts.groups:
        if FAMILY_OF[group.kind] == Family.EPILEPTIFORM:
            found.setdefault((group.kind, locate(group.channels, group.maximum, facts.n_recorded)), []).append(group)
    if not found:
        return None
    (kind, location), groups = max(found.items(), key=lambda item: sum(len(g.event_ids) for g in item[1]))
    largest = max(groups, key=lambda g: len(g.event_ids))
    ids = tuple(event_id for group in groups for event_id in group.event_ids)
    dipoles = [d for d in facts.annotation.dipoles if d.kind == kind and not set(ids).isdisjoint(d.event_ids)]
    dipole = max(dipoles, key=lambda d: d.amplitude_uv, default=None)
    maximum = largest.maximum if dipole is None else dipole.maximum
    findings = tuple(f.finding_id for f in facts.annotation.findings if f.kind == kind)
    evidence = (*findings, *ids, *((dipole.dipole_id,) if dipole is not None else ()))
    return Discharge(kind=kind, location=location, maximum=maximum, dipole=dipole, evidence=evidence)


def reversal_of(dipole: Dipole) -> str:
    """The electrode of phase reversal, in the longitudinal chain before the transverse one; "" where there is none."""
    return dipole.longitudinal_reversal or dipole.transverse_reversal


def is_reactive(rhythm: PosteriorRhythm) -> bool | None:
    """Whether opening the eyes blocks a posterior rhythm; None where the page does not hold both states."""
    return None if rhythm.reactivity is None else rhythm.reactivity >= REACTIVE_RATIO


def repetition_hz(facts: Facts, kind: FindingKind) -> float | None:
    """Rate of a train of discharges: one over the median interval between onsets, on the channel with most of them; None below three."""
    ids = {event_id for group in groups_of(facts, kind) for event_id in group.event_ids}
    onsets: dict[str, list[float]] = {}
    for event in facts.annotation.events:
        if event.event_id in ids:
            onsets.setdefault(event.channel, []).append(event.onset_s)
    trains: list[list[float]] = sorted(onsets.values(), key=len)
    longest = sorted(trains[-1]) if trains else []
    steps = [b - a for a, b in itertools.pairwise(longest) if 0 < b - a < TRAIN_GAP_S]
    return 1 / statistics.median(steps) if len(steps) >= 2 else None


def main_artefact(facts: Facts) -> FindingKind | None:
    """The artefact that covers most channel-seconds of the page, or None."""
    covered_s: dict[FindingKind, float] = {}
    for event in facts.annotation.events:
        kind = FINDING_OF_WAVEFORM[event.waveform]
        covered_s[kind] = covered_s.get(kind, 0.0) + event.duration_s
    for f in facts.annotation.findings:
        if f.unit != "probability":
            covered_s[f.kind] = max(covered_s.get(f.kind, 0.0), f.duration_s * len(f.channels))
    artefacts = [kind for kind in facts.kinds if FAMILY_OF[kind] == Family.ARTEFACT]
    return max(sorted(artefacts), key=lambda kind: covered_s.get(kind, 0.0), default=None)


_SLEEP = {Stage.N1: "N1 sleep", Stage.N2: "N2 sleep", Stage.N3: "N3 sleep", Stage.REM: "REM sleep"}
_WAKE = {Eyes.OPEN: "wake, eyes open", Eyes.CLOSED: "wake, eyes closed", Eyes.UNKNOWN: "wake"}
STATES: tuple[str, ...] = (_WAKE[Eyes.CLOSED], _WAKE[Eyes.OPEN], *_SLEEP.values())
"""Every state of vigilance in words, wake divided by the eyes."""
_STATE_EVIDENCE = {
    Stage.WAKE: (FindingKind.ALPHA_RHYTHM,),
    Stage.N2: (FindingKind.SLEEP_SPINDLE, FindingKind.K_COMPLEX),
    Stage.N3: (FindingKind.DELTA_ACTIVITY,),
}


def state(facts: Facts) -> Statement | None:
    """Vigilance in words, or None where no label tells it. Its evidence is what on the page speaks for it."""
    stage = facts.annotation.stage
    if stage == Stage.UNKNOWN:
        return None
    text = _WAKE[facts.annotation.eyes] if stage == Stage.WAKE else _SLEEP[stage]
    return Statement(text=text, evidence=evidence_of(facts, _STATE_EVIDENCE.get(stage, ())))
