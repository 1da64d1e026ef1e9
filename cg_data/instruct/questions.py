"""Questions with one right answer: yes or no, short open answers, choices of four; and how such answers are read back."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable, Mapping, Sequence

from cg_data.instruct.facts import STATES, Facts, Statement, channels_of, dominant_rhythm, evidence_of, main_artefact, main_discharge, state
from cg_data.instruct.wording import (
    BINARY_QUESTIONS,
    COMPLEX_QUESTIONS,
    KIND_WORDS,
    MCQ_QUESTIONS,
    OPEN_QUESTIONS,
    sentence,
    where,
)
from cg_data.vocabulary import FindingKind, Region

BINARY_KINDS: dict[str, tuple[FindingKind, ...]] = {
    "sleep_spindle": (FindingKind.SLEEP_SPINDLE,),
    "k_complex": (FindingKind.K_COMPLEX,),
    "epileptiform": (FindingKind.SPIKE, FindingKind.SHARP_WAVE, FindingKind.SPIKE_AND_SLOW_WAVE),
    "blink": (FindingKind.BLINK,),
    "lateral_eye_movement": (FindingKind.LATERAL_EYE_MOVEMENT,),
    "muscle": (FindingKind.MUSCLE,),
    "alpha_rhythm": (FindingKind.ALPHA_RHYTHM,),
    "flat_channel": (FindingKind.FLAT_CHANNEL,),
    "electrode_fault": (FindingKind.ELECTRODE_FAULT,),
}
"""Topics of yes/no questions and the kinds of finding of which any makes the answer yes."""
BINARY_TOPICS: tuple[str, ...] = tuple(BINARY_KINDS)
OPEN_TOPICS: tuple[str, ...] = tuple(OPEN_QUESTIONS)
CHOICE_KINDS: tuple[FindingKind, ...] = tuple(kind for kinds in BINARY_KINDS.values() for kind in kinds)
"""Kinds that stand among the options of a multiple-choice question."""
N_OPTIONS = 4
LETTERS = "ABCDEFGH"
STATE_SHARE = 0.25
"""Share of the multiple-choice questions that ask for the state, where it is known."""
NONE = "none"
ANY_ANSWER_TOPIC = "finding"
"""The open topic to which a page may have several right answers: trained, not marked."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A question and its answer; `positive` is False where the answer is "no" or "none"."""

    topic: str
    question: str
    answer: Statement
    positive: bool = True
    options: tuple[str, ...] = ()
    answer_index: int = -1


def ask_binary(facts: Facts, topic: str, rng: random.Random) -> Asked:
    """A yes/no question. The answer starts with "Yes." or "No."; every other yes says where."""
    kinds = BINARY_KINDS[topic]
    question = rng.choice(BINARY_QUESTIONS[topic])
    reason = rng.random() < 0.5
    if not facts.kinds.intersection(kinds):
        return Asked(topic=topic, question=question, answer=Statement(text="No."), positive=False)
    text = f"Yes. {sentence(where(channels_of(facts, kinds)))}" if reason else "Yes."
    return Asked(topic=topic, question=question, answer=Statement(text=text, evidence=evidence_of(facts, kinds)))


def ask_open(facts: Facts, topic: str, rng: random.Random) -> Asked | None:
    """A question with a short answer in plain words, or None where the page does not tell."""
    question = rng.choice(OPEN_QUESTIONS[topic])
    answer = _some_finding(facts, rng) if topic == ANY_ANSWER_TOPIC else _OPEN_ANSWERS[topic](facts)
    return None if answer is None else Asked(topic=topic, question=question, answer=answer, positive=answer.text != NONE)


def _some_finding(facts: Facts, rng: random.Random) -> Statement | None:
    """One of the findings, drawn at random: what the likelihood of a multiple-choice option is learnt from."""
    present, _ = _split(facts)
    if not present:
        return None
    kind = rng.choice(present)
    return Statement(text=KIND_WORDS[kind], evidence=evidence_of(facts, [kind]))


def _discharge_answer(facts: Facts) -> Statement:
    discharge = main_discharge(facts)
    if discharge is None:
        return Statement(text=NONE)
    return Statement(text=f"{discharge.location} {KIND_WORDS[discharge.kind]}", evidence=discharge.evidence)


def _artefact_answer(facts: Facts) -> Statement:
    kind = main_artefact(facts)
    return Statement(text=NONE) if kind is None else Statement(text=KIND_WORDS[kind], evidence=evidence_of(facts, [kind]))


_OPEN_ANSWERS: Mapping[str, Callable[[Facts], Statement | None]] = {
    "stage": state,
    "epileptiform": _discharge_answer,
    "artefact": _artefact_answer,
    "posterior_rhythm": lambda facts: dominant_rhythm(facts, Region.POSTERIOR),
}


def ask_choice(facts: Facts, rng: random.Random, prevalence: Mapping[FindingKind, float]) -> Asked | None:
    """A question with four options in random order, exactly one of them true of the page; None where nothing can be asked.

    `prevalence` draws the false options: each kind is offered falsely about three times as often as it is right, so that the options
    without the page say little.
    """
    present, absent = _split(facts)
    vigilance = state(facts)
    if vigilance is not None and (not present or rng.random() < STATE_SHARE):
        wrong = other_states(vigilance.text, rng)[: N_OPTIONS - 1]
        return choice("stage", rng.choice(MCQ_QUESTIONS["stage"]), vigilance, wrong, rng)
    if not present or len(absent) < N_OPTIONS - 1:
        return None
    kind = rng.choice(present)
    wrong = [KIND_WORDS[k] for k in _distractors(absent, rng, prevalence)]
    right = Statement(text=KIND_WORDS[kind], evidence=evidence_of(facts, [kind]))
    return choice(kind.value, rng.choice(MCQ_QUESTIONS["finding"]), right, wrong, rng)


def _distractors(absent: Sequence[FindingKind], rng: random.Random, prevalence: Mapping[FindingKind, float]) -> list[FindingKind]:
    """Three absent kinds, drawn without replacement with weight p / (1 - p) (Efraimidis and Spirakis 2006).

    A kind is right in proportion to p and absent in proportion to 1 - p, hence the weight.
    """
    shares = {kind: min(max(prevalence.get(kind, 0.0), 1e-3), 0.999) for kind in absent}
    keys = {kind: rng.random() ** ((1 - share) / share) for kind, share in shares.items()}
    return sorted(absent, key=lambda kind: -keys[kind])[: N_OPTIONS - 1]


def ask_complex_choice(facts: Facts, rng: random.Random, prevalence: Mapping[FindingKind, float]) -> Asked | None:
    """Four combinations of two findings (or of the state and a finding), of which only one holds in both parts.

    The true and the false version of each part stand in two options each, so the words alone do not give the answer away.
    """
    present, absent = _split(facts)
    vigilance = state(facts)
    if not present or len(absent) < 2 or (vigilance is None and len(present) < 2):
        return None
    second = rng.choice(present)
    false_kinds = _distractors(absent, rng, prevalence)
    if vigilance is None:
        first_kind = rng.choice([kind for kind in present if kind != second])
        first = Statement(text=KIND_WORDS[first_kind], evidence=evidence_of(facts, [first_kind]))
        false_first, topic = KIND_WORDS[false_kinds[1]], first_kind.value
    else:
        first, false_first, topic = vigilance, other_states(vigilance.text, rng)[0], "stage"
    pairs = [(a, b) for a in (first.text, false_first) for b in (KIND_WORDS[second], KIND_WORDS[false_kinds[0]])]
    right, *wrong = (f"{a}, with {b}" for a, b in pairs)
    answer = Statement(text=right, evidence=first.evidence + evidence_of(facts, [second]))
    return choice(f"{topic}+{second.value}", rng.choice(COMPLEX_QUESTIONS), answer, wrong, rng)


def _split(facts: Facts) -> tuple[list[FindingKind], list[FindingKind]]:
    present = [kind for kind in CHOICE_KINDS if kind in facts.kinds]
    return present, [kind for kind in CHOICE_KINDS if kind not in facts.kinds]


def other_states(right: str, rng: random.Random) -> list[str]:
    """States that are false where `right` is true, in random order, waking and deep sleep before the rarer ones.

    Plain "wake" (eyes unknown) rules out only the stages of sleep.
    """
    rare = ("N1 sleep", "REM sleep")
    false = [s for s in STATES if s != right and not (right == "wake" and s.startswith("wake"))]
    rng.shuffle(false)
    return sorted(false, key=lambda s: s in rare)


def choice(topic: str, question: str, right: Statement, wrong: Sequence[str], rng: random.Random) -> Asked:
    """A question with lettered options in random order."""
    options = [right.text, *wrong]
    rng.shuffle(options)
    index = options.index(right.text)
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    answer = Statement(text=f"{LETTERS[index]}. {right.text}", evidence=right.evidence)
    return Asked(topic=topic, question=f"{question}\n{lines}", answer=answer, options=tuple(options), answer_index=index)


def topic_prevalence(topic: str, prevalence: Mapping[FindingKind, float]) -> float | None:
    """Share of pages where the topic's answer is positive; kinds of one topic are taken as independent.

    None for a topic without a negative answer, such as the state: there is nothing to balance.
    """
    artefacts = (*BINARY_KINDS["blink"], *BINARY_KINDS["lateral_eye_movement"], *BINARY_KINDS["muscle"], FindingKind.MAINS)
    kinds = BINARY_KINDS.get(topic) or ((*artefacts, FindingKind.FLAT_CHANNEL, FindingKind.ELECTRODE_FAULT) if topic == "artefact" else ())
    if not kinds:
        return None
    none = 1.0
    for kind in kinds:
        none *= 1.0 - prevalence.get(kind, 0.0)
    return 1.0 - none


def keep_probability(positive: bool, share: float) -> float:
    """Probability with which a question is kept so that both answers come out equally often; `share` is that of the positive answer."""
    if positive:
        return min(1.0, (1.0 - share) / share) if share > 0 else 1.0
    return min(1.0, share / (1.0 - share)) if share < 1 else 1.0


_YES_NO = re.compile(r"^\W*(yes|no)\b", re.IGNORECASE)
_LETTER = re.compile(r"^\W*(?:(?:the\s+)?(?:answer|option|choice)\s*(?:is)?\s*:?\s*)?\(?([A-H])(?:[.):,]|\s*$)", re.IGNORECASE)


def parse_yes_no(text: str) -> bool | None:
    """True for an answer whose first word is yes, False for no, None for anything else."""
    match = _YES_NO.match(text)
    return None if match is None else match.group(1).lower() == "yes"


def parse_choice(text: str, options: Sequence[str]) -> int | None:
    """Index of the option that `text` names, by its leading letter ("B.", "(b)", "Answer: B") or else by the words of exactly one option.

    None where it names no option or several.
    """
    match = _LETTER.match(text)
    if match is not None:
        index = LETTERS.index(match.group(1).upper())
        return index if index < len(options) else None
    plain = text.lower()
    named = [i for i, option in enumerate(options) if re.search(rf"\b{re.escape(option.lower())}\b", plain)]
    longest = [i for i in named if not any(i != j and options[i].lower() in options[j].lower() for j in named)]
    return longest[0] if len(longest) == 1 else None
