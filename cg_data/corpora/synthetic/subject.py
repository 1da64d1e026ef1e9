"""One synthetic recording: signal and truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from cg_data.corpora.synthetic.background import make_background
from cg_data.corpora.synthetic.events import plant
from cg_data.corpora.synthetic.faults import apply, hides, make_faults, truth_of
from cg_data.corpora.synthetic.fields import Floats
from cg_data.corpora.synthetic.hookup import reference_weights, shown_matrix
from cg_data.corpora.synthetic.planted import Planted
from cg_data.corpora.synthetic.traits import State, Subject, make_timeline
from cg_data.corpora.synthetic.variants import heart_field, heartbeats, plant_variants
from cg_data.corpora.synthetic.visibility import Truth, backdrop_of, labels_of
from cg_data.vocabulary import CHANNELS, Waveform

_QRS_S = 0.012


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """`eeg_uv` is `(19, samples)` against the subject's reference, with rows also of electrodes that are not recorded; `ecg_uv`
    `(samples,)`; truth as waveforms and artefacts of recorded electrodes, and states."""

    subject: Subject
    eeg_uv: npt.NDArray[np.float64]
    ecg_uv: npt.NDArray[np.float64]
    timeline: tuple[tuple[float, float, State], ...]
    truths: tuple[Truth, ...]


def record(subject: Subject, duration_s: float) -> Recorded:
    """Record `duration_s` seconds of a subject; the same subject gives the same recording."""
    rng, sfreq_hz = np.random.default_rng((*subject.seed, 2)), subject.sfreq_hz
    timeline = make_timeline(duration_s, rng)
    eeg_uv = make_background(subject, timeline, rng)
    samples = eeg_uv.shape[1]
    matrix = shown_matrix(subject.reference, subject.electrodes)
    backdrop = backdrop_of(eeg_uv, matrix, sfreq_hz)
    events = plant(subject, timeline, rng)
    noise = [event for event in events if event.waveform is Waveform.HIGH_FREQUENCY_NOISE]
    for event in noise:
        _add(event, eeg_uv)
    cover = backdrop_of(eeg_uv, matrix, sfreq_hz) if noise else backdrop
    truths = [truth for event in events for truth in labels_of(event, backdrop, cover)]
    others = [event for event in events if event.waveform is not Waveform.HIGH_FREQUENCY_NOISE]
    for event in (*others, *plant_variants(subject, timeline, rng)):
        _add(event, eeg_uv)
    beats_s = np.cumsum(rng.normal(rng.uniform(0.7, 1.0), 0.03, round(samples / sfreq_hz / 0.6)))
    heart = heartbeats(beats_s, sfreq_hz, samples, _QRS_S)
    eeg_uv += subject.heart_uv * np.outer(heart_field(rng), heart)
    eeg_uv -= reference_weights(subject.reference, subject.electrodes) @ eeg_uv
    eeg_uv += _reference_and_mains(subject, samples, rng)
    faults = make_faults(subject, duration_s, rng)
    for fault in faults:
        apply(fault, eeg_uv, sfreq_hz, rng)
    seen = [truth for truth in truths if not any(hides(fault, truth, sfreq_hz) for fault in faults)]
    marks = [truth_of(fault, sfreq_hz) for fault in faults]
    return Recorded(
        subject=subject,
        eeg_uv=eeg_uv,
        ecg_uv=900 * heart + rng.normal(0, 5.0, samples),
        timeline=tuple(timeline),
        truths=tuple(sorted([*seen, *marks], key=lambda t: (t.onset_s, t.name, t.channel))),
    )


def _add(event: Planted, eeg_uv: Floats) -> None:
    stop = min(event.start + event.wave_uv.shape[1], eeg_uv.shape[1])
    eeg_uv[:, event.start : stop] += event.wave_uv[:, : stop - event.start]


def _reference_and_mains(subject: Subject, samples: int, rng: np.random.Generator) -> Floats:
    """What the reference electrode itself adds to every channel, and mains hum of a strength of each channel's own."""
    t = np.arange(samples) / subject.sfreq_hz
    reference = np.convolve(rng.normal(0, 3.0, samples), np.ones(5) / 5, mode="same")
    hum = subject.mains_uv * np.sin(2 * np.pi * subject.mains_hz * t + rng.uniform(0, 2 * np.pi))
    return reference + rng.uniform(0.3, 1.0, (len(CHANNELS), 1)) * hum
