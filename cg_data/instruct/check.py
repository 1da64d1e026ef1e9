"""What of a sample may stay: its answers held against the annotation, unsupported sentences dropped, or the whole sample rejected."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from cg_data.instruct.claims import Aspect
from cg_data.instruct.facts import Facts
from cg_data.instruct.grounding import Grounded, ground
from cg_data.instruct.judge import Ruling
from cg_data.instruct.prompt import page_statement
from cg_data.records import Message, Sample, content_id
from cg_data.vocabulary import SampleKind

ClaimCounts = Counter[tuple[Aspect, Ruling]]
MIN_KEPT = 0.5
"""A text of which less than this share of the sentences is borne out is not worth its rest."""
_TEXTS = frozenset({SampleKind.CAPTION, SampleKind.DESCRIPTION})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A sample that may not stay: why, and the claims of its answers by what they are about and by ruling."""

    sample_id: str
    kind: SampleKind
    reason: str
    counts: ClaimCounts


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One question and its answer, held against the annotation."""

    question: Message
    answer: Message
    grounded: Grounded

    @property
    def stands(self) -> bool:
        """Whether the answer proper, the first sentence that claims anything, is borne out."""
        first = next((v for v in self.grounded.verdicts if v.verdict is not Ruling.EMPTY), None)
        return first is not None and first.stands


def turns_of(sample: Sample, facts: Facts) -> tuple[Turn, ...]:
    """Every turn of a sample about a page with what the annotation says to it."""
    pairs = zip(sample.messages[::2], sample.messages[1::2], strict=True)
    return tuple(Turn(question=q, answer=a, grounded=ground(a.content, facts, question=q.content)) for q, a in pairs)


def claim_counts(turns: Iterable[Turn]) -> ClaimCounts:
    """Claims of all answers by what they are about and by ruling."""
    return sum((turn.grounded.counts() for turn in turns), Counter())


def grounded_sample(sample: Sample, facts: Facts) -> Sample | Rejected:
    """The sample as far as the annotation bears it out.

    Sentences that are not supported are dropped from captions, descriptions and reasons; turns of a conversation whose answer is not are
    dropped with their question. The sample is rejected where its answer itself is not supported, where less than half of a text would
    stay, or where a second option of a choice is right as well. A sample that needs no change is returned as it is.
    """
    turns = turns_of(sample, facts)
    reason = _fault(sample, turns, facts)
    if reason:
        return Rejected(sample_id=sample.sample_id, kind=sample.kind, reason=reason, counts=claim_counts(turns))
    if all(turn.grounded.is_clean for turn in turns):
        return sample
    kept = [turn for turn in turns if turn.stands or sample.kind in _TEXTS]
    messages = [m for number, turn in enumerate(kept) for m in _messages(turn, is_first=number == 0)]
    content = [(m.role, m.content, m.evidence) for m in messages]
    return dataclasses.replace(sample, sample_id=content_id("grounded", sample.sample_id, content), messages=tuple(messages))


def _fault(sample: Sample, turns: tuple[Turn, ...], facts: Facts) -> str:
    """Why the sample must go, or ""."""
    if sample.kind in _TEXTS:
        verdicts = [verdict for turn in turns for verdict in turn.grounded.verdicts]
        supported = sum(verdict.verdict is Ruling.SUPPORTED for verdict in verdicts)
        kept = sum(verdict.stands for verdict in verdicts)
        return "" if supported and kept >= MIN_KEPT * len(verdicts) else "most of it is not borne out"
    if sample.kind is SampleKind.CONVERSATION:
        return "" if any(turn.stands for turn in turns) else "no answer is borne out"
    if not turns[0].stands:
        return "the answer is not borne out"
    wrong = [option for place, option in enumerate(sample.options) if place != sample.answer_index]
    also = [option for option in wrong if _is_right(option, turns[0].question.content, facts)]
    return "another option is right, too" if also else ""


def _is_right(option: str, question: str, facts: Facts) -> bool:
    grounded = ground(option, facts, question=question)
    return grounded.is_clean and any(verdict.verdict is Ruling.SUPPORTED for verdict in grounded.verdicts)


def _messages(turn: Turn, *, is_first: bool) -> tuple[Message, Message]:
    """The turn with what stands of its answer; the page statement moves to the question that is now the first."""
    question = turn.question
    if is_first and page_statement() not in question.content:
        question = dataclasses.replace(question, content=f"{page_statement()} {question.content}")
    if turn.grounded.is_clean:
        return question, turn.answer
    return question, dataclasses.replace(turn.answer, content=turn.grounded.kept_text, evidence=turn.grounded.evidence)
