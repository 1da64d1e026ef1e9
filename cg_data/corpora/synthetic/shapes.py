"""The course over time of each waveform, peak 1 and upwards unless said otherwise, at a given sampling rate.

Durations and shapes follow the IFCN glossary (Kane et al. 2017), for sleep the AASM manual, for the spike and slow wave Weir (1965).
"""

from __future__ import annotations

import numpy as np

from cg_data.corpora.synthetic.fields import Floats


def bump(duration_s: float, sfreq_hz: int, *, peak_at: float = 0.5) -> Floats:
    """A single round deflection whose flanks reach 0 at both ends; `peak_at` is the share of the duration before the peak."""
    return np.asarray(np.sin(np.pi / 2 * _flanks(duration_s, sfreq_hz, peak_at)) ** 2)


def pointed(duration_s: float, sfreq_hz: int, *, peak_at: float = 0.4) -> Floats:
    """A deflection with a pointed peak, as all that is sharp on paper has."""
    return np.asarray(_flanks(duration_s, sfreq_hz, peak_at) ** 1.2)


def complex_parts(
    sharp: Floats, sfreq_hz: int, *, before: float, trough: float, slow: float, slow_s: float, late: float = 0.0
) -> tuple[Floats, int]:
    """A sharp deflection with what may go before and after it, `(4, samples)`, and the sample at which it begins.

    The parts are (Weir 1965): the sharp deflection behind a small one of the other sign, `before` high; the transient of the other sign
    after it, `trough` high; the slow wave, `slow` high and `slow_s` long; and a later, rounder share of it, `late` high.
    """
    lead = -before * bump(0.035, sfreq_hz) if before else np.zeros(0)
    courses = (
        np.concatenate([lead, sharp]),
        -trough * bump(0.1, sfreq_hz),
        slow * bump(slow_s if not late else 0.6 * slow_s, sfreq_hz, peak_at=0.42),
        late * bump(slow_s, sfreq_hz, peak_at=0.6),
    )
    starts = (0, *3 * (len(courses[0]),))
    parts = np.zeros((4, max(start + len(course) for start, course in zip(starts, courses, strict=True))))
    for row, start, course in zip(parts, starts, courses, strict=True):
        row[start : start + len(course)] = course
    return parts, len(lead)


def k_complex(duration_s: float, sfreq_hz: int, positive_share: float) -> Floats:
    """A sharp first deflection and a slower one of the other sign (AASM: 0.5 s or longer)."""
    first = bump(0.42 * duration_s, sfreq_hz, peak_at=0.45)
    second = bump(duration_s - len(first) / sfreq_hz, sfreq_hz, peak_at=0.4)
    return np.concatenate([first, -positive_share * second])


def vertex_wave(duration_s: float, sfreq_hz: int, after: float) -> Floats:
    """A sharp wave of the vertex, under 0.5 s with the small deflection of the other sign after it."""
    return np.concatenate([pointed(0.5 * duration_s, sfreq_hz, peak_at=0.45), -after * bump(0.5 * duration_s, sfreq_hz)])


def spindle(duration_s: float, sfreq_hz: int, frequency_hz: float, phase: float, peak_at: float) -> Floats:
    """A train that waxes and wanes (AASM: 11 to 16 Hz, 0.5 s or longer), slowing by a few per cent as spindles do."""
    envelope = bump(duration_s, sfreq_hz, peak_at=peak_at) ** 0.6
    t = np.arange(len(envelope)) / sfreq_hz
    return np.asarray(np.sin(2 * np.pi * frequency_hz * t * (1.02 - 0.04 * t / (2 * duration_s)) + phase) * envelope)


def arches(duration_s: float, sfreq_hz: int, frequency_hz: float, harmonic: float) -> Floats:
    """A train of arch-shaped waves with pointed peaks (wicket and mu rhythm)."""
    envelope = np.hanning(max(8, round(duration_s * sfreq_hz))) ** 0.5
    phase = 2 * np.pi * frequency_hz * np.arange(len(envelope)) / sfreq_hz
    return np.asarray((np.cos(phase) + harmonic * np.cos(2 * phase)) / (1 + harmonic) * envelope)


def blink(duration_s: float, sfreq_hz: int) -> Floats:
    """The upward roll of the eyes under closing lids."""
    return bump(duration_s, sfreq_hz, peak_at=0.4) ** 1.3


def plateau(duration_s: float, sfreq_hz: int, edge_s: float) -> Floats:
    """A lateral gaze: a steep edge, a level that decays a little, a steep edge back."""
    samples = max(8, round(duration_s * sfreq_hz))
    edge = min(samples // 2, max(2, round(edge_s * sfreq_hz)))
    level = np.ones(samples)
    level[:edge] = np.linspace(0.0, 1.0, edge)
    level[-edge:] = np.linspace(1.0, 0.0, edge)
    return np.asarray(level * np.linspace(1.0, 0.8, samples))


def muscle(duration_s: float, sfreq_hz: int, channels: int, rng: np.random.Generator) -> Floats:
    """Bursts of 20 to 70 Hz noise, independent for each channel, `(channels, samples)`, standard deviation 1 at the height."""
    samples = max(16, round(duration_s * sfreq_hz))
    frequencies = np.fft.rfftfreq(samples, 1 / sfreq_hz)
    low, high = rng.uniform(20, 28), rng.uniform(55, 75)
    white = rng.standard_normal((channels, len(frequencies))) + 1j * rng.standard_normal((channels, len(frequencies)))
    noise = np.fft.irfft(white * ((frequencies > low) & (frequencies < high)), samples)
    noise /= noise.std(axis=1, keepdims=True)
    envelope = np.minimum(1.0, 3.0 * np.hanning(samples))
    return np.asarray(noise * envelope * rng.uniform(0.7, 1.0, (channels, 1)))


def decay(duration_s: float, sfreq_hz: int) -> Floats:
    """A sudden step that decays."""
    t = np.arange(max(8, round(duration_s * sfreq_hz))) / sfreq_hz
    return np.asarray(np.exp(-t / (duration_s / 3)))


def _flanks(duration_s: float, sfreq_hz: int, peak_at: float) -> Floats:
    """Straight flanks to 1 at the peak. A short deflection may fall between samples, as it does in a recording."""
    samples = max(3, round(duration_s * sfreq_hz))
    t = np.arange(samples) / (samples - 1)
    return np.asarray(np.minimum(t / peak_at, (1 - t) / (1 - peak_at)).clip(0.0, 1.0))
