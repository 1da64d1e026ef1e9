"""The posterior dominant rhythm of a page and its reactivity.

Terms after the IFCN glossary (Kane et al. 2017): the rhythm is one of wakefulness, 8 to 13 Hz in adults, with its maximum posteriorly, and
blocked by opening the eyes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import scipy.fft

from cg_data.analyze.background import (
    PEAK_FACTOR,
    WINDOW_S,
    Bools,
    Floats,
    Spectrum,
    aperiodic_ratio,
    fitted_bins,
    mean_power,
    peak_of,
)
from cg_data.analyze.layout import REGION_INDEX, names_of
from cg_data.records import Annotation, Label, PosteriorRhythm, content_id
from cg_data.vocabulary import CHANNEL_INDEX, SFREQ_HZ, Eyes, LabelKind, Region

ADULT_HZ = (8.0, 13.0)
AWAKE_HZ = (5.0, 13.0)
"""Where the peak is looked for: only a page that is labelled awake may have its rhythm below 8 Hz, for theta is what drowsiness brings."""
SLOW_WIDTH_HZ = 2.0
"""Greatest width at half height of a peak below 8 Hz: a rhythm keeps its frequency within one hertz or two, irregular theta does not."""
SYMMETRIC_HZ = 1.0
"""Sides whose frequencies differ by more are asymmetric (IFCN glossary, Kane et al. 2017; ACNS terminology 2021)."""
REACTIVE_RATIO = 2.0
"""Alpha power with eyes closed over that with eyes open from which a rhythm is called reactive: half of the power is lost, hence 30 % of
the amplitude, in the midst of what is taken for attenuation (25 to 50 %)."""
FRONTAL_FACTOR = 2.0
"""A rhythm whose power in front is this many times that behind is not a posterior one. Under the average reference a posterior rhythm shows
in front too, upside down and at times as high."""
_LEFT = np.array([CHANNEL_INDEX[name] for name in ("P3", "O1")])
_RIGHT = np.array([CHANNEL_INDEX[name] for name in ("P4", "O2")])
_BIN_HZ = 1 / WINDOW_S
_SETTLE_S = 0.5
_EYES_MIN_S = 2.0


def posterior_rhythm(
    segment_id: str, spectrum: Spectrum, peak_to_peak: Floats, usable: Bools, *, awake: bool, reactivity: float | None
) -> PosteriorRhythm | None:
    """The rhythm where a peak stands out of the posterior spectrum and does not lie in front; the caller rules out sleep.

    Args:
        segment_id: enters the id.
        spectrum: of the page.
        peak_to_peak: of each channel in microvolts, `(19,)`.
        usable: `(19,)`, channels that may be measured.
        awake: whether a label says so.
        reactivity: of `page_reactivity`.
    """
    groups = [rows[usable[rows]] for rows in (REGION_INDEX[Region.POSTERIOR], _LEFT, _RIGHT)]
    if len(groups[0]) < 2:
        return None
    inside = fitted_bins(*(AWAKE_HZ if awake else ADULT_HZ))
    found = [_peak(spectrum, rows, inside) for rows in groups]
    if found[0] is None or _frontal(spectrum, groups[0], usable, found[0][0]):
        return None
    sides_hz = [None if peak is None else peak[0] for peak in found[1:]]
    half_uv = [round(float(np.median(peak_to_peak[rows])) / 2, 2) if len(rows) else None for rows in groups]
    left_hz, right_hz = sides_hz
    channels = names_of(groups[0])
    frequency_hz, peak_ratio = found[0]
    return PosteriorRhythm(
        rhythm_id=content_id("posterior_rhythm", segment_id, channels, frequency_hz, peak_ratio, half_uv),
        channels=channels,
        frequency_hz=frequency_hz,
        peak_ratio=peak_ratio,
        amplitude_uv=half_uv[0] or 0.0,
        left_hz=left_hz,
        right_hz=right_hz,
        left_uv=half_uv[1],
        right_uv=half_uv[2],
        symmetric=None if left_hz is None or right_hz is None else abs(left_hz - right_hz) <= SYMMETRIC_HZ,
        reactivity=reactivity,
    )


def _peak(spectrum: Spectrum, rows: npt.NDArray[np.intp], inside: Bools) -> tuple[float, float] | None:
    if len(rows) == 0:
        return None
    ratio = aperiodic_ratio(mean_power(spectrum, rows))
    hz, height = peak_of(ratio, inside)
    at = int(np.flatnonzero(inside)[np.argmax(ratio[inside])])
    is_peak = ratio[at] > max(ratio[at - 1], ratio[at + 1])
    if hz < ADULT_HZ[0]:
        below = np.flatnonzero(ratio < height / 2)
        is_peak = is_peak and (below[below > at].min(initial=len(ratio)) - below[below < at].max(initial=-1) - 1) * _BIN_HZ <= SLOW_WIDTH_HZ
    return (round(hz, 2), round(height, 4)) if is_peak and height >= PEAK_FACTOR else None


def _frontal(spectrum: Spectrum, posterior: npt.NDArray[np.intp], usable: Bools, hz: float) -> bool:
    """Whether the power at `hz` lies in front rather than behind."""
    frontal = REGION_INDEX[Region.FRONTAL][usable[REGION_INDEX[Region.FRONTAL]]]
    at = int(np.argmin(np.abs(spectrum.freqs_hz - hz)))
    return len(frontal) > 0 and bool(mean_power(spectrum, frontal)[at] > FRONTAL_FACTOR * mean_power(spectrum, posterior)[at])


def page_reactivity(eeg_uv: npt.NDArray[np.float32], labels: Iterable[Label], usable: Bools) -> float | None:
    """Posterior alpha power with eyes closed over that with eyes open, where labels put at least 2 s of each on this page; else None.

    Blinks are not taken for open eyes: their absence does not prove closed ones. The half second after each change is left out.
    """
    rows = REGION_INDEX[Region.POSTERIOR][usable[REGION_INDEX[Region.POSTERIOR]]]
    power: dict[str, list[tuple[float, float]]] = {Eyes.CLOSED: [], Eyes.OPEN: []}
    for label in labels:
        first, last = round((label.onset_s + _SETTLE_S) * SFREQ_HZ), round((label.onset_s + label.duration_s) * SFREQ_HZ)
        if label.kind == LabelKind.EYES and label.name in power and last - first >= (_EYES_MIN_S - _SETTLE_S) * SFREQ_HZ and len(rows):
            power[label.name].append((_alpha_power(eeg_uv[rows, first:last]), last - first))
    if not all(power.values()):
        return None
    closed, opened = (float(np.average([p for p, _ in parts], weights=[n for _, n in parts])) for parts in power.values())
    return round(closed / max(opened, 1e-6), 4)


def _alpha_power(eeg_uv: npt.NDArray[np.float32]) -> float:
    """Mean power density from 8 to 13 Hz of `(channels, samples)`, Hann window."""
    window = np.hanning(eeg_uv.shape[1])
    spectrum = np.abs(scipy.fft.rfft((eeg_uv - eeg_uv.mean(axis=1, keepdims=True)) * window, axis=1)) ** 2
    hz = np.fft.rfftfreq(eeg_uv.shape[1], 1 / SFREQ_HZ)
    return float(spectrum[:, (hz >= ADULT_HZ[0]) & (hz < ADULT_HZ[1])].mean() / (window @ window))


def recording_reactivity(annotations: Iterable[Annotation]) -> float | None:
    """Posterior alpha power of pages with closed eyes over that of pages with open eyes (medians); None where one of them is missing.

    `REACTIVE_RATIO` says from where a rhythm is called reactive.
    """
    power: dict[Eyes, list[float]] = {Eyes.CLOSED: [], Eyes.OPEN: []}
    for annotation in annotations:
        posterior = next((r for r in annotation.background if r.region == Region.POSTERIOR), None)
        if posterior is not None and annotation.eyes in power:
            power[annotation.eyes].append(posterior.alpha_uv**2)
    if not all(power.values()):
        return None
    return round(float(np.median(power[Eyes.CLOSED])) / max(float(np.median(power[Eyes.OPEN])), 1e-6), 4)
