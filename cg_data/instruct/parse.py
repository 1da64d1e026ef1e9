"""From phrases to claims: which attribute belongs to which finding, and what is denied or hedged."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from functools import lru_cache

from cg_data.instruct import terms
from cg_data.instruct.claims import Aspect, Claim
from cg_data.instruct.scan import ALL_RECORDED, SYMMETRY, TIMES, Token, scan
from cg_data.vocabulary import FAMILY_OF, FindingKind

_DESCRIBED = frozenset({Aspect.FINDING, Aspect.POSTERIOR_RHYTHM, Aspect.SEIZURE, Aspect.OTHER, Aspect.BACKGROUND})
_HEADS = _DESCRIBED | {Aspect.STAGE, Aspect.EYES, Aspect.MONTAGE, SYMMETRY}
_PLACES = frozenset({Aspect.REGION, Aspect.SIDE, Aspect.EXTENT, Aspect.CHANNEL})
_JOINED = re.compile(r"[\s,/&()]*(?:and|or|nor|as well as|to)?[\s,(]*(?:at|around|the|in|over|(?:electrodes?|channels?|leads?))*\s*")
_COORDINATED = re.compile(r"\s*(?:,|/|&|,? ?and|,? ?or|,? ?nor|and/or)\s*(?:an? |the |any |occasional |rare )?")
_BETWEEN = re.compile(
    r"[,;:()]|\b(?:at|with|over|in|from|is|are|was|were|seen|and|or|nor|while|but|of|on|by|present|has|have|shows?|which|that|to|occurs?"
    r"|runs?|recurs?|followed|accompan\w*|around|about|than|not)\b"
)
_PREPOSITION = re.compile(
    r"\b(?:at|over|in|on|of|from|around|near|about|with|to|between|during|by|within|for|reach(?:es|ing)?)"
    r"(?: (?:the|an?|about|approximately|around|roughly|some|channels?|electrodes?|leads?|its|their|up|to))*\s*[(~]?$"
)
_LEADING = re.compile(r"(?:,|;|\band|^)\s*(?:\w+\s*)?$")
_HAS = re.compile(r"\s*(?:shows?|has|have|displays?|carr(?:y|ies)) (?:an? |the |some )?")
_VERB_END = re.compile(
    r"\b(?:is|are|was|were|seen|present|noted|observed|identified|recorded|evident|visible|detected)\b[^,]*?(?:,| and\b)"
)
_FASTER = re.compile(r"\b(?:higher|greater|increased|larger)\b[^,;]*$")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a sentence speaks of, for the next one that says "they" and for an answer that only says where."""

    aspect: Aspect
    kinds: tuple[FindingKind, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    claims: tuple[Claim, ...]
    subject: Subject | None


@dataclasses.dataclass(kw_only=True, slots=True)
class _Group:
    """Findings named side by side ("spikes and sharp waves"): what is said of the one is said of the other."""

    heads: list[Token]
    attributes: list[list[Token]] = dataclasses.field(default_factory=list)
    negated: bool = False
    hedged: bool = False

    @property
    def start(self) -> int:
        return self.heads[0].start

    @property
    def end(self) -> int:
        return self.heads[-1].end

    @property
    def subject(self) -> Subject:
        aspects = [head.label for head in self.heads if head.label in _DESCRIBED]
        kinds = dict.fromkeys(kind for head in self.heads if head.label == Aspect.FINDING for kind in head.kinds)
        return Subject(aspect=Aspect(aspects[0]), kinds=tuple(kinds))


def claims_of(sentence: str) -> tuple[Claim, ...]:
    """Claims of one sentence of clinical English, in order; a question makes none."""
    return () if sentence.rstrip().endswith("?") else parse(sentence).claims


@lru_cache(maxsize=65536)
def parse(sentence: str, about: Subject | None = None) -> Parsed:
    """Claims of a sentence as though asserted, and its subject. `about` is what "they" or a bare "at C3" refers to."""
    text = terms.plain(sentence)
    tokens = _without_titles(text, scan(text))
    if re.search(terms.REVERSAL_CUE, text):  # where it reverses is told in a bipolar montage, whatever the page is shown in
        tokens = [token for token in tokens if token.label != Aspect.MONTAGE]
    masked = _mask(text, [t for t in tokens if t.label in (Aspect.REACTIVITY, ALL_RECORDED)])
    measures = _background_measures(tokens)
    if measures:
        return Parsed(claims=measures, subject=about)
    missing, tokens = _missing(tokens)
    groups = _groups(text, tokens)
    for index, group in enumerate(groups):
        following = groups[index + 1].start if index + 1 < len(groups) else len(text)
        group.negated, group.hedged = _polarity(masked, group, following, tokens)
    orphans = _attach(text, tokens, [g for g in groups if _is_described(g)], about)
    claims = [*missing, *(claim for group in groups for claim in _claims(text, group))]
    if orphans:
        owner = _Group(heads=[], attributes=orphans)
        claims += _attribute_claims(text, owner, about or Subject(aspect=Aspect.OTHER))
    named = [group.subject for group in groups if _is_described(group) and group.heads[0].label != Aspect.BACKGROUND]
    return Parsed(claims=_with_exceptions(text, claims), subject=named[-1] if named else about)


def _is_described(group: _Group) -> bool:
    return any(head.label in _DESCRIBED for head in group.heads)


def _mask(text: str, tokens: Sequence[Token]) -> str:
    for token in tokens:
        text = text[: token.start] + " " * (token.end - token.start) + text[token.end :]
    return text


def _without_titles(text: str, tokens: list[Token]) -> list[Token]:
    """Drop what stands before a colon as a title ("Artefacts: muscle artefact at T3"); "Artefacts: none" keeps it to be denied."""
    kept = []
    for token in tokens:
        title = token.label in _HEADS and re.match(r"\s*:(?!\s*(?:none|absent|nil|no\b(?! \w)))", text[token.end :])
        if not title:
            kept.append(token)
    return kept


def _missing(tokens: list[Token]) -> tuple[list[Claim], list[Token]]:
    """Claims about electrodes that were not recorded, and the other tokens."""
    if any(t.label == ALL_RECORDED for t in tokens):
        return [Claim(aspect=Aspect.MISSING, of=Aspect.MISSING, names=("none",))], [t for t in tokens if t.label != ALL_RECORDED]
    said = any(t.label == Aspect.MISSING for t in tokens)
    names = tuple(t.name for t in tokens if t.label == Aspect.CHANNEL)
    if not said or not names or any(t.label in _DESCRIBED for t in tokens):
        return [], [t for t in tokens if t.label != Aspect.MISSING]
    rest = [t for t in tokens if t.label not in (Aspect.CHANNEL, Aspect.MISSING)]
    return [Claim(aspect=Aspect.MISSING, of=Aspect.MISSING, names=names)], rest


def _background_measures(tokens: list[Token]) -> tuple[Claim, ...]:
    """ "The background is frontally 20 uV with most power in the beta band at 18 Hz, centrally ...": every region with its numbers."""
    if not tokens or tokens[0].label != Aspect.BACKGROUND or len(tokens) < 2 or tokens[1].label != Aspect.REGION:
        return ()
    claims: list[Claim] = []
    place: Token | None = None
    for token in tokens[1:]:
        if token.label == Aspect.REGION:
            place = token
        elif token.label in (Aspect.AMPLITUDE, Aspect.FREQUENCY) and place is not None:
            claims.append(_claim(Aspect(token.label), Subject(aspect=Aspect.BACKGROUND), [token], places=(place.channels,)))
        elif token.label == Aspect.FINDING and place is not None:
            claims.append(Claim(aspect=Aspect.FINDING, kinds=token.kinds, names=(f"region:{place.name}",), places=(place.channels,)))
        else:
            return ()
    return tuple(claims)


def _groups(text: str, tokens: list[Token]) -> list[_Group]:
    groups: list[_Group] = []
    heads = [t for t in tokens if t.label in _HEADS]
    if any(t.label in _DESCRIBED - {Aspect.BACKGROUND} for t in heads):
        heads = [t for t in heads if t.label != Aspect.BACKGROUND]
    for head in heads:
        last = groups[-1] if groups else None
        both = last is not None and head.label == Aspect.FINDING and last.heads[-1].label == Aspect.FINDING
        if last is not None and both and _COORDINATED.fullmatch(text[last.end : head.start]):
            last.heads.append(head)
        else:
            groups.append(_Group(heads=[head]))
    return groups


def _polarity(text: str, group: _Group, following: int, tokens: Sequence[Token]) -> tuple[bool, bool]:
    """Whether the group is denied and whether it is hedged."""
    before = re.split(terms.SCOPE_END, text[: group.start])[-1]
    after = re.split(terms.SCOPE_END, text[group.end : following])[0]
    hedged = bool(re.search(terms.HEDGE_BEFORE, before) or re.search(terms.HEDGE_AFTER, after))
    before, after = (re.sub(terms.NEUTRAL_NOT, "", part) for part in (before, after))
    cues = list(re.finditer(terms.NEGATION_BEFORE, before))
    denied = bool(cues) and not _VERB_END.search(before[cues[-1].end() :]) and not re.search(r"\bcannot\b", before)
    tail = _mask(text, [t for t in tokens if t.label not in _HEADS])[group.end : group.end + len(after)]
    denied |= bool(re.search(terms.NEGATION_AFTER.replace(r"^\W*", r"(?:^|\b)\W*"), re.sub(terms.NEUTRAL_NOT, "", tail)))
    return denied, hedged


def _chains(text: str, tokens: Sequence[Token]) -> list[list[Token]]:
    """Attributes of one sort that stand side by side: "at C3, Cz and C4"."""
    chains: list[list[Token]] = []
    last: Token | None = None
    for token in tokens:
        if token.label in _HEADS:
            last = token
            continue
        if last is not None and last.label == token.label and chains and _JOINED.fullmatch(text[last.end : token.start]):
            chains[-1].append(token)
        else:
            chains.append([token])
        last = token
    return chains


def _attach(text: str, tokens: Sequence[Token], groups: list[_Group], about: Subject | None) -> list[list[Token]]:
    """Give each chain of attributes to its group; returns those without one. A bare "widespread" needs something that it can be about."""
    idle = {Aspect.COUNT, TIMES} | ({Aspect.EXTENT} if about is None else set())
    chains = _chains(text, tokens)
    attributes = [t for t in tokens if t.label not in _HEADS]
    orphans = []
    for chain in chains:
        if re.search(r"\b(?:not|rather than|instead of)\s*(?:at |over |in )?(?:the )?$", text[: chain[0].start]):
            continue
        owner = _owner(text, _mask(text, attributes), chain, groups)
        if owner is not None:
            owner.attributes.append(chain)
        elif chain[0].label not in idle:
            orphans.append(chain)
    return orphans


def _owner(text: str, masked: str, chain: list[Token], groups: list[_Group]) -> _Group | None:
    start, end = chain[0].start, chain[-1].end
    following = next((g for g in groups if g.start >= end), None)
    previous = next((g for g in reversed(groups) if g.end <= start and ";" not in text[g.end : start]), None)
    between = masked[end : following.start] if following is not None else None
    clean = between is not None and not _BETWEEN.search(between)
    if between is not None and chain[0].label == Aspect.CHANNEL and _HAS.fullmatch(between) and not _PREPOSITION.search(text[:start]):
        return following
    if chain[0].label == Aspect.COUNT:
        return following if clean else previous if chain[0].name == "many" else None
    if chain[0].label in (Aspect.TIME, Aspect.DURATION, TIMES) or _PREPOSITION.search(text[:start]):
        leads = previous is not None and clean and _LEADING.search(text[:start])
        return following if leads else previous or following
    return following if clean else previous or following


def _claims(text: str, group: _Group) -> list[Claim]:
    claims: list[Claim] = []
    place = _place_claims(group) if group.negated else []
    measured = [c for c in _place_claims(group) if any(a[0].label == Aspect.FREQUENCY for a in group.attributes)]
    for head in group.heads:
        names = tuple(f"{c.aspect}:{'+'.join(c.names)}" for c in place)
        places = tuple(channels for c in place or measured for channels in c.places)
        if head.label == Aspect.FINDING:
            claims.append(
                Claim(aspect=Aspect.FINDING, kinds=head.kinds, names=names, places=places, negated=group.negated, hedged=group.hedged)
            )
        elif head.label == SYMMETRY:
            claims.append(Claim(aspect=Aspect.FINDING, kinds=head.kinds, negated=not group.negated, hedged=group.hedged))
        elif head.label != Aspect.BACKGROUND:
            aspect = Aspect(head.label)
            value = (head.name,) if head.name else names if group.negated else ()
            claims.append(Claim(aspect=aspect, of=aspect, names=value, negated=group.negated, hedged=group.hedged))
    if _is_described(group):
        claims += _attribute_claims(text, group, group.subject)
    return claims


def _place_claims(group: _Group) -> list[Claim]:
    subject = group.subject if _is_described(group) else Subject(aspect=Aspect.OTHER)
    return [_claim(Aspect(chain[0].label), subject, chain) for chain in group.attributes if chain[0].label in _PLACES]


def _attribute_claims(text: str, group: _Group, subject: Subject) -> list[Claim]:
    """Claims of what is said of the group's subject. Of something denied only a background amplitude remains a claim."""
    claims = []
    for chain in sorted(group.attributes, key=lambda c: c[0].start):
        label = chain[0].label
        if group.negated and not (label == Aspect.AMPLITUDE and subject.aspect is Aspect.POSTERIOR_RHYTHM):
            continue
        aspect = _aspect(text, chain, group)
        chain = _flipped(text, chain, subject)
        before = [t for c in group.attributes for t in c if t.end <= chain[0].start]
        side = next((t for t in before if t.label == Aspect.SIDE and chain[0].start - t.end <= 1), None)
        limit = side.channels if side is not None and label == Aspect.REGION else frozenset()
        places = tuple(t.channels & limit if limit else t.channels for t in chain if t.channels)
        exclusive = label in _PLACES and re.search(terms.EXCLUSIVE_CUE, text[: chain[0].start]) is not None
        claims.append(dataclasses.replace(_claim(aspect, subject, chain, places=places), hedged=group.hedged, exclusive=exclusive))
    return _merged(claims)


def _aspect(text: str, chain: list[Token], group: _Group) -> Aspect:
    """A channel is the maximum or a phase reversal where a word shortly before it says so."""
    if chain[0].label == TIMES:
        return Aspect.COUNT
    aspect = Aspect(chain[0].label)
    if aspect is not Aspect.CHANNEL:
        return aspect
    starts = [head.end for head in group.heads if head.end <= chain[0].start]
    before = text[max([0, chain[0].start - 40, *starts]) : chain[0].start]
    if re.search(terms.REVERSAL_CUE, before):
        return Aspect.REVERSAL
    if re.search(terms.OPPOSITE_CUE, before):
        return Aspect.OPPOSITE
    return Aspect.MAXIMUM if re.search(rf"\b{terms.MAXIMUM_CUE}\b", before) else aspect


def _flipped(text: str, chain: list[Token], subject: Subject) -> list[Token]:
    """An asymmetry is named after its lower side: "higher on the right" is lower on the left."""
    token = chain[0]
    other = {"left": "right", "right": "left"}.get(token.name)
    if subject.kinds != (FindingKind.ASYMMETRY,) or token.label != Aspect.SIDE or other is None or not _FASTER.search(text[: token.start]):
        return chain
    return [dataclasses.replace(token, name=other, channels=terms.SIDE_CHANNELS[other])]


def _claim(aspect: Aspect, subject: Subject, chain: list[Token], places: tuple[frozenset[str], ...] | None = None) -> Claim:
    names = tuple(dict.fromkeys(t.name for t in chain if t.name))
    joined = ("+".join(names),) if aspect is Aspect.REGION else names
    return Claim(
        aspect=aspect,
        of=subject.aspect,
        kinds=subject.kinds,
        names=joined,
        places=tuple(t.channels for t in chain if t.channels) if places is None else places,
        numbers=tuple(number for t in chain for number in t.numbers),
        is_range=chain[0].is_range,
    )


def _merged(claims: list[Claim]) -> list[Claim]:
    """Times in several places of a sentence ("begins at 2 s and ends at 6 s") as one claim each; duplicates once."""
    result: list[Claim] = []
    for claim in claims:
        last = next((c for c in result if c.aspect is claim.aspect is Aspect.TIME and not c.is_range and not claim.is_range), None)
        if last is not None:
            result[result.index(last)] = dataclasses.replace(last, numbers=last.numbers + claim.numbers)
        elif claim not in result:
            result.append(claim)
    return result


def _with_exceptions(text: str, claims: list[Claim]) -> tuple[Claim, ...]:
    """ "No artefacts except blinks": the denial of a family leaves out the kinds that the sentence affirms."""
    if not re.search(terms.EXCEPTION, text):
        return tuple(dict.fromkeys(claims))
    affirmed = {kind for c in claims if c.aspect is Aspect.FINDING and not c.negated for kind in c.kinds}
    result = []
    for claim in claims:
        if claim.aspect is Aspect.FINDING and claim.negated and len({FAMILY_OF[kind] for kind in claim.kinds}) == 1 < len(claim.kinds):
            claim = dataclasses.replace(claim, kinds=tuple(kind for kind in claim.kinds if kind not in affirmed))
        result.append(claim)
    return tuple(dict.fromkeys(result))
