"""Slowing of the waking background: more theta and delta than wakefulness has, or a posterior rhythm below 8 Hz."""

from __future__ import annotations

import numpy as np

from cg_data.analyze.background import Bools, Spectrum, band_power_uv2, finding
from cg_data.analyze.layout import REGION_INDEX, names_of
from cg_data.records import Finding, PosteriorRhythm
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, LEFT_CHANNELS, RIGHT_CHANNELS, FindingKind, Region

SLOW_HZ = (2.0, 8.0)
"""Slow activity is counted from 2 Hz: below lie eye movements, sweat and the slow waves of sleep (AASM: 0.5 to 2 Hz)."""
FAST_HZ = (8.0, 20.0)
SLOW_RATIO = 6.0
"""Power of `SLOW_HZ` over `FAST_HZ` from which a part of the head is slowed. The ratio of slow to alpha power parts normal from slowed
EEG at 3.7 with eyes closed (Finnigan, Wong and Read 2016); healthy adults with open eyes reach 3.2 in these bands, so it is set at twice
what they show."""
SLOW_RATIO_UNLABELLED = 12.0
"""Where no label says that the page is one of wakefulness, twice as much: light sleep is slower than wakefulness (6.8 in these bands at the
vertex of a public recording of stage 2), and its spindles and K-complexes may be missed."""
SLOW_MIN_UV = 5.0
"""RMS of `SLOW_HZ` that slowing must have, 14 uV peak to peak: below it a page is poor in everything, not slow."""
DEEP_HZ = (0.5, 2.0)
DEEP_UV = 75.0 / (2 * np.sqrt(2))
"""Frontal RMS of `DEEP_HZ` that makes deep sleep possible where no label tells the stage: 75 uV peak to peak (AASM)."""
SLOW_POSTERIOR_HZ = 8.0
"""A posterior dominant rhythm below is slow in adults (IFCN glossary, Kane et al. 2017)."""
EYES_REACH = 0.35
"""Where eyes move, electrodes with less than this share of the amplitude at the frontal poles are not judged: through the average reference
a blink reaches all of them with a fifth of its height."""
DIFFUSE_SHARE = 0.75
"""Share of the parts that can be judged from which slowing is one of the whole head."""


def _parts() -> tuple[np.ndarray, ...]:
    """Regions divided by side, without the midline: eight parts of the head."""
    sides = (LEFT_CHANNELS, RIGHT_CHANNELS)
    return tuple(np.array([r for r in rows if CHANNELS[r] in side]) for rows in REGION_INDEX.values() for side in sides)


_PARTS = _parts()
_POLES = [CHANNEL_INDEX["Fp1"], CHANNEL_INDEX["Fp2"]]


def slowing_finding(
    segment_id: str, spectrum: Spectrum, usable: Bools, posterior: PosteriorRhythm | None, *, awake: bool
) -> Finding | None:
    """Slowing of the whole head (three quarters of its parts), of the posterior rhythm, or of parts; the caller rules out sleep.

    Where no label says that the page is one of wakefulness (`awake`), more is asked (`SLOW_RATIO_UNLABELLED`) and slow waves as high as
    those of deep sleep are not judged. At least two electrodes must be slowed; `usable` leaves out those that eye movements or muscle
    disturb.
    """
    if not awake and _may_be_deep_sleep(spectrum, usable):
        return None
    slow, fast = band_power_uv2(spectrum, *SLOW_HZ), band_power_uv2(spectrum, *FAST_HZ)
    ratio, least = slow / np.maximum(fast, 1e-9), SLOW_RATIO if awake else SLOW_RATIO_UNLABELLED
    slowed = usable & (ratio >= least) & (slow >= SLOW_MIN_UV**2)
    judged = [rows for rows in _PARTS if usable[rows].any()]
    parts = [rows for rows in judged if slowed[rows].sum() * 2 > usable[rows].sum()]
    diffuse = len(parts) >= DIFFUSE_SHARE * len(judged) and len(judged) >= 4
    if not diffuse and posterior is not None and posterior.frequency_hz < SLOW_POSTERIOR_HZ:
        value, unit = posterior.frequency_hz, "Hz posterior rhythm"
        return finding(segment_id, FindingKind.SLOWING, posterior.channels, value, SLOW_POSTERIOR_HZ, unit)
    rows = np.flatnonzero(slowed if diffuse else slowed & np.isin(np.arange(len(slowed)), np.concatenate([[], *parts])))
    if len(rows) < 2:
        return None
    value = float(np.median(ratio[rows]))
    return finding(segment_id, FindingKind.SLOWING, names_of(rows), value, least, "times the power from 8 to 20 Hz")


def reached_by_eyes(spectrum: Spectrum) -> Bools:
    """Channels whose slow activity may be that of moving eyes, `(19,)`."""
    slow = band_power_uv2(spectrum, *SLOW_HZ)
    reached: Bools = slow < EYES_REACH**2 * slow[_POLES].max()
    return reached


def _may_be_deep_sleep(spectrum: Spectrum, usable: Bools) -> bool:
    rows = REGION_INDEX[Region.FRONTAL][usable[REGION_INDEX[Region.FRONTAL]]]
    return len(rows) > 0 and bool(np.sqrt(np.median(band_power_uv2(spectrum, *DEEP_HZ)[rows])) >= DEEP_UV)
