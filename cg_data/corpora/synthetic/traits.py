"""Who the synthetic subjects are: everything that varies between them, and what they do when."""

from __future__ import annotations

import dataclasses
from enum import StrEnum

import numpy as np

from cg_data.corpora.synthetic.hookup import SPARSE, Reference
from cg_data.corpora.synthetic.planted import log_uniform
from cg_data.vocabulary import CHANNELS, Waveform


class State(StrEnum):
    EYES_CLOSED = "eyes_closed"
    EYES_OPEN = "eyes_open"
    N2 = "n2"
    N3 = "n3"


_STATE_SHARES = {State.EYES_CLOSED: 0.30, State.EYES_OPEN: 0.32, State.N2: 0.28, State.N3: 0.10}
_TESTED_EVERY = 5


class Variant(StrEnum):
    """What some subjects have and a reader does not mark as one of the waveforms: normal variants, small disturbances, rhythmic delta."""

    VERTEX_WAVES = "vertex_waves"
    POSTS = "posts"
    LAMBDA = "lambda"
    WICKET = "wicket"
    POSTERIOR_SLOW_WAVES_OF_YOUTH = "posterior_slow_waves_of_youth"
    SACCADIC_SPIKES = "saccadic_spikes"
    SLOW_ROLLING_EYES = "slow_rolling_eyes"
    ELECTRODE_TICKS = "electrode_ticks"
    SHARP_CONTOURED = "sharp_contoured"
    MOTOR_UNITS = "motor_units"
    MOVEMENT = "movement"
    RHYTHMIC_DELTA = "rhythmic_delta"
    ALPHA_BURSTS = "alpha_bursts"
    JOLTS = "jolts"


_VARIANT_SHARES = {
    Variant.VERTEX_WAVES: 0.7,
    Variant.POSTS: 0.4,
    Variant.LAMBDA: 0.35,
    Variant.WICKET: 0.2,
    Variant.POSTERIOR_SLOW_WAVES_OF_YOUTH: 0.12,
    Variant.SACCADIC_SPIKES: 0.4,
    Variant.SLOW_ROLLING_EYES: 0.25,
    Variant.ELECTRODE_TICKS: 0.3,
    Variant.SHARP_CONTOURED: 0.8,
    Variant.MOTOR_UNITS: 0.35,
    Variant.MOVEMENT: 0.5,
    Variant.RHYTHMIC_DELTA: 0.15,
    Variant.ALPHA_BURSTS: 0.4,
    Variant.JOLTS: 0.25,
}
"""Shares of all subjects. Variants that are rare in life are given to more subjects than have them: they are what spikes are taken for."""


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
    Syndrome(name="absence", foci=(), discharges=(_SLOW, _SPIKE), field_width=(0.5, 0.8)),
    Syndrome(name="right temporal", foci=("T4", "F8"), discharges=(_SPIKE, _SHARP), field_width=(0.3, 0.5)),
    Syndrome(name="frontal", foci=("F3", "F4"), discharges=(_SPIKE, _SLOW), field_width=(0.3, 0.5)),
    Syndrome(name="occipital", foci=("O1", "O2"), discharges=(_SHARP, _SPIKE), field_width=(0.3, 0.45)),
    Syndrome(name="centro-temporal", foci=("C3", "C4", "T3", "T4"), discharges=(_SLOW, _SHARP), field_width=(0.35, 0.55)),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Traits of one subject. Amplitudes are root mean squares in microvolts unless named otherwise.

    `alpha_harmonic` is the share of the second harmonic, `alpha_spread` that of anterior alpha and
    `alpha_front_hz` by how much it is faster, with `alpha_is_bursty` it comes and goes, `tone_uv` the muscle tone between bursts,
    `heart_uv` the peak of the heart's QRS complex as it reaches the scalp, `electrodes` those recorded, in page order.
    """

    number: int
    sfreq_hz: int
    mains_hz: float
    mains_uv: float
    gain: float
    alpha_hz: float
    alpha_uv: float
    alpha_left_share: float
    alpha_width_hz: float
    alpha_harmonic: float
    alpha_spread: float
    alpha_front_hz: float
    alpha_is_bursty: bool
    mu_uv: float
    beta_uv: float
    theta_uv: float
    slope: float
    background_uv: float
    tone_uv: float
    eye_drift_uv: float
    heart_uv: float
    syndrome: Syndrome | None
    variants: frozenset[Variant]
    reference: Reference
    electrodes: tuple[str, ...]
    seed: tuple[int, int]

    @property
    def event_gain(self) -> float:
        """Events grow with the voltage of the background, but less than in proportion."""
        return float(self.gain**0.7)


_BURSTY_SHARE = 0.5
"""Of subjects whose alpha comes and goes within seconds."""


def make_subject(number: int, seed: int) -> Subject:
    """Draw the traits of subject `number`; three in five have an epilepsy, in equal measure wherever every fifth is set aside."""
    rng = np.random.default_rng((seed, number, 1))
    slow = rng.random() < 0.15
    low_voltage = rng.random() < 0.1
    turn, place = divmod(number, _TESTED_EVERY)
    epileptic = (place + turn) % _TESTED_EVERY in (0, 2, 3)
    reference, electrodes = _hookup(rng)
    return Subject(
        number=number,
        sfreq_hz=int(rng.choice([200, 256, 250, 500], p=[0.5, 0.4, 0.06, 0.04])),
        mains_hz=float(rng.choice([50.0, 60.0])),
        mains_uv=float(rng.choice([0.0, rng.uniform(0.5, 4.0)], p=[0.5, 0.5])),
        gain=0.5 if low_voltage else log_uniform(0.75, 2.4, rng) if rng.random() < 0.75 else float(rng.uniform(2.2, 3.6)),
        alpha_hz=float(rng.uniform(6.0, 7.6) if slow else rng.uniform(8.4, 11.8)),
        alpha_uv=float(rng.uniform(8.0, 18.0)),
        alpha_left_share=float(rng.uniform(0.4, 0.6)),
        alpha_width_hz=float(rng.uniform(0.35, 0.8)),
        alpha_harmonic=float(rng.uniform(0.0, 0.16)),
        alpha_spread=float(rng.choice([0.0, rng.uniform(0.3, 1.1)], p=[0.4, 0.6])),
        alpha_front_hz=float(rng.uniform(-0.5, 1.8)),
        mu_uv=float(rng.choice([0.0, rng.uniform(3.0, 8.0)], p=[0.65, 0.35])),
        beta_uv=float(rng.choice([rng.uniform(1.0, 3.5), rng.uniform(4.0, 8.0)], p=[0.88, 0.12])),
        theta_uv=float(rng.uniform(6.0, 9.0) if slow else rng.uniform(1.0, 3.0)),
        slope=float(rng.uniform(1.2, 1.9)),
        background_uv=float(rng.uniform(6.0, 10.0)),
        tone_uv=float(np.clip(np.exp(rng.normal(-0.4, 0.9)), 0.15, 4.0)),
        eye_drift_uv=float(rng.uniform(2.0, 14.0)),
        heart_uv=float(rng.choice([0.0, rng.uniform(4.0, 22.0)], p=[0.75, 0.25])),
        syndrome=SYNDROMES[(turn + 2 * place) % len(SYNDROMES)] if epileptic else None,
        variants=frozenset(variant for variant, share in _VARIANT_SHARES.items() if rng.random() < share),
        alpha_is_bursty=bool(rng.random() < _BURSTY_SHARE),
        reference=reference,
        electrodes=electrodes,
        seed=(seed, number),
    )


def _hookup(rng: np.random.Generator) -> tuple[Reference, tuple[str, ...]]:
    """All electrodes in most recordings; one in ten lacks some, one in twelve has those of a sleep study alone."""
    chance = rng.random()
    if chance < 0.08:
        few = SPARSE[int(rng.integers(len(SPARSE)))]
        ear = Reference.RIGHT_EAR if {"C3", "Fp1"} & set(few) else Reference.LEFT_EAR
        return ear, tuple(name for name in CHANNELS if name in few)
    reference = rng.choice(list(Reference), p=[0.5, 0.25, 0.05, 0.05, 0.15])
    missing = set(rng.choice(CHANNELS, int(rng.integers(1, 7)), replace=False)) if chance < 0.18 else set()
    return Reference(reference), tuple(name for name in CHANNELS if name not in missing)


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
