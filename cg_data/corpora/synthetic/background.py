"""What goes on all the time: coloured noise, rhythms that wax and wane, and how states of vigilance change them."""

from __future__ import annotations

import numpy as np

from cg_data.corpora.synthetic.fields import Floats, field
from cg_data.corpora.synthetic.traits import State, Subject
from cg_data.vocabulary import N_CHANNELS

_SOURCES = 10
_RAMP_S = 0.6

_ALPHA = {State.EYES_CLOSED: 1.0, State.EYES_OPEN: 0.12, State.N2: 0.05, State.N3: 0.03}
_BETA = {State.EYES_CLOSED: 1.0, State.EYES_OPEN: 1.2, State.N2: 0.5, State.N3: 0.3}
_THETA = {State.EYES_CLOSED: 1.0, State.EYES_OPEN: 0.9, State.N2: 3.0, State.N3: 2.5}
_DELTA_UV = {State.EYES_CLOSED: 0.0, State.EYES_OPEN: 0.0, State.N2: 7.0, State.N3: 32.0}


def make_background(subject: Subject, timeline: list[tuple[float, float, State]], rng: np.random.Generator) -> Floats:
    """Background of a whole recording, float64 `(19, samples)` in microvolts."""
    samples = round(timeline[-1][1] * subject.sfreq_hz)
    eeg_uv = _coloured(subject, samples, rng)
    eeg_uv += _alpha(subject, samples, rng) * _envelope(_ALPHA, timeline, subject, samples)
    frontal = field((0.0, 0.7), 0.6)[:, None]
    central = field((0.0, 0.2), 0.7)[:, None]
    beta = subject.beta_uv * _rhythm(N_CHANNELS, samples, subject.sfreq_hz, 20.0, 4.0, rng)
    eeg_uv += frontal * beta * _envelope(_BETA, timeline, subject, samples)
    theta = subject.theta_uv * _shared_rhythm(samples, subject.sfreq_hz, rng.uniform(5.0, 6.5), 1.0, rng)
    eeg_uv += central * theta * _envelope(_THETA, timeline, subject, samples)
    delta = _shared_rhythm(samples, subject.sfreq_hz, 1.4, 0.6, rng)
    eeg_uv += field((0.0, 0.35), 0.9)[:, None] * delta * _envelope(_DELTA_UV, timeline, subject, samples)
    return subject.gain * eeg_uv


def local_rms_uv(background_uv: Floats, sfreq_hz: int) -> Floats:
    """Root mean square in every second, `(19, seconds)`, of the background as the average reference shows it."""
    shown = background_uv - background_uv.mean(axis=0)
    seconds = shown.shape[1] // sfreq_hz
    return np.asarray(np.sqrt((shown[:, : seconds * sfreq_hz].reshape(N_CHANNELS, seconds, sfreq_hz) ** 2).mean(axis=2)))


def _coloured(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """1/f noise of several sources with smooth fields, and a little of each electrode's own."""
    slopes = rng.uniform(subject.slope - 0.3, subject.slope + 0.3, _SOURCES)
    sources = np.stack([_one_over_f(samples, subject.sfreq_hz, slope, rng) for slope in slopes])
    centres = rng.uniform(-1.0, 1.0, (_SOURCES, 2))
    widths = rng.uniform(0.4, 0.9, _SOURCES)
    mixing = np.stack([field((x, y), width) for (x, y), width in zip(centres, widths, strict=True)], axis=1)
    mixed = mixing @ sources
    mixed *= subject.background_uv / mixed.std(axis=1, keepdims=True).mean()
    own = np.stack([_one_over_f(samples, subject.sfreq_hz, 1.0, rng) for _ in range(N_CHANNELS)])
    return mixed + 0.25 * subject.background_uv * own


def _one_over_f(samples: int, sfreq_hz: int, slope: float, rng: np.random.Generator) -> Floats:
    """Noise whose power falls as ``1/f^slope`` above 0.5 Hz, standard deviation 1."""
    frequencies = np.fft.rfftfreq(samples, 1 / sfreq_hz)
    shape = np.maximum(frequencies, 0.5) ** (-slope / 2)
    shape[frequencies < 0.3] = 0.0
    return _unit(np.fft.irfft(_white(samples, rng) * shape, samples))


def _white(samples: int, rng: np.random.Generator, channels: tuple[int, ...] = ()) -> np.ndarray:
    bins = (*channels, samples // 2 + 1)
    return rng.standard_normal(bins) + 1j * rng.standard_normal(bins)


def _unit(x: Floats) -> Floats:
    return np.asarray(x / x.std(axis=-1, keepdims=True))


def _rhythm(channels: int, samples: int, sfreq_hz: int, centre_hz: float, width_hz: float, rng: np.random.Generator) -> Floats:
    """Narrow-band noise, independent for each channel, standard deviation 1: it waxes and wanes of itself."""
    frequencies = np.fft.rfftfreq(samples, 1 / sfreq_hz)
    shape = np.exp(-((frequencies - centre_hz) ** 2) / (2 * width_hz**2))
    return _unit(np.fft.irfft(_white(samples, rng, (channels,)) * shape, samples))


def _shared_rhythm(samples: int, sfreq_hz: int, centre_hz: float, width_hz: float, rng: np.random.Generator) -> Floats:
    return _rhythm(1, samples, sfreq_hz, centre_hz, width_hz, rng)


def _alpha(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """Posterior alpha: two sources, left and right, that share most of their course."""
    common, left, right = _rhythm(3, samples, subject.sfreq_hz, subject.alpha_hz, 0.35, rng)
    share = subject.alpha_left_share
    left_field, right_field = field((-0.35, -0.85), 0.5), field((0.35, -0.85), 0.5)
    return (
        2
        * subject.alpha_uv
        * (
            share * left_field[:, None] * _unit(0.8 * common + 0.6 * left)
            + (1 - share) * right_field[:, None] * _unit(0.8 * common + 0.6 * right)
        )
    )


def _envelope(levels: dict[State, float], timeline: list[tuple[float, float, State]], subject: Subject, samples: int) -> Floats:
    """Level of an activity over time, `(samples,)`, with ramps between states."""
    level = np.empty(samples)
    for start_s, stop_s, state in timeline:
        level[round(start_s * subject.sfreq_hz) : round(stop_s * subject.sfreq_hz)] = levels[state]
    ramp = np.hanning(max(3, round(_RAMP_S * subject.sfreq_hz)))
    padded = np.pad(level, len(ramp), mode="edge")
    return np.asarray(np.convolve(padded, ramp / ramp.sum(), mode="same")[len(ramp) : -len(ramp)])
