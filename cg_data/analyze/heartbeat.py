"""The electrocardiogram in the EEG: sharp deflections at the rhythm of the heart with the field of a far source.

A segment stores no ECG channel, so the heart is looked for in the EEG itself. Its dipole is far from the head, hence its potential is
close to a plane over the scalp, most often from left to right; a discharge of the cortex is not. Pulse artefact (smooth waves on one
electrode), irregular rhythms and beats among discharges that are higher than they are not found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from cg_data.analyze.background import Bools, Floats, between, finding
from cg_data.analyze.layout import SPHERE_XYZ, names_of
from cg_data.records import Finding
from cg_data.vocabulary import SEGMENT_SAMPLES, SFREQ_HZ, FindingKind

QRS_HZ = (8.0, 40.0)
"""The QRS complex lasts 60 to 110 ms and has its energy from 5 to 40 Hz (Thakor, Webster and Tompkins 1984); here from 8 Hz on, above
the slow waves of the EEG."""
RATE_PER_MIN = (40.0, 150.0)
REGULAR_FRACTION = 0.12
"""An interval is regular within this fraction of the median one; sinus rhythm at rest varies by about 5 % (SDNN 50 ms, Task Force 1996)."""
REGULAR_SHARE = 0.75
PROMINENCE = 3.5
"""Beats must rise above the median absolute course between them by this factor: five standard deviations would be 3.4."""
PLANE_SHARE = 0.6
"""Share of the averaged beat's power that a plane over the scalp explains."""
SHARP_SHARE = 0.5
"""Share of the averaged beat's amplitude that lies in `QRS_HZ`: periodic discharges have their slow wave, the QRS has none."""
BEAT_MIN_UV = 4.0
"""Averaged beat on the channel that shows it best; below it the artefact is not seen on a page of 100 uV a row."""
BEAT_STANDS_OUT = 2.0
"""The averaged beat over what the average leaves beside it of the EEG, both peak to peak in `QRS_HZ`: in mere noise about 1."""
_EDGE = 20
_APART = int(SFREQ_HZ * 60 / RATE_PER_MIN[1] * 0.9)
REFRACTORY_S = 0.2
"""No two beats are nearer (Pan and Tompkins 1985)."""
AS_HIGH = 0.7
EXTRA = 1.25
"""Greatest number of peaks that reach `AS_HIGH` of the median beat, over the number of beats: more are a train faster than a heart."""
_MIN_CHANNELS = 10
_REACH = 30
_QRS = slice(_REACH - 12, _REACH + 13)
"""The beat within its averages of `2 * _REACH` samples: 60 ms on both sides."""
_MIN_BEATS = 6

_HZ = np.fft.rfftfreq(SEGMENT_SAMPLES, 1 / SFREQ_HZ).astype(np.float64)
_BAND: Floats = between(_HZ, *QRS_HZ).astype(np.float64)


def ecg_finding(segment_id: str, eeg_uv: npt.NDArray[np.float32], usable: Bools) -> Finding | None:
    """ECG artefact of a page `(19, 2000)`, on the channels that show at least half of `BEAT_MIN_UV` or of the greatest beat."""
    rows = np.flatnonzero(usable)
    if len(rows) < _MIN_CHANNELS:
        return None
    xyz = SPHERE_XYZ[rows] - SPHERE_XYZ[rows].mean(axis=0)
    to_plane = np.linalg.pinv(xyz)
    signal = eeg_uv[rows].astype(np.float64)
    signal -= signal.mean(axis=0)
    plane = _sharp(to_plane @ signal)
    for direction in (*np.eye(3), _strongest(plane)):
        beats = _beats(direction @ plane)
        if _is_heart(beats):
            around = beats[(beats >= _REACH) & (beats < SEGMENT_SAMPLES - _REACH), None] + np.arange(-_REACH, _REACH)
            beat, whole = _sharp(signal)[:, around].mean(axis=1), signal[:, around].mean(axis=1)
            found = _judged(segment_id, rows, beat, whole, xyz @ to_plane)
            if found is not None:
                return found
    return None


def _sharp(signal: Floats) -> Floats:
    """`(channels, 2000)` in `QRS_HZ`."""
    sharp: Floats = scipy.fft.irfft(scipy.fft.rfft(signal, axis=1) * _BAND, SEGMENT_SAMPLES, axis=1)
    return sharp


def _judged(segment_id: str, rows: npt.NDArray[np.intp], beat: Floats, whole: Floats, onto_plane: Floats) -> Finding | None:
    """The averaged beat `(channels, 60)` in `QRS_HZ` and unfiltered: is it seen, far, sharp, and does it stand out?"""
    swing, peak = np.ptp(beat, axis=1), beat[:, _REACH]
    loudest = int(np.argmax(swing))
    far = np.sum((onto_plane @ peak) ** 2) >= PLANE_SHARE * np.sum(peak**2)
    sharp = swing[loudest] >= SHARP_SHARE * np.ptp(whole[loudest])
    stands_out = np.ptp(beat[loudest, _QRS]) >= BEAT_STANDS_OUT * np.ptp(np.delete(beat[loudest], _QRS))
    if not far or not sharp or not stands_out or swing[loudest] < BEAT_MIN_UV:
        return None
    seen = swing >= max(0.5 * swing[loudest], 0.5 * BEAT_MIN_UV)
    value = float(swing[loudest])
    return finding(segment_id, FindingKind.ECG, names_of(rows[seen]), value, BEAT_MIN_UV, "uV peak to peak, averaged beat")


def _strongest(plane: Floats) -> Floats:
    """Direction of the three of the plane `(3, samples)` in which its highest peaks lie."""
    strength = np.linalg.norm(plane, axis=0)
    highest = np.argpartition(strength, -SEGMENT_SAMPLES // 50)[-SEGMENT_SAMPLES // 50 :]
    _, directions = np.linalg.eigh(plane[:, highest] @ plane[:, highest].T)
    strongest: Floats = directions[:, -1]
    return strongest


def _beats(course: Floats) -> npt.NDArray[np.intp]:
    """Samples of the peaks that stand out of a course `(samples,)`, on the side where it is more pointed; none where they come too fast."""
    inner = course[_EDGE:-_EDGE]
    typical = float(np.median(np.abs(inner)))
    upright = inner if inner.max() >= -inner.min() else -inner
    beats, _ = scipy.signal.find_peaks(upright, distance=_APART, height=PROMINENCE * typical)
    if len(beats) >= _MIN_BEATS:
        as_high = AS_HIGH * float(np.median(upright[beats]))
        peaks, _ = scipy.signal.find_peaks(upright, distance=REFRACTORY_S * SFREQ_HZ, height=as_high)
        beats = beats if len(peaks) <= EXTRA * len(beats) else beats[:0]
    return np.asarray(beats + _EDGE)


def _is_heart(beats: npt.NDArray[np.intp]) -> bool:
    """Whether beats are regular, at the rate of a heart, and fill the page."""
    if len(beats) < _MIN_BEATS:
        return False
    intervals_s = np.diff(beats) / SFREQ_HZ
    typical_s = float(np.median(intervals_s))
    regular = np.abs(intervals_s - typical_s) <= REGULAR_FRACTION * typical_s
    in_range = RATE_PER_MIN[0] <= 60 / typical_s <= RATE_PER_MIN[1]
    fills = (beats[-1] - beats[0]) / SFREQ_HZ >= SEGMENT_SAMPLES / SFREQ_HZ - 3 * typical_s
    return bool(in_range and fills and regular.mean() >= REGULAR_SHARE)
