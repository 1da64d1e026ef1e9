"""What an answer must beat: the most frequent answer to each topic in the training samples, and chance."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from cg_data.instruct.questions import parse_yes_no
from cg_data.vocabulary import SampleKind

Key = tuple[SampleKind, str]


def _key(kind: SampleKind, topic: str) -> Key:
    """What shares a usual answer. The topic of a multiple-choice question names the right option, so it must not be told."""
    return (kind, topic if kind is not SampleKind.MCQ or topic == "stage" else "finding")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A sample without its signal: what was asked, and the right answer in words (the option's text where there are options)."""

    kind: SampleKind
    topic: str
    truth: str


def normalise(text: str) -> str:
    """Lower case, single spaces, no full stop or quotes at the ends."""
    return re.sub(r"\s+", " ", text).strip().strip(".,;:!\"'`").casefold().strip()


def yes_or_no(text: str) -> str | None:
    """The word yes or no that `text` begins with, else None."""
    said = parse_yes_no(text)
    return None if said is None else ("yes" if said else "no")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Majority:
    """How often each answer was right, per kind and topic, in training samples."""

    counts: Mapping[Key, Counter[str]]

    @classmethod
    def learn(cls, questions: Iterable[Question]) -> Majority:
        counts: defaultdict[Key, Counter[str]] = defaultdict(Counter)
        for question in questions:
            yes_no = yes_or_no(question.truth) if question.kind is SampleKind.BINARY else None
            counts[_key(question.kind, question.topic)][yes_no or question.truth.strip()] += 1
        return cls(counts=dict(counts))

    def answer(self, kind: SampleKind, topic: str, options: Sequence[str] = ()) -> str | None:
        """The most frequent answer, among `options` where there are any; ties go to the first in the alphabet, None where none was seen."""
        seen = self.counts.get(_key(kind, topic), Counter())
        best = min(options or seen, key=lambda a: (-seen[a], a), default=None)
        return best if best is not None and seen[best] else None

    def answers(self, kind: SampleKind, topic: str, most: int) -> tuple[str, ...]:
        """Up to `most` answers seen, the most frequent first."""
        seen = self.counts.get(_key(kind, topic), Counter())
        return tuple(sorted(seen, key=lambda a: (-seen[a], a))[:most])
