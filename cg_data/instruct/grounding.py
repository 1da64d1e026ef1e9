"""The grounding check: every sentence of a text held against the annotation of its page, and what may stay of a sample.

Serves the texts of our own rules, those of a teacher, and answers of the service. What the annotation does not tell is not let through,
whoever says it: an unsupported sentence is dropped, a sample whose answer rests on one is rejected.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter

from cg_data.instruct import terms
from cg_data.instruct.claims import Aspect, Claim
from cg_data.instruct.facts import Facts, evidence_of
from cg_data.instruct.judge import Ruling, judge
from cg_data.instruct.parse import Subject, parse
from cg_data.instruct.prompt import page_statement
from cg_data.vocabulary import FindingKind

_ABBREVIATIONS = r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\bca\.)(?<!\bapprox\.)(?<!\bresp\.)(?<!\bDr\.)(?<!^[A-H]\.)(?<!\n[A-H]\.)"
_SENTENCE_END = re.compile(rf"(?:{_ABBREVIATIONS}(?<=[.!?])(?<!\b\d\.)\s+(?=[\"'(*\-A-Z0-9])|\s*\n+\s*)")
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\d+[.)]\s+|\(?[A-H][.)]\s+)")
_YES_NO = re.compile(r"^\W*(yes|no)\b(?=\s*(?:[.,;:!]|$))\W*", re.IGNORECASE)
_NONE = re.compile(r"^\W*(?:none|nothing)\W*$", re.IGNORECASE)
_OTHERS = re.compile(r"\b(?:no|without) (?:other|further|additional)\b")
_DIPOLE_ASPECTS = frozenset({Aspect.MAXIMUM, Aspect.REVERSAL, Aspect.POLARITY, Aspect.ORIENTATION})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """One sentence, its claims and the ruling on each, and the ruling on the whole: the worst of them."""

    sentence: str
    claims: tuple[Claim, ...]
    rulings: tuple[Ruling, ...]
    verdict: Ruling

    @property
    def stands(self) -> bool:
        return self.verdict in (Ruling.SUPPORTED, Ruling.EMPTY)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Grounded:
    """A text with a verdict for every sentence. `kept_text` holds the supported and the empty ones, with the spaces between them as they
    were; `evidence` are the ids of the events, findings, dipoles and the rhythm that the supported ones rest on."""

    kept_text: str
    verdicts: tuple[Verdict, ...]
    evidence: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing had to go."""
        return all(verdict.stands for verdict in self.verdicts)

    def counts(self) -> Counter[tuple[Aspect, Ruling]]:
        """Number of claims by what they are about and by ruling."""
        return Counter((claim.aspect, ruling) for v in self.verdicts for claim, ruling in zip(v.claims, v.rulings, strict=True))


def sentences_of(text: str) -> list[tuple[str, str]]:
    """Sentences of `text`, each with the white space that follows it; a line of a list is a sentence."""
    result: list[tuple[str, str]] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        result.append((text[start : match.start()], match[0]))
        start = match.end()
    result.append((text[start:], ""))
    return [(sentence, space) for sentence, space in result if sentence.strip()]


def ground(text: str, facts: Facts, *, question: str = "") -> Grounded:
    """Hold every sentence of `text` against the annotation.

    Args:
        text: free text in English, or an answer.
        facts: what is known of the page.
        question: what `text` answers, so that "Yes." and "At C3." have something to speak of; lines after the first (options) are ignored.
    """
    asked = _asked(question)
    about = parse(asked).subject if asked else None
    affirmed: set[FindingKind] = set()
    verdicts: list[Verdict] = []
    kept: list[str] = []
    for index, (sentence, space) in enumerate(sentences_of(text)):
        verdict, about = _verdict(sentence, facts, about, asked if index == 0 else "", frozenset(affirmed))
        verdicts.append(verdict)
        affirmed.update(kind for c in verdict.claims if c.aspect is Aspect.FINDING and not c.negated for kind in c.kinds)
        if verdict.stands:
            kept += [sentence, space]
    evidence = dict.fromkeys(key for verdict in verdicts if verdict.stands for key in _evidence(verdict, facts))
    return Grounded(kept_text="".join(kept).strip(), verdicts=tuple(verdicts), evidence=tuple(evidence))


def _asked(question: str) -> str:
    """The question proper: without the page statement, options, and sentences before it."""
    line = question.replace(page_statement(), "").strip().split("\n", 1)[0]
    sentences = [sentence for sentence, _ in sentences_of(line)]
    return sentences[-1].rstrip(" ?") if sentences else ""


def _verdict(
    sentence: str, facts: Facts, about: Subject | None, asked: str, affirmed: frozenset[FindingKind]
) -> tuple[Verdict, Subject | None]:
    said = _BULLET.sub("", sentence)
    claims: list[Claim] = []
    rulings: list[Ruling] = []
    answer = _YES_NO.match(said)
    if asked and (answer is not None or _NONE.match(said)):
        yes = answer is not None and answer[1].lower() == "yes"
        claims, rulings = _answered(asked, facts, yes=yes)
        said = said[answer.end() :] if answer is not None else ""
    if said.rstrip().endswith("?"):
        return Verdict(sentence=sentence, claims=(), rulings=(), verdict=Ruling.EMPTY), about
    parsed = parse(said, about)
    spoken = [_without(claim, affirmed) for claim in parsed.claims] if _OTHERS.search(terms.plain(said)) else list(parsed.claims)
    claims += spoken
    rulings += [judge(claim, facts) for claim in spoken]
    return Verdict(sentence=sentence, claims=tuple(claims), rulings=tuple(rulings), verdict=worst(rulings)), parsed.subject


def worst(rulings: list[Ruling]) -> Ruling:
    """Contradicted before unsupported before supported; empty without any."""
    order = (Ruling.CONTRADICTED, Ruling.UNSUPPORTED, Ruling.SUPPORTED)
    return next((ruling for ruling in order if ruling in rulings), Ruling.EMPTY)


def _answered(asked: str, facts: Facts, *, yes: bool) -> tuple[list[Claim], list[Ruling]]:
    """Claims of a yes or of a no. A no is right where any part of what was asked is false, wrong where all of it is true."""
    claims = list(parse(asked).claims) or [Claim(aspect=Aspect.OTHER, of=Aspect.OTHER, names=("answer",))]
    rulings = [judge(claim, facts) for claim in claims]
    if yes:
        return claims, rulings
    whole = {Ruling.CONTRADICTED: Ruling.SUPPORTED, Ruling.SUPPORTED: Ruling.CONTRADICTED}.get(worst(rulings))
    heads = [dataclasses.replace(c, negated=not c.negated) for c in claims if c.aspect is Aspect.FINDING or c.of is c.aspect]
    if whole is not None:
        return heads, [whole] * len(heads)
    told = any(c.aspect is Aspect.FINDING for c, ruling in zip(claims, rulings, strict=True) if ruling is Ruling.UNSUPPORTED)
    return heads, [judge(head, facts) if told else Ruling.UNSUPPORTED for head in heads]


def _without(claim: Claim, affirmed: frozenset[FindingKind]) -> Claim:
    """ "No other artefacts": those already spoken of are left out of the denial."""
    if claim.aspect is not Aspect.FINDING or not claim.negated:
        return claim
    return dataclasses.replace(claim, kinds=tuple(kind for kind in claim.kinds if kind not in affirmed))


def _evidence(verdict: Verdict, facts: Facts) -> list[str]:
    ids: list[str] = []
    for claim, ruling in zip(verdict.claims, verdict.rulings, strict=True):
        if ruling is not Ruling.SUPPORTED or claim.negated:
            continue
        if claim.aspect is Aspect.FINDING:
            ids += evidence_of(facts, claim.kinds)
        if claim.of is Aspect.POSTERIOR_RHYTHM and facts.annotation.posterior is not None:
            ids.append(facts.annotation.posterior.rhythm_id)
        if claim.aspect in _DIPOLE_ASPECTS:
            ids += [dipole.dipole_id for dipole in facts.annotation.dipoles if dipole.kind in claim.kinds]
    return ids
