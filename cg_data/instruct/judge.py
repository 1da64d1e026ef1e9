"""One claim held against what is known of a page. The tolerances of the grounding check stand here, with their reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from cg_data.instruct.claims import Aspect, Claim
from cg_data.instruct.facts import Facts, band_of, channels_of, groups_of, is_reactive, is_widespread, repetition_hz, side_of
from cg_data.records import Dipole
from cg_data.vocabulary import (
    CHANNELS,
    LEFT_CHANNELS,
    REGION_CHANNELS,
    RIGHT_CHANNELS,
    Band,
    Eyes,
    FindingKind,
    Region,
    Side,
    Stage,
)


class Ruling(StrEnum):
    """What the annotation says to a claim or a sentence. Unsupported: it does not tell. Empty: a sentence without any claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNSUPPORTED = "unsupported"
    EMPTY = "empty"


TIME_TOLERANCE_S = 0.5
"""Times are spoken in whole seconds, so they are up to half a second off; a reader's own marks of one wave differ by less."""
RANGE_TOLERANCE_S = 1.0
"""Both ends of a stretch are rounded, and where a run begins is a matter of taste."""
FREQUENCY_TOLERANCE_HZ = 1.0
"""Frequencies are spoken in whole hertz, and readers differ by up to 1 Hz (the side difference that counts as abnormal, IFCN glossary)."""
REPETITION_TOLERANCE_HZ = 0.5
"""Of spike-and-wave trains: 3 and 4 Hz are different diagnoses."""
AMPLITUDE_TOLERANCE = 0.2
"""Share. A height read off the page at 100 uV a row is good to about a fifth; at least 2 uV."""
AMPLITUDE_MIN_UV = 2.0
DURATION_TOLERANCE_S = 0.5
COUNT_TOLERANCE = 0.2
"""Share of counts above five; up to five they must be exact."""
SPINDLE_HZ = (11.0, 16.0)
"""AASM manual: the band that defines a spindle. The annotation does not measure it, so only the definition is supported, not a point."""
_SLACK = 1e-6

BAND_OF: Mapping[FindingKind, Band] = {
    FindingKind.ALPHA_RHYTHM: Band.ALPHA,
    FindingKind.BETA_ACTIVITY: Band.BETA,
    FindingKind.THETA_ACTIVITY: Band.THETA,
    FindingKind.DELTA_ACTIVITY: Band.DELTA,
}
_POSTERIOR = frozenset(REGION_CHANNELS[Region.POSTERIOR])


def judge(claim: Claim, facts: Facts) -> Ruling:
    """The ruling on one claim; a hedged claim is never contradicted, only supported or not."""
    ruling = _JUDGES[claim.aspect](claim, facts)
    if claim.exclusive and ruling is Ruling.SUPPORTED and not _found_place(facts, claim) <= frozenset().union(*claim.places):
        ruling = Ruling.CONTRADICTED
    if claim.hedged and ruling is not Ruling.SUPPORTED:
        return Ruling.UNSUPPORTED
    return ruling


def _ruled(holds: bool | None) -> Ruling:
    if holds is None:
        return Ruling.UNSUPPORTED
    return Ruling.SUPPORTED if holds else Ruling.CONTRADICTED


def _denied(claim: Claim, ruling: Ruling) -> Ruling:
    """The ruling on the opposite, for a negated claim."""
    if not claim.negated or ruling is Ruling.UNSUPPORTED:
        return ruling
    return _ruled(ruling is Ruling.CONTRADICTED)


def place_of(facts: Facts, claim: Claim) -> frozenset[str]:
    """Electrodes of what the claim is about; empty where the page does not show it."""
    if claim.of is Aspect.POSTERIOR_RHYTHM:
        posterior = facts.annotation.posterior
        return frozenset(posterior.channels) if posterior is not None else frozenset(channels_of(facts, [FindingKind.ALPHA_RHYTHM]))
    return _found_place(facts, claim) | _band_place(facts, claim.kinds)


def _found_place(facts: Facts, claim: Claim) -> frozenset[str]:
    """Electrodes of the findings and in the fields of the dipoles."""
    fields = frozenset(name for dipole in _dipoles(claim, facts) for name in dipole.field)
    return frozenset(channels_of(facts, claim.kinds)) | fields


def _band_place(facts: Facts, kinds: Iterable[FindingKind]) -> frozenset[str]:
    """Recorded electrodes of the regions whose strongest band is that of one of `kinds`, and of a posterior rhythm in that band."""
    bands = {BAND_OF[kind] for kind in kinds if kind in BAND_OF}
    names = {name for r in facts.annotation.background if r.band in bands for name in REGION_CHANNELS[r.region]}
    return (frozenset(names) | _rhythm_place(facts, kinds)) - set(facts.missing)


def _rhythm_place(facts: Facts, kinds: Iterable[FindingKind]) -> frozenset[str]:
    """Electrodes of the posterior dominant rhythm, where its frequency lies in the band of one of `kinds`."""
    posterior = facts.annotation.posterior
    bands = {BAND_OF[kind] for kind in kinds if kind in BAND_OF}
    return frozenset(posterior.channels) if posterior is not None and band_of(posterior.frequency_hz) in bands else frozenset()


def _finding(claim: Claim, facts: Facts) -> Ruling:
    shown = facts.kinds.intersection(claim.kinds)
    if claim.negated:
        here = [kind for kind in sorted(shown) if _is_at(frozenset(channels_of(facts, [kind])), claim)]
        return _ruled(not here)
    if shown and (not claim.places or _is_at(frozenset(channels_of(facts, shown)), claim)):
        return Ruling.SUPPORTED
    if (rhythm := _rhythm_place(facts, claim.kinds)) and _is_at(rhythm, claim):
        return Ruling.SUPPORTED
    in_background = _band_place(facts, claim.kinds)
    if in_background and claim.places:
        return _ruled(_is_at(in_background, claim))
    return Ruling.UNSUPPORTED if in_background else Ruling.CONTRADICTED


def _is_at(channels: frozenset[str], claim: Claim) -> bool:
    """Whether `channels` reach every place of the claim, and spread as far as a named extent wants."""
    if any(name.endswith((":generalised", ":diffuse")) for name in claim.names) and not is_widespread(channels):
        return False
    return all(channels & place for place in claim.places)


def _posterior_rhythm(claim: Claim, facts: Facts) -> Ruling:
    present = facts.annotation.posterior is not None or FindingKind.ALPHA_RHYTHM in facts.kinds
    return _ruled(present != claim.negated)


def _seizure(claim: Claim, facts: Facts) -> Ruling:
    return _ruled(facts.annotation.seizure != claim.negated)


def _stage(claim: Claim, facts: Facts) -> Ruling:
    stage = facts.annotation.stage
    if stage is Stage.UNKNOWN:
        return Ruling.UNSUPPORTED
    asleep = claim.names == ("asleep",)
    holds = stage is not Stage.WAKE if asleep else stage.value in claim.names[0].split("/")
    return _denied(claim, _ruled(holds))


def _eyes(claim: Claim, facts: Facts) -> Ruling:
    eyes = facts.annotation.eyes
    return Ruling.UNSUPPORTED if eyes is Eyes.UNKNOWN else _denied(claim, _ruled(eyes.value in claim.names))


def _missing(claim: Claim, facts: Facts) -> Ruling:
    said = set() if claim.names == ("none",) else set(claim.names)
    return _ruled(not facts.missing if not said else said <= set(facts.missing))


def _montage(claim: Claim, facts: Facts) -> Ruling:
    return _denied(claim, _ruled(facts.montage.value in claim.names[0].split("/")))


def _untold(claim: Claim, facts: Facts) -> Ruling:
    return Ruling.UNSUPPORTED


def _is_untold(claim: Claim, facts: Facts) -> bool:
    """Whether nothing is known that the attribute could be held against: its subject is absent, or is no finding."""
    return claim.of in (Aspect.OTHER, Aspect.SEIZURE, Aspect.BACKGROUND) or not place_of(facts, claim)


def _channel(claim: Claim, facts: Facts) -> Ruling:
    return _ruled(None if _is_untold(claim, facts) else set(claim.names) <= place_of(facts, claim))


def _region(claim: Claim, facts: Facts) -> Ruling:
    return _ruled(None if _is_untold(claim, facts) else all(place_of(facts, claim) & place for place in claim.places))


def _side(claim: Claim, facts: Facts) -> Ruling:
    if _is_untold(claim, facts):
        return Ruling.UNSUPPORTED
    posterior = facts.annotation.posterior
    if claim.of is Aspect.POSTERIOR_RHYTHM and posterior is not None and set(claim.names) <= {Side.LEFT, Side.RIGHT}:
        sides = {Side.LEFT: posterior.left_hz, Side.RIGHT: posterior.right_hz}
        return _ruled(all(sides[Side(name)] is not None for name in claim.names))
    if set(claim.names) == {Side.LEFT, Side.RIGHT}:
        return _ruled(_has_side(place_of(facts, claim), Side.BILATERAL, facts))
    fields = [place_of(facts, claim), *(frozenset(g.channels) for kind in claim.kinds for g in groups_of(facts, kind))]
    fields += [frozenset(f.channels) for f in facts.annotation.findings if f.kind in claim.kinds]
    return _ruled(all(any(_has_side(field, name, facts) for field in fields) for name in claim.names))


def _has_side(field: frozenset[str], name: str, facts: Facts) -> bool:
    if name == Side.BILATERAL:
        return bool(field & LEFT_CHANNELS and field & RIGHT_CHANNELS)
    return side_of(field, facts.n_recorded) == name


def _extent(claim: Claim, facts: Facts) -> Ruling:
    """Held against the findings where there are some: that a band is also the strongest elsewhere does not spread them."""
    found = _found_place(facts, claim) or place_of(facts, claim)
    return _ruled(None if _is_untold(claim, facts) else is_widespread(found))


def _dipoles(claim: Claim, facts: Facts) -> list[Dipole]:
    return [dipole for dipole in facts.annotation.dipoles if dipole.kind in claim.kinds]


def _maximum(claim: Claim, facts: Facts) -> Ruling:
    if _is_untold(claim, facts):
        return Ruling.UNSUPPORTED
    maxima = {g.maximum for kind in claim.kinds for g in groups_of(facts, kind)} | {d.maximum for d in _dipoles(claim, facts)}
    if not maxima:
        return _ruled(True if place_of(facts, claim) <= set(claim.names) else None)
    return _ruled(bool(maxima.intersection(claim.names)))


def _reversal(claim: Claim, facts: Facts) -> Ruling:
    dipoles = _dipoles(claim, facts)
    found = {name for d in dipoles for name in (d.longitudinal_reversal, d.transverse_reversal) if name}
    return _ruled(bool(found.intersection(claim.names)) if dipoles else None)


def _opposite(claim: Claim, facts: Facts) -> Ruling:
    dipoles = _dipoles(claim, facts)
    return _ruled(any(d.opposite in claim.names for d in dipoles) if dipoles else None)


def _polarity(claim: Claim, facts: Facts) -> Ruling:
    dipoles = _dipoles(claim, facts)
    return _ruled(any(d.polarity in claim.names for d in dipoles) if dipoles else None)


def _orientation(claim: Claim, facts: Facts) -> Ruling:
    dipoles = _dipoles(claim, facts)
    return _ruled(any(d.orientation in claim.names for d in dipoles) if dipoles else None)


def _reactivity(claim: Claim, facts: Facts) -> Ruling:
    posterior = facts.annotation.posterior
    reactive = is_reactive(posterior) if posterior is not None else None
    return _ruled(None if reactive is None else reactive == (claim.names == ("yes",)))


def spans_of(claim: Claim, facts: Facts) -> list[tuple[float, float]]:
    """When it is there: start and end of each group of events and of each measured finding, in seconds."""
    kinds = (FindingKind.ALPHA_RHYTHM,) if claim.of is Aspect.POSTERIOR_RHYTHM else claim.kinds
    spans = [(g.onset_s, g.onset_s + g.duration_s) for kind in kinds for g in groups_of(facts, kind)]
    measured = (f for f in facts.annotation.findings if f.kind in kinds and f.unit != "probability")
    return sorted(spans + [(f.onset_s, f.onset_s + f.duration_s) for f in measured])


def _time(claim: Claim, facts: Facts) -> Ruling:
    spans = [] if claim.of in (Aspect.OTHER, Aspect.SEIZURE, Aspect.BACKGROUND) else spans_of(claim, facts)
    if not spans:
        return Ruling.UNSUPPORTED
    if not claim.is_range:
        near = TIME_TOLERANCE_S + _SLACK
        return _ruled(all(any(a - near <= time <= b + near for a, b in spans) for time in claim.numbers))
    first, last = min(claim.numbers), max(claim.numbers)
    inside = [(a, b) for a, b in spans if a <= last + TIME_TOLERANCE_S and b >= first - TIME_TOLERANCE_S]
    gap = RANGE_TOLERANCE_S + _SLACK
    return _ruled(bool(inside) and min(a for a, _ in inside) <= first + gap and max(b for _, b in inside) >= last - gap)


def _duration(claim: Claim, facts: Facts) -> Ruling:
    groups = [g.duration_s for kind in claim.kinds for g in groups_of(facts, kind)]
    events = [
        e.duration_s for kind in claim.kinds for g in groups_of(facts, kind) for e in facts.annotation.events if e.event_id in g.event_ids
    ]
    return _ruled(_within(claim, groups + events, DURATION_TOLERANCE_S))


def _within(claim: Claim, values: Iterable[float], tolerance: float | Callable[[float], float]) -> bool | None:
    """Whether some known value lies within the claimed range, or near each of the claimed ones; None where none is known."""
    known = list(values)
    if not known:
        return None
    ends = [(min(claim.numbers), max(claim.numbers))] if claim.is_range else [(number, number) for number in claim.numbers]
    far = tolerance if callable(tolerance) else lambda _: tolerance
    return all(any(low - far(value) - _SLACK <= value <= high + far(value) + _SLACK for value in known) for low, high in ends)


def _frequency(claim: Claim, facts: Facts) -> Ruling:
    kinds = set(claim.kinds)
    if kinds == {FindingKind.SLEEP_SPINDLE} and kinds <= facts.kinds:
        low, high = min(claim.numbers), max(claim.numbers)
        if not SPINDLE_HZ[0] <= low <= high <= SPINDLE_HZ[1]:
            return Ruling.CONTRADICTED
        return Ruling.SUPPORTED if claim.is_range else Ruling.UNSUPPORTED
    if FindingKind.SPIKE_AND_SLOW_WAVE in kinds:
        rate_hz = repetition_hz(facts, FindingKind.SPIKE_AND_SLOW_WAVE)
        return _ruled(_within(claim, [] if rate_hz is None else [rate_hz], REPETITION_TOLERANCE_HZ))
    return _ruled(_within(claim, _rhythms_hz(claim, facts), FREQUENCY_TOLERANCE_HZ))


def _rhythms_hz(claim: Claim, facts: Facts) -> list[float]:
    bands = {BAND_OF[kind] for kind in claim.kinds if kind in BAND_OF}
    place = frozenset().union(*claim.places) if claim.places else frozenset(CHANNELS)
    rhythms = [r for r in facts.annotation.background if place.intersection(REGION_CHANNELS[r.region])]
    if claim.of is Aspect.BACKGROUND:
        return [r.dominant_hz for r in rhythms]
    known = [r.dominant_hz for r in rhythms if r.band in bands]
    posterior = facts.annotation.posterior
    if posterior is not None and (claim.of is Aspect.POSTERIOR_RHYTHM or _rhythm_place(facts, claim.kinds)):
        known += [hz for hz in (posterior.frequency_hz, posterior.left_hz, posterior.right_hz) if hz is not None]
    if claim.of is Aspect.POSTERIOR_RHYTHM and posterior is None and FindingKind.ALPHA_RHYTHM in facts.kinds:
        known += [r.dominant_hz for r in rhythms if r.region is Region.POSTERIOR]
    return known


def _amplitude(claim: Claim, facts: Facts) -> Ruling:
    return _ruled(_within(claim, _amplitudes_uv(claim, facts), lambda uv: max(AMPLITUDE_MIN_UV, AMPLITUDE_TOLERANCE * uv)))


def _amplitudes_uv(claim: Claim, facts: Facts) -> list[float]:
    kinds = set(claim.kinds)
    rhythms = facts.annotation.background
    if claim.of is Aspect.BACKGROUND:
        place = frozenset().union(*claim.places) if claim.places else frozenset(CHANNELS)
        return [r.amplitude_uv for r in rhythms if place.intersection(REGION_CHANNELS[r.region])]
    posterior = facts.annotation.posterior
    sides = (posterior.amplitude_uv, posterior.left_uv, posterior.right_uv) if posterior is not None else ()
    of_rhythm = [uv for uv in sides if uv is not None]
    if claim.of is Aspect.POSTERIOR_RHYTHM:
        return of_rhythm or [r.amplitude_uv for r in rhythms if r.region is Region.POSTERIOR]
    known = [d.amplitude_uv for d in _dipoles(claim, facts)]
    bands = {BAND_OF[kind] for kind in kinds if kind in BAND_OF}
    known += [r.amplitude_uv for r in rhythms if r.band in bands]
    known += of_rhythm if _rhythm_place(facts, kinds) else []
    return known + [f.value for f in facts.annotation.findings if f.kind in kinds and f.unit.startswith("uV")]


def _count(claim: Claim, facts: Facts) -> Ruling:
    groups = [g for kind in claim.kinds for g in groups_of(facts, kind)]
    if not groups:
        return Ruling.UNSUPPORTED
    if claim.names == ("many",):
        return _ruled(len(groups) >= 2)
    far = 0.0 if len(groups) <= 5 else COUNT_TOLERANCE * len(groups)
    return _ruled(_within(claim, [float(len(groups))], far))


_JUDGES: Mapping[Aspect, Callable[[Claim, Facts], Ruling]] = {
    Aspect.FINDING: _finding,
    Aspect.POSTERIOR_RHYTHM: _posterior_rhythm,
    Aspect.SEIZURE: _seizure,
    Aspect.STAGE: _stage,
    Aspect.EYES: _eyes,
    Aspect.MISSING: _missing,
    Aspect.MONTAGE: _montage,
    Aspect.OTHER: _untold,
    Aspect.BACKGROUND: _untold,
    Aspect.CHANNEL: _channel,
    Aspect.MAXIMUM: _maximum,
    Aspect.REVERSAL: _reversal,
    Aspect.OPPOSITE: _opposite,
    Aspect.REGION: _region,
    Aspect.SIDE: _side,
    Aspect.EXTENT: _extent,
    Aspect.TIME: _time,
    Aspect.DURATION: _duration,
    Aspect.FREQUENCY: _frequency,
    Aspect.AMPLITUDE: _amplitude,
    Aspect.COUNT: _count,
    Aspect.POLARITY: _polarity,
    Aspect.ORIENTATION: _orientation,
    Aspect.REACTIVITY: _reactivity,
}
