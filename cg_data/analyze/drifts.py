"""Slow artefacts: respiration and sweat.

The segment's zero-phase high-pass of 0.5 Hz leaves half of the amplitude at 0.5 Hz, 11 % at 0.3 Hz, 2.5 % at 0.2 Hz and 0.8 % at 0.15 Hz.
Breathing at 15 a minute (0.25 Hz, 6 %) is therefore seen only where it moves an electrode by several hundred microvolts, and slower
breathing is not claimed; of sweat only the faster part of its drifts is left. What is found here is what the page shows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft

from cg_data.analyze.background import Bools, Floats, finding
from cg_data.analyze.layout import NEIGHBOURS, REGION_INDEX, names_of
from cg_data.records import Finding
from cg_data.vocabulary import CHANNEL_INDEX, SEGMENT_S, FindingKind, Region

BREATHS_HZ = (0.2, 0.5)
"""12 to 30 breaths a minute; adults at rest breathe 12 to 20 times, children more often. Slower ones the filter takes out."""
BREATH_FIT = 0.85
"""Share of the slow signal (up to 5 Hz) that one sinusoid over the whole page explains: rhythmic, and nothing else there."""
BREATH_MIN_UV = 20.0
"""Peak to peak, a fifth of a row of 100 uV."""
SWEAT_MIN_UV = 50.0
"""Peak to peak of the drift: half a row of 100 uV."""
SWEAT_HZ = 0.8
SWEAT_SHARE = 0.85
"""Share of the power up to 4 Hz that lies below `SWEAT_HZ`. Sweat sways at 0.25 to 0.5 Hz (Kane et al. 2017: slower than 1 Hz), the slow
waves of sleep and blinks have more than this above."""
SWEAT_STEADY = 0.4
"""Share of the swing that each half of the page must have: sweat sways on, an amplifier's recovery from a jump or a movement ends."""
SLOW_EYES_CORRELATION = -0.5
"""F7 and F8 that drift against each other by more are slow rolling eyes (AASM: slow eye movements), not sweat."""

_RATE_HZ = 10
_STEPS = _RATE_HZ * SEGMENT_S
_T = np.arange(_STEPS) / _RATE_HZ
_HANN = np.hanning(_STEPS)
_HZ = np.fft.rfftfreq(_STEPS, 1 / _RATE_HZ)
_BROW = [CHANNEL_INDEX[name] for name in ("Fp1", "Fp2", "F7", "F8")]
"""Where sweat is most; three or four of its cycles are regular by chance, so a drift with its maximum here is not claimed as breathing."""
_FRONT = np.concatenate([REGION_INDEX[Region.FRONTAL], REGION_INDEX[Region.TEMPORAL]])


def _sinusoids() -> tuple[Floats, Floats]:
    """Frequencies, and orthonormal bases `(frequencies, 2, 100)` of sinusoids with level and trend taken out."""
    hz = np.arange(BREATHS_HZ[0], BREATHS_HZ[1] + 1e-9, 0.025)
    line = np.linalg.qr(np.column_stack([np.ones(_STEPS), _T]))[0]
    waves = np.stack([np.stack([np.sin(2 * np.pi * f * _T), np.cos(2 * np.pi * f * _T)]) for f in hz])
    waves = waves - waves @ line @ line.T
    return hz, np.stack([np.linalg.qr(pair.T)[0].T for pair in waves])


_BREATHS, _BASES = _sinusoids()


def drift_findings(segment_id: str, eeg_uv: npt.NDArray[np.float32], usable: Bools, *, deep_sleep: bool) -> list[Finding]:
    """Respiration and sweat of a page `(19, 2000)`, each on two neighbouring electrodes at least; no sweat is claimed in deep sleep."""
    slow = eeg_uv.reshape(len(eeg_uv), _STEPS, -1).mean(axis=2).astype(np.float64)
    slow -= slow.mean(axis=1, keepdims=True)
    swing = np.ptp(slow, axis=1)
    if not (usable & (swing >= BREATH_MIN_UV)).any():
        return []
    explained, hz = _best_sinusoid(slow)
    breathing = usable & (explained >= BREATH_FIT) & (swing >= BREATH_MIN_UV)
    breathing &= np.abs(hz - np.median(hz[breathing])) <= 0.05 if breathing.any() else False
    found = []
    if _touching(breathing) and int(np.argmax(np.where(breathing, swing, 0.0))) not in _BROW:
        where, value = names_of(np.flatnonzero(breathing)), float(np.median(explained[breathing]))
        found.append(finding(segment_id, FindingKind.RESPIRATION, where, value, BREATH_FIT, "share of one sinusoid in the slow signal"))
    steady = np.ptp(slow.reshape(len(slow), 2, -1), axis=2).min(axis=1) >= SWEAT_STEADY * swing
    sweating = usable & ~breathing & steady & (swing >= SWEAT_MIN_UV) & (_share_below(slow) >= SWEAT_SHARE)
    if not deep_sleep and _touching(sweating) and sweating[_FRONT].any() and not _eyes_roll(slow, usable):
        where, value = names_of(np.flatnonzero(sweating)), float(np.median(swing[sweating]))
        found.append(finding(segment_id, FindingKind.SWEAT, where, value, SWEAT_MIN_UV, "uV peak to peak below 0.8 Hz"))
    return found


def _best_sinusoid(slow: Floats) -> tuple[Floats, Floats]:
    """Of each channel: the greatest share of its power that one sinusoid explains, and that one's frequency, `(channels,)`."""
    power = ((_BASES @ slow.T) ** 2).sum(axis=1) / np.maximum((slow**2).sum(axis=1), 1e-9)
    best = power.argmax(axis=0)
    return power[best, np.arange(len(slow))], _BREATHS[best]


def _share_below(slow: Floats) -> Floats:
    power = np.abs(scipy.fft.rfft(slow * _HANN, axis=1)) ** 2
    share: Floats = power[:, _HZ < SWEAT_HZ].sum(axis=1) / np.maximum(power[:, _HZ < 4.0].sum(axis=1), 1e-9)
    return share


def _touching(rows: Bools) -> bool:
    """Whether two of the electrodes are neighbours."""
    return bool(NEIGHBOURS[np.ix_(rows, rows)].any())


def _eyes_roll(slow: Floats, usable: Bools) -> bool:
    left, right = CHANNEL_INDEX["F7"], CHANNEL_INDEX["F8"]
    if not (usable[left] and usable[right]):
        return False
    return bool(np.corrcoef(slow[left], slow[right])[0, 1] <= SLOW_EYES_CORRELATION)
