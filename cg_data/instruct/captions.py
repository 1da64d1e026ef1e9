"""Captions by rule, in the paper's five aspects: montage, artefacts, sleep events, discharges, background; and words that texts share."""

from __future__ import annotations

from cg_data.instruct.facts import (
    Discharge,
    Facts,
    Statement,
    channels_of,
    dominant_rhythm,
    evidence_of,
    is_reactive,
    is_widespread,
    main_discharge,
    region_of,
    repetition_hz,
    reversal_of,
    rhythm_of,
    side_of,
    state,
)
from cg_data.instruct.wording import KIND_WORDS, MONTAGE_WORDS, hertz, listed, where
from cg_data.records import Dipole
from cg_data.vocabulary import FAMILY_OF, REGION_CHANNELS, Family, FindingKind, Region, Side


def caption(facts: Facts) -> Statement:
    """Five short sentences, always in the same order and words."""
    parts = [
        Statement(text=f"{_recorded(facts)}; {MONTAGE_WORDS[facts.montage]}."),
        _family_line(facts, Family.ARTEFACT, "Artefacts"),
        _family_line(facts, Family.SLEEP, "Sleep events"),
        _discharge_line(facts),
        _background_line(facts),
    ]
    return joined(parts)


def _recorded(facts: Facts) -> str:
    return f"Missing channels: {listed(facts.missing)}" if facts.missing else "All 19 channels recorded"


def joined(parts: list[Statement]) -> Statement:
    """Statements one after the other; evidence once each, in order."""
    evidence = dict.fromkeys(key for part in parts for key in part.evidence)
    return Statement(text=" ".join(part.text for part in parts), evidence=tuple(evidence))


def present_of(facts: Facts, family: Family) -> list[FindingKind]:
    """Kinds of a family on the page, in the order of the vocabulary."""
    return [kind for kind in FindingKind if kind in facts.kinds and FAMILY_OF[kind] == family]


def _family_line(facts: Facts, family: Family, title: str) -> Statement:
    kinds = present_of(facts, family)
    if not kinds:
        return Statement(text=f"{title}: none.")
    text = "; ".join(f"{KIND_WORDS[kind]} {where(channels_of(facts, [kind]))}" for kind in kinds)
    return Statement(text=f"{title}: {text}.", evidence=evidence_of(facts, kinds))


def _discharge_line(facts: Facts) -> Statement:
    seizure = " Seizure." if facts.annotation.seizure else ""
    discharge = main_discharge(facts)
    if discharge is None:
        return Statement(text=f"Epileptiform discharges: none.{seizure}")
    parts = [f"{discharge_words(facts, discharge)}, maximum at {discharge.maximum}", *dipole_words(discharge.dipole)]
    others = [kind for kind in present_of(facts, Family.EPILEPTIFORM) if kind != discharge.kind]
    named = "".join(f"; {KIND_WORDS[kind]} {where(channels_of(facts, [kind]))}" for kind in others)
    text = f"Epileptiform discharges: {', '.join(parts)}{named}.{seizure}"
    return Statement(text=text, evidence=(*discharge.evidence, *evidence_of(facts, others)))


def discharge_words(facts: Facts, discharge: Discharge) -> str:
    """ "left temporal spikes", "generalised 3 Hz spike-and-slow-wave complexes"."""
    rate_hz = repetition_hz(facts, discharge.kind) if discharge.kind is FindingKind.SPIKE_AND_SLOW_WAVE else None
    rate = "" if rate_hz is None else f"{hertz(rate_hz)} "
    return f"{discharge.location} {rate}{KIND_WORDS[discharge.kind]}"


def dipole_words(dipole: Dipole | None) -> list[str]:
    """ "surface-negative", "phase reversal at T3"; nothing where no dipole is known."""
    if dipole is None:
        return []
    reversal = reversal_of(dipole)
    return [f"surface-{dipole.polarity}", *([f"phase reversal at {reversal}"] if reversal else [])]


def _background_line(facts: Facts) -> Statement:
    vigilance = state(facts)
    parts: list[str] = []
    evidence: list[str] = []
    if vigilance is not None:
        parts.append(vigilance.text)
        evidence += vigilance.evidence
    posterior = _posterior_words(facts)
    if posterior is not None:
        parts.append(posterior.text)
        evidence += posterior.evidence
    kinds = present_of(facts, Family.BACKGROUND)
    for kind in kinds:
        if kind != FindingKind.ALPHA_RHYTHM:
            parts.append(KIND_WORDS[kind] if kind == FindingKind.LOW_VOLTAGE else place_words(facts, kind))
    evidence += evidence_of(facts, kinds)
    return Statement(text=f"Background: {'; '.join(parts) if parts else 'not assessable'}.", evidence=tuple(evidence))


def _posterior_words(facts: Facts) -> Statement | None:
    """ "posterior alpha at 10 Hz, 32 µV, reactive", "no dominant posterior rhythm, 20 µV"; None where no electrode is there."""
    rhythm = dominant_rhythm(facts, Region.POSTERIOR)
    pdr, region = facts.annotation.posterior, rhythm_of(facts, Region.POSTERIOR)
    if pdr is not None and rhythm is not None:
        reactive = {None: "", True: ", reactive", False: ", not reactive"}[is_reactive(pdr)]
        text = f"posterior {rhythm.text} at {pdr.frequency_hz:.0f} Hz, {pdr.amplitude_uv:.0f} µV{reactive}"
        return Statement(text=text, evidence=rhythm.evidence)
    if region is None:
        return None
    name = "no dominant posterior rhythm" if rhythm is None else f"posterior {rhythm.text} at {region.dominant_hz:.0f} Hz"
    return Statement(text=f"{name}, {region.amplitude_uv:.0f} µV", evidence=() if rhythm is None else rhythm.evidence)


def place_words(facts: Facts, kind: FindingKind) -> str:
    """ "frontal and central delta activity", "left temporal slowing", "asymmetry, lower at C3"."""
    if kind == FindingKind.ASYMMETRY:
        return f"asymmetry, lower {where(channels_of(facts, [kind]))}"
    if kind == FindingKind.SLOWING:
        return f"{_spread(facts, channels_of(facts, [kind]))} {KIND_WORDS[kind]}"
    shown = {region_of(f.channels[0]) for f in facts.annotation.findings if f.kind == kind}
    regions = [region for region in Region if region in shown]
    return f"{'diffuse' if len(regions) == len(Region) else listed(regions)} {KIND_WORDS[kind]}"


def _spread(facts: Facts, channels: tuple[str, ...]) -> str:
    """Side and regions of a field: "diffuse", "left temporal", "bilateral frontal and central". F7 and F8 go with T3 and T4."""
    side = side_of(channels, facts.n_recorded)
    if side is Side.GENERALISED and is_widespread(channels):
        return "diffuse"
    names = set(channels) - {near for near, far in (("F7", "T3"), ("F8", "T4")) if far in channels}
    regions = [region for region in Region if names.intersection(REGION_CHANNELS[region])]
    return f"{Side.BILATERAL if side is Side.GENERALISED else side} {listed(regions)}"
