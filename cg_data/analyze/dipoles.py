"""Where a discharge has its maximum, with which sign, and where bipolar chains reverse: the dipole as a reader estimates it.

Maps are taken at the peak, against the level just before the discharge, on the average reference that segments have. Localisation by
amplitude (referential) and by phase reversal (bipolar) after Jayakar et al. 1991; chains as in the ACNS guideline 3 (2016).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import scipy.signal

from cg_data.analyze.background import Bools, Floats
from cg_data.analyze.layout import NEIGHBOURS, in_page_order, names_of
from cg_data.records import Dipole, Event, content_id
from cg_data.vocabulary import (
    CHANNEL_INDEX,
    CHANNELS,
    EPILEPTIFORM,
    FINDING_OF_WAVEFORM,
    LEFT_CHANNELS,
    POSITIONS_XY,
    REGION_CHANNELS,
    RIGHT_CHANNELS,
    SFREQ_HZ,
    Orientation,
    Polarity,
    Side,
    Waveform,
)

LONGITUDINAL: tuple[tuple[str, ...], ...] = (
    ("Fp1", "F7", "T3", "T5", "O1"),
    ("Fp1", "F3", "C3", "P3", "O1"),
    ("Fz", "Cz", "Pz"),
    ("Fp2", "F4", "C4", "P4", "O2"),
    ("Fp2", "F8", "T4", "T6", "O2"),
)
"""The "double banana" (ACNS guideline 3, 2016, LB-18.1)."""
TRANSVERSE: tuple[tuple[str, ...], ...] = (
    ("F7", "F3", "Fz", "F4", "F8"),
    ("T3", "C3", "Cz", "C4", "T4"),
    ("T5", "P3", "Pz", "P4", "T6"),
)
"""Coronal chains of five electrodes (ACNS guideline 3, 2016, TB-18.1)."""
SAME_DISCHARGE_S = 0.15
"""Events that begin within this time are one discharge: a focal one spreads to neighbours within 20 to 70 ms, at 3 Hz the next is 330 ms
away."""
PEAK_WITHIN_S: dict[Waveform, float] = {
    Waveform.SPIKE: 0.09,
    Waveform.SHARP_WAVE: 0.2,
    Waveform.SPIKE_AND_SLOW_WAVE: 0.12,
}
"""The sharp part's peak lies this soon after the onset (IFCN glossary: a spike lasts 20 to 70 ms, a sharp wave 70 to 200 ms), before the
slow wave of a complex."""
FIRST_SHARE = 0.6
"""The sharp part is the first summit that reaches this share of the highest one: the slow wave after it may be higher."""
FIELD_SHARE = 0.5
"""The field are the electrodes above half of the maximum."""
DERIVATION_SHARE = 0.2
"""Derivations below this share of the chain's greatest are isoelectric: two electrodes within one equipotential line."""
TANGENTIAL_SHARE = 0.4
"""Second pole over the first, both against the median of the electrodes outside the field: a radial dipole has no second pole there."""
TANGENTIAL_REACH = 1.3
"""Greatest distance of the poles on the unit disc of `POSITIONS_XY`: centro-temporal negative and frontal positive of a rolandic discharge
are 1.1 apart; the two ends of the head under an average reference are no dipole."""
GENERALISED_SHARE = 0.5
LATERAL_RATIO = 3
"""Generalised: both sides and half of the electrodes. One side: three electrodes of it for each of the other."""
_BASE_S = 0.06
"""Voltages count from the mean of so long before the onset."""


def dipoles_of(segment_id: str, events: Iterable[Event], eeg_uv: npt.NDArray[np.float32], mask: Bools) -> tuple[Dipole, ...]:
    """One dipole for each discharge of a page, in order of time.

    Args:
        segment_id: enters the ids.
        events: kept events; only epileptiform ones count.
        eeg_uv: `(19, 2000)` microvolts on the average reference.
        mask: `(19,)`, True where the electrode exists.
    """
    discharges = _discharges(events)
    if not discharges:
        return ()
    smooth = np.apply_along_axis(np.convolve, 1, eeg_uv.astype(np.float64), np.ones(3) / 3, mode="same")
    return tuple(_dipole(segment_id, members, smooth, mask) for members in discharges)


def _discharges(events: Iterable[Event]) -> list[list[Event]]:
    discharges: list[list[Event]] = []
    order = sorted((e for e in events if e.waveform in EPILEPTIFORM), key=lambda e: (e.onset_s, CHANNEL_INDEX[e.channel], e.event_id))
    for event in order:
        if not discharges or event.onset_s > discharges[-1][0].onset_s + SAME_DISCHARGE_S:
            discharges.append([])
        discharges[-1].append(event)
    return discharges


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Map:
    """Voltages `(19,)` at the peak against the level before, and the electrode of the maximum."""

    uv: Floats
    at_s: float
    maximum: int


def _dipole(segment_id: str, members: list[Event], eeg_uv: Floats, mask: Bools) -> Dipole:
    waveform = Counter(e.waveform for e in members).most_common(1)[0][0]
    onset_s, end_s = members[0].onset_s, max(e.onset_s + e.duration_s for e in members)
    seen = _map(eeg_uv, members, mask, onset_s, min(end_s, members[-1].onset_s + PEAK_WITHIN_S[waveform]))
    sign = np.sign(seen.uv[seen.maximum])
    amplitude_uv = abs(float(seen.uv[seen.maximum]))
    field = mask & (seen.uv * sign >= FIELD_SHARE * amplitude_uv)
    opposite, opposite_uv = _second_pole(seen, field, mask)
    channels = {e.channel for e in members} | set(names_of(np.flatnonzero(field)))
    maximum = CHANNELS[seen.maximum]
    return Dipole(
        dipole_id=content_id("dipole", segment_id, *(e.event_id for e in members)),
        kind=FINDING_OF_WAVEFORM[waveform],
        onset_s=round(onset_s, 4),
        duration_s=round(end_s - onset_s, 4),
        peak_s=round(seen.at_s, 4),
        maximum=maximum,
        polarity=Polarity.NEGATIVE if sign < 0 else Polarity.POSITIVE,
        amplitude_uv=round(amplitude_uv, 2),
        field=names_of(np.flatnonzero(field)),
        side=_side(channels, int(mask.sum())),
        region=next(region for region, names in REGION_CHANNELS.items() if maximum in names),
        longitudinal_reversal=_reversal(LONGITUDINAL, seen, field, mask),
        transverse_reversal=_reversal(TRANSVERSE, seen, field, mask),
        end_of_chain=any(maximum in (chain[0], chain[-1]) for chain in LONGITUDINAL),
        orientation=Orientation.TANGENTIAL if opposite else Orientation.RADIAL,
        opposite=opposite,
        opposite_uv=opposite_uv,
        event_ids=tuple(e.event_id for e in members),
    )


def _map(eeg_uv: Floats, members: list[Event], mask: Bools, onset_s: float, until_s: float) -> _Map:
    """The map at the first great deflection of the electrodes of the events; the maximum lies there or beside."""
    rows = [CHANNEL_INDEX[name] for name in in_page_order({e.channel for e in members})]
    first = min(max(0, round(onset_s * SFREQ_HZ)), eeg_uv.shape[1] - 2)
    stop = min(max(round(until_s * SFREQ_HZ), first + 2), eeg_uv.shape[1])
    before = eeg_uv[:, max(0, first - round(_BASE_S * SFREQ_HZ)) : first + 1].mean(axis=1)
    course = eeg_uv[:, first:stop] - before[:, None]
    at = _first_peak(np.abs(course[rows]).max(axis=0))
    uv = np.where(mask, course[:, at], 0.0)
    near = mask & (NEIGHBOURS[rows].any(axis=0) | np.isin(np.arange(len(uv)), rows))
    own_sign = np.sign(uv[rows[int(np.abs(uv[rows]).argmax())]])
    maximum = int(np.where(near, uv * own_sign, -np.inf).argmax())
    return _Map(uv=uv, at_s=(first + at) / SFREQ_HZ, maximum=maximum)


def _first_peak(height: Floats) -> int:
    """The first summit that reaches `FIRST_SHARE` of the highest: the sharp part, not the slow wave after it."""
    summits, _ = scipy.signal.find_peaks(np.pad(height, 1), height=FIRST_SHARE * float(height.max()))
    return int(summits[0]) - 1 if len(summits) else int(height.argmax())


def _second_pole(seen: _Map, field: Bools, mask: Bools) -> tuple[str, float]:
    """The electrode of the other sign that stands out beside the maximum, and its voltage without sign; ("", 0) for a radial dipole."""
    outside = mask & ~field
    if outside.sum() < 3:
        return "", 0.0
    level = float(np.median(seen.uv[outside]))
    xy = np.array([POSITIONS_XY[name] for name in CHANNELS])
    beside = outside & (np.hypot(*(xy - xy[seen.maximum]).T) <= TANGENTIAL_REACH)
    contrast = (seen.uv - level) * -np.sign(seen.uv[seen.maximum])
    pole = int(np.where(beside, contrast, -np.inf).argmax())
    first = abs(float(seen.uv[seen.maximum]) - level)
    is_other = seen.uv[pole] * seen.uv[seen.maximum] < 0
    if not beside.any() or not is_other or contrast[pole] < TANGENTIAL_SHARE * first:
        return "", 0.0
    return CHANNELS[pole], round(abs(float(seen.uv[pole])), 2)


def _reversal(chains: Sequence[Sequence[str]], seen: _Map, field: Bools, mask: Bools) -> str:
    """The electrode of the field at which derivations turn against each other, toward the maximum's sign; "" where none does.

    Along a chain a derivation is the first electrode less the second. Toward a negative peak they are positive, after it negative. Where
    isoelectric derivations lie between the two, the electrode of the greatest voltage among them is named.
    """
    sign = np.sign(seen.uv[seen.maximum])
    best, best_uv = "", 0.0
    for chain in chains:
        rows = np.array([CHANNEL_INDEX[name] for name in chain if mask[CHANNEL_INDEX[name]]], dtype=np.intp)
        derivations = -sign * (seen.uv[rows[:-1]] - seen.uv[rows[1:]])
        clear = np.flatnonzero(np.abs(derivations) >= DERIVATION_SHARE * np.abs(derivations).max(initial=0.0))
        for i, j in itertools.pairwise(clear):
            if derivations[i] > 0 > derivations[j]:
                between = rows[i + 1 : j + 1]
                at = int(between[np.argmax(seen.uv[between] * sign)])
                if field[at] and abs(seen.uv[at]) > best_uv:
                    best, best_uv = CHANNELS[at], abs(float(seen.uv[at]))
    return best


def _side(channels: set[str], n_recorded: int) -> Side:
    left, right = len(channels & LEFT_CHANNELS), len(channels & RIGHT_CHANNELS)
    if left and right and len(channels) >= GENERALISED_SHARE * n_recorded:
        return Side.GENERALISED
    if not left and not right:
        return Side.MIDLINE
    if left >= LATERAL_RATIO * right:
        return Side.LEFT
    return Side.RIGHT if right >= LATERAL_RATIO * left else Side.BILATERAL
