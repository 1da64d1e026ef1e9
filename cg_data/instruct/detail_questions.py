"""Questions about details: yes or no with both answers equally often, four options, or a short answer in words."""

from __future__ import annotations

import random
from collections.abc import Mapping

from cg_data.instruct.details import DETAILS, RHYTHM, Detail, discharge_parts, rhythm_frequency
from cg_data.instruct.facts import Facts, Statement, band_of, evidence_of, state
from cg_data.instruct.judge import BAND_OF
from cg_data.instruct.questions import N_OPTIONS, Asked, choice, other_states
from cg_data.instruct.wording import COMPLEX_QUESTIONS, KIND_WORDS
from cg_data.vocabulary import FindingKind, SampleKind

PRESENCE_KINDS: tuple[FindingKind, ...] = (
    FindingKind.SLOWING,
    FindingKind.ASYMMETRY,
    FindingKind.LOW_VOLTAGE,
    FindingKind.THETA_ACTIVITY,
    FindingKind.DELTA_ACTIVITY,
    FindingKind.BETA_ACTIVITY,
    FindingKind.MAINS,
    FindingKind.RESPIRATION,
    FindingKind.ECG,
    FindingKind.SWEAT,
    FindingKind.ELECTRODE_POP,
    FindingKind.CLIPPING,
    FindingKind.SPIKE,
    FindingKind.SHARP_WAVE,
    FindingKind.SPIKE_AND_SLOW_WAVE,
)
"""Kinds of which only details ask whether they are there: the yes/no topics of `cg_data.instruct.questions` have no word for them."""

OPEN: Mapping[str, tuple[str, ...]] = {
    "maximum": ("Where {be} the {about} maximal?", "At which electrode {be} the {about} highest?", "Where is the maximum of the {about}?"),
    "phase_reversal": (
        "At which electrode {do} the {about} reverse phase?",
        "Where is the phase reversal of the {about}?",
        "Which electrode shows phase reversal of the {about}?",
    ),
    "polarity": ("What is the polarity of the {about}?", "Which polarity {do} the {about} have?", "Which sign {do} the {about} have?"),
    "side": ("On which side {be} the {about}?", "Which hemisphere shows the {about}?", "Which side {do} the {about} come from?"),
    "region": ("Over which region {be} the {about} seen?", "Which region shows the {about}?", "Where on the head {be} the {about} seen?"),
    "time": ("At what time {be} the {about} seen?", "When {do} the {about} occur?", "Where on the time axis {be} the {about}?"),
    "count": ("How many {about} are seen?", "What is the number of {about}?", "How often do {about} occur on this page?"),
    "rhythm_frequency": (
        "What is the frequency of the {about}?",
        "How fast is the {about}?",
        "How many hertz does the {about} have?",
    ),
    "rhythm_amplitude": ("What is the amplitude of the {about}?", "How high is the {about}?", "How many microvolts has the {about}?"),
    "reactivity": ("How does the {about} react to eye opening?", "{Be} the {about} reactive or unreactive?"),
    "missing": ("Which electrode is missing?", "Which electrode was not recorded?", "Which electrode does the page lack?"),
    "lookalike": ("What is seen {about}?", "What is the activity {about}?", "Which finding is seen {about}?"),
}
"""Open and multiple-choice questions of each topic."""
BINARY: Mapping[str, tuple[str, ...]] = {
    "maximum": ("{Do} the {about} have their {value}?", "{Do} the {about} show a {value}?", "{Be} the {about} seen with their {value}?"),
    "phase_reversal": ("{Do} the {about} show {value}?", "{Be} the {about} seen with {value}?", "Is there {value} in the {about}?"),
    "polarity": ("{Be} the {about} {value}?", "Are these {about} {value}?", "At the scalp, are the {about} {value}?"),
    "side": ("{Be} the {about} on the {value}?", "{Be} the {about} seen on the {value} side?", "{Do} the {about} lie on the {value} side?"),
    "region": ("{Be} the {about} {value}?", "{Be} the {about} seen over the {value} region?", "Does the {value} region show {about}?"),
    "time": ("{Be} {about} seen {value}?", "{Do} the {about} occur {value}?", "{Be} there {about} {value}?"),
    "count": ("Does this page show {value}?", "Does the page hold {value}?", "Can {value} be counted?"),
    "rhythm_frequency": ("{Be} the {about} about {value}?", "{Do} the {about} run at {value}?", "Is there a {about} of {value}?"),
    "rhythm_amplitude": (
        "{Be} the {about} about {value} high?",
        "{Do} the {about} reach about {value}?",
        "Is the amplitude of the {about} about {value}?",
    ),
    "reactivity": ("{Be} the {about} {value} to eye opening?", "{Be} the {about} {value}?", "Is this {about} {value}?"),
    "missing": ("Is it true that {value}?", "Does it hold that {value}?", "Is it so that {value}?"),
    "lookalike": ("Is the activity {about} {value}?", "Does the page show {value} {about}?", "Is what is seen {about} {value}?"),
}
"""Yes/no questions of each topic."""
PRESENCE: tuple[str, ...] = ("Is there {value} on this page?", "Is {value} seen?", "Does this page show {value}?")
PLURAL_PRESENCE: tuple[str, ...] = ("Are there {value} on this page?", "Are {value} seen?", "Does this page show {value}?")


def topics() -> tuple[str, ...]:
    """Everything that details may ask, in a fixed order."""
    return (*OPEN, *PRESENCE_KINDS)


def ask_detail(facts: Facts, topic: str, rng: random.Random, *, alone: bool = True) -> tuple[SampleKind, Asked] | None:
    """A question about one detail with its kind, or None where the page does not tell. Inside a conversation there are no options."""
    if topic in PRESENCE_KINDS:
        asked = _presence(facts, FindingKind(topic), rng)
        return None if asked is None else (SampleKind.BINARY, asked)
    detail = _MAKERS[topic](facts, rng)
    if detail is None:
        return None
    forms = [SampleKind.BINARY, SampleKind.OPEN]
    if alone and len(detail.wrong) >= N_OPTIONS - 1:
        forms.append(SampleKind.MCQ)
    kind = rng.choice(forms)
    return kind, _ASK[kind](detail, rng)


_MAKERS = dict(zip(OPEN, DETAILS, strict=True))


def _presence(facts: Facts, kind: FindingKind, rng: random.Random) -> Asked | None:
    """None for a band that only the posterior rhythm lies in: whether that is theta activity is a matter of words."""
    words, rhythm = KIND_WORDS[kind], facts.annotation.posterior
    if rhythm is not None and kind not in facts.kinds and BAND_OF.get(kind) == band_of(rhythm.frequency_hz):
        return None
    question = rng.choice(PLURAL_PRESENCE if words.endswith("s") else PRESENCE).format(value=words)
    shown = kind in facts.kinds
    answer = Statement(text="Yes.", evidence=evidence_of(facts, [kind])) if shown else Statement(text="No.")
    return Asked(topic=kind.value, question=question, answer=answer, positive=shown)


def _worded(template: str, detail: Detail, value: str = "") -> str:
    """The template with verbs that agree: "muscle artefact is", "spikes are"."""
    verbs = {"be": "are", "do": "do"} if detail.about.endswith("s") else {"be": "is", "do": "does"}
    return template.format(about=detail.about, value=value, **verbs, Be=verbs["be"].capitalize(), Do=verbs["do"].capitalize())


def _binary(detail: Detail, rng: random.Random) -> Asked:
    """Yes and no by the toss of a coin: for a no the first, most plausible, false values are named. Both rest on the finding."""
    yes = rng.random() < 0.5
    value = detail.right if yes else rng.choice(detail.wrong[: N_OPTIONS - 1])
    question = _worded(rng.choice(BINARY[detail.topic]), detail, value)
    answer = Statement(text="Yes." if yes else "No.", evidence=detail.evidence)
    return Asked(topic=detail.topic, question=question, answer=answer, positive=yes)


def _open(detail: Detail, rng: random.Random) -> Asked:
    question = _worded(rng.choice(OPEN[detail.topic]), detail)
    return Asked(topic=detail.topic, question=question, answer=Statement(text=detail.right, evidence=detail.evidence))


def _choice(detail: Detail, rng: random.Random) -> Asked:
    question = _worded(rng.choice(OPEN[detail.topic]), detail)
    right = Statement(text=detail.right, evidence=detail.evidence)
    return choice(detail.topic, question, right, detail.wrong[: N_OPTIONS - 1], rng)


_ASK = {SampleKind.BINARY: _binary, SampleKind.OPEN: _open, SampleKind.MCQ: _choice}


def ask_complex_detail(facts: Facts, rng: random.Random) -> Asked | None:
    """Four combinations of two of these: discharge and its side, posterior rhythm and its frequency, state. One holds in both parts."""
    parts: list[tuple[str, str, tuple[str, ...]]] = []
    vigilance = state(facts)
    if vigilance is not None:
        parts.append((vigilance.text, other_states(vigilance.text, rng)[0], vigilance.evidence))
    discharge = discharge_parts(facts, rng)
    if discharge is not None:
        parts.append(discharge)
    rhythm = rhythm_frequency(facts, rng)
    if rhythm is not None:
        parts.append((f"a {RHYTHM} of {rhythm.right}", f"a {RHYTHM} of {rhythm.wrong[0]}", rhythm.evidence))
    if len(parts) < 2:
        return None
    first, second = (parts[i] for i in sorted(rng.sample(range(len(parts)), 2)))
    right, *wrong = (f"{a}, with {b}" for a in first[:2] for b in second[:2])
    answer = Statement(text=right, evidence=first[2] + second[2])
    return choice("details", rng.choice(COMPLEX_QUESTIONS), answer, wrong, rng)
