"""The course over time of each waveform, peak 1, at a given sampling rate."""

from __future__ import annotations

import numpy as np

from cg_data.corpora.synthetic.fields import Floats


def bump(duration_s: float, sfreq_hz: int, *, peak_at: float = 0.5) -> Floats:
    """A single deflection whose flanks reach 0 at both ends; `peak_at` is the share of the duration before the peak."""
    t = np.arange(max(3, round(duration_s * sfreq_hz))) / max(2, round(duration_s * sfreq_hz) - 1)
    rise, fall = t / peak_at, (1 - t) / (1 - peak_at)
    return np.asarray(np.sin(np.pi / 2 * np.minimum(np.minimum(rise, fall), 1.0)) ** 2)


def spike(duration_s: float, sfreq_hz: int) -> Floats:
    """A sharp deflection of 20 to 70 ms (IFCN glossary)."""
    return bump(duration_s, sfreq_hz) ** 0.8


def sharp_wave(duration_s: float, sfreq_hz: int) -> Floats:
    """A pointed deflection of 70 to 200 ms, its rise steeper than its fall (IFCN glossary)."""
    return bump(duration_s, sfreq_hz, peak_at=0.35) ** 1.2


def spike_and_slow_wave(duration_s: float, sfreq_hz: int, slow_share: float) -> Floats:
    """A spike with a slow wave of the same sign after it, `slow_share` of its height."""
    total = max(6, round(duration_s * sfreq_hz))
    sharp = spike(min(0.07, 0.25 * duration_s), sfreq_hz)
    wave = np.zeros(total)
    wave[: len(sharp)] = sharp
    slow = bump((total - len(sharp)) / sfreq_hz, sfreq_hz)
    stop = min(total, len(sharp) + len(slow))
    wave[len(sharp) : stop] += slow_share * slow[: stop - len(sharp)]
    return wave


def k_complex(duration_s: float, sfreq_hz: int, positive_share: float) -> Floats:
    """A sharp first deflection and a slower one of the other sign (AASM: 0.5 s or longer)."""
    total = max(6, round(duration_s * sfreq_hz))
    first = bump(0.42 * duration_s, sfreq_hz, peak_at=0.45)
    second = bump(duration_s - len(first) / sfreq_hz, sfreq_hz, peak_at=0.4)
    wave = np.concatenate([first, -positive_share * second])
    return np.asarray(np.pad(wave, (0, max(0, total - len(wave))))[:total])


def spindle(duration_s: float, sfreq_hz: int, frequency_hz: float, phase: float) -> Floats:
    """A train of 11 to 16 Hz that waxes and wanes (AASM: 0.5 s or longer)."""
    t = np.arange(round(duration_s * sfreq_hz)) / sfreq_hz
    return np.asarray(np.sin(2 * np.pi * frequency_hz * t + phase) * np.hanning(len(t)) ** 0.7)


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


def pop(duration_s: float, sfreq_hz: int) -> Floats:
    """A sudden step of one electrode that decays."""
    t = np.arange(max(8, round(duration_s * sfreq_hz))) / sfreq_hz
    return np.asarray(np.exp(-t / (duration_s / 3)))
