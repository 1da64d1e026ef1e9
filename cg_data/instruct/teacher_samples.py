"""Samples from a teacher's answers, as far as the annotation bears them out. Pure: the store is read, nobody is asked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cg_data.instruct.check import MIN_KEPT
from cg_data.instruct.facts import Facts, Statement, facts_of
from cg_data.instruct.grounding import Grounded, ground
from cg_data.instruct.judge import Ruling
from cg_data.instruct.prompt import PROMPT_VERSION, first_turn
from cg_data.instruct.questions import LETTERS
from cg_data.instruct.teacher import is_chosen
from cg_data.instruct.teacher_answers import ChoiceAnswer, ConversationAnswer, DescriptionAnswer, parse_answer
from cg_data.instruct.teacher_prompts import TEACHER_KINDS, TEACHER_VERSION, context_of, request_of
from cg_data.instruct.teacher_store import TeacherStore
from cg_data.instruct.wording import DESCRIPTION_QUESTIONS, seeded
from cg_data.records import Annotation, Message, Sample, Segment, content_id
from cg_data.settings import TeacherSettings
from cg_data.vocabulary import SampleKind, SampleSource

MIN_TURNS = 2
TOPIC = "teacher"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """Samples, and how often what was counted: "answers", "unanswered", "sentences dropped" and "rejected: ..." for each reason."""

    samples: tuple[Sample, ...] = ()
    counts: Counter[str] = dataclasses.field(default_factory=Counter)


class _RejectedError(Exception):
    """An answer that rests on what the annotation does not tell."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Dialogue:
    turns: tuple[tuple[str, Statement], ...]
    options: tuple[str, ...] = ()
    answer_index: int = -1
    dropped: int = 0


def taught_samples(segment: Segment, annotation: Annotation, *, settings: TeacherSettings, store: TeacherStore) -> Taken:
    """What the teacher said of one page and the annotation bears out."""
    counts: Counter[str] = Counter()
    samples: list[Sample] = []
    if not is_chosen(segment.segment_id, segment.split, settings):
        return Taken()
    facts = facts_of(segment, annotation)
    ids = context_of(facts).ids
    for kind in TEACHER_KINDS:
        exchange = store.get(request_of(kind, facts, settings).key)
        if exchange is None or exchange.answer is None:
            counts["unanswered"] += 1
            continue
        counts["answers"] += 1
        try:
            dialogue = _dialogue(parse_answer(kind, exchange.answer), facts, ids)
        except _RejectedError as reason:
            counts[f"rejected: {kind.value}: {reason}"] += 1
            continue
        counts["sentences dropped"] += dialogue.dropped
        samples.append(_sample(segment, annotation, kind, dialogue, settings.model))
    return Taken(samples=tuple(samples), counts=counts)


def _statement(grounded: Grounded, text: str, references: Iterable[str], ids: Mapping[str, tuple[str, ...]]) -> Statement:
    """Evidence is what the check found; what the teacher named counts too where nothing had to be dropped, for it may be about that."""
    named = [name for reference in references for name in ids.get(reference, ())] if grounded.is_clean else []
    return Statement(text=text, evidence=tuple(dict.fromkeys((*grounded.evidence, *named))))


def _supported(grounded: Grounded) -> int:
    return sum(verdict.verdict is Ruling.SUPPORTED for verdict in grounded.verdicts)


def _dropped(grounded: Grounded) -> int:
    return sum(not verdict.stands for verdict in grounded.verdicts)


def _description(answer: DescriptionAnswer, facts: Facts, ids: Mapping[str, tuple[str, ...]]) -> _Dialogue:
    grounded = ground(answer.text, facts)
    dropped = _dropped(grounded)
    if not _supported(grounded) or dropped > (1 - MIN_KEPT) * len(grounded.verdicts):
        raise _RejectedError("most of it is not borne out")
    question = seeded(TOPIC, facts.annotation.segment_id).choice(DESCRIPTION_QUESTIONS)
    return _Dialogue(turns=((question, _statement(grounded, grounded.kept_text, answer.evidence, ids)),), dropped=dropped)


def _choice(answer: ChoiceAnswer, facts: Facts, ids: Mapping[str, tuple[str, ...]]) -> _Dialogue:
    """Options in an order of our own, for models like to put the right one first."""
    grounded = [ground(option, facts, question=answer.question) for option in answer.options]
    best = grounded[answer.right]
    if not best.is_clean or not _supported(best):
        raise _RejectedError("the right option is not borne out")
    if any(one.is_clean for one in grounded if one is not best):
        raise _RejectedError("another option may be right, too")
    order = list(range(len(answer.options)))
    seeded(TOPIC, facts.annotation.segment_id, SampleKind.COMPLEX_MCQ).shuffle(order)
    options = tuple(answer.options[place] for place in order)
    right = order.index(answer.right)
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    said = _statement(best, f"{LETTERS[right]}. {options[right]}", answer.evidence, ids)
    return _Dialogue(turns=((f"{answer.question}\n{lines}", said),), options=options, answer_index=right)


def _conversation(answer: ConversationAnswer, facts: Facts, ids: Mapping[str, tuple[str, ...]]) -> _Dialogue:
    """Turns whose answers say something that is borne out; a turn without goes with its question."""
    turns, dropped = [], 0
    for turn in answer.turns:
        grounded = ground(turn.answer, facts, question=turn.question)
        dropped += _dropped(grounded)
        if _supported(grounded):
            turns.append((turn.question, _statement(grounded, grounded.kept_text, turn.evidence, ids)))
    if len(turns) < MIN_TURNS:
        raise _RejectedError(f"fewer than {MIN_TURNS} answers are borne out")
    return _Dialogue(turns=tuple(turns), dropped=dropped)


def _dialogue(answer: DescriptionAnswer | ChoiceAnswer | ConversationAnswer, facts: Facts, ids: Mapping[str, tuple[str, ...]]) -> _Dialogue:
    match answer:
        case DescriptionAnswer():
            return _description(answer, facts, ids)
        case ChoiceAnswer():
            return _choice(answer, facts, ids)
        case ConversationAnswer():
            return _conversation(answer, facts, ids)


def _messages(turns: Sequence[tuple[str, Statement]]) -> tuple[Message, ...]:
    messages = []
    for number, (question, answer) in enumerate(turns):
        messages.append(Message(role="user", content=question if number else first_turn(question)))
        messages.append(Message(role="assistant", content=answer.text, evidence=answer.evidence))
    return tuple(messages)


def _sample(segment: Segment, annotation: Annotation, kind: SampleKind, dialogue: _Dialogue, model: str) -> Sample:
    messages = _messages(dialogue.turns)
    version = f"{PROMPT_VERSION} {TEACHER_VERSION} {model}"
    content = [(m.role, m.content, m.evidence) for m in messages]
    return Sample(
        sample_id=content_id("sample", segment.segment_id, kind, SampleSource.LLM, version, annotation.detector_version, content),
        segment_id=segment.segment_id,
        recording_id=segment.recording_id,
        corpus=segment.corpus,
        subject=segment.subject,
        split=segment.split,
        kind=kind,
        topic=TOPIC,
        messages=messages,
        options=dialogue.options,
        answer_index=dialogue.answer_index,
        source=SampleSource.LLM,
        prompt_version=version,
        detector_version=annotation.detector_version,
        mask=segment.mask,
        eeg_steps=segment.eeg_steps,
    )
