"""Words: names of findings, lists of electrodes, and the phrasings of every question."""

from __future__ import annotations

import random
from collections.abc import Sequence

from cg_data.records import content_id
from cg_data.vocabulary import FindingKind, Montage, Region

KIND_WORDS: dict[FindingKind, str] = {
    FindingKind.ALPHA_RHYTHM: "alpha rhythm",
    FindingKind.BETA_ACTIVITY: "beta activity",
    FindingKind.THETA_ACTIVITY: "theta activity",
    FindingKind.DELTA_ACTIVITY: "delta activity",
    FindingKind.ASYMMETRY: "asymmetry",
    FindingKind.LOW_VOLTAGE: "low voltage",
    FindingKind.SLOWING: "slowing",
    FindingKind.BLINK: "blinks",
    FindingKind.LATERAL_EYE_MOVEMENT: "lateral eye movements",
    FindingKind.MUSCLE: "muscle artefact",
    FindingKind.ELECTRODE_FAULT: "electrode artefact",
    FindingKind.FLAT_CHANNEL: "flat channel",
    FindingKind.MAINS: "mains interference",
    FindingKind.RESPIRATION: "respiration artefact",
    FindingKind.ECG: "ECG artefact",
    FindingKind.SWEAT: "sweat artefact",
    FindingKind.ELECTRODE_POP: "electrode pops",
    FindingKind.CLIPPING: "clipping",
    FindingKind.SLEEP_SPINDLE: "sleep spindles",
    FindingKind.K_COMPLEX: "K-complexes",
    FindingKind.SPIKE: "spikes",
    FindingKind.SHARP_WAVE: "sharp waves",
    FindingKind.SPIKE_AND_SLOW_WAVE: "spike-and-slow-wave complexes",
}
SINGULAR_WORDS: dict[FindingKind, str] = {
    FindingKind.BLINK: "blink",
    FindingKind.SLEEP_SPINDLE: "sleep spindle",
    FindingKind.K_COMPLEX: "K-complex",
    FindingKind.SPIKE: "spike",
    FindingKind.SHARP_WAVE: "sharp wave",
}
"""One of those that can be counted."""
MONTAGE_WORDS: dict[Montage, str] = {
    Montage.AVERAGE: "average reference",
    Montage.LINKED_EARS: "linked-ear reference",
    Montage.LONGITUDINAL_BIPOLAR: "longitudinal bipolar montage",
    Montage.TRANSVERSE_BIPOLAR: "transverse bipolar montage",
    Montage.TCP: "TCP bipolar montage",
    Montage.LAPLACIAN: "Laplacian montage",
    Montage.CZ: "Cz reference",
    Montage.RECORDED: "reference as recorded",
}
REGION_ADVERBS: dict[Region, str] = {
    Region.FRONTAL: "frontally",
    Region.CENTRAL: "centrally",
    Region.TEMPORAL: "temporally",
    Region.POSTERIOR: "posteriorly",
}
MANY = 6
"""From so many electrodes on, a list is replaced by "widespread"."""

BINARY_QUESTIONS: dict[str, tuple[str, ...]] = {
    "sleep_spindle": ("Are there sleep spindles on this page?", "Are sleep spindles seen?", "Does this page show sleep spindles?"),
    "k_complex": ("Are there K-complexes on this page?", "Are K-complexes seen?", "Does this page show a K-complex?"),
    "epileptiform": (
        "Are there epileptiform discharges on this page?",
        "Are epileptiform discharges seen?",
        "Does this page show epileptiform discharges?",
    ),
    "blink": ("Are there blinks on this page?", "Are blinks seen?", "Does this page show blinks?"),
    "lateral_eye_movement": (
        "Are there lateral eye movements on this page?",
        "Are lateral eye movements seen?",
        "Does this page show lateral eye movements?",
    ),
    "muscle": ("Is there muscle artefact on this page?", "Is muscle artefact seen?", "Does this page show muscle artefact?"),
    "alpha_rhythm": (
        "Is there a posterior alpha rhythm on this page?",
        "Is a posterior alpha rhythm seen?",
        "Does this page show an alpha rhythm?",
    ),
    "flat_channel": ("Is there a flat channel on this page?", "Is any channel flat?", "Does this page show a flat channel?"),
    "electrode_fault": (
        "Is there electrode artefact on this page?",
        "Is any electrode faulty?",
        "Does this page show electrode artefact?",
    ),
}
MCQ_QUESTIONS: dict[str, tuple[str, ...]] = {
    "finding": ("Which of these is seen on this page?", "Which finding does this page show?", "Which one of these is present?"),
    "stage": ("Which state of vigilance does this page show?", "What is the state of vigilance?", "Which state is this?"),
}
OPEN_QUESTIONS: dict[str, tuple[str, ...]] = {
    **MCQ_QUESTIONS,  # the same words without options, so that the likelihood of an option's text is that of a trained answer
    "epileptiform": (
        "Which epileptiform discharge is seen?",
        "What is the main epileptiform discharge?",
        "Which epileptiform discharge does this page show?",
    ),
    "artefact": ("Which artefact is most prominent?", "What is the most prominent artefact?", "Which artefact stands out?"),
    "posterior_rhythm": (
        "What is the dominant posterior rhythm?",
        "Which rhythm is dominant posteriorly?",
        "Which band dominates the posterior background?",
    ),
}
COMPLEX_QUESTIONS: tuple[str, ...] = (
    "Considering the whole page, which combination is present?",
    "Both parts of one answer must be seen on this page. Which one is right?",
    "Taking background, artefacts, sleep events and discharges together, which statement fits this page?",
)
CAPTION_QUESTIONS: tuple[str, ...] = ("Summarise this page.", "Give a short report of this page.", "What does this page show?")
DESCRIPTION_QUESTIONS: tuple[str, ...] = (
    "Describe this page in full.",
    "Write a full description of this EEG page.",
    "Describe artefacts, sleep events, discharges and background of this page.",
)


def seeded(*parts: object) -> random.Random:
    """A random generator that depends on `parts` alone, so the order of work never matters."""
    return random.Random(int(content_id(*parts), 16))


def listed(names: Sequence[str]) -> str:
    """ "C3", "C3 and Cz", "C3, Cz and C4"."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def where(channels: Sequence[str]) -> str:
    """ "at C3 and Cz", or "widespread" for `MANY` electrodes and more."""
    return "widespread" if len(channels) >= MANY else f"at {listed(channels)}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def times(onsets_s: Sequence[float]) -> str:
    """Where on the time axis: "at 2 s", "at 2 and 7 s", "five times from 1 to 9 s"."""
    seconds = list(dict.fromkeys(round(onset_s) for onset_s in onsets_s))
    if len(seconds) <= 3:
        return f"at {listed([str(s) for s in seconds])} s"
    return f"repeatedly from {seconds[0]} to {seconds[-1]} s"


def hertz(frequency_hz: float) -> str:
    """ "9.5 Hz", "10 Hz"."""
    return f"{frequency_hz:.1f}".removesuffix(".0") + " Hz"
