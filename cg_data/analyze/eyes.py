"""Eye movements on the signal, for pages on which the detector is silent: only those that the frontal field leaves no doubt about.

After CerebraGloss (ICLR 2026): eye movements are told by the correlation of the frontal electrodes. The cornea is positive, so a blink
(upward roll) is positive at Fp1 and Fp2 and falls off steeply; a lateral movement has opposite signs at F7 and F8 (IFCN glossary, Kane et
al. 2017).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal

from cg_data.analyze.background import Bools, Floats, finding
from cg_data.records import Finding
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, SEGMENT_SAMPLES, SFREQ_HZ, FindingKind

BLINK_MIN_UV = 75.0
"""Prominence at the frontal poles. Blinks measure 50 to 500 uV there; the lower ones are left to the detector."""
BLINK_S = (0.1, 0.45)
"""Width at half height; a blink lasts 100 to 400 ms (Kleifges et al. 2017)."""
BLINK_CORRELATION = 0.8
"""Of Fp1 with Fp2 in the quarter second on both sides."""
GAZE_MIN_UV = 60.0
"""Step of F7 against F8."""
GAZE_LATERAL = 0.35
"""Share of the step that each of F7 and F8 must have at least."""
BLINK_EVEN = 0.6
"""Share of the greater frontal pole that the lesser must have; and of the height that must be positive."""
BLINK_UNDERSHOOT = 0.4
"""Greatest negative deflection within 0.4 s, over the height: the high-pass leaves a quarter, a discharge has waves as high."""
BLINK_ALONE = 4.0
"""Height over the median deflection of the frontal poles: rhythmic delta waves follow each other, blinks stand alone."""
BLINK_MOST = 0.5
"""Least share that blinks must have among all waves of either sign at the frontal poles that reach `BLINK_EVEN` of the highest blink: one
that looks like a blink among discharges or delta waves of other fields is one of those."""
FIELD_LIKENESS = 0.9
"""Cosine between the map of the movement and the field of the eyes below: frontal delta falls off less, discharges have other fields."""
GAZE_SHARP = 0.7
"""Share of the step done within 100 ms: a saccade takes 30 to 80 ms, slow rolling eyes half a second."""

_BLOCK = 5
_RATE_HZ = SFREQ_HZ / _BLOCK
_FP = [CHANNEL_INDEX["Fp1"], CHANNEL_INDEX["Fp2"]]
_SIDES = [CHANNEL_INDEX["F7"], CHANNEL_INDEX["F8"]]


def _field(values: dict[str, float]) -> Floats:
    return np.array([values.get(name, 0.0) for name in CHANNELS])


_BLINK_FIELD = _field({"Fp1": 1.0, "Fp2": 1.0, "F7": 0.25, "F8": 0.25, "F3": 0.3, "F4": 0.3, "Fz": 0.3})
_GAZE_FIELD = _field({"F7": -1.0, "F8": 1.0, "Fp1": -0.3, "Fp2": 0.3, "F3": -0.25, "F4": 0.25, "T3": -0.3, "T4": 0.3})
"""Fields of the eyes over the nineteen electrodes (shares as seen in Iwasaki et al. 2005, rounded)."""


def eye_findings(segment_id: str, eeg_uv: npt.NDArray[np.float32], usable: Bools) -> list[Finding]:
    """Blinks at Fp1 and Fp2 and lateral eye movements at F7 and F8 of a page `(19, 2000)`, one finding of each kind at most."""
    slow = eeg_uv.reshape(len(eeg_uv), SEGMENT_SAMPLES // _BLOCK, _BLOCK).mean(axis=2).astype(np.float64)
    found = []
    if usable[_FP].all():
        found += _finding(segment_id, FindingKind.BLINK, ("Fp1", "Fp2"), _blinks(slow, usable), BLINK_MIN_UV, 0.2)
    if usable[_SIDES].all():
        found += _finding(segment_id, FindingKind.LATERAL_EYE_MOVEMENT, ("F7", "F8"), _gazes(slow, usable), GAZE_MIN_UV, 0.2)
    return found


def _finding(
    segment_id: str, kind: FindingKind, channels: tuple[str, ...], found: list[tuple[float, float]], least_uv: float, half_s: float
) -> list[Finding]:
    """`found` are times (s) and heights (uV) in order of time."""
    if not found:
        return []
    onset_s, end_s = max(0.0, found[0][0] - half_s), min(SEGMENT_SAMPLES / SFREQ_HZ, found[-1][0] + half_s)
    highest_uv = max(height for _, height in found)
    return [finding(segment_id, kind, channels, highest_uv, least_uv, "uV", (onset_s, end_s - onset_s))]


def _blinks(slow: Floats, usable: Bools) -> list[tuple[float, float]]:
    pole = slow[_FP].mean(axis=0)
    pole -= np.median(pole)
    least_uv = max(BLINK_MIN_UV, BLINK_ALONE * float(np.median(np.abs(pole))))
    low, high = (s * _RATE_HZ for s in BLINK_S)
    peaks, shape = scipy.signal.find_peaks(pole, prominence=least_uv, width=(low, high), rel_height=0.5)
    reach, wide = round(0.25 * _RATE_HZ), round(0.4 * _RATE_HZ)
    found = []
    for at, height in zip(peaks, shape["prominences"], strict=True):
        if not reach <= at < slow.shape[1] - reach:
            continue
        near = slow[:, at - reach : at + reach + 1]
        rise = near[:, reach] - np.minimum(near[:, 0], near[:, -1])
        alike = float(np.corrcoef(near[_FP[0]], near[_FP[1]])[0, 1])
        even = rise[_FP].min() >= BLINK_EVEN * rise[_FP].max() and pole[at] >= BLINK_EVEN * height
        even = even and pole[max(0, at - wide) : at + wide].min() >= -BLINK_UNDERSHOOT * height
        if even and alike >= BLINK_CORRELATION and _likeness(rise, _BLINK_FIELD, usable) >= FIELD_LIKENESS:
            found.append((at / _RATE_HZ, float(height)))
    return found if _are_most(found, np.abs(pole)) else []


def _are_most(blinks: list[tuple[float, float]], height: Floats) -> bool:
    """Whether at least `BLINK_MOST` of the waves that are about as high as the highest blink are blinks."""
    as_high = BLINK_EVEN * max((uv for _, uv in blinks), default=np.inf)
    waves, _ = scipy.signal.find_peaks(np.pad(height, 1), prominence=as_high)
    return sum(uv >= as_high for _, uv in blinks) >= BLINK_MOST * len(waves)


def _gazes(slow: Floats, usable: Bools) -> list[tuple[float, float]]:
    """Steps of F7 against F8: the mean 50 to 250 ms after less that before."""
    n_near, n_far = 2, 10
    sums = np.cumsum(np.pad(slow, ((0, 0), (1, 0))), axis=1)
    level = (sums[:, n_far - n_near :] - sums[:, : n_near - n_far]) / (n_far - n_near)
    steps = level[:, n_far + n_near :] - level[:, : -n_far - n_near]
    lateral = np.abs(steps[_SIDES[1]] - steps[_SIDES[0]])
    peaks, _ = scipy.signal.find_peaks(lateral, height=GAZE_MIN_UV, distance=round(0.3 * _RATE_HZ))
    found = []
    for at in peaks:
        step, middle = steps[:, at], at + n_far
        quick = slow[:, middle + n_near] - slow[:, middle - n_near]
        sides, height = step[_SIDES], float(lateral[at])
        opposite = sides[0] * sides[1] < 0 and np.abs(sides).min() >= GAZE_LATERAL * height
        sharp = abs(quick[_SIDES[1]] - quick[_SIDES[0]]) >= GAZE_SHARP * height
        if opposite and sharp and abs(_likeness(step, _GAZE_FIELD, usable)) >= FIELD_LIKENESS:
            found.append((middle / _RATE_HZ, height))
    return found


def _likeness(seen: Floats, field: Floats, usable: Bools) -> float:
    """Cosine of two maps over the usable electrodes, each against its mean."""
    a, b = seen[usable] - seen[usable].mean(), field[usable] - field[usable].mean()
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))
