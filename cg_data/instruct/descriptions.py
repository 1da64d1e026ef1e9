"""Descriptions by rule: the page in full, in varied wording, in the paper's five aspects."""

from __future__ import annotations

import random

from cg_data.instruct.captions import discharge_words, joined, place_words, present_of
from cg_data.instruct.facts import (
    Discharge,
    Facts,
    Statement,
    band_of,
    channels_of,
    evidence_of,
    groups_of,
    is_reactive,
    main_discharge,
    reversal_of,
    state,
)
from cg_data.instruct.wording import KIND_WORDS, MANY, MONTAGE_WORDS, REGION_ADVERBS, hertz, listed, sentence, times, where
from cg_data.records import Dipole, PosteriorRhythm
from cg_data.vocabulary import SEGMENT_S, Band, Family, FindingKind

RUN_S = 1.5
"""A group of events from this length on is told from its beginning to its end."""


def description(facts: Facts, rng: random.Random) -> Statement:
    """A fuller text in varied wording: when, where, how often, how the discharges lie, and the background of every region."""
    parts = [
        *_montage_sentences(facts, rng),
        *_artefact_sentences(facts, rng),
        *_sleep_sentences(facts, rng),
        *_discharge_sentences(facts, rng),
        *_background_sentences(facts, rng),
    ]
    return joined(parts)


def _montage_sentences(facts: Facts, rng: random.Random) -> list[Statement]:
    page = rng.choice(
        (
            "The page shows ten seconds of the 10-20 system.",
            "Ten seconds of EEG from the electrodes of the 10-20 system are shown.",
            "This is a ten-second page in the 10-20 system.",
        )
    )
    reference = MONTAGE_WORDS[facts.montage]
    forms = (f"Montage: {reference}.", f"It is shown with {reference}.", f"The derivations: {reference}.")
    recorded = "All nineteen channels were recorded."
    if facts.missing:
        recorded = f"{listed(facts.missing)} {'was' if len(facts.missing) == 1 else 'were'} not recorded."
    return [Statement(text=page), Statement(text=rng.choice(forms)), Statement(text=recorded)]


def _when(facts: Facts, kind: FindingKind) -> str:
    """Times of the groups of events of `kind`, or of its measured findings; nothing where it spans the page. A run has two ends."""
    groups = groups_of(facts, kind)
    if len(groups) == 1 and groups[0].duration_s >= RUN_S:
        return f" from {groups[0].onset_s:.0f} to {groups[0].onset_s + groups[0].duration_s:.0f} s"
    onsets_s = [group.onset_s for group in groups]
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
    seizure = [Statement(text=rng.choice(("A seizure is in progress.", "The page shows a seizure.", "A seizure is seen.")))]
    seizure = seizure if facts.annotation.seizure else []
    discharge = main_discharge(facts)
    if discharge is None:
        forms = ("No epileptiform discharges are seen.", "There are no epileptiform discharges.", "Epileptiform discharges are absent.")
        return [*seizure, Statement(text=rng.choice(forms))]
    name, when = discharge_words(facts, discharge), _when(facts, discharge.kind)
    forms = (
        f"there are {name}{when}, with their maximum at {discharge.maximum}",
        f"{name} are seen{when}, maximal at {discharge.maximum}",
        f"epileptiform discharges: {name}{when}, maximum at {discharge.maximum}",
    )
    said = [Statement(text=sentence(rng.choice(forms)), evidence=discharge.evidence), *_dipole_sentences(discharge, rng)]
    others = [kind for kind in present_of(facts, Family.EPILEPTIFORM) if kind != discharge.kind]
    return [*seizure, *said, *(_seen(facts, k, rng) for k in others)]


def _dipole_sentences(discharge: Discharge, rng: random.Random) -> list[Statement]:
    """How the main discharge lies on the scalp: sign and height, field, phase reversal, second pole."""
    dipole = discharge.dipole
    if dipole is None:
        return []
    return [Statement(text=sentence(text), evidence=discharge.evidence) for text in _dipole_texts(dipole, KIND_WORDS[dipole.kind], rng)]


def _dipole_texts(dipole: Dipole, name: str, rng: random.Random) -> list[str]:
    uv, field, reversal, opposite = f"{dipole.amplitude_uv:.0f} µV", where(dipole.field), reversal_of(dipole), dipole.opposite
    forms = [
        (
            f"the {name} are surface-{dipole.polarity} and reach {uv}",
            f"the {name} have surface {dipole.polarity} polarity, with an amplitude of {uv}",
            f"the {name} are surface-{dipole.polarity}, with up to {uv}",
        )
    ]
    if len(dipole.field) > 1:
        wide = (f"the {name} have a widespread field", f"the {name} are widespread")
        narrow = (f"the {name} have a field {field}", f"the {name} are seen {field} in their field")
        forms.append((f"the field of the {name} is {field}", *(wide if len(dipole.field) >= MANY else narrow)))
    if reversal:
        bipolar = f"in bipolar derivations the {name} reverse phase at {reversal}"
        forms.append((f"the {name} have their phase reversal at {reversal}", f"the {name} show phase reversal at {reversal}", bipolar))
    if opposite:
        dipolar = f"the dipole of the {name} is tangential, with the second pole at {opposite}"
        also = f"the {name} are tangential, with their opposite pole at {opposite}"
        forms.append((f"the {name} have a tangential dipole with the opposite pole at {opposite}", dipolar, also))
    return [rng.choice(texts) for texts in forms]


def _background_sentences(facts: Facts, rng: random.Random) -> list[Statement]:
    result = []
    vigilance = state(facts)
    if vigilance is not None:
        text = rng.choice((f"the state is {vigilance.text}", f"the patient is in this state: {vigilance.text}", f"state: {vigilance.text}"))
        result.append(Statement(text=sentence(text), evidence=vigilance.evidence))
    posterior = facts.annotation.posterior
    if posterior is not None:
        result += _rhythm_sentences(facts, posterior, rng)
    regions = [
        f"{REGION_ADVERBS[r.region]} {r.amplitude_uv:.0f} µV with most power in the {r.band} band at {r.dominant_hz:.0f} Hz"
        for r in facts.annotation.background
    ]
    if regions:
        lead = rng.choice(("The background is", "Background activity is", "The background measures"))
        result.append(Statement(text=f"{lead} {listed(regions)}."))
    for kind in present_of(facts, Family.BACKGROUND):
        if kind is not FindingKind.ALPHA_RHYTHM or posterior is None:
            result.append(Statement(text=sentence(rng.choice(_background_forms(facts, kind))), evidence=evidence_of(facts, [kind])))
    return result


def _background_forms(facts: Facts, kind: FindingKind) -> tuple[str, ...]:
    if kind is FindingKind.ALPHA_RHYTHM:
        return ("the alpha rhythm is posterior", "an alpha rhythm is seen posteriorly", "there is a posterior alpha rhythm")
    if kind is FindingKind.LOW_VOLTAGE:
        return ("the voltage is low", "this is a low voltage record", "the background is of low voltage")
    words = place_words(facts, kind)
    return (f"there is {words}", f"the page shows {words}", f"{words} is seen" if "," not in words else f"noted is {words}")


def _rhythm_sentences(facts: Facts, rhythm: PosteriorRhythm, rng: random.Random) -> list[Statement]:
    """Frequency and amplitude of the posterior dominant rhythm, its sides and its reactivity, as far as they are known."""
    band = band_of(rhythm.frequency_hz)
    hz, uv = hertz(rhythm.frequency_hz), f"{rhythm.amplitude_uv:.0f} µV"
    forms = [
        f"the posterior dominant rhythm is {hz} with an amplitude of {uv}",
        f"there is a posterior dominant rhythm of {hz} and {uv}",
        f"a posterior dominant rhythm of {hz} is seen, {uv} in amplitude",
    ]
    if band is Band.ALPHA and FindingKind.ALPHA_RHYTHM in facts.kinds:
        forms.append(f"the posterior alpha rhythm is {hz} with an amplitude of {uv}")
    texts = [rng.choice(forms)]
    if rhythm.symmetric is False and rhythm.left_hz is not None and rhythm.right_hz is not None:
        left, right = hertz(rhythm.left_hz), hertz(rhythm.right_hz)
        forms = [f"the posterior rhythm is {left} on the left and {right} on the right"]
        texts.append(rng.choice((*forms, f"on the left the posterior rhythm is {left}, on the right {right}")))
    elif rhythm.symmetric and FindingKind.ASYMMETRY not in facts.kinds:
        texts.append(rng.choice(("the posterior rhythm is symmetric", "its sides are symmetric", "the rhythm is symmetrical")))
    reactive = is_reactive(rhythm)
    if reactive is not None:
        yes = ("is reactive to eye opening", "attenuates with eye opening", "is blocked: it attenuates on eye opening")
        no = ("is not reactive to eye opening", "is unreactive", "shows no reactivity")
        texts.append(f"the posterior rhythm {rng.choice(yes if reactive else no)}")
    evidence = (rhythm.rhythm_id, *(evidence_of(facts, [FindingKind.ALPHA_RHYTHM]) if band is Band.ALPHA else ()))
    return [Statement(text=sentence(text), evidence=evidence) for text in texts]
