"""What can be asked about a finding beyond its presence: where, when, how many, how fast, how high, which sign.

A detail is one true value with false ones that a reader might take for it: the homologous or a neighbouring electrode, the other side, a
rhythm some hertz off, a waveform that looks alike. False ones lie outside the tolerances of `cg_data.instruct.judge`, so they are false
for certain. `cg_data.instruct.detail_questions` puts them into questions.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from cg_data.analyze.cleaning import EventGroup
from cg_data.analyze.layout import NEIGHBOURS, names_of
from cg_data.instruct.facts import (
    Discharge,
    Facts,
    band_of,
    channels_of,
    evidence_of,
    groups_of,
    is_reactive,
    main_discharge,
    reversal_of,
    rhythm_of,
    side_of,
)
from cg_data.instruct.judge import AMPLITUDE_TOLERANCE, BAND_OF, FREQUENCY_TOLERANCE_HZ
from cg_data.instruct.terms import REGION_TERMS
from cg_data.instruct.wording import KIND_WORDS, SINGULAR_WORDS, where
from cg_data.vocabulary import (
    CHANNEL_INDEX,
    CHANNELS,
    FAMILY_OF,
    FINDING_OF_WAVEFORM,
    POSITIONS_XY,
    REGION_CHANNELS,
    SEGMENT_S,
    Family,
    FindingKind,
    Polarity,
    Region,
    Side,
)

K = FindingKind
LOOKALIKES: Mapping[FindingKind, tuple[FindingKind, ...]] = {
    K.SPIKE: (K.SHARP_WAVE, K.ELECTRODE_POP, K.ECG, K.MUSCLE, K.BLINK, K.K_COMPLEX),
    K.SHARP_WAVE: (K.SPIKE, K.K_COMPLEX, K.ELECTRODE_POP, K.BLINK, K.ECG, K.SPIKE_AND_SLOW_WAVE),
    K.SPIKE_AND_SLOW_WAVE: (K.K_COMPLEX, K.SHARP_WAVE, K.SPIKE, K.DELTA_ACTIVITY, K.BLINK),
    K.K_COMPLEX: (K.SHARP_WAVE, K.SPIKE_AND_SLOW_WAVE, K.BLINK, K.ELECTRODE_POP, K.DELTA_ACTIVITY),
    K.SLEEP_SPINDLE: (K.ALPHA_RHYTHM, K.BETA_ACTIVITY, K.MUSCLE, K.MAINS, K.SPIKE_AND_SLOW_WAVE),
    K.MUSCLE: (K.BETA_ACTIVITY, K.MAINS, K.SPIKE, K.SLEEP_SPINDLE, K.ELECTRODE_FAULT),
    K.BLINK: (K.LATERAL_EYE_MOVEMENT, K.K_COMPLEX, K.SHARP_WAVE, K.SPIKE_AND_SLOW_WAVE, K.SWEAT),
    K.LATERAL_EYE_MOVEMENT: (K.BLINK, K.SHARP_WAVE, K.SWEAT, K.ELECTRODE_POP, K.DELTA_ACTIVITY),
    K.ELECTRODE_FAULT: (K.FLAT_CHANNEL, K.ELECTRODE_POP, K.MUSCLE, K.CLIPPING, K.MAINS),
    K.ELECTRODE_POP: (K.SPIKE, K.SHARP_WAVE, K.ELECTRODE_FAULT, K.CLIPPING, K.K_COMPLEX),
    K.FLAT_CHANNEL: (K.LOW_VOLTAGE, K.CLIPPING, K.ELECTRODE_FAULT, K.ELECTRODE_POP),
    K.CLIPPING: (K.FLAT_CHANNEL, K.ELECTRODE_POP, K.ELECTRODE_FAULT, K.BLINK),
    K.MAINS: (K.MUSCLE, K.BETA_ACTIVITY, K.ELECTRODE_FAULT, K.SLEEP_SPINDLE),
    K.RESPIRATION: (K.SWEAT, K.DELTA_ACTIVITY, K.SLOWING, K.LATERAL_EYE_MOVEMENT),
    K.SWEAT: (K.RESPIRATION, K.DELTA_ACTIVITY, K.SLOWING, K.LATERAL_EYE_MOVEMENT),
    K.ECG: (K.SPIKE, K.SHARP_WAVE, K.ELECTRODE_POP, K.MUSCLE),
}
"""Which findings are taken for each other (IFCN glossary, Kane et al. 2017; Tatum et al. 2011 on artefacts)."""
_REGIONS = {name: channels for name, channels, _ in REGION_TERMS if name in set(Region)}
_COUNTED = 5
"""Up to so many events a count is exact."""
_APART_S = 2
_APART_HZ = 2 * FREQUENCY_TOLERANCE_HZ
_APART_UV = 2 * AMPLITUDE_TOLERANCE


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Detail:
    """`right` and `wrong` are values in words, all of one form; `about` is what they belong to ("spikes")."""

    topic: str
    about: str
    right: str
    wrong: tuple[str, ...]
    evidence: tuple[str, ...]


def _detail(topic: str, about: str, right: str, wrong: Iterable[str], evidence: Iterable[str]) -> Detail | None:
    false = tuple(dict.fromkeys(text for text in wrong if text != right))
    return Detail(topic=topic, about=about, right=right, wrong=false, evidence=tuple(evidence)) if false else None


def near(channel: str, *, but: Iterable[str], rng: random.Random) -> list[str]:
    """The homologous electrode, then neighbours in random order, then the rest."""
    x, y = POSITIONS_XY[channel]
    mirror = [name for name, place in POSITIONS_XY.items() if place == (-x, y) and name != channel]
    beside = list(names_of(np.flatnonzero(NEIGHBOURS[CHANNEL_INDEX[channel]])))
    rest = list(CHANNELS)
    rng.shuffle(beside)
    rng.shuffle(rest)
    return [name for name in dict.fromkeys((*mirror, *beside, *rest)) if name not in {channel, *but}]


def maximum(facts: Facts, rng: random.Random) -> Detail | None:
    found = main_discharge(facts)
    if found is None:
        return None
    maxima = {g.maximum for g in groups_of(facts, found.kind)} | {d.maximum for d in facts.annotation.dipoles if d.kind == found.kind}
    wrong = [f"maximum at {name}" for name in near(found.maximum, but={*maxima, *facts.missing}, rng=rng)]
    return _detail("maximum", KIND_WORDS[found.kind], f"maximum at {found.maximum}", wrong, found.evidence)


def reversal(facts: Facts, rng: random.Random) -> Detail | None:
    found = main_discharge(facts)
    if found is None or found.dipole is None or not reversal_of(found.dipole):
        return None
    dipoles = [d for d in facts.annotation.dipoles if d.kind == found.kind]
    known = {name for d in dipoles for name in (d.longitudinal_reversal, d.transverse_reversal)}
    at = reversal_of(found.dipole)
    wrong = [f"phase reversal at {name}" for name in near(at, but={*known, *facts.missing}, rng=rng)]
    return _detail("phase_reversal", KIND_WORDS[found.kind], f"phase reversal at {at}", wrong, found.evidence)


def polarity(facts: Facts, rng: random.Random) -> Detail | None:
    found = main_discharge(facts)
    if found is None or found.dipole is None:
        return None
    signs = {d.polarity for d in facts.annotation.dipoles if d.kind == found.kind}
    wrong = [f"surface-{sign}" for sign in Polarity if sign not in signs]
    return _detail("polarity", KIND_WORDS[found.kind], f"surface-{found.dipole.polarity}", wrong, found.evidence)


def side(facts: Facts, rng: random.Random) -> Detail | None:
    """Left against right alone: what lies beside the midline or on both sides is a matter of degree."""
    found = main_discharge(facts)
    if found is None:
        return None
    fields = [group.channels for group in groups_of(facts, found.kind)] + [channels_of(facts, [found.kind])]
    sides = {side_of(field, facts.n_recorded) for field in fields}
    if sides not in ({Side.LEFT}, {Side.RIGHT}):
        return None
    right, wrong = (Side.LEFT, Side.RIGHT) if Side.LEFT in sides else (Side.RIGHT, Side.LEFT)
    return _detail("side", KIND_WORDS[found.kind], str(right), [str(wrong)], found.evidence)


def _waves(facts: Facts) -> list[FindingKind]:
    """Kinds that are there as events."""
    return [kind for kind in FindingKind if kind in set(FINDING_OF_WAVEFORM.values()) and groups_of(facts, kind)]


def region(facts: Facts, rng: random.Random) -> Detail | None:
    kinds = [kind for kind in facts.kinds if FAMILY_OF[kind] is not Family.BACKGROUND]
    rng.shuffle(kinds := sorted(kinds))
    for kind in kinds:
        channels = set(channels_of(facts, [kind])) | {name for d in facts.annotation.dipoles if d.kind == kind for name in d.field}
        inside = [name for name in Region if channels <= set(REGION_CHANNELS[name])]
        if inside:
            wrong = [name for name in _REGIONS if not channels & _REGIONS[name]]
            rng.shuffle(wrong)
            return _detail("region", KIND_WORDS[kind], str(inside[0]), wrong, evidence_of(facts, [kind]))
    return None


def time(facts: Facts, rng: random.Random) -> Detail | None:
    kinds = [kind for kind in _waves(facts) if len(groups_of(facts, kind)) == 1]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    (group,) = groups_of(facts, kind)
    spans = [(group.onset_s, group.onset_s + group.duration_s)]
    spans += [(f.onset_s, f.onset_s + f.duration_s) for f in facts.annotation.findings if f.kind == kind]
    free = [t for t in range(SEGMENT_S) if all(t < start - _APART_S or t > end + _APART_S for start, end in spans)]
    rng.shuffle(free)
    return _detail("time", KIND_WORDS[kind], f"at {group.onset_s:.0f} s", [f"at {t} s" for t in free], evidence_of(facts, [kind]))


def count(facts: Facts, rng: random.Random) -> Detail | None:
    kinds = [kind for kind in _waves(facts) if kind in SINGULAR_WORDS and len(groups_of(facts, kind)) <= _COUNTED]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    number = len(groups_of(facts, kind))
    others = sorted((n for n in range(1, _COUNTED + 2) if n != number), key=lambda n: (abs(n - number), rng.random()))
    return _detail("count", KIND_WORDS[kind], _counted(number, kind), [_counted(n, kind) for n in others], evidence_of(facts, [kind]))


def _counted(number: int, kind: FindingKind) -> str:
    return f"{number} {SINGULAR_WORDS[kind] if number == 1 else KIND_WORDS[kind]}"


RHYTHM = "posterior dominant rhythm"


def rhythm_frequency(facts: Facts, rng: random.Random) -> Detail | None:
    rhythm, behind = facts.annotation.posterior, rhythm_of(facts, Region.POSTERIOR)
    if rhythm is None:
        return None
    measured = (rhythm.frequency_hz, rhythm.left_hz, rhythm.right_hz, behind.dominant_hz if behind is not None else None)
    known = [hz for hz in measured if hz is not None]
    free = [hz for hz in range(4, 15) if all(abs(hz - other) > _APART_HZ for other in known)]
    rng.shuffle(free)
    return _detail("rhythm_frequency", RHYTHM, f"{rhythm.frequency_hz:.0f} Hz", [f"{hz} Hz" for hz in free], [rhythm.rhythm_id])


def rhythm_amplitude(facts: Facts, rng: random.Random) -> Detail | None:
    rhythm, behind = facts.annotation.posterior, rhythm_of(facts, Region.POSTERIOR)
    if rhythm is None:
        return None
    measured = (rhythm.amplitude_uv, rhythm.left_uv, rhythm.right_uv, behind.amplitude_uv if behind is not None else None)
    known = [uv for uv in measured if uv is not None]
    others = [round(rhythm.amplitude_uv * factor) for factor in (0.25, 0.5, 1.8, 2.5, 3.5)]
    free = [uv for uv in others if all(abs(uv - other) > max(_APART_UV * other, 4) for other in known)]
    rng.shuffle(free)
    wrong = [f"{uv} µV" for uv in free if uv > 0]
    return _detail("rhythm_amplitude", RHYTHM, f"{rhythm.amplitude_uv:.0f} µV", wrong, [rhythm.rhythm_id])


def reactivity(facts: Facts, rng: random.Random) -> Detail | None:
    rhythm = facts.annotation.posterior
    reactive = is_reactive(rhythm) if rhythm is not None else None
    if rhythm is None or reactive is None:
        return None
    right, wrong = ("reactive", "unreactive") if reactive else ("unreactive", "reactive")
    return _detail("reactivity", RHYTHM, right, [wrong], [rhythm.rhythm_id])


def missing(facts: Facts, rng: random.Random) -> Detail | None:
    if not facts.missing:
        return None
    name = rng.choice(facts.missing)
    others = near(name, but=facts.missing, rng=rng)
    return _detail("missing", "recording", f"{name} is missing", [f"{other} is missing" for other in others], ())


def lookalike(facts: Facts, rng: random.Random) -> Detail | None:
    """What a finding is, against what it may be taken for; none of those is on the page."""
    rhythm = facts.annotation.posterior
    band = band_of(rhythm.frequency_hz) if rhythm is not None else None
    shown = facts.kinds | {kind for kind, own in BAND_OF.items() if own == band}
    kinds = sorted(kind for kind in facts.kinds if kind in LOOKALIKES)
    if not kinds:
        return None
    kind = rng.choice(kinds)
    wrong = [KIND_WORDS[other] for other in LOOKALIKES[kind] if other not in shown]
    return _detail("lookalike", _sight(facts, kind), KIND_WORDS[kind], wrong, evidence_of(facts, [kind]))


def _sight(facts: Facts, kind: FindingKind) -> str:
    """Where and, for the first of its events, when: "at Fp1 and Fp2 at 2 s"."""
    groups: tuple[EventGroup, ...] = groups_of(facts, kind)
    if groups:
        return f"{where(groups[0].channels)} at {groups[0].onset_s:.0f} s"
    return where(next(f.channels for f in facts.annotation.findings if f.kind == kind))


DETAILS: tuple[Callable[[Facts, random.Random], Detail | None], ...] = (
    maximum,
    reversal,
    polarity,
    side,
    region,
    time,
    count,
    rhythm_frequency,
    rhythm_amplitude,
    reactivity,
    missing,
    lookalike,
)


def discharge_parts(facts: Facts, rng: random.Random) -> tuple[str, str, tuple[str, ...]] | None:
    """The main discharge in words, a false one (the other side, else another kind), and its evidence."""
    found: Discharge | None = main_discharge(facts)
    if found is None:
        return None
    right = f"{found.location} {KIND_WORDS[found.kind]}"
    swapped = {"left": "right", "right": "left"}.get(found.location.split(" ", 1)[0])
    where_it_is = side(facts, rng)
    if swapped is not None and where_it_is is not None:
        return right, f"{swapped} {found.location.split(' ', 1)[1]} {KIND_WORDS[found.kind]}", found.evidence
    absent = [kind for kind in FindingKind if FAMILY_OF[kind] is Family.EPILEPTIFORM and kind not in facts.kinds]
    return (right, f"{found.location} {KIND_WORDS[rng.choice(absent)]}", found.evidence) if absent else None
