"""Planted events that a reader names: which, when, how strong. Sleep, eyes and muscle are here, discharges in `discharges`.

What is marked of them, and where, is for `visibility` to tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from cg_data.corpora.synthetic import shapes
from cg_data.corpora.synthetic.discharges import make_discharges
from cg_data.corpora.synthetic.fields import field_of, gains
from cg_data.corpora.synthetic.planted import Planted, Room, log_uniform, overlap, place, start_in
from cg_data.corpora.synthetic.traits import State, Subject, Variant
from cg_data.corpora.synthetic.variants import saccadic_spike
from cg_data.vocabulary import CHANNELS, Waveform

Maker = Callable[[Subject, Room, np.random.Generator], list[Planted]]
BLOCK_S = 10.0
_TRIES = 4

_MUSCLE_SITES = (("T3", "F7", "T5"), ("T4", "F8", "T6"), ("Fp1", "Fp2", "F7", "F8"), ("T3", "T4", "F7", "F8", "T5", "T6"), ("T4",), ("T3",))
_RATES: dict[State, dict[str, float]] = {
    State.EYES_CLOSED: {"muscle": 0.3, "blink": 0.08, "gaze": 0.04},
    State.EYES_OPEN: {"muscle": 0.4, "blink": 0.75, "gaze": 0.65},
    State.N2: {"spindle": 0.85, "k_complex": 0.7, "muscle": 0.04},
    State.N3: {"spindle": 0.25, "k_complex": 0.35},
}
"""Probability that a ten-second block of a state holds a kind of event at all."""
_MOST = {"muscle": 4, "blink": 6, "gaze": 5, "spindle": 6, "k_complex": 4}
_DISCHARGE_RATE = 0.75
_SPINDLE_SITES = {"Cz": 0.45, "Fz": 0.25, "C3": 0.1, "C4": 0.1, "Pz": 0.1}


def plant(subject: Subject, timeline: list[tuple[float, float, State]], rng: np.random.Generator) -> list[Planted]:
    """All named events of a recording in order of their blocks."""
    planted: list[Planted] = []
    for start_s, stop_s, state in timeline:
        busy_until_s = start_s
        for block_s in np.arange(start_s, stop_s, BLOCK_S):
            room = (float(block_s), min(float(block_s) + BLOCK_S, stop_s))
            for kind, rate in _RATES[state].items():
                if rng.random() < rate:
                    planted += _several(_MAKERS[kind], int(rng.integers(1, _MOST[kind] + 1)), subject, room, rng)
            if subject.syndrome is not None and rng.random() < _DISCHARGE_RATE and busy_until_s <= room[0]:
                discharges = make_discharges(subject, subject.syndrome, room, stop_s, rng)
                busy_until_s = max((event.start + event.core[0]) / subject.sfreq_hz for event in discharges)
                planted += discharges
    return planted


def _several(make: Maker, count: int, subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """`count` times events of one kind in a block; no two at once but where one muscle follows another, as far as they find room."""
    made: list[Planted] = []
    for _ in range(count):
        for _ in range(_TRIES):
            events = make(subject, room, rng)
            if make is _muscle or not any(overlap(new, old) for new in events for old in made):
                made += events
                break
    return made


def _spindle(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Slower in front than behind (Gibbs and Gibbs 1950; De Gennaro and Ferrara 2003), at times on a slow wave."""
    site = str(rng.choice(list(_SPINDLE_SITES), p=list(_SPINDLE_SITES.values())))
    frequency_hz = rng.uniform(10.8, 13.0) if site == "Fz" else rng.uniform(12.0, 15.3)
    duration_s, weights = rng.uniform(0.65, 1.9), field_of(site, rng.uniform(0.4, 0.6))
    wave = shapes.spindle(duration_s, subject.sfreq_hz, frequency_hz, rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.65))
    height_uv = subject.event_gain * log_uniform(14, 45, rng)
    event = place(wave, height_uv * weights, subject.sfreq_hz, room, rng, waveform=Waveform.SLEEP_SPINDLE)
    if rng.random() > 0.25:
        return [event]
    slow = shapes.bump(rng.uniform(0.5, 1.0), subject.sfreq_hz) * -rng.uniform(0.8, 1.6)
    ridden = event.wave_uv.copy()
    ridden[:, : len(slow)] += height_uv * np.outer(weights, slow)[:, : ridden.shape[1]]
    return [dataclasses.replace(event, wave_uv=ridden)]


def _k_complex(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Frontocentral, up to one in five with a spindle after it (AASM)."""
    wave = shapes.k_complex(rng.uniform(0.7, 1.25), subject.sfreq_hz, rng.uniform(0.4, 0.9))
    weights = -subject.event_gain * rng.uniform(80, 190) * field_of(str(rng.choice(["Fz", "Cz"])), rng.uniform(0.45, 0.65))
    event = place(wave, weights, subject.sfreq_hz, room, rng, waveform=Waveform.K_COMPLEX)
    if rng.random() > 0.2:
        return [event]
    (spindle,) = _spindle(subject, room, rng)
    after = event.start + len(wave) - round(rng.uniform(0.0, 0.4) * subject.sfreq_hz)
    fits = after + spindle.wave_uv.shape[1] <= round(room[1] * subject.sfreq_hz)
    return [event, dataclasses.replace(spindle, start=after)] if fits else [event]


def _blink(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Positive at the frontal poles and a fifth of that behind them (Niedermeyer); half blinks, slow ones and, at times, a flutter."""
    kind = rng.random()
    height_uv = rng.uniform(40, 80) if kind < 0.15 else rng.uniform(70, 220)
    duration_s = rng.uniform(0.4, 0.6) if 0.15 <= kind < 0.25 else rng.uniform(0.2, 0.42)
    near, far = rng.uniform(0.85, 1.15), rng.uniform(0.12, 0.3)
    weights = gains({"Fp1": 1.0, "Fp2": near, "F7": far, "F8": far, "F3": 1.1 * far, "F4": 1.1 * far, "Fz": far, "Cz": 0.15 * far})
    wave = shapes.blink(duration_s, subject.sfreq_hz)
    first = place(wave, height_uv * weights, subject.sfreq_hz, room, rng, waveform=Waveform.POSITIVE_SHARP_TRANSIENT)
    if kind < 0.94:
        return [first]
    step = round(rng.uniform(1.1, 1.5) * len(wave))
    starts = [first.start + i * step for i in range(int(rng.integers(2, 5)))]
    last = round(room[1] * subject.sfreq_hz) - len(wave)
    return [dataclasses.replace(first, start=s, wave_uv=rng.uniform(0.6, 1.0) * first.wave_uv) for s in starts if s <= last]


def _gaze(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Opposite at F7 and F8, half of that at the frontal poles; small ones too, and in some subjects the eye muscles spike at both ends."""
    wave = shapes.plateau(rng.uniform(0.4, 1.8), subject.sfreq_hz, rng.uniform(0.03, 0.07))
    near, side = rng.uniform(0.42, 0.62), rng.uniform(0.1, 0.25)
    weights = gains({"F7": 1.0, "F8": -1.0, "Fp1": near, "Fp2": -near, "F3": 0.45 * near, "F4": -0.45 * near, "T3": side, "T4": -side})
    height_uv = rng.uniform(22, 45) if rng.random() < 0.2 else rng.uniform(40, 120)
    weights = weights * float(rng.choice([-1.0, 1.0])) * height_uv
    event = place(wave, weights, subject.sfreq_hz, room, rng, waveform=Waveform.POSITIVE_SQUARE_WAVE)
    gaze = dataclasses.replace(event, mirrored=Waveform.NEGATIVE_SQUARE_WAVE, sign=1)
    if Variant.SACCADIC_SPIKES not in subject.variants:
        return [gaze]
    edges_s = (event.start / subject.sfreq_hz, event.start / subject.sfreq_hz + len(wave) / subject.sfreq_hz - 0.05)
    return [gaze, *(saccadic_spike(subject, edge_s, rng) for edge_s in edges_s)]


def _muscle(subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    sites = _MUSCLE_SITES[int(rng.integers(len(_MUSCLE_SITES)))]
    duration_s = rng.uniform(3.5, 9.0) if rng.random() < 0.1 else rng.uniform(0.5, 3.5)
    noise = shapes.muscle(min(duration_s, room[1] - room[0]), subject.sfreq_hz, len(sites), rng)
    wave_uv = np.zeros((len(CHANNELS), noise.shape[1]))
    wave_uv[[CHANNELS.index(site) for site in sites]] = rng.uniform(12, 40) * noise
    start, name = start_in(noise.shape[1], subject.sfreq_hz, room, rng), Waveform.HIGH_FREQUENCY_NOISE
    return [Planted(start=start, wave_uv=wave_uv, core=(0, noise.shape[1]), waveform=name, mirrored=name)]


_MAKERS: dict[str, Maker] = {
    "muscle": _muscle,
    "blink": _blink,
    "gaze": _gaze,
    "spindle": _spindle,
    "k_complex": _k_complex,
}
