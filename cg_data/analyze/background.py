"""Background activity of a page: strongest band, dominant frequency and amplitude per region, and what follows from them.

After CerebraGloss (ICLR 2026, section 3): the band with the highest power density, the peak within it, half of the peak-to-peak
amplitude. Plain power density would always say delta, so power is compared with the page's own 1/f trend (Donoghue et al. 2020).
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import scipy.fft

from cg_data.analyze.layout import REGION_INDEX, names_of
from cg_data.records import Finding, PosteriorRhythm, RegionRhythm, content_id
from cg_data.vocabulary import (
    BAND_EDGES_HZ,
    CHANNELS,
    LEFT_CHANNELS,
    RIGHT_CHANNELS,
    SEGMENT_S,
    SFREQ_HZ,
    Band,
    FindingKind,
    Region,
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

WINDOW_S = 2
"""Length of the spectral windows: half-hertz bins, nine windows on a page at half overlap."""
FIT_HZ = (1.0, 30.0)
"""Range of the aperiodic fit: above the high-pass of 0.5 Hz, below the muscle."""
EXPONENT_RANGE = (0.5, 2.0)
"""Bounds of the trend's exponent. Waking EEG lies between; a steeper spectrum (deep sleep, slowing) shall count as delta, a flatter one
(muscle, fast activity) as beta, not as trend."""
PEAK_FACTOR = 5.0
"""A peak stands out where power is this many times the aperiodic fit (7 dB). In 1/f noise without any rhythm the highest
of a band reaches 3.3 in one region of a hundred."""
LOW_VOLTAGE_UV = 20.0
"""Low voltage: no region reaches this peak to peak (IFCN glossary, Kane et al. 2017; ACNS terminology 2021)."""
ASYMMETRY_FRACTION = 0.5
"""Marked asymmetry: the lower side has at most half of the higher side's amplitude (ACNS terminology 2021, referential montage)."""
ASYMMETRY_HZ = (2.0, 20.0)
"""Range in which sides are compared: clear of eye movements below and of muscle above."""

_ACTIVITY = {Band.DELTA: FindingKind.DELTA_ACTIVITY, Band.THETA: FindingKind.THETA_ACTIVITY, Band.BETA: FindingKind.BETA_ACTIVITY}


def between(values: Floats, low: float, high: float) -> Bools:
    """Which of `values` lie in the half-open range from `low` to `high`."""
    inside: Bools = (values >= low) & (values < high)
    return inside


_FREQS_HZ: Floats = np.fft.rfftfreq(WINDOW_S * SFREQ_HZ, 1 / SFREQ_HZ).astype(np.float64)
_FITTED: Bools = between(_FREQS_HZ, *FIT_HZ)
_FIT_FREQS_HZ: Floats = _FREQS_HZ[_FITTED]
_HANN: Floats = np.hanning(WINDOW_S * SFREQ_HZ + 1)[:-1]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Spectrum:
    """Power of one page. `power_uv2_hz` is `(19, 401)`, the median over nine Hann windows of 2 s; `freqs_hz` is `(401,)`."""

    freqs_hz: Floats
    power_uv2_hz: Floats


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RegionBackground:
    """The rhythm of one region, how far its peak stands above the aperiodic fit, and the rows that it was read from."""

    rhythm: RegionRhythm
    peak_ratio: float
    rows: npt.NDArray[np.intp]


def finding(
    segment_id: str,
    kind: FindingKind,
    channels: tuple[str, ...],
    value: float,
    threshold: float,
    unit: str,
    when_s: tuple[float, float] = (0.0, float(SEGMENT_S)),
) -> Finding:
    """A `Finding` with its content id; `when_s` is onset and duration. Numbers are rounded to four decimals."""
    onset_s, duration_s, value, threshold = (round(float(number), 4) for number in (*when_s, value, threshold))
    return Finding(
        finding_id=content_id("finding", segment_id, kind, channels, onset_s, duration_s, value, threshold, unit),
        kind=kind,
        channels=channels,
        onset_s=onset_s,
        duration_s=duration_s,
        value=value,
        threshold=threshold,
        unit=unit,
    )


def spectrum_of(eeg_uv: npt.NDArray[np.float32]) -> Spectrum:
    """Power spectral density of `(channels, samples)`, median over windows: a blink or a spindle of one second does not shift it."""
    length = WINDOW_S * SFREQ_HZ
    windows = np.lib.stride_tricks.sliding_window_view(eeg_uv, length, axis=1)[:, :: length // 2].astype(np.float64)
    windows -= windows.mean(axis=2, keepdims=True)
    power = np.abs(scipy.fft.rfft(windows * _HANN, axis=2)) ** 2 * (2 / (SFREQ_HZ * float(_HANN @ _HANN)))
    return Spectrum(freqs_hz=_FREQS_HZ, power_uv2_hz=np.median(power, axis=1))


def without_line(spectrum: Spectrum, line_hz: float) -> Spectrum:
    """The spectrum with 3 Hz to each side of an electrical line replaced by the geometric interpolation between the edges."""
    inside = np.flatnonzero(np.abs(spectrum.freqs_hz - line_hz) <= 3.0)
    power = spectrum.power_uv2_hz.copy()
    edges = np.log(np.maximum(power[:, [inside[0] - 1, inside[-1] + 1]], 1e-12))
    power[:, inside] = np.exp(edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * np.linspace(0, 1, len(inside)))
    return Spectrum(freqs_hz=spectrum.freqs_hz, power_uv2_hz=power)


def aperiodic_ratio(power_uv2_hz: Floats) -> Floats:
    """Power `(..., 401)` over its fitted trend c f^-b, at the bins from 1 to 29.5 Hz: `(..., 58)`.

    Least squares in log-log with weight 1/f (each octave counts the same), once over all bins and once without those that stand out.
    """
    x, y = np.log10(_FIT_FREQS_HZ), np.log10(np.maximum(power_uv2_hz[..., _FITTED], 1e-12))
    weight = np.broadcast_to(1 / _FIT_FREQS_HZ, y.shape)
    fit = np.zeros_like(y)
    for _ in range(2):
        total = weight.sum(axis=-1, keepdims=True)
        centre_x = (weight * x).sum(axis=-1, keepdims=True) / total
        centre_y = (weight * y).sum(axis=-1, keepdims=True) / total
        around = weight * (x - centre_x)
        slope = (around * (y - centre_y)).sum(axis=-1, keepdims=True) / (around * (x - centre_x)).sum(axis=-1, keepdims=True)
        fit = centre_y - np.clip(-slope, *EXPONENT_RANGE) * (x - centre_x)
        quiet = y - fit < 0.15
        enough = quiet.sum(axis=-1, keepdims=True) > y.shape[-1] / 3
        weight = np.where(enough & ~quiet, 0.0, weight)
    ratio: Floats = 10 ** (y - fit)
    return ratio


def peak_of(ratio: Floats, inside: Bools) -> tuple[float, float]:
    """Frequency (Hz, refined by a parabola through log ratio) and height of the highest of the fitted bins `(58,)` inside a band."""
    at = int(np.flatnonzero(inside)[np.argmax(ratio[inside])])
    if not 0 < at < len(ratio) - 1:
        return float(_FIT_FREQS_HZ[at]), float(ratio[at])
    left, middle, right = np.log(ratio[at - 1 : at + 2])
    curve = left - 2 * middle + right
    shift = 0.5 * (left - right) / curve if curve < 0 else 0.0
    step = float(_FIT_FREQS_HZ[1] - _FIT_FREQS_HZ[0])
    return float(_FIT_FREQS_HZ[at] + np.clip(shift, -0.5, 0.5) * step), float(ratio[at])


def fitted_bins(low_hz: float, high_hz: float) -> Bools:
    """Which of the fitted bins lie from `low_hz` to `high_hz`, `(58,)`."""
    return between(_FIT_FREQS_HZ, low_hz, high_hz)


_BAND_BINS: dict[Band, Bools] = {band: fitted_bins(*edges) for band, edges in BAND_EDGES_HZ.items()}


def mean_power(spectrum: Spectrum, rows: npt.NDArray[np.intp]) -> Floats:
    """Geometric mean of the power of channels, `(401,)`: one loud electrode does not speak for its region."""
    power: Floats = np.exp(np.log(np.maximum(spectrum.power_uv2_hz[rows], 1e-12)).mean(axis=0))
    return power


def band_power_uv2(spectrum: Spectrum, low_hz: float, high_hz: float) -> Floats:
    """Power of each channel from `low_hz` to `high_hz`, in square microvolts, `(19,)`."""
    inside = between(spectrum.freqs_hz, low_hz, high_hz)
    power: Floats = spectrum.power_uv2_hz[:, inside].sum(axis=1) / WINDOW_S
    return power


def peak_to_peak_uv(eeg_uv: npt.NDArray[np.float32]) -> Floats:
    """Typical peak-to-peak amplitude per channel: median over windows of one second, `(channels,)`."""
    windows = eeg_uv.reshape(len(eeg_uv), -1, SFREQ_HZ)
    typical: Floats = np.median(np.ptp(windows, axis=2), axis=1).astype(np.float64)
    return typical


def regions_of(spectrum: Spectrum, peak_to_peak: Floats, usable: Bools, disturbed: Bools) -> tuple[RegionBackground, ...]:
    """Rhythm of every region that has a usable channel. `usable` and `disturbed` are `(19,)`; a disturbed channel (eye movements, muscle)
    counts only where its region has no better one."""
    chosen: dict[Region, npt.NDArray[np.intp]] = {}
    for region, rows in REGION_INDEX.items():
        good = rows[usable[rows] & ~disturbed[rows]]
        good = good if len(good) else rows[usable[rows]]
        if len(good):
            chosen[region] = good
    if not chosen:
        return ()
    ratios = aperiodic_ratio(np.stack([mean_power(spectrum, rows) for rows in chosen.values()]))
    alpha_uv = np.sqrt(band_power_uv2(spectrum, *BAND_EDGES_HZ[Band.ALPHA]))
    result = []
    for (region, rows), ratio in zip(chosen.items(), ratios, strict=True):
        band = max(Band, key=lambda b: float(ratio[_BAND_BINS[b]].mean()))
        hz, height = peak_of(ratio, _BAND_BINS[band])
        rhythm = RegionRhythm(
            region=region,
            band=band,
            dominant_hz=round(hz, 2),
            amplitude_uv=round(float(np.median(peak_to_peak[rows])) / 2, 2),
            alpha_uv=round(float(np.median(alpha_uv[rows])), 2),
        )
        result.append(RegionBackground(rhythm=rhythm, peak_ratio=height, rows=rows))
    return tuple(result)


def background_findings(segment_id: str, regions: tuple[RegionBackground, ...], posterior: PosteriorRhythm | None) -> list[Finding]:
    """Alpha rhythm (a posterior rhythm from 8 Hz on), delta, theta and beta activity, low voltage."""
    found = []
    if posterior is not None and posterior.frequency_hz >= BAND_EDGES_HZ[Band.ALPHA][0]:
        unit = "times the aperiodic fit"
        found.append(finding(segment_id, FindingKind.ALPHA_RHYTHM, posterior.channels, posterior.peak_ratio, PEAK_FACTOR, unit))
    for region in regions:
        rhythm = region.rhythm
        if region.peak_ratio < PEAK_FACTOR:
            continue
        kind = _ACTIVITY.get(rhythm.band)
        if kind is not None:
            where = names_of(region.rows)
            found.append(finding(segment_id, kind, where, region.peak_ratio, PEAK_FACTOR, "times the aperiodic fit"))
    highest_uv = max((2 * r.rhythm.amplitude_uv for r in regions), default=LOW_VOLTAGE_UV)
    if highest_uv < LOW_VOLTAGE_UV:
        where = names_of([int(row) for r in regions for row in r.rows])
        found.append(finding(segment_id, FindingKind.LOW_VOLTAGE, where, highest_uv, LOW_VOLTAGE_UV, "uV peak to peak"))
    return found


def asymmetry_findings(segment_id: str, spectrum: Spectrum, usable: Bools) -> list[Finding]:
    """Regions whose one side has at most half of the other's amplitude; `channels` names the lower side.

    Amplitude is the root of the power from 2 to 20 Hz, averaged over the usable homologous pairs of the region.
    """
    amplitude = np.sqrt(band_power_uv2(spectrum, *ASYMMETRY_HZ))
    found = []
    for rows in REGION_INDEX.values():
        left = [int(r) for r in rows if CHANNELS[r] in LEFT_CHANNELS]
        right = [int(r) for r in rows if CHANNELS[r] in RIGHT_CHANNELS]
        pairs = [(a, b) for a, b in zip(left, _homologues(left, right), strict=True) if usable[a] and usable[b]]
        if not pairs:
            continue
        sides = [[a for a, _ in pairs], [b for _, b in pairs]]
        low, high = sorted(sides, key=lambda side: float(amplitude[side].mean()))
        deficit = 1 - float(amplitude[low].mean()) / max(float(amplitude[high].mean()), 1e-6)
        if deficit >= ASYMMETRY_FRACTION:
            found.append(finding(segment_id, FindingKind.ASYMMETRY, names_of(low), deficit, ASYMMETRY_FRACTION, "fraction of amplitude"))
    return found


def _homologues(left: list[int], right: list[int]) -> list[int]:
    """The right-hand partner of every left electrode: odd number plus one (F7 and F8, O1 and O2)."""
    by_name = {CHANNELS[row]: row for row in right}
    return [by_name[f"{CHANNELS[row][:-1]}{int(CHANNELS[row][-1]) + 1}"] for row in left]
