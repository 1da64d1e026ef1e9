"""Electrodes that fail for a while."""

from __future__ import annotations

import dataclasses

import numpy as np

from cg_data.corpora.synthetic import shapes
from cg_data.corpora.synthetic.fields import Floats
from cg_data.corpora.synthetic.traits import Subject
from cg_data.corpora.synthetic.visibility import Truth
from cg_data.vocabulary import CHANNELS, FindingKind

_BLOCK_S = 10.0


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
    for block_s in np.arange(0.0, duration_s, _BLOCK_S):
        chance = rng.random()
        if chance < 0.11:
            flat = chance < 0.06
            length_s = rng.uniform(3.0, 9.5) if flat else rng.uniform(0.6, 1.5)
            start = round((block_s + rng.uniform(0.0, _BLOCK_S - length_s)) * subject.sfreq_hz)
            kind = FindingKind.FLAT_CHANNEL if flat else FindingKind.ELECTRODE_POP
            height_uv = float(rng.choice([-1.0, 1.0]) * rng.uniform(180, 420))
            stop = start + round(length_s * subject.sfreq_hz)
            channel = CHANNELS.index(str(rng.choice(subject.electrodes)))
            faults.append(Fault(kind=kind, channel=channel, start=start, stop=stop, height_uv=height_uv))
    return faults


def apply(fault: Fault, eeg_uv: Floats, sfreq_hz: int, rng: np.random.Generator) -> None:
    """Put a fault into a recording `(19, samples)`."""
    stop = min(fault.stop, eeg_uv.shape[1])
    if fault.kind == FindingKind.FLAT_CHANNEL:
        eeg_uv[fault.channel, fault.start : stop] = rng.normal(0, 0.1, stop - fault.start)
    else:
        wave = fault.height_uv * shapes.decay((fault.stop - fault.start) / sfreq_hz, sfreq_hz)
        eeg_uv[fault.channel, fault.start : stop] += wave[: stop - fault.start]


def hides(fault: Fault, truth: Truth, sfreq_hz: int) -> bool:
    """Whether a flat stretch of the channel swallows the middle of an event."""
    middle = (truth.onset_s + truth.duration_s / 2) * sfreq_hz
    here = fault.kind == FindingKind.FLAT_CHANNEL and CHANNELS[fault.channel] == truth.channel
    return here and fault.start <= middle < fault.stop


def truth_of(fault: Fault, sfreq_hz: int) -> Truth:
    return Truth(
        name=f"artefact:{fault.kind}",
        channel=CHANNELS[fault.channel],
        onset_s=fault.start / sfreq_hz,
        duration_s=(fault.stop - fault.start) / sfreq_hz,
    )
