"""Planted events: which, when, how strong, on which channels they are to be seen, and the truth about them.

A channel is labelled where the average reference shows the event with at least `SEEN_SHARE` of its greatest height, at least
`SEEN_OVER_RMS` times that second's background and at least `SEEN_UV`. Weaker events stay in the signal without a label, as under a reader
who does not see them; amplitudes are drawn so that some fall on either side.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cg_data.corpora.synthetic import shapes
from cg_data.corpora.synthetic.fields import Floats, field_of, gains, seen_on_average
from cg_data.corpora.synthetic.traits import State, Subject
from cg_data.vocabulary import CHANNELS, FindingKind, Waveform

SEEN_SHARE = 0.35
SEEN_OVER_RMS = 1.5
SEEN_UV = 10.0
BLOCK_S = 10.0

_MUSCLE_SITES = (("T3", "F7", "T5"), ("T4", "F8", "T6"), ("Fp1", "Fp2", "F7", "F8"), ("T3", "T4", "F7", "F8", "T5", "T6"), ("T4",), ("T3",))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """One event as it lies in the signal: `wave_uv` is `(19, samples)` from sample `start` on, `waveform` is given channel by channel."""

    start: int
    wave_uv: Floats
    waveform: tuple[Waveform | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """A label: a waveform or an artefact on one channel."""

    name: str
    channel: str
    onset_s: float
    duration_s: float


_RATES: dict[State, dict[str, float]] = {
    State.EYES_CLOSED: {"muscle": 0.3, "blink": 0.08, "gaze": 0.04},
    State.EYES_OPEN: {"muscle": 0.4, "blink": 0.75, "gaze": 0.65},
    State.N2: {"spindle": 0.85, "k_complex": 0.7, "muscle": 0.04},
    State.N3: {"spindle": 0.25, "k_complex": 0.35},
}
"""Probability that a ten-second block of a state holds a kind of event at all."""
_DISCHARGE_RATE = 0.75
_MOST = {"muscle": 4, "blink": 7, "gaze": 5, "spindle": 6, "k_complex": 4}


def plant(subject: Subject, timeline: list[tuple[float, float, State]], rng: np.random.Generator) -> list[Planted]:
    """All events of a recording in order of their blocks."""
    planted: list[Planted] = []
    for start_s, stop_s, state in timeline:
        for block_s in np.arange(start_s, stop_s, BLOCK_S):
            room = (float(block_s), min(float(block_s) + BLOCK_S, stop_s))
            for kind, rate in _RATES[state].items():
                if rng.random() < rate:
                    planted += [_make(kind, subject, room, rng) for _ in range(int(rng.integers(1, _MOST[kind] + 1)))]
            if subject.syndrome is not None and rng.random() < _DISCHARGE_RATE:
                planted += _discharges(subject, room, rng)
    return planted


def labels_of(event: Planted, background_rms_uv: Floats, sfreq_hz: int) -> list[Truth]:
    """The channels on which an event is to be seen, by the rule of this module.

    Args:
        event: planted.
        background_rms_uv: `(19, seconds)` of the recording, average reference.
        sfreq_hz: sampling rate.
    """
    shown = np.abs(event.wave_uv - event.wave_uv.mean(axis=0))
    height = np.quantile(shown, 0.98, axis=1)
    first, last = event.start // sfreq_hz, (event.start + shown.shape[1]) // sfreq_hz
    rms = background_rms_uv[:, min(first, background_rms_uv.shape[1] - 1) : last + 1].mean(axis=1)
    seen = (height >= SEEN_SHARE * height.max()) & (height >= SEEN_OVER_RMS * rms) & (height >= SEEN_UV)
    onset_s, duration_s = event.start / sfreq_hz, shown.shape[1] / sfreq_hz
    names = zip(CHANNELS, event.waveform, seen, strict=True)
    return [Truth(name=w, channel=c, onset_s=onset_s, duration_s=duration_s) for c, w, s in names if s and w is not None]


def _make(kind: str, subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> Planted:
    makers = {"muscle": _muscle, "blink": _blink, "gaze": _gaze, "spindle": _spindle, "k_complex": _k_complex}
    return makers[kind](subject, room, rng)


def _place(
    wave: Floats, weights: Floats, waveform: Waveform, subject: Subject, room: tuple[float, float], rng: np.random.Generator
) -> Planted:
    """One course over time on a field; the sign under the average reference decides where it is named."""
    sign = np.sign(seen_on_average(weights)) * np.sign(weights[np.argmax(np.abs(weights))])
    names = tuple(waveform if s > 0 else None for s in sign)
    return Planted(start=_start(wave.shape[-1], subject, room, rng), wave_uv=np.outer(weights, wave), waveform=names)


def _start(samples: int, subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> int:
    first, last = round(room[0] * subject.sfreq_hz), round(room[1] * subject.sfreq_hz) - samples
    return int(rng.integers(first, max(first + 1, last)))


def _spindle(subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> Planted:
    wave = shapes.spindle(rng.uniform(0.6, 1.6), subject.sfreq_hz, rng.uniform(11.5, 15.0), rng.uniform(0, 2 * np.pi))
    weights = field_of(str(rng.choice(["Cz", "Fz", "C3", "C4"], p=[0.5, 0.2, 0.15, 0.15])), rng.uniform(0.4, 0.6))
    return _place(wave, subject.gain * rng.uniform(16, 45) * weights, Waveform.SLEEP_SPINDLE, subject, room, rng)


def _k_complex(subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> Planted:
    wave = shapes.k_complex(rng.uniform(0.6, 1.1), subject.sfreq_hz, rng.uniform(0.4, 0.9))
    weights = field_of(str(rng.choice(["Fz", "Cz"])), rng.uniform(0.45, 0.65))
    return _place(wave, -subject.gain * rng.uniform(80, 190) * weights, Waveform.K_COMPLEX, subject, room, rng)


def _blink(subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> Planted:
    wave = shapes.blink(rng.uniform(0.2, 0.42), subject.sfreq_hz)
    near, far = rng.uniform(0.85, 1.15), rng.uniform(0.15, 0.35)
    weights = gains({"Fp1": 1.0, "Fp2": near, "F7": far, "F8": far, "F3": 1.2 * far, "F4": 1.2 * far, "Fz": far, "Cz": 0.2 * far})
    return _place(wave, rng.uniform(70, 220) * weights, Waveform.POSITIVE_SHARP_TRANSIENT, subject, room, rng)


def _gaze(subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> Planted:
    wave = shapes.plateau(rng.uniform(0.5, 1.8), subject.sfreq_hz, rng.uniform(0.04, 0.08))
    near = rng.uniform(0.25, 0.45)
    weights = gains({"F7": 1.0, "F8": -1.0, "Fp1": near, "Fp2": -near, "F3": 0.6 * near, "F4": -0.6 * near, "T3": 0.4, "T4": -0.4})
    weights = weights * float(rng.choice([-1.0, 1.0])) * rng.uniform(40, 120)
    positive, negative = Waveform.POSITIVE_SQUARE_WAVE, Waveform.NEGATIVE_SQUARE_WAVE
    names = tuple(positive if w > 0 else negative if w < 0 else None for w in weights)
    return Planted(start=_start(len(wave), subject, room, rng), wave_uv=np.outer(weights, wave), waveform=names)


def _muscle(subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> Planted:
    sites = _MUSCLE_SITES[int(rng.integers(len(_MUSCLE_SITES)))]
    noise = shapes.muscle(rng.uniform(0.5, 3.5), subject.sfreq_hz, len(sites), rng)
    wave_uv = np.zeros((len(CHANNELS), noise.shape[1]))
    wave_uv[[CHANNELS.index(site) for site in sites]] = rng.uniform(12, 40) * noise
    names = tuple(Waveform.HIGH_FREQUENCY_NOISE if channel in sites else None for channel in CHANNELS)
    return Planted(start=_start(noise.shape[1], subject, room, rng), wave_uv=wave_uv, waveform=names)


def _discharges(subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> list[Planted]:
    """Two to eight discharges at the subject's focus, or a burst of generalised complexes at about 3 Hz."""
    syndrome = subject.syndrome
    assert syndrome is not None
    kind = syndrome.discharges[int(rng.random() < 0.45)]
    width = rng.uniform(*syndrome.field_width)
    if not syndrome.foci:
        weights = -(0.25 + field_of("Fz", width))
        if kind == Waveform.SPIKE_AND_SLOW_WAVE and rng.random() < 0.6:
            return _burst(weights / np.abs(weights).max(), subject, room, rng)
    else:
        weights = -field_of(str(rng.choice(syndrome.foci)), width)
    weights = weights / np.abs(weights).max()
    return [_discharge(kind, weights, subject, room, rng) for _ in range(int(rng.integers(2, 9)))]


def _discharge(kind: Waveform, weights: Floats, subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> Planted:
    sfreq_hz = subject.sfreq_hz
    if kind == Waveform.SPIKE:
        wave = shapes.spike(rng.uniform(0.035, 0.07), sfreq_hz)
    elif kind == Waveform.SHARP_WAVE:
        wave = shapes.sharp_wave(rng.uniform(0.08, 0.2), sfreq_hz)
    else:
        wave = shapes.spike_and_slow_wave(rng.uniform(0.26, 0.48), sfreq_hz, rng.uniform(0.4, 0.8))
    return _place(wave, subject.gain * rng.uniform(50, 150) * weights, kind, subject, room, rng)


def _burst(weights: Floats, subject: Subject, room: tuple[float, float], rng: np.random.Generator) -> list[Planted]:
    """Two to nine complexes of spike and slow wave, one after another."""
    count, rate_hz = int(rng.integers(2, 10)), rng.uniform(2.6, 3.6)
    height_uv, slow = subject.gain * rng.uniform(70, 170), rng.uniform(0.5, 0.9)
    first = _start(round(count / rate_hz * subject.sfreq_hz), subject, room, rng)
    made = []
    for i in range(count):
        wave = shapes.spike_and_slow_wave(0.95 / rate_hz, subject.sfreq_hz, slow)
        event = _place(wave, height_uv * rng.uniform(0.8, 1.1) * weights, Waveform.SPIKE_AND_SLOW_WAVE, subject, room, rng)
        made.append(dataclasses.replace(event, start=first + round(i / rate_hz * subject.sfreq_hz)))
    return made


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """An electrode that fails for a while: flat, or a pop."""

    kind: FindingKind
    channel: int
    start: int
    stop: int
    height_uv: float


def make_faults(subject: Subject, duration_s: float, rng: np.random.Generator) -> list[Fault]:
    """Flat stretches in about one block of sixteen, pops in about one of twenty."""
    faults = []
    for block_s in np.arange(0.0, duration_s, BLOCK_S):
        chance = rng.random()
        if chance < 0.11:
            flat = chance < 0.06
            length_s = rng.uniform(3.0, 9.5) if flat else rng.uniform(0.6, 1.5)
            start = round((block_s + rng.uniform(0.0, BLOCK_S - length_s)) * subject.sfreq_hz)
            kind = FindingKind.FLAT_CHANNEL if flat else FindingKind.ELECTRODE_POP
            height_uv = float(rng.choice([-1.0, 1.0]) * rng.uniform(180, 420))
            stop = start + round(length_s * subject.sfreq_hz)
            faults.append(Fault(kind=kind, channel=int(rng.integers(len(CHANNELS))), start=start, stop=stop, height_uv=height_uv))
    return faults
