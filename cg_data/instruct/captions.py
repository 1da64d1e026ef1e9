"""Captions and descriptions by rule, in the paper's five aspects: montage, artefacts, sleep events, discharges, background."""

from __future__ import annotations

import random

from cg_data.instruct.facts import (
    Facts,
    Statement,
    channels_of,
    dominant_rhythm,
    evidence_of,
    groups_of,
    main_discharge,
    region_of,
    rhythm_of,
    state,
)
from cg_data.instruct.wording import KIND_WORDS, REGION_ADVERBS, listed, sentence, times, where
from cg_data.vocabulary import FAMILY_OF, SEGMENT_S, Family, FindingKind, Region


def caption(facts: Facts) -> Statement:
    """Five short sentences, always in the same order and words."""
    parts = [
        Statement(text=f"Missing channels: {listed(facts.missing)}." if facts.missing else "All 19 channels recorded."),
        _family_line(facts, Family.ARTEFACT, "Artefacts"),
        _family_line(facts, Family.SLEEP, "Sleep events"),
        _discharge_line(facts),
        _background_line(facts),
    ]
    return joined(parts)


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
    others = [kind for kind in present_of(facts, Family.EPILEPTIFORM) if kind != discharge.kind]
    named = "".join(f"; {KIND_WORDS[kind]} {where(channels_of(facts, [kind]))}" for kind in others)
    text = f"Epileptiform discharges: {discharge.location} {KIND_WORDS[discharge.kind]}, maximum at {discharge.maximum}{named}.{seizure}"
    return Statement(text=text, evidence=(*discharge.evidence, *evidence_of(facts, others)))


def _background_line(facts: Facts) -> Statement:
    vigilance = state(facts)
    parts: list[str] = []
    evidence: list[str] = []
    if vigilance is not None:
        parts.append(vigilance.text)
        evidence += vigilance.evidence
    posterior = rhythm_of(facts, Region.POSTERIOR)
    if posterior is not None:
        rhythm = dominant_rhythm(facts, Region.POSTERIOR)
        pdr = facts.annotation.posterior
        hz, uv = (posterior.dominant_hz, posterior.amplitude_uv) if pdr is None else (pdr.frequency_hz, pdr.amplitude_uv)
        name = "no dominant posterior rhythm" if rhythm is None else f"posterior {rhythm.text} at {hz:.0f} Hz"
        parts.append(f"{name}, {uv:.0f} µV")
        evidence += rhythm.evidence if rhythm is not None else ()
    kinds = present_of(facts, Family.BACKGROUND)
    for kind in kinds:
        if kind != FindingKind.ALPHA_RHYTHM:
            parts.append(KIND_WORDS[kind] if kind == FindingKind.LOW_VOLTAGE else _with_region(facts, kind))
    evidence += evidence_of(facts, kinds)
    return Statement(text=f"Background: {'; '.join(parts) if parts else 'not assessable'}.", evidence=tuple(evidence))


def _with_region(facts: Facts, kind: FindingKind) -> str:
    """ "frontal and central delta activity", "diffuse theta activity", "asymmetry, lower at C3"."""
    if kind == FindingKind.ASYMMETRY:
        return f"asymmetry, lower {where(channels_of(facts, [kind]))}"
    shown = {region_of(f.channels[0]) for f in facts.annotation.findings if f.kind == kind}
    regions = [region for region in Region if region in shown]
    return f"{'diffuse' if len(regions) == len(Region) else listed(regions)} {KIND_WORDS[kind]}"


def description(facts: Facts, rng: random.Random) -> Statement:
    """A fuller text in varied wording: when, where, how often, and the background of every region."""
    parts = [
        Statement(text=_montage_sentence(facts, rng)),
        *_artefact_sentences(facts, rng),
        *_sleep_sentences(facts, rng),
        *_discharge_sentences(facts, rng),
        *_background_sentences(facts, rng),
    ]
    return joined(parts)


def _montage_sentence(facts: Facts, rng: random.Random) -> str:
    text = rng.choice(
        (
            "The page shows ten seconds of the 10-20 system.",
            "Ten seconds of EEG from the electrodes of the 10-20 system are shown.",
            "This is a ten-second page in the 10-20 system.",
        )
    )
    if not facts.missing:
        return f"{text} All nineteen channels were recorded."
    return f"{text} {listed(facts.missing)} {'was' if len(facts.missing) == 1 else 'were'} not recorded."


def _when(facts: Facts, kind: FindingKind) -> str:
    """Times of the groups of events of `kind`, or of its measured findings; nothing where it spans the page."""
    onsets_s = [group.onset_s for group in groups_of(facts, kind)]
    onsets_s = onsets_s or [f.onset_s for f in facts.annotation.findings if f.kind == kind and f.duration_s < SEGMENT_S]
    return f" {times(onsets_s)}" if onsets_s else ""


def _seen(facts: Facts, kind: FindingKind, rng: random.Random) -> Statement:
    place, when = where(channels_of(facts, [kind])), _when(facts, kind)
    name = f"a {KIND_WORDS[kind]}" if kind == FindingKind.FLAT_CHANNEL else KIND_WORDS[kind]
    forms = (f"there is {name} {place}{when}", f"{name} {place}{when}", f"the page shows {name} {place}{when}")
    if name.endswith("s"):
        forms = (f"there are {name} {place}{when}", f"{name} are seen {place}{when}", f"the page shows {name} {place}{when}")
    return Statement(text=sentence(rng.choice(forms)), evidence=evidence_of(facts, [kind]))


def _artefact_sentences(facts: Facts, rng: random.Random) -> list[Statement]:
    kinds = present_of(facts, Family.ARTEFACT)
    if not kinds:
        return [Statement(text=rng.choice(("The page is free of artefacts.", "No artefacts are seen.", "There are no artefacts.")))]
    return [_seen(facts, kind, rng) for kind in kinds]


def _sleep_sentences(facts: Facts, rng: random.Random) -> list[Statement]:
    kinds = present_of(facts, Family.SLEEP)
    if not kinds:
        return [Statement(text=rng.choice(("There are no sleep events.", "No transients of sleep are seen.", "Sleep events are absent.")))]
    return [_seen(facts, kind, rng) for kind in kinds]


def _discharge_sentences(facts: Facts, rng: random.Random) -> list[Statement]:
    seizure = [Statement(text="A seizure is in progress.")] if facts.annotation.seizure else []
    discharge = main_discharge(facts)
    if discharge is None:
        forms = ("No epileptiform discharges are seen.", "There are no epileptiform discharges.", "Epileptiform discharges are absent.")
        return [*seizure, Statement(text=rng.choice(forms))]
    name, when = f"{discharge.location} {KIND_WORDS[discharge.kind]}", _when(facts, discharge.kind)
    forms = (
        f"there are {name}{when}, with their maximum at {discharge.maximum}",
        f"{name} are seen{when}, maximal at {discharge.maximum}",
        f"epileptiform discharges: {name}{when}, maximum at {discharge.maximum}",
    )
    others = [kind for kind in present_of(facts, Family.EPILEPTIFORM) if kind != discharge.kind]
    return [*seizure, Statement(text=sentence(rng.choice(forms)), evidence=discharge.evidence), *(_seen(facts, k, rng) for k in others)]


def _background_sentences(facts: Facts, rng: random.Random) -> list[Statement]:
    result = []
    vigilance = state(facts)
    if vigilance is not None:
        text = rng.choice((f"the state is {vigilance.text}", f"the patient is in this state: {vigilance.text}", f"state: {vigilance.text}"))
        result.append(Statement(text=sentence(text), evidence=vigilance.evidence))
    regions = [
        f"{REGION_ADVERBS[r.region]} {r.amplitude_uv:.0f} µV with most power in the {r.band} band at {r.dominant_hz:.0f} Hz"
        for r in facts.annotation.background
    ]
    if regions:
        lead = rng.choice(("The background is", "Background activity is", "The background measures"))
        result.append(Statement(text=f"{lead} {listed(regions)}."))
    for kind in present_of(facts, Family.BACKGROUND):
        text = "the alpha rhythm is posterior" if kind == FindingKind.ALPHA_RHYTHM else _background_words(facts, kind)
        result.append(Statement(text=sentence(text), evidence=evidence_of(facts, [kind])))
    return result


def _background_words(facts: Facts, kind: FindingKind) -> str:
    if kind == FindingKind.LOW_VOLTAGE:
        return "the voltage is low"
    return f"there is {_with_region(facts, kind)}"
