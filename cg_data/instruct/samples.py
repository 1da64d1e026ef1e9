"""From a segment and its annotation to dialogues. A pure function of its arguments: no order, clock or other segment enters."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping

from cg_data.instruct.captions import caption
from cg_data.instruct.descriptions import description
from cg_data.instruct.detail_questions import OPEN, PRESENCE_KINDS, ask_complex_detail, ask_detail, topics
from cg_data.instruct.facts import Facts, Statement, facts_of
from cg_data.instruct.prompt import PROMPT_VERSION, first_turn
from cg_data.instruct.questions import (
    BINARY_TOPICS,
    OPEN_TOPICS,
    Asked,
    ask_binary,
    ask_choice,
    ask_complex_choice,
    ask_open,
    keep_probability,
    topic_prevalence,
)
from cg_data.instruct.wording import CAPTION_QUESTIONS, DESCRIPTION_QUESTIONS, seeded
from cg_data.records import Annotation, Message, Sample, Segment, content_id
from cg_data.settings import InstructSettings
from cg_data.vocabulary import FindingKind, SampleKind, SampleSource

Prevalence = Mapping[FindingKind, float]
CONVERSATION_OPENS = 2
"""Open questions in a conversation, beside all yes/no topics."""
CONVERSATION_DETAILS = 2
_DETAIL = "detail"


def prevalence(present: Iterable[frozenset[FindingKind]]) -> dict[FindingKind, float]:
    """Share of the pages that show each kind; all kinds are named, the absent ones with 0."""
    counts: Counter[FindingKind] = Counter()
    pages = 0
    for kinds in present:
        counts.update(kinds)
        pages += 1
    return {kind: counts[kind] / pages if pages else 0.0 for kind in FindingKind}


def samples_of(segment: Segment, annotation: Annotation, *, settings: InstructSettings, prevalence: Prevalence) -> list[Sample]:
    """All dialogues about one segment, in the numbers that `settings` asks for; a kind that finds nothing to ask gives fewer.

    Args:
        segment: the page; its signal goes into every sample.
        annotation: of the same segment.
        settings: numbers of each kind, and the seed.
        prevalence: share of pages with each kind of finding, to balance yes against no.
    """
    facts = facts_of(segment, annotation)
    made: list[tuple[SampleKind, Asked | None]] = []
    for index in range(settings.captions):
        made.append((SampleKind.CAPTION, _caption(facts, settings.seed, index)))
    for index in range(settings.descriptions):
        made.append((SampleKind.DESCRIPTION, _description(facts, settings.seed, index)))
    made += [(SampleKind.BINARY, asked) for asked in _binaries(facts, settings, prevalence)]
    made += [(SampleKind.OPEN, asked) for asked in _opens(facts, settings, prevalence)]
    for index in range(settings.mcqs):
        rng = seeded(settings.seed, segment.segment_id, SampleKind.MCQ, index)
        made.append((SampleKind.MCQ, ask_choice(facts, rng, prevalence)))
    for index in range(settings.complex_mcqs):
        rng = seeded(settings.seed, segment.segment_id, SampleKind.COMPLEX_MCQ, index)
        made.append((SampleKind.COMPLEX_MCQ, _complex(facts, rng, prevalence, detailed=settings.details > 0)))
    made += _details(facts, settings, prevalence)
    single = [_sample(segment, annotation, kind, i, asked.topic, [asked]) for i, (kind, asked) in enumerate(made) if asked is not None]
    talks = [_conversation(facts, settings, index) for index in range(settings.conversations)]
    return single + [_sample(segment, annotation, SampleKind.CONVERSATION, i, "conversation", turns) for i, turns in enumerate(talks)]


def _caption(facts: Facts, seed: int, index: int) -> Asked:
    rng = seeded(seed, facts.annotation.segment_id, SampleKind.CAPTION, index)
    return Asked(topic="caption", question=rng.choice(CAPTION_QUESTIONS), answer=caption(facts))


def _description(facts: Facts, seed: int, index: int) -> Asked:
    rng = seeded(seed, facts.annotation.segment_id, SampleKind.DESCRIPTION, index)
    return Asked(topic="description", question=rng.choice(DESCRIPTION_QUESTIONS), answer=description(facts, rng))


def _kept(asked: Asked, share: float | None, *seed: object) -> bool:
    return share is None or seeded(*seed, asked.topic, "keep").random() < keep_probability(asked.positive, share)


def _binaries(facts: Facts, settings: InstructSettings, prevalence: Prevalence) -> list[Asked]:
    """Yes/no questions on topics in random order, each kept with the probability that balances yes against no over the corpus."""
    return _balanced(BINARY_TOPICS, SampleKind.BINARY, settings.binaries, facts, settings.seed, prevalence)


def _opens(facts: Facts, settings: InstructSettings, prevalence: Prevalence) -> list[Asked]:
    """Open questions on topics in random order; those that ask for something that may be absent are balanced like yes and no."""
    return _balanced(OPEN_TOPICS, SampleKind.OPEN, settings.opens, facts, settings.seed, prevalence)


def _balanced(topics: tuple[str, ...], kind: SampleKind, number: int, facts: Facts, seed: int, prevalence: Prevalence) -> list[Asked]:
    segment_id = facts.annotation.segment_id
    order = list(topics)
    seeded(seed, segment_id, kind, "order").shuffle(order)
    result: list[Asked] = []
    for topic in order:
        rng = seeded(seed, segment_id, kind, topic)
        asked = ask_binary(facts, topic, rng) if kind == SampleKind.BINARY else ask_open(facts, topic, rng)
        if asked is not None and len(result) < number and _kept(asked, topic_prevalence(topic, prevalence), seed, segment_id, kind):
            result.append(asked)
    return result


def _complex(facts: Facts, rng: random.Random, prevalence: Prevalence, *, detailed: bool) -> Asked | None:
    """A combination of details on every other page that has some, else one of findings and state."""
    asked = ask_complex_detail(facts, rng) if detailed and rng.random() < 0.5 else None
    return asked if asked is not None else ask_complex_choice(facts, rng, prevalence)


def _details(facts: Facts, settings: InstructSettings, prevalence: Prevalence) -> list[tuple[SampleKind, Asked]]:
    """Questions about details in random order of topics; those about presence are balanced like yes and no."""
    segment_id, seed = facts.annotation.segment_id, settings.seed
    order = list(topics())
    seeded(seed, segment_id, _DETAIL, "order").shuffle(order)
    result: list[tuple[SampleKind, Asked]] = []
    for topic in order:
        if len(result) == settings.details:
            break
        found = ask_detail(facts, topic, seeded(seed, segment_id, _DETAIL, topic))
        share = prevalence.get(FindingKind(topic), 0.0) if topic in PRESENCE_KINDS else None
        if found is not None and _kept(found[1], share, seed, segment_id, _DETAIL):
            result.append(found)
    return result


def _conversation(facts: Facts, settings: InstructSettings, index: int) -> list[Asked]:
    """Every yes/no topic, up to two open ones and, where details are wanted, up to two of them, in random order."""
    rng = seeded(settings.seed, facts.annotation.segment_id, SampleKind.CONVERSATION, index)
    opens = [asked for topic in rng.sample(OPEN_TOPICS, len(OPEN_TOPICS)) if (asked := ask_open(facts, topic, rng)) is not None]
    turns = [ask_binary(facts, topic, rng) for topic in BINARY_TOPICS] + opens[:CONVERSATION_OPENS]
    if settings.details:
        found = [ask_detail(facts, topic, rng, alone=False) for topic in rng.sample(list(OPEN), len(OPEN))]
        turns += [detail[1] for detail in found if detail is not None][:CONVERSATION_DETAILS]
    rng.shuffle(turns)
    return turns


def _turn(question: str, answer: Statement) -> tuple[Message, Message]:
    return Message(role="user", content=question), Message(role="assistant", content=answer.text, evidence=answer.evidence)


def _sample(segment: Segment, annotation: Annotation, kind: SampleKind, index: int, topic: str, turns: list[Asked]) -> Sample:
    questions = [first_turn(turns[0].question), *(asked.question for asked in turns[1:])]
    messages = tuple(m for question, asked in zip(questions, turns, strict=True) for m in _turn(question, asked.answer))
    content = [(m.role, m.content, m.evidence) for m in messages]
    return Sample(
        sample_id=content_id("sample", segment.segment_id, kind, topic, index, PROMPT_VERSION, annotation.detector_version, content),
        segment_id=segment.segment_id,
        recording_id=segment.recording_id,
        corpus=segment.corpus,
        subject=segment.subject,
        split=segment.split,
        kind=kind,
        topic=topic,
        messages=messages,
        options=turns[0].options if len(turns) == 1 else (),
        answer_index=turns[0].answer_index if len(turns) == 1 else -1,
        source=SampleSource.RULE,
        prompt_version=PROMPT_VERSION,
        detector_version=annotation.detector_version,
        mask=segment.mask,
        eeg_steps=segment.eeg_steps,
    )
