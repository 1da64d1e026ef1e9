"""What lies in a recording without a name: normal variants, sharply contoured transients, small disturbances, rhythmic delta.

They are what spikes, sharp waves, K-complexes and spindles are taken for (Kane et al. 2017; Tatum 2013; Amin and Benbadis 2019), so a
detector must see them unlabelled. Vertex waves are no K-complexes: they last under 0.5 s.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cg_data.corpora.synthetic import shapes
from cg_data.corpora.synthetic.fields import XY, Floats, field, field_of, gains
from cg_data.corpora.synthetic.planted import Planted, Room, log_uniform, place, start_in
from cg_data.corpora.synthetic.traits import State, Subject, Variant
from cg_data.vocabulary import CHANNELS, N_CHANNELS

BLOCK_S = 10.0
_CLOSED, _OPEN, _N2, _N3 = State.EYES_CLOSED, State.EYES_OPEN, State.N2, State.N3
_RATES: dict[Variant, dict[State, float]] = {
    Variant.VERTEX_WAVES: {_N2: 0.35},
    Variant.POSTS: {_N2: 0.5},
    Variant.LAMBDA: {_OPEN: 0.6},
    Variant.WICKET: {_CLOSED: 0.3, _N2: 0.3},
    Variant.POSTERIOR_SLOW_WAVES_OF_YOUTH: {_CLOSED: 0.5},
    Variant.SACCADIC_SPIKES: {_OPEN: 0.6},
    Variant.SLOW_ROLLING_EYES: {_CLOSED: 0.15},
    Variant.ELECTRODE_TICKS: {_CLOSED: 0.3, _OPEN: 0.3, _N2: 0.3, _N3: 0.3},
    Variant.SHARP_CONTOURED: {_CLOSED: 0.5, _OPEN: 0.5, _N2: 0.4, _N3: 0.2},
    Variant.MOTOR_UNITS: {_CLOSED: 0.25, _OPEN: 0.35},
    Variant.MOVEMENT: {_CLOSED: 0.05, _OPEN: 0.1},
    Variant.RHYTHMIC_DELTA: {_CLOSED: 0.35, _OPEN: 0.35, _N2: 0.2},
    Variant.ALPHA_BURSTS: {_OPEN: 0.5},
    Variant.JOLTS: {_CLOSED: 0.15, _OPEN: 0.2, _N2: 0.1, _N3: 0.1},
}
"""Probability that a ten-second block of a state holds a variant of a subject that has it."""


def plant_variants(subject: Subject, timeline: list[tuple[float, float, State]], rng: np.random.Generator) -> list[Planted]:
    """All variants of a recording, and the turn of the eyes under closing lids at the beginning of every stretch with closed eyes."""
    planted: list[Planted] = []
    for start_s, stop_s, state in timeline:
        if state is State.EYES_CLOSED:
            planted.append(_closing(subject, start_s, rng))
        for block_s in np.arange(start_s, stop_s, BLOCK_S):
            room = (float(block_s), min(float(block_s) + BLOCK_S, stop_s))
            for variant in Variant:
                if variant in subject.variants and rng.random() < _RATES[variant].get(state, 0.0):
                    planted += _MAKERS[variant](subject, room, rng)
    return planted


def heartbeats(beats_s: Floats, sfreq_hz: int, samples: int, width_s: float) -> Floats:
    """QRS complexes at given times, `(samples,)`, peak 1."""
    t = np.arange(samples) / sfreq_hz
    course = np.zeros(samples)
    for beat_s in beats_s[beats_s < t[-1]]:
        near = slice(max(0, round((beat_s - 0.1) * sfreq_hz)), round((beat_s + 0.1) * sfreq_hz))
        at = (t[near] - beat_s) / width_s
        course[near] += np.exp(-(at**2)) - 0.25 * np.exp(-((at + 2.2) ** 2)) - 0.35 * np.exp(-((at - 2.2) ** 2))
    return course


def heart_field(rng: np.random.Generator) -> Floats:
    """The heart is far below: its potential is a plane over the head, mostly from left to right, `(19,)`, largest 1."""
    plane = XY @ np.array([rng.uniform(0.6, 1.0), rng.uniform(-0.5, 0.5)]) + rng.uniform(-0.3, 0.3)
    return np.asarray(plane / np.abs(plane).max())


def _closing(subject: Subject, start_s: float, rng: np.random.Generator) -> Planted:
    """Bell's phenomenon: the eyes turn up under closing lids and stay, which the high-pass turns into a slow decay."""
    wave = shapes.decay(rng.uniform(0.8, 2.0), subject.sfreq_hz)
    rise = shapes.bump(0.3, subject.sfreq_hz)[: round(0.15 * subject.sfreq_hz)]
    weights = rng.uniform(40, 120) * gains({"Fp1": 1.0, "Fp2": 1.0, "F7": 0.25, "F8": 0.25, "F3": 0.25, "F4": 0.25, "Fz": 0.2})
    return place(np.concatenate([rise, wave]), weights, subject.sfreq_hz, (start_s, start_s), rng)


def _vertex_waves(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    weights = -subject.event_gain * field_of("Cz", rng.uniform(0.3, 0.45))
    made = []
    for _ in range(int(rng.integers(1, 4))):
        wave = shapes.vertex_wave(rng.uniform(0.2, 0.4), subject.sfreq_hz, rng.uniform(0.2, 0.6))
        made.append(place(wave, log_uniform(35, 110, rng) * weights, subject.sfreq_hz, room, rng))
    return made


def _occipital(low_uv: float, high_uv: float) -> Callable[[Subject, Room, np.random.Generator], list[Planted]]:
    """Positive sharp transients of sleep and lambda waves: triangular, over both occipital regions, not always alike."""

    def make(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
        sides = rng.uniform(0.5, 1.0) * field_of("O1", 0.4) + rng.uniform(0.5, 1.0) * field_of("O2", 0.4)
        made = []
        for _ in range(int(rng.integers(1, 6))):
            wave = shapes.pointed(rng.uniform(0.1, 0.22), subject.sfreq_hz, peak_at=rng.uniform(0.4, 0.6))
            after = -rng.uniform(0.1, 0.5) * shapes.bump(0.15, subject.sfreq_hz)
            weights = log_uniform(low_uv, high_uv, rng) * sides
            made.append(place(np.concatenate([wave, after]), weights, subject.sfreq_hz, room, rng))
        return made

    return make


def _wicket(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Trains, or single waves, of 6 to 11 Hz over a temporal region, without a slow wave after them."""
    frequency_hz = rng.uniform(6.0, 11.0)
    waves = 1.2 if rng.random() < 0.3 else rng.uniform(3.0, 12.0)
    course = shapes.arches(waves / frequency_hz, subject.sfreq_hz, frequency_hz, rng.uniform(0.25, 0.45))
    weights = -log_uniform(25, 80, rng) * field_of(str(rng.choice(["T3", "T4"])), rng.uniform(0.35, 0.5))
    return [place(course, weights, subject.sfreq_hz, room, rng)]


def _youth(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Delta waves that lie beneath the posterior rhythm."""
    weights = -rng.uniform(25, 60) * field_of(str(rng.choice(["O1", "O2"])), 0.5)
    return [place(shapes.bump(rng.uniform(0.3, 0.5), subject.sfreq_hz), weights, subject.sfreq_hz, room, rng) for _ in range(2)]


def saccadic_spike(subject: Subject, at_s: float, rng: np.random.Generator) -> Planted:
    """Spike potential of the lateral rectus muscles at the start of a saccade: some 20 ms, over one side more or opposite at F7 and F8, and
    in front (Keren, Yuval-Greenberg and Deouell 2010)."""
    wave = shapes.pointed(rng.uniform(0.015, 0.03), subject.sfreq_hz)
    after = -rng.uniform(0.0, 0.6) * shapes.bump(0.02, subject.sfreq_hz)
    near, other = float(rng.uniform(0.2, 0.6)), float(rng.uniform(-1.0, 0.5))
    if rng.random() < 0.5:
        weights = gains({"F7": 1.0, "F8": other, "Fp1": near, "Fp2": near * other, "T3": 0.2, "T4": 0.2 * other})
    else:
        weights = gains({"F8": 1.0, "F7": other, "Fp2": near, "Fp1": near * other, "T4": 0.2, "T3": 0.2 * other})
    weights = rng.choice([-1.0, 1.0], p=[0.7, 0.3]) * log_uniform(8, 60, rng) * weights
    return place(np.concatenate([wave, after]), weights, subject.sfreq_hz, (at_s, at_s), rng)


def _saccadic_spikes(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Of saccades that are too small to be seen themselves."""
    return [saccadic_spike(subject, rng.uniform(room[0], room[1] - 0.1), rng) for _ in range(int(rng.integers(1, 8)))]


def _slow_rolling_eyes(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Of drowsiness: to and fro in two to five seconds, opposite at F7 and F8."""
    period_s = rng.uniform(2.0, 5.0)
    t = np.arange(round(min(2 * period_s, room[1] - room[0]) * subject.sfreq_hz)) / subject.sfreq_hz
    wave = np.sin(2 * np.pi * t / period_s) * np.hanning(len(t)) ** 0.3
    weights = rng.uniform(30, 70) * gains({"F7": 1.0, "F8": -1.0, "Fp1": 0.35, "Fp2": -0.35, "T3": 0.3, "T4": -0.3})
    return [place(wave, weights, subject.sfreq_hz, room, rng)]


def _electrode_ticks(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Steps of a single electrode, too small to be called pops."""
    weights = np.zeros(N_CHANNELS)
    weights[int(rng.integers(len(CHANNELS)))] = rng.choice([-1.0, 1.0])
    courses = [shapes.decay(rng.uniform(0.03, 0.5), subject.sfreq_hz) for _ in range(int(rng.integers(1, 5)))]
    return [place(course, log_uniform(10, 45, rng) * weights, subject.sfreq_hz, room, rng) for course in courses]


def _sharp_contoured(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Single waves that are pointed by chance: little above the background, of two or three phases, from anywhere."""
    made = []
    for _ in range(int(rng.integers(1, 5))):
        duration_s = rng.uniform(0.05, 0.14)
        course = shapes.pointed(duration_s, subject.sfreq_hz, peak_at=0.5)
        before, after = (-rng.uniform(0.3, 0.9) * shapes.bump(duration_s * rng.uniform(0.7, 1.3), subject.sfreq_hz) for _ in range(2))
        height_uv = rng.choice([-1.0, 1.0]) * subject.gain * log_uniform(8, 24, rng)
        weights = height_uv * field(tuple(rng.uniform(-0.9, 0.9, 2)), rng.uniform(0.3, 0.6))
        made.append(place(np.concatenate([before, course, after]), weights, subject.sfreq_hz, room, rng))
    return made


def _motor_units(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """A single motor unit beneath one electrode fires on and on: potentials of some 10 to 20 ms, too few to be called muscle noise."""
    samples = round(rng.uniform(0.5, 4.0) * subject.sfreq_hz)
    firing = np.cumsum(rng.uniform(0.7, 1.3, 60) * subject.sfreq_hz / rng.uniform(4.0, 12.0)).astype(int)
    unit = shapes.pointed(rng.uniform(0.01, 0.02), subject.sfreq_hz, peak_at=0.5)
    course = np.zeros(samples)
    course[firing[firing < samples]] = 1.0
    course = np.convolve(course, np.concatenate([unit, -rng.uniform(0.2, 0.9) * unit]))
    sites = ("T3", "T4", "F7", "F8", "Fp1", "Fp2")
    weights = rng.choice([-1.0, 1.0]) * log_uniform(10, 35, rng) * field_of(str(rng.choice(sites)), rng.uniform(0.1, 0.25))
    return [place(course, weights, subject.sfreq_hz, room, rng)]


def _movement(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Swallowing and shifting: slow, large, over many electrodes and on each its own."""
    samples = round(rng.uniform(0.6, 2.5) * subject.sfreq_hz)
    knots = rng.normal(0, 1, (N_CHANNELS, 7)) * rng.uniform(0.2, 1.0, (N_CHANNELS, 1))
    course = np.stack([np.interp(np.linspace(0, 6, samples), np.arange(7), row) for row in knots]) * np.hanning(samples)
    start = start_in(samples, subject.sfreq_hz, room, rng)
    return [Planted(start=start, wave_uv=log_uniform(25, 90, rng) * course, core=(0, samples))]


def _alpha_bursts(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """The posterior rhythm for a moment with open eyes, as after a blink."""
    made = []
    for _ in range(int(rng.integers(1, 4))):
        wave = shapes.spindle(rng.uniform(0.4, 1.6), subject.sfreq_hz, subject.alpha_hz, rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.65))
        sides = rng.uniform(0.6, 1.0) * field_of("O1", 0.5) + rng.uniform(0.6, 1.0) * field_of("O2", 0.5)
        made.append(place(wave, subject.event_gain * log_uniform(10, 40, rng) * sides, subject.sfreq_hz, room, rng))
    return made


def _jolts(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """A touch or a jolt: for some tenths of a second a few electrodes, anywhere, swing steeply, each on its own: pointed like discharges,
    but without a field."""
    samples = round(rng.uniform(0.15, 0.9) * subject.sfreq_hz)
    rows = rng.choice(N_CHANNELS, int(rng.integers(1, 5)), replace=False)
    knots = max(4, round(samples / subject.sfreq_hz * rng.uniform(8.0, 25.0)))
    wave_uv = np.zeros((N_CHANNELS, samples))
    for row in rows:
        swings = np.interp(np.linspace(0, knots - 1, samples), np.arange(knots), rng.normal(0, 1, knots))
        wave_uv[row] = log_uniform(15, 80, rng) * swings * np.hanning(samples) ** 0.5
    return [Planted(start=start_in(samples, subject.sfreq_hz, room, rng), wave_uv=wave_uv, core=(0, samples))]


def _rhythmic_delta(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """A run of alike slow waves of 0.8 to 3 Hz, generalised and highest in front or over one side (GRDA, LRDA of ACNS 2021): abnormal, but
    without a spike or a sharp wave, and what runs of spike-and-wave are mistaken for."""
    sfreq_hz, frequency_hz = subject.sfreq_hz, rng.uniform(0.8, 3.0)
    samples = round(rng.uniform(2.5, room[1] - room[0]) * sfreq_hz)
    pace = frequency_hz * (1 + 0.12 * np.interp(np.arange(samples), np.linspace(0, samples, 12), rng.normal(0, 1, 12)))
    phase = 2 * np.pi * np.cumsum(pace) / sfreq_hz
    skew = rng.uniform(-0.6, 0.6)
    course = np.sin(phase + skew * np.sin(phase)) * np.minimum(1.0, 4.0 * np.hanning(samples))
    side = float(rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2]))
    weights = field((0.6 * side, rng.uniform(0.0, 0.7)), rng.uniform(0.4, 0.6) if side else rng.uniform(0.6, 0.9))
    return [place(course, subject.event_gain * log_uniform(25, 110, rng) * weights, sfreq_hz, room, rng)]


_MAKERS: dict[Variant, Callable[[Subject, Room, np.random.Generator], list[Planted]]] = {
    Variant.VERTEX_WAVES: _vertex_waves,
    Variant.POSTS: _occipital(15, 50),
    Variant.LAMBDA: _occipital(12, 40),
    Variant.WICKET: _wicket,
    Variant.POSTERIOR_SLOW_WAVES_OF_YOUTH: _youth,
    Variant.SACCADIC_SPIKES: _saccadic_spikes,
    Variant.SLOW_ROLLING_EYES: _slow_rolling_eyes,
    Variant.ELECTRODE_TICKS: _electrode_ticks,
    Variant.SHARP_CONTOURED: _sharp_contoured,
    Variant.MOTOR_UNITS: _motor_units,
    Variant.MOVEMENT: _movement,
    Variant.RHYTHMIC_DELTA: _rhythmic_delta,
    Variant.ALPHA_BURSTS: _alpha_bursts,
    Variant.JOLTS: _jolts,
}
