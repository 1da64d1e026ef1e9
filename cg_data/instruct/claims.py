"""What a sentence about an EEG page claims: findings, denied or hedged, and where, when, how fast, how high, how often.

A reader of phrases, not a grammar: terms of `cg_data.instruct.terms` are found, each attribute goes to the finding it stands beside, and
negation reaches as far as NegEx lets it (Chapman et al. 2001). What it cannot place is still a claim, of nothing, and so unsupported.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

from cg_data.vocabulary import FAMILY_OF, FindingKind


class Aspect(StrEnum):
    """What a claim is about. The first nine, down to the background, stand for themselves; the others describe one of them (`Claim.of`)."""

    FINDING = "finding"
    POSTERIOR_RHYTHM = "posterior_rhythm"
    SEIZURE = "seizure"
    STAGE = "stage"
    EYES = "eyes"
    MISSING = "missing"
    MONTAGE = "montage"
    OTHER = "other"
    BACKGROUND = "background"
    CHANNEL = "channel"
    MAXIMUM = "maximum"
    REVERSAL = "reversal"
    OPPOSITE = "opposite"
    REGION = "region"
    SIDE = "side"
    EXTENT = "extent"
    TIME = "time"
    DURATION = "duration"
    FREQUENCY = "frequency"
    AMPLITUDE = "amplitude"
    COUNT = "count"
    POLARITY = "polarity"
    ORIENTATION = "orientation"
    REACTIVITY = "reactivity"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One thing that a sentence says.

    `of` is what is described and `kinds` which findings it may be (any of them). `names` are electrodes, regions, a side, a stage or a
    term; `places` the electrodes of each named region or side, for a denied finding those to which the denial is limited. `numbers` are
    seconds, hertz, microvolts or a count, two ends where `is_range`. A hedged claim ("cannot be excluded") says that it
    may be so, an exclusive one ("confined to") that it is nowhere else.
    """

    aspect: Aspect
    of: Aspect = Aspect.FINDING
    kinds: tuple[FindingKind, ...] = ()
    names: tuple[str, ...] = ()
    places: tuple[frozenset[str], ...] = ()
    numbers: tuple[float, ...] = ()
    is_range: bool = False
    negated: bool = False
    hedged: bool = False
    exclusive: bool = False

    def __str__(self) -> str:
        sign = ("-" if self.negated else "") + ("?" if self.hedged else "")
        if self.aspect is Aspect.FINDING:
            return " ".join((sign + kinds_name(self.kinds), *self.names))
        if self.aspect in (Aspect.POSTERIOR_RHYTHM, Aspect.SEIZURE):
            return " ".join((sign + _SHORT[self.aspect], *self.names))
        numbers = ("-" if self.is_range else ",").join(f"{number:g}" for number in self.numbers)
        values = numbers or ",".join(self.names)
        sign = sign if self.of is self.aspect else ""
        return f"{sign}{_SHORT.get(self.aspect, self.aspect.value)}:{values}"


_SHORT = {Aspect.POSTERIOR_RHYTHM: "pdr", Aspect.SEIZURE: "seizure", Aspect.MAXIMUM: "max", Aspect.REACTIVITY: "reactive"}
FAMILY_NAMED_FROM = 4
"""So many kinds of one family go by the family's name, also where an exception took one of them out."""


def kinds_name(kinds: tuple[FindingKind, ...]) -> str:
    """The family's name for (nearly) all of its kinds, else the kinds with bars between them."""
    families = {FAMILY_OF[kind] for kind in kinds}
    if len(families) == 1:
        family = next(iter(families))
        whole = [kind for kind in FindingKind if FAMILY_OF[kind] is family]
        if len(kinds) in (len(whole), *range(FAMILY_NAMED_FROM, len(whole))) and len(whole) > 1:
            return family.value
    return "|".join(kinds)
