"""What goes on all the time: coloured noise, rhythms that wax and wane, muscle tone, and how states of vigilance change them.

Shapes and levels: the posterior rhythm is 8 to 13 Hz with sinusoidal or pointed negative peaks and mostly below 50 uV; mu is arch-shaped
and central; beta is mostly below 20 uV and frontal (IFCN glossary, Kane et al. 2017). Power falls as 1/f^1 to 1/f^2 between rhythms
(Freeman et al. 2000) down to a floor of muscle tone, strongest over the temporal and frontal muscles (Goncharova et al. 2003).
"""

from __future__ import annotations

import functools

import numpy as np
import scipy.fft
import scipy.signal

from cg_data.corpora.synthetic.fields import Floats, field, gains
from cg_data.corpora.synthetic.planted import log_uniform
from cg_data.corpora.synthetic.traits import State, Subject
from cg_data.vocabulary import N_CHANNELS

_SOURCES = 20
_BETA_SOURCES = 5
_RAMP_S = 0.6
_FASTEST_ALPHA_HZ = 12.8

Timeline = list[tuple[float, float, State]]
_ALPHA = {State.EYES_CLOSED: 1.0, State.EYES_OPEN: 0.12, State.N2: 0.05, State.N3: 0.03}
_MU = {State.EYES_CLOSED: 0.8, State.EYES_OPEN: 1.0, State.N2: 0.0, State.N3: 0.0}
_BETA = {State.EYES_CLOSED: 1.0, State.EYES_OPEN: 1.2, State.N2: 0.5, State.N3: 0.3}
_THETA = {State.EYES_CLOSED: 1.0, State.EYES_OPEN: 0.9, State.N2: 3.0, State.N3: 2.5}
_DELTA_UV = {State.EYES_CLOSED: 0.0, State.EYES_OPEN: 0.0, State.N2: 7.0, State.N3: 32.0}
_EYES = {State.EYES_CLOSED: 0.6, State.EYES_OPEN: 1.0, State.N2: 0.15, State.N3: 0.1}
_TONE = {State.EYES_CLOSED: 0.8, State.EYES_OPEN: 1.0, State.N2: 0.4, State.N3: 0.3}
_TONE_AT = gains(
    {"Fp1": 1.3, "Fp2": 1.3, "F7": 1.6, "F8": 1.6, "T3": 2.2, "T4": 2.2, "T5": 1.3, "T6": 1.3, "F3": 0.7, "F4": 0.7, "Fz": 0.5, "C3": 0.5}
    | {"Cz": 0.4, "C4": 0.5, "P3": 0.5, "Pz": 0.4, "P4": 0.5, "O1": 0.8, "O2": 0.8}
)


def make_background(subject: Subject, timeline: Timeline, rng: np.random.Generator) -> Floats:
    """Potentials of a whole recording where nothing is planted, float64 `(19, samples)` in microvolts."""
    samples, rate = round(timeline[-1][1] * subject.sfreq_hz), subject.sfreq_hz
    level = functools.partial(_envelope, timeline=timeline, sfreq_hz=rate, samples=samples)
    eeg_uv = _coloured(subject, samples, rng)
    eeg_uv += _alpha(subject, samples, rng) * level(_ALPHA)
    if subject.mu_uv:
        eeg_uv += _mu(subject, samples, rng) * level(_MU)
    eeg_uv += _beta(subject, samples, rng) * level(_BETA)
    theta = _waxing(_narrow(2, samples, rate, rng.uniform(5.0, 6.5), 1.0, rng), 0.0, rate, rng)
    fields = np.stack([field((0.0, 0.2), 0.7), 0.5 * field((0.0, -0.4), 0.6)], axis=1)
    eeg_uv += subject.theta_uv * (fields @ theta) * level(_THETA)
    eeg_uv += _delta(samples, rate, rng) * level(_DELTA_UV)
    eeg_uv *= subject.gain
    eeg_uv += _eye_drift(subject, samples, rng) * level(_EYES)
    return np.asarray(eeg_uv + _tone(subject, samples, rng) * level(_TONE))


def _coloured(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """1/f noise of many sources with smooth fields, each swelling of its own, and a little of each electrode's own."""
    rate = subject.sfreq_hz
    slopes = rng.uniform(subject.slope - 0.4, subject.slope + 0.3, _SOURCES)
    sources = _one_over_f(samples, rate, slopes, rng) * _swell(_SOURCES, samples, rate, 0.35, 0.4, rng)
    centres, widths = rng.uniform(-1.0, 1.0, (_SOURCES, 2)), rng.uniform(0.3, 0.8, _SOURCES)
    strengths = np.exp(rng.normal(0, 0.3, _SOURCES)) * rng.choice([-1.0, 1.0], _SOURCES)
    mixing = strengths * np.stack([field((x, y), width) for (x, y), width in zip(centres, widths, strict=True)], axis=1)
    mixed = mixing @ sources
    mixed *= subject.background_uv / mixed.std(axis=1, keepdims=True).mean()
    own = _one_over_f(samples, rate, np.full(N_CHANNELS, 1.2), rng)
    own *= subject.background_uv * rng.uniform(0.1, 0.3, (N_CHANNELS, 1))
    return np.asarray(mixed + own)


def _alpha(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """Posterior alpha of two sources that share most of their course, and where the subject has it an anterior part of its own course."""
    rate = subject.sfreq_hz
    common, left, right = _narrow(3, samples, rate, subject.alpha_hz, subject.alpha_width_hz, rng)
    front_hz = min(subject.alpha_hz + subject.alpha_front_hz, _FASTEST_ALPHA_HZ)
    (front,) = _narrow(1, samples, rate, front_hz, subject.alpha_width_hz, rng)
    sides = np.stack([0.75 * common + 0.65 * left, 0.75 * common + 0.65 * right, 0.35 * common + 0.93 * front])
    shares = [subject.alpha_left_share, 1 - subject.alpha_left_share, 0.5 * subject.alpha_spread]
    fields = [field((-0.35, -0.85), 0.5), field((0.35, -0.85), 0.5), field((0.0, 0.45), 0.55)]
    weights = 2 * subject.alpha_uv * np.stack([share * part for share, part in zip(shares, fields, strict=True)], axis=1)
    courses = _waxing(sides, subject.alpha_harmonic, rate, rng)
    if subject.alpha_is_bursty:
        behind, in_front = _bursts(samples, rate, rng), _bursts(samples, rate, rng)
        courses = courses * np.stack([behind, behind, in_front])
    return np.asarray(weights @ courses)


def _bursts(samples: int, sfreq_hz: int, rng: np.random.Generator) -> Floats:
    """Level of a rhythm that comes for some waves or more and goes again, steeply, as alpha does when attention or drowsiness cuts into it:
    no spindle, though as long as one. `(samples,)`."""
    at_s, levels = [0.0], [1.0]
    while at_s[-1] * sfreq_hz < samples:
        on_s, off_s, (rise_s, fall_s) = log_uniform(0.3, 4.0, rng), rng.uniform(0.4, 2.5), rng.uniform(0.15, 0.4, 2)
        low = rng.uniform(0.08, 0.35)
        at_s += np.cumsum([at_s[-1] + on_s, fall_s, off_s, rise_s]).tolist()
        levels += [1.0, low, low, 1.0]
    return np.interp(np.arange(samples) / sfreq_hz, at_s, levels)


def _mu(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """Arch-shaped waves over the two central regions, independent of each other, in bursts."""
    rate = subject.sfreq_hz
    sides = _waxing(_narrow(2, samples, rate, rng.uniform(8.5, 11.5), 0.5, rng), rng.uniform(0.25, 0.45), rate, rng)
    weights = subject.mu_uv * np.stack([field((-0.5, 0.0), 0.3), field((0.5, 0.0), 0.3)], axis=1)
    return np.asarray(weights @ (sides * _swell(2, samples, rate, 0.6, 1.0, rng)))


def _beta(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """Frontocentral beta in bursts, neighbours alike."""
    rate = subject.sfreq_hz
    sources = _narrow(_BETA_SOURCES, samples, rate, rng.uniform(18.0, 23.0), 3.5, rng).real
    sources *= _swell(_BETA_SOURCES, samples, rate, 0.5, 0.5, rng)
    centres = zip((-0.6, 0.6, 0.0, -0.3, 0.3), (0.7, 0.7, 0.4, 0.0, 0.0), strict=True)
    return np.asarray(subject.beta_uv * np.stack([field(centre, 0.4) for centre in centres], axis=1) @ sources)


def _delta(samples: int, sfreq_hz: int, rng: np.random.Generator) -> Floats:
    """Slow waves of sleep: one source over the front of the head and one of each side, negative peaks sharper."""
    sources = _waxing(_narrow(3, samples, sfreq_hz, 1.3, 0.6, rng), 0.12, sfreq_hz, rng)
    fields = [0.85 * field((0.0, 0.35), 0.9), 0.4 * field((-0.6, 0.0), 0.5), 0.4 * field((0.6, 0.0), 0.5)]
    return np.asarray(np.stack(fields, axis=1) @ sources)


def _eye_drift(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """Slow wandering of the eyes, up and down and to the sides, below what a reader would name."""
    courses = _narrow(2, samples, subject.sfreq_hz, 0.6, 0.5, rng).real
    fields = [
        gains({"Fp1": 1.0, "Fp2": 1.0, "F7": 0.4, "F8": 0.4, "F3": 0.3, "F4": 0.3, "Fz": 0.25}),
        gains({"F7": 0.9, "F8": -0.9, "Fp1": 0.4, "Fp2": -0.4, "T3": 0.3, "T4": -0.3}),
    ]
    return np.asarray(subject.eye_drift_uv * np.stack(fields, axis=1) @ courses)


def _tone(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """Muscle tone in spurts, rising towards high frequencies, on each electrode its own; and the amplifier's white noise."""
    white = rng.standard_normal((N_CHANNELS, samples))
    high = np.diff(white, axis=1, prepend=0.0)
    level = np.minimum(subject.tone_uv * _TONE_AT * np.exp(rng.normal(0, 0.35, N_CHANNELS)), 10.0)
    return np.asarray(0.7 * level[:, None] * high * _swell(N_CHANNELS, samples, subject.sfreq_hz, 0.3, 0.1, rng) + 0.25 * white)


def _one_over_f(samples: int, sfreq_hz: int, slopes: Floats, rng: np.random.Generator) -> Floats:
    """Noise whose power falls as ``1/f^slope`` above 0.5 Hz, standard deviation 1, `(slopes, samples)`."""
    n = scipy.fft.next_fast_len(samples, real=True)
    hz = np.fft.rfftfreq(n, 1 / sfreq_hz)
    shape = np.exp(np.outer(-slopes / 2, np.log(np.maximum(hz, 0.5))))
    shape[:, hz < 0.3] = 0.0
    white = rng.standard_normal((len(slopes), len(hz), 2)).view(np.complex128)[..., 0]
    return _unit(scipy.fft.irfft(white * shape, n)[:, :samples])


def _narrow(rows: int, samples: int, sfreq_hz: int, centre_hz: float, width_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Analytic narrow-band noise, complex `(rows, samples)`, real part of standard deviation 1: it waxes and wanes of itself."""
    n = scipy.fft.next_fast_len(samples)
    low, high = (round(max(hz, 0.1) * n / sfreq_hz) for hz in (centre_hz - 4 * width_hz, centre_hz + 4 * width_hz))
    hz = np.arange(low, high) * sfreq_hz / n
    shape = np.exp(-((hz - centre_hz) ** 2) / (2 * width_hz**2))
    spectrum = np.zeros((rows, n), dtype=np.complex128)
    spectrum[:, low:high] = rng.standard_normal((rows, len(hz), 2)).view(np.complex128)[..., 0] * shape
    wave = scipy.fft.ifft(spectrum)[:, :samples]
    return np.asarray(wave / wave.real.std(axis=1, keepdims=True))


def _waxing(wave: np.ndarray, harmonic: float, sfreq_hz: int, rng: np.random.Generator) -> Floats:
    """A rhythm from its analytic form `(rows, samples)`, with a phase-locked harmonic that points its negative peaks, and swelling."""
    bare = wave.real - harmonic * (wave**2).real / (np.abs(wave) + 1e-9) if harmonic else wave.real
    return np.asarray(_unit(bare) * _swell(len(wave), wave.shape[1], sfreq_hz, 0.35, 1.5, rng))


def _swell(rows: int, samples: int, sfreq_hz: int, depth: float, step_s: float, rng: np.random.Generator) -> Floats:
    """Log-normal amplitude modulation with a mean square of 1, a new value every `step_s` and straight lines between, `(rows, samples)`."""
    step = round(step_s * sfreq_hz)
    knots = np.exp(depth * rng.standard_normal((rows, samples // step + 2)) - depth**2)
    ramp = np.arange(step) / step
    lines = knots[:, :-1, None] * (1 - ramp) + knots[:, 1:, None] * ramp
    return np.asarray(lines.reshape(rows, -1)[:, :samples])


def _unit(x: Floats) -> Floats:
    return np.asarray(x / x.std(axis=-1, keepdims=True))


def _envelope(levels: dict[State, float], *, timeline: Timeline, sfreq_hz: int, samples: int) -> Floats:
    """Level of an activity over time, `(samples,)`, with ramps between states."""
    level = np.empty(samples)
    for start_s, stop_s, state in timeline:
        level[round(start_s * sfreq_hz) : round(stop_s * sfreq_hz)] = levels[state]
    ramp = np.hanning(max(3, round(_RAMP_S * sfreq_hz)))
    padded = np.pad(level, len(ramp), mode="edge")
    return np.asarray(scipy.signal.oaconvolve(padded, ramp / ramp.sum(), mode="same")[len(ramp) : -len(ramp)])
