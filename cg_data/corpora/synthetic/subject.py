"""One synthetic recording: signal and truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from cg_data.corpora.synthetic import shapes
from cg_data.corpora.synthetic.background import local_rms_uv, make_background
from cg_data.corpora.synthetic.events import Fault, Truth, labels_of, make_faults, plant
from cg_data.corpora.synthetic.fields import Floats
from cg_data.corpora.synthetic.traits import State, Subject, make_timeline
from cg_data.vocabulary import CHANNELS, FindingKind


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """`eeg_uv` is `(19, samples)` against one reference, `ecg_uv` `(samples,)`; truth as waveforms, artefacts and states."""

    subject: Subject
    eeg_uv: npt.NDArray[np.float64]
    ecg_uv: npt.NDArray[np.float64]
    timeline: tuple[tuple[float, float, State], ...]
    truths: tuple[Truth, ...]


def record(subject: Subject, duration_s: float) -> Recorded:
    """Record `duration_s` seconds of a subject; the same subject gives the same recording."""
    rng = np.random.default_rng((*subject.seed, 2))
    timeline = make_timeline(duration_s, rng)
    eeg_uv = make_background(subject, timeline, rng)
    rms_uv = local_rms_uv(eeg_uv, subject.sfreq_hz)
    truths: list[Truth] = []
    for event in plant(subject, timeline, rng):
        stop = min(event.start + event.wave_uv.shape[1], eeg_uv.shape[1])
        eeg_uv[:, event.start : stop] += event.wave_uv[:, : stop - event.start]
        truths += labels_of(event, rms_uv, subject.sfreq_hz)
    faults = make_faults(subject, duration_s, rng)
    eeg_uv += _reference_and_mains(subject, eeg_uv.shape[1], rng)
    for fault in faults:
        _apply(fault, eeg_uv, subject.sfreq_hz, rng)
    seen = [truth for truth in truths if not _hidden(truth, faults, subject.sfreq_hz)]
    marks = [_fault_truth(fault, subject.sfreq_hz) for fault in faults]
    ordered = sorted([*seen, *marks], key=lambda t: (t.onset_s, t.name, t.channel))
    return Recorded(
        subject=subject,
        eeg_uv=eeg_uv,
        ecg_uv=_ecg(subject.sfreq_hz, eeg_uv.shape[1], rng),
        timeline=tuple(timeline),
        truths=tuple(ordered),
    )


def _reference_and_mains(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """What the reference electrode adds to every channel, and mains hum of a strength of each channel's own."""
    t = np.arange(samples) / subject.sfreq_hz
    reference = np.convolve(rng.normal(0, 3.0, samples), np.ones(5) / 5, mode="same")
    hum = subject.mains_uv * np.sin(2 * np.pi * subject.mains_hz * t + rng.uniform(0, 2 * np.pi))
    return reference + rng.uniform(0.3, 1.0, (len(CHANNELS), 1)) * hum


def _apply(fault: Fault, eeg_uv: Floats, sfreq_hz: int, rng: np.random.Generator) -> None:
    stop = min(fault.stop, eeg_uv.shape[1])
    if fault.kind == FindingKind.FLAT_CHANNEL:
        eeg_uv[fault.channel, fault.start : stop] = rng.normal(0, 0.1, stop - fault.start)
    else:
        wave = fault.height_uv * shapes.pop((fault.stop - fault.start) / sfreq_hz, sfreq_hz)
        eeg_uv[fault.channel, fault.start : stop] += wave[: stop - fault.start]


def _hidden(truth: Truth, faults: list[Fault], sfreq_hz: int) -> bool:
    """Whether a flat stretch of the channel swallows the middle of an event."""
    middle = (truth.onset_s + truth.duration_s / 2) * sfreq_hz
    return any(
        fault.kind == FindingKind.FLAT_CHANNEL and CHANNELS[fault.channel] == truth.channel and fault.start <= middle < fault.stop
        for fault in faults
    )


def _fault_truth(fault: Fault, sfreq_hz: int) -> Truth:
    return Truth(
        name=f"artefact:{fault.kind}",
        channel=CHANNELS[fault.channel],
        onset_s=fault.start / sfreq_hz,
        duration_s=(fault.stop - fault.start) / sfreq_hz,
    )


def _ecg(sfreq_hz: int, samples: int, rng: np.random.Generator) -> Floats:
    """A plain electrocardiogram: a QRS complex at each beat."""
    beats = np.cumsum(rng.normal(0.85, 0.03, round(samples / sfreq_hz / 0.6)))
    t = np.arange(samples) / sfreq_hz
    ecg = np.zeros(samples)
    for beat in beats[beats < t[-1]]:
        near = slice(max(0, round((beat - 0.1) * sfreq_hz)), round((beat + 0.1) * sfreq_hz))
        ecg[near] += 900 * np.exp(-(((t[near] - beat) / 0.012) ** 2))
    return ecg + rng.normal(0, 5.0, samples)
