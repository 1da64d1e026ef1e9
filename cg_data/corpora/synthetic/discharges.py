"""Epileptiform discharges: spikes, sharp waves and complexes with a slow wave, alone, periodic and in runs.

Spikes last 20 to 70 ms and sharp waves 70 to 200 ms at the base, are mostly negative, pointed and asymmetrical, and disrupt the background;
often a slow wave follows (Kane et al. 2017; Kural et al. 2020). Durations keep away from the border of the two classes, on which readers
do not agree either. Generalised spike-and-wave runs at 2.5 to 4 Hz, highest in front, up to some hundreds of microvolts, and slows towards
its end (Niedermeyer); periodic discharges recur at 0.5 to 2 Hz (ACNS 2021).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cg_data.corpora.synthetic import shapes
from cg_data.corpora.synthetic.fields import XY, Floats, field, field_of
from cg_data.corpora.synthetic.planted import Planted, Room, log_uniform, overlap, start_in
from cg_data.corpora.synthetic.traits import Subject, Syndrome
from cg_data.vocabulary import N_CHANNELS, Waveform

SPIKE_S = (0.034, 0.066)
SHARP_S = (0.095, 0.195)
_LATEST_S = 0.02
"""A discharge is seen at the far end of its field up to this much later than at its maximum."""
_RUN_SHARE, _PERIODIC_SHARE = 0.6, 0.12
_HIGHEST_RUN_UV = 550.0
_GENERALISED_SHARE = 0.2
"""A generalised complex is marked down to a smaller part of its maximum than a focal one: it is known to be there."""
_GENERALISED_DOUBT = 0.3
"""Nor can a reader who sees it in front say that it is not there behind, unless hardly anything is."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Pattern:
    """What the discharges of one stretch have in common. `fields` are those of the four parts of a complex (`shapes.complex_parts`),
    `(19, 4)`, largest 1: the parts of a generalised complex differ in field, so that on the average reference no two channels are alike."""

    kind: Waveform
    fields: Floats
    lag_s: Floats
    is_generalised: bool
    height_uv: float


def make_discharges(subject: Subject, syndrome: Syndrome, room: Room, stop_s: float, rng: np.random.Generator) -> list[Planted]:
    """Two to eight discharges at the subject's focus, a periodic train, or a run of complexes that may last beyond `room` to `stop_s`."""
    pattern = _pattern(subject, syndrome, rng)
    complexes = pattern.kind is Waveform.SPIKE_AND_SLOW_WAVE
    if complexes and pattern.is_generalised and rng.random() < _RUN_SHARE:
        return _run(pattern, subject, (room[0], stop_s), rng)
    if pattern.kind is not Waveform.SPIKE and rng.random() < _PERIODIC_SHARE:
        interval_s = 1 / rng.uniform(0.6, 1.8)
        count = int((room[1] - room[0] - 1.0) / interval_s)
        onsets_s = room[0] + 0.2 + interval_s * (np.arange(count) + rng.uniform(0, 0.15, count))
    else:
        onsets_s = rng.uniform(room[0], max(room[0] + 0.1, room[1] - 0.8), int(rng.integers(2, 9)))
    made: list[Planted] = []
    for onset_s in np.sort(onsets_s):
        event = dataclasses.replace(_discharge(pattern, subject.sfreq_hz, rng), start=round(onset_s * subject.sfreq_hz))
        if not made or not overlap(event, made[-1]):
            made.append(event)
    return made


def _pattern(subject: Subject, syndrome: Syndrome, rng: np.random.Generator) -> _Pattern:
    kind = syndrome.discharges[int(rng.random() < 0.45)]
    width = rng.uniform(*syndrome.field_width)
    if syndrome.foci:
        focus = str(rng.choice(syndrome.foci))
        fields = np.stack([field_of(focus, share * width) for share in (1.0, 1.1, 1.25, 1.25)], axis=1)
    else:
        front = (rng.uniform(-0.2, 0.2), rng.uniform(0.35, 0.75))
        fields = np.stack([_generalised(front, width, rng) for _ in range(4)], axis=1)
    centre = int(fields[:, 0].argmax())
    distance = np.linalg.norm(XY - XY[centre], axis=1)
    return _Pattern(
        kind=kind,
        fields=fields,
        lag_s=rng.uniform(0, _LATEST_S) * distance / 2,
        is_generalised=not syndrome.foci,
        height_uv=subject.event_gain * log_uniform(60, 160, rng),
    )


def _generalised(front: tuple[float, float], width: float, rng: np.random.Generator) -> Floats:
    """The field of one part of a generalised complex: over the whole head, highest in front, uneven, `(19,)`, largest 1."""
    uneven = sum(rng.normal(0, 0.35) * field(tuple(rng.uniform(-0.9, 0.9, 2)), 0.45) for _ in range(3))
    part = (0.2 + field(front, width * rng.uniform(0.9, 1.2))) * np.exp(rng.normal(0, 0.12, N_CHANNELS)) + uneven
    return np.asarray(part / np.abs(part).max())


def _discharge(pattern: _Pattern, sfreq_hz: int, rng: np.random.Generator) -> Planted:
    """One discharge that begins at sample 0. A mark on a spike or sharp wave is of the sharp part alone, one on a complex of all of it."""
    kind, peak_at = pattern.kind, rng.uniform(0.3, 0.5)
    is_sharp = kind is Waveform.SHARP_WAVE or (kind is Waveform.SPIKE_AND_SLOW_WAVE and rng.random() < 0.3)
    sharp = shapes.pointed(rng.uniform(*(SHARP_S if is_sharp else SPIKE_S)), sfreq_hz, peak_at=peak_at)
    before = rng.uniform(0.05, 0.25) if rng.random() < 0.4 else 0.0
    if kind is Waveform.SPIKE_AND_SLOW_WAVE:
        slow, slow_s, trough = rng.uniform(0.5, 1.3), rng.uniform(0.2, 0.42), rng.uniform(0.0, 0.4)
    else:
        slow, slow_s, trough = rng.choice([0.0, rng.uniform(0.05, 0.25)]), rng.uniform(0.15, 0.3), rng.uniform(0.0, 0.2)
    parts, first = shapes.complex_parts(sharp, sfreq_hz, before=before, trough=trough, slow=slow, slow_s=slow_s)
    event = _assemble(pattern, parts, (first, len(sharp)), sfreq_hz)
    sign = 1.0 if kind is not Waveform.SPIKE_AND_SLOW_WAVE and rng.random() < 0.05 else -1.0
    return dataclasses.replace(event, wave_uv=sign * pattern.height_uv * rng.uniform(0.7, 1.3) * event.wave_uv)


def _run(pattern: _Pattern, subject: Subject, room: Room, rng: np.random.Generator) -> list[Planted]:
    """Complexes one after another for one to fifteen seconds, slowing, some with several spikes; each a little shorter than its period."""
    sfreq_hz = subject.sfreq_hz
    rate_hz, slowing = rng.uniform(2.6, 3.9), rng.uniform(0.0, 0.25)
    duration_s = min(log_uniform(1.0, 15.0, rng), room[1] - room[0])
    height_uv = min(subject.event_gain * log_uniform(90, 400, rng), _HIGHEST_RUN_UV)
    slow, late = rng.uniform(0.3, 1.5), rng.choice([0.0, rng.uniform(0.3, 1.2)])
    spike_s = rng.uniform(*SPIKE_S) if rng.random() < 0.7 else rng.uniform(0.07, 0.11)
    trough, before = rng.uniform(0.0, 1.0), rng.choice([0.0, rng.uniform(0.2, 0.6)])
    spikes = int(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05]))
    begins = (room[0], min(room[1], room[0] + max(10.0, duration_s)))
    start = start_in(round(duration_s * sfreq_hz), sfreq_hz, begins, rng)
    made: list[Planted] = []
    at_s = 0.0
    while True:
        period_s = (1 + slowing * at_s / duration_s) / rate_hz
        if made and at_s + period_s > duration_s:
            return made
        sharp = np.concatenate([shapes.pointed(spike_s * rng.uniform(0.85, 1.15), sfreq_hz)] * min(spikes, int(rng.integers(1, 4))))
        slow_s = max(0.12, 0.96 * period_s - len(sharp) / sfreq_hz - (0.035 if before else 0.0))
        strength = rng.uniform(0.85, 1.15)
        parts, first = shapes.complex_parts(
            sharp, sfreq_hz, before=before, trough=trough, slow=slow * strength, slow_s=slow_s, late=late * strength
        )
        event = _assemble(pattern, parts, (first, len(sharp)), sfreq_hz)
        wave_uv = height_uv * rng.uniform(0.8, 1.15) * -event.wave_uv
        core = (first, min(event.core[1], round(0.98 * period_s * sfreq_hz)))
        made.append(dataclasses.replace(event, start=start + round(at_s * sfreq_hz), wave_uv=wave_uv, core=core))
        at_s += period_s


def _assemble(pattern: _Pattern, parts: Floats, sharp: tuple[int, int], sfreq_hz: int) -> Planted:
    """The parts of a discharge on their fields, each channel a little later the farther it lies from the maximum; upwards.

    `sharp` are the first sample and the length of the sharp deflection.
    """
    wave = pattern.fields @ parts
    lags = np.rint(pattern.lag_s * sfreq_hz).astype(int)
    late = np.zeros((N_CHANNELS, wave.shape[1] + int(lags.max())))
    for row, lag in enumerate(lags):
        late[row, lag : lag + wave.shape[1]] = wave[row]
    is_complex = pattern.kind is Waveform.SPIKE_AND_SLOW_WAVE
    core = (sharp[0], late.shape[1]) if is_complex else (sharp[0], sum(sharp))
    event = Planted(start=0, wave_uv=late, core=core, waveform=pattern.kind)
    if is_complex and pattern.is_generalised:
        return dataclasses.replace(event, mirrored=pattern.kind, least_share=_GENERALISED_SHARE, doubt_from=_GENERALISED_DOUBT)
    return event
