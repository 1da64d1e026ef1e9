"""Who the synthetic subjects are: everything that varies between them, and what they do when."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

import numpy as np

from cg_data.vocabulary import Waveform


class State(StrEnum):
    EYES_CLOSED = "eyes_closed"
    EYES_OPEN = "eyes_open"
    N2 = "n2"
    N3 = "n3"


_STATE_SHARES = {State.EYES_CLOSED: 0.30, State.EYES_OPEN: 0.32, State.N2: 0.28, State.N3: 0.10}
_TESTED_EVERY = 5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Syndrome:
    """An epilepsy: where its discharges have their maximum ("" for generalised) and which ones they are, the usual one first."""

    name: str
    foci: tuple[str, ...]
    discharges: tuple[Waveform, ...]
    field_width: tuple[float, float]


_SPIKE, _SHARP, _SLOW = Waveform.SPIKE, Waveform.SHARP_WAVE, Waveform.SPIKE_AND_SLOW_WAVE
SYNDROMES: tuple[Syndrome, ...] = (
    Syndrome(name="left temporal", foci=("T3", "F7"), discharges=(_SHARP, _SLOW), field_width=(0.3, 0.5)),
    Syndrome(name="generalised", foci=(), discharges=(_SLOW, _SPIKE), field_width=(0.5, 0.8)),
    Syndrome(name="right temporal", foci=("T4", "F8"), discharges=(_SPIKE, _SHARP), field_width=(0.3, 0.5)),
    Syndrome(name="frontal", foci=("F3", "F4"), discharges=(_SPIKE, _SLOW), field_width=(0.3, 0.5)),
    Syndrome(name="occipital", foci=("O1", "O2"), discharges=(_SHARP, _SPIKE), field_width=(0.3, 0.45)),
    Syndrome(name="centro-temporal", foci=("C3", "C4", "T3", "T4"), discharges=(_SLOW, _SHARP), field_width=(0.35, 0.55)),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Traits of one subject. Amplitudes are root mean squares in microvolts unless named otherwise."""

    number: int
    sfreq_hz: int
    mains_hz: float
    mains_uv: float
    gain: float
    alpha_hz: float
    alpha_uv: float
    alpha_left_share: float
    beta_uv: float
    theta_uv: float
    slope: float
    background_uv: float
    syndrome: Syndrome | None
    seed: tuple[int, int]


def make_subject(number: int, seed: int) -> Subject:
    """Draw the traits of subject `number`; two in five have an epilepsy, in equal measure wherever every fifth is set aside."""
    rng = np.random.default_rng((seed, number, 1))
    slow = rng.random() < 0.15
    low_voltage = rng.random() < 0.1
    turn, place = divmod(number, _TESTED_EVERY)
    epileptic = (place + turn) % _TESTED_EVERY in (0, 2)
    return Subject(
        number=number,
        sfreq_hz=int(rng.choice([200, 256, 250, 500], p=[0.5, 0.4, 0.06, 0.04])),
        mains_hz=float(rng.choice([50.0, 60.0])),
        mains_uv=float(rng.choice([0.0, rng.uniform(0.5, 4.0)], p=[0.5, 0.5])),
        gain=0.5 if low_voltage else float(rng.uniform(0.8, 1.8)),
        alpha_hz=float(rng.uniform(6.0, 7.6) if slow else rng.uniform(8.6, 11.4)),
        alpha_uv=float(rng.uniform(9.0, 20.0)),
        alpha_left_share=float(rng.uniform(0.4, 0.6)),
        beta_uv=float(rng.uniform(1.0, 3.5)),
        theta_uv=float(rng.uniform(6.0, 9.0) if slow else rng.uniform(1.0, 3.0)),
        slope=float(rng.uniform(1.2, 1.9)),
        background_uv=float(rng.uniform(6.0, 10.0)),
        syndrome=SYNDROMES[(turn + 2 * place) % len(SYNDROMES)] if epileptic else None,
        seed=(seed, number),
    )


def make_timeline(duration_s: float, rng: np.random.Generator) -> list[tuple[float, float, State]]:
    """Stretches of 20 to 90 seconds, (start, stop, state), no state twice in a row."""
    states, shares = list(_STATE_SHARES), np.array(list(_STATE_SHARES.values()))
    stretches: list[tuple[float, float, State]] = []
    start_s, last = 0.0, -1
    while start_s < duration_s:
        odds = np.where(np.arange(len(states)) == last, 0.0, shares)
        last = int(rng.choice(len(states), p=odds / odds.sum()))
        stop_s = min(duration_s, start_s + 10.0 * int(rng.integers(2, 10)))
        stretches.append((start_s, stop_s, states[last]))
        start_s = stop_s
    return stretches
