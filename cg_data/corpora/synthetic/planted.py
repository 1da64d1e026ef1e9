"""One thing planted in a recording: its course on every channel and the name, if any, that a reader gives it."""

from __future__ import annotations

import dataclasses

import numpy as np

from cg_data.corpora.synthetic.fields import Floats
from cg_data.vocabulary import Waveform

SEEN_SHARE = 0.35
DOUBT_FROM = 0.8
Room = tuple[float, float]
"""Start and stop, in seconds, between which something is to lie."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Planted:
    """`wave_uv` is `(19, samples)` from sample `start` on, added to the potentials.

    `waveform` is its name on channels that show it with the sign of the strongest (`sign` fixes another), `mirrored` on those that show
    it upside down; None is no name. `core` are the samples that a mark may cover, (first, stop). Where the height is under `least_share`
    of the greatest, nothing is marked. From the share `doubt_from` of what is needed to be marked nobody is sure.
    """

    start: int
    wave_uv: Floats
    core: tuple[int, int]
    waveform: Waveform | None = None
    mirrored: Waveform | None = None
    sign: int = 0
    least_share: float = SEEN_SHARE
    doubt_from: float = DOUBT_FROM


def place(
    course: Floats,
    weights_uv: Floats,
    sfreq_hz: int,
    room: Room,
    rng: np.random.Generator,
    *,
    waveform: Waveform | None = None,
    mirrored: Waveform | None = None,
    core: tuple[int, int] | None = None,
) -> Planted:
    """One course over time `(samples,)` on a field `(19,)`, anywhere in `room`."""
    return Planted(
        start=start_in(course.shape[-1], sfreq_hz, room, rng),
        wave_uv=np.outer(weights_uv, course),
        core=core or (0, course.shape[-1]),
        waveform=waveform,
        mirrored=mirrored,
    )


def start_in(samples: int, sfreq_hz: int, room: Room, rng: np.random.Generator) -> int:
    """First sample of something that long, such that it ends within `room` if it can."""
    first, last = round(room[0] * sfreq_hz), round(room[1] * sfreq_hz) - samples
    return int(rng.integers(first, max(first + 1, last)))


def overlap(one: Planted, other: Planted) -> bool:
    """Whether the marks of two events would lie over each other."""
    return one.start + one.core[0] < other.start + other.core[1] and other.start + other.core[0] < one.start + one.core[1]


def log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    """A number between two, the lower the likelier, as amplitudes of EEG are."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
