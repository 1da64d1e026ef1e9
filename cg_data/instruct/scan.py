"""Phrases in a sentence: every term of `cg_data.instruct.terms` with its place in the text, the longest of overlapping ones."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from functools import cache

from cg_data.instruct import terms
from cg_data.instruct.claims import Aspect
from cg_data.vocabulary import FindingKind

N = (
    r"(?:\d+(?:\.\d+)?|\.\d+|"
    + "|".join(word for word in terms.NUMBER_WORDS if word not in ("single", "solitary", "isolated", "once", "twice"))
    + ")"
)
_LIST = rf"{N}(?:\s*(?:,? and|,|&)\s*{N})*"
_RANGE = rf"{N}\s*(?:-|to)\s*{N}"
_S = r"\s*(?:s|secs?|seconds?)"
_ABOUT = r"(?:(?:about|approximately|around|roughly|some|~)\s*)?"
IGNORED = "ignored"
"""Token of numbers that are no claim: the length of the page, the name of the electrode system."""
SYMMETRY = "symmetry"
ALL_RECORDED = "all_recorded"
TIMES = "times"
"""A count that follows what it counts: "twice", "three times"."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A phrase: where it is, what it is about, and its value."""

    start: int
    end: int
    label: str
    kinds: tuple[FindingKind, ...] = ()
    name: str = ""
    channels: frozenset[str] = frozenset()
    numbers: tuple[float, ...] = ()
    is_range: bool = False


Maker = Callable[[re.Match[str]], Token]


def number(word: str) -> float:
    """ "three" and "3" as 3.0."""
    return terms.NUMBER_WORDS[word] if word in terms.NUMBER_WORDS else float(word)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(number(word) for word in re.findall(rf"\b{N}\b|(?<!\w){N}", text))


def _named(label: str, name: str = "", kinds: tuple[FindingKind, ...] = (), channels: frozenset[str] = frozenset()) -> Maker:
    return lambda m: Token(start=m.start(), end=m.end(), label=label, name=name, kinds=kinds, channels=channels)


def _measured(label: str, *, is_range: bool = False) -> Maker:
    return lambda m: Token(start=m.start(), end=m.end(), label=label, numbers=_numbers(m[0]), is_range=is_range)


def _fixed(label: str, *numbers: float, is_range: bool = True) -> Maker:
    return lambda m: Token(start=m.start(), end=m.end(), label=label, numbers=numbers, is_range=is_range)


def _edge(*, first: bool) -> Maker:
    """ "the first three seconds" as 0 to 3, "the last two seconds" as 8 to 10."""

    def make(match: re.Match[str]) -> Token:
        length = number(match["n"])
        ends = (0.0, length) if first else (10.0 - length, 10.0)
        return Token(start=match.start(), end=match.end(), label=Aspect.TIME, numbers=ends, is_range=True)

    return make


def _channel(match: re.Match[str]) -> Token:
    name = terms.CHANNEL_OF[match[0]]
    return Token(start=match.start(), end=match.end(), label=Aspect.CHANNEL, name=name, channels=frozenset({name}))


def _count(match: re.Match[str]) -> Token:
    return Token(start=match.start(), end=match.end(), label=TIMES if match["times"] else Aspect.COUNT, numbers=(number(match["n"]),))


def _findings() -> Iterator[tuple[str, Maker]]:
    for kinds, pattern in terms.FINDING_TERMS:
        yield pattern, _named(Aspect.FINDING, kinds=kinds)
    yield terms.POSTERIOR_RHYTHM, _named(Aspect.POSTERIOR_RHYTHM)
    yield terms.SEIZURE, _named(Aspect.SEIZURE)
    yield terms.SYMMETRIC, _named(SYMMETRY, kinds=(FindingKind.ASYMMETRY,))
    for stages, pattern in terms.STAGE_TERMS:
        yield pattern, _named(Aspect.STAGE, "asleep" if len(stages) == 4 else "/".join(stages))
    for eyes, pattern in terms.EYES_TERMS:
        yield pattern, _named(Aspect.EYES, eyes.value)
    for montages, pattern in terms.MONTAGE_TERMS:
        yield pattern, _named(Aspect.MONTAGE, "/".join(montages))
    for name, pattern in terms.OTHER_TERMS:
        yield pattern, _named(Aspect.OTHER, name)
    yield terms.UNKNOWN_CHANNEL, _named(Aspect.OTHER, "channel")
    yield terms.ALL_RECORDED, _named(ALL_RECORDED, "none")
    yield terms.MISSING, _named(Aspect.MISSING)
    yield r"background(?: (?:activity|eeg|rhythms?))?", _named(Aspect.BACKGROUND)


def _attributes() -> Iterator[tuple[str, Maker]]:
    for name, channels, pattern in terms.REGION_TERMS:
        yield pattern, _named(Aspect.REGION, name, channels=channels)
    for name, pattern in terms.SIDE_TERMS:
        yield pattern, _named(Aspect.SIDE, name, channels=terms.SIDE_CHANNELS.get(name, frozenset()))
    yield terms.EXTENT, _named(Aspect.EXTENT, "diffuse")
    yield rf"{terms.CHANNEL}", _channel
    for label, table in (
        (Aspect.POLARITY, terms.POLARITY_TERMS),
        (Aspect.ORIENTATION, terms.ORIENTATION_TERMS),
        (Aspect.REACTIVITY, terms.REACTIVITY_TERMS),
    ):
        for name, pattern in table:
            yield pattern, _named(label, name)
    yield rf"(?P<n>{N}|single|solitary|isolated)(?P<times>\s+times)?(?! (?:of|per|channel|electrode))", _count
    yield r"(?P<n>once|twice)(?P<times>)", lambda m: dataclasses.replace(_count(m), label=TIMES)
    yield terms.MANY_WORDS, _named(Aspect.COUNT, "many")


def _measures() -> Iterator[tuple[str, Maker]]:
    at = rf"(?:at|near|around|by|t=|and at)\s*{_ABOUT}"
    yield rf"{at}{_LIST}{_S}(?:(?:,? and|,) (?:at )?{_LIST}{_S})*", _measured(Aspect.TIME)
    yield rf"at (?:the )?{N} seconds?(?: mark)?|(?:at )?second {N}", _measured(Aspect.TIME)
    yield rf"(?:from|between)\s*{_ABOUT}{N}{_S}?\s*(?:and|to|until|-)\s*{N}{_S}|{_RANGE}{_S}", _measured(Aspect.TIME, is_range=True)
    yield rf"(?:in |during |within |over )?(?:the )?(?:first|initial) (?P<n>{N}){_S}", _edge(first=True)
    yield rf"(?:in |during |within |over )?(?:the )?(?:last|final) (?P<n>{N}){_S}", _edge(first=False)
    yield r"(?:in |during |over )?(?:the )?first half(?: of the (?:page|epoch|segment|record(?:ing)?))?", _fixed(Aspect.TIME, 0.0, 5.0)
    yield r"(?:in |during |over )?(?:the )?second half(?: of the (?:page|epoch|segment|record(?:ing)?))?", _fixed(Aspect.TIME, 5.0, 10.0)
    yield r"throughout(?: the (?:page|epoch|segment|record(?:ing)?))?", _fixed(Aspect.TIME, 0.0, 10.0)
    length = rf"(?:last(?:s|ing|ed)?|for|duration of|durations? (?:is|are))\s*{_ABOUT}(?:{_RANGE}|{N}){_S}"
    yield rf"{length}|{N}{_S} (?:long|in duration)", _measured(Aspect.DURATION)
    yield rf"{N} seconds? (?:bursts?|runs?|trains?|episodes?)(?: of)?", _measured(Aspect.DURATION)
    yield rf"(?:the )?{N}{_S} (?:page|epoch|segment|window|recording|record|of eeg|eeg|of the 10|excerpt|tracing)(?: 20)?", _named(IGNORED)
    yield rf"{N}{_S}", _named(IGNORED)
    yield r"10 ?-? ?(?:20|10) (?:system|electrodes?|montage|positions?)", _named(IGNORED)
    for label, unit in (
        (Aspect.FREQUENCY, r"\s*(?:hz|hertz|cps|c/s|cycles? per second|per second|/ ?s(?:ec)?)"),
        (Aspect.AMPLITUDE, r"\s*uv"),
    ):
        yield rf"(?:{_RANGE}|between {N} and {N}){unit}", _measured(label, is_range=True)
        yield rf"{N}{unit}", _measured(label)


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], Maker], ...]:
    every = [*_findings(), *_attributes(), *_measures()]
    return tuple((re.compile(rf"(?<![\w.])(?:{pattern})(?!\w)"), make) for pattern, make in every)


def scan(text: str) -> list[Token]:
    """Tokens of `text` (as `terms.plain` makes it) in order; of overlapping phrases the longest, of equally long ones the first named."""
    found = [make(match) for pattern, make in _patterns() for match in pattern.finditer(text) if match.end() > match.start()]
    taken: list[Token] = []
    for token in sorted(found, key=lambda t: t.start - t.end):
        if not any(token.start < other.end and other.start < token.end for other in taken):
            taken.append(token)
    return sorted((t for t in taken if t.label != IGNORED), key=lambda t: t.start)
