"""The truth about what is planted: on which channels a reader would mark it, and from when to when.

A waveform is marked where the page shows it with at least `Planted.least_share` of its greatest height, at least `SEEN_UV`, and far
enough above what is there anyway. How far a short or fast waveform stands out is measured against its own surroundings, as a reader does
who sees a spike on a slow wave: by the sample minus the mean of those a little before and after (`STAND_OUT`, the lag and the ratio to
the background's root mean square). Where an event is near that (`SURE_FROM`) one reader would mark it and another not, so its label says
that nobody is sure; weaker ones stay in the signal without a label.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cg_data.corpora.synthetic.fields import Floats
from cg_data.corpora.synthetic.planted import Planted
from cg_data.vocabulary import CHANNELS, N_CHANNELS, Waveform

SEEN_UV = 10.0
SURE_FROM = 1.2
"""Share of what is needed to be marked from which a reader is sure; below, down to `Planted.doubt_from`, he is not."""
STAND_OUT: dict[Waveform, tuple[float, float]] = {
    Waveform.SPIKE: (0.06, 4.0),
    Waveform.SHARP_WAVE: (0.12, 3.0),
    Waveform.SPIKE_AND_SLOW_WAVE: (0.0, 3.0),
    Waveform.K_COMPLEX: (0.0, 2.0),
    Waveform.SLEEP_SPINDLE: (0.036, 2.5),
    Waveform.HIGH_FREQUENCY_NOISE: (0.012, 2.5),
    Waveform.POSITIVE_SHARP_TRANSIENT: (0.0, 2.0),
    Waveform.POSITIVE_SQUARE_WAVE: (0.0, 2.5),
    Waveform.NEGATIVE_SQUARE_WAVE: (0.0, 2.5),
}
"""Seconds to either side (0: height above zero) and the least ratio to the background measured alike."""
_OSCILLATING = frozenset({Waveform.SLEEP_SPINDLE, Waveform.HIGH_FREQUENCY_NOISE})
_AROUND_S = 2
_EDGE_RMS = 0.5
_EDGE_SHARES = (0.1, 0.2)
_EDGE_SHARES_OF_DISCHARGES = {Waveform.SPIKE: (0.1, 0.1), Waveform.SHARP_WAVE: (0.1, 0.1), Waveform.SPIKE_AND_SLOW_WAVE: (0.04, 0.1)}
"""An event ends where it falls below half the background's root mean square, but not below or above these shares of its peak."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """A label: a waveform, one that a reader is not sure of (``unsure:``), or an artefact, on one channel."""

    name: str
    channel: str
    onset_s: float
    duration_s: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Backdrop:
    """What a page shows where nothing is planted: how potentials come to be shown `(19, 19)`, and by lag in seconds the root mean square
    of every second as it stands out at that lag, `(19, seconds)`."""

    matrix: Floats
    sfreq_hz: int
    rms_uv: dict[float, Floats]


def backdrop_of(background_uv: Floats, matrix: Floats, sfreq_hz: int) -> Backdrop:
    """Measure the background `(19, samples)` of a recording."""
    shown = matrix @ background_uv
    lags_s = sorted({lag_s for lag_s, _ in STAND_OUT.values()})
    return Backdrop(matrix=matrix, sfreq_hz=sfreq_hz, rms_uv={lag_s: _rms_uv(shown, lag_s, sfreq_hz) for lag_s in lags_s})


def labels_of(event: Planted, backdrop: Backdrop, cover: Backdrop) -> list[Truth]:
    """Marks of an event, by the rule of this module; nobody is sure of one that muscle noise covers.

    Args:
        event: as planted.
        backdrop: of the background alone.
        cover: of the background with the muscle noise that is planted in it.
    """
    if event.waveform is None:
        return []
    first, stop = event.core
    shown = backdrop.matrix @ event.wave_uv
    core = shown[:, first:stop]
    strongest, peak = np.unravel_index(int(np.abs(core).argmax()), core.shape)
    sign = event.sign or np.sign(core[strongest, peak])
    lag_s, ratio = STAND_OUT[event.waveform]
    standing = np.abs(_standing_out(shown, round(lag_s * backdrop.sfreq_hz))[:, first:stop])
    height = np.quantile(standing, 0.98, axis=1)
    seconds = _seconds(event, backdrop.sfreq_hz)
    least_uv = np.maximum(SEEN_UV, ratio * _mean_rms(backdrop.rms_uv[lag_s], seconds))
    share = height / np.maximum(event.least_share * height.max(), least_uv)
    if event.waveform is not Waveform.HIGH_FREQUENCY_NOISE:
        covered = height < SURE_FROM * ratio * _greatest_rms(cover.rms_uv[lag_s], event, backdrop.sfreq_hz)
        share = np.where(covered, np.minimum(share, 1.0), share)
    course = standing[strongest] if event.waveform in _OSCILLATING else np.abs(core[strongest])
    begin, end = _extent(course, event.waveform, float(_mean_rms(backdrop.rms_uv[0.0], seconds)[strongest]))
    onset_s, duration_s = (event.start + first + begin) / backdrop.sfreq_hz, (end - begin) / backdrop.sfreq_hz
    names = [event.waveform if side else event.mirrored for side in core[:, peak] * sign > 0]
    marked = [
        (_said(name, least, event.doubt_from), channel)
        for name, channel, least in zip(names, CHANNELS, share, strict=True)
        if name is not None
    ]
    return [Truth(name=name, channel=channel, onset_s=onset_s, duration_s=duration_s) for name, channel in marked if name]


def _said(waveform: Waveform, share: float, doubt_from: float) -> str:
    """What a reader writes of a waveform that has `share` of what is needed to be marked, "" for nothing."""
    return "" if share < doubt_from else f"unsure:{waveform}" if share < SURE_FROM else str(waveform)


def _seconds(event: Planted, sfreq_hz: int) -> slice:
    """Those around an event whose background it is seen against, so that one run of complexes is not marked now here, now there."""
    first, last = ((event.start + at) // sfreq_hz for at in event.core)
    return slice(max(0, first - _AROUND_S), last + 1 + _AROUND_S)


def _extent(course: Floats, waveform: Waveform, rms_uv: float) -> tuple[int, int]:
    """First sample and the one after the last that leave the background, of the strongest channel's course; a discharge is taken to its
    base, for its class is told by its duration."""
    least, most = _EDGE_SHARES_OF_DISCHARGES.get(waveform, _EDGE_SHARES)
    edge_uv = np.clip(_EDGE_RMS * rms_uv, least * course.max(), most * course.max())
    above = np.flatnonzero(course >= edge_uv)
    return int(above[0]), int(above[-1]) + 1


def _standing_out(shown: Floats, lag: int) -> Floats:
    """``x(t) - (x(t - lag) + x(t + lag)) / 2`` with zeros beyond the ends, `(19, samples)`; `shown` itself for lag 0."""
    if lag == 0:
        return shown
    padded = np.pad(shown, ((0, 0), (lag, lag)))
    return np.asarray(shown - (padded[:, : -2 * lag] + padded[:, 2 * lag :]) / 2)


def _rms_uv(shown: Floats, lag_s: float, sfreq_hz: int) -> Floats:
    standing = _standing_out(shown, round(lag_s * sfreq_hz))
    seconds = standing.shape[1] // sfreq_hz
    return np.asarray(np.sqrt((standing[:, : seconds * sfreq_hz].reshape(N_CHANNELS, seconds, sfreq_hz) ** 2).mean(axis=2)))


def _greatest_rms(rms_uv: Floats, event: Planted, sfreq_hz: int) -> Floats:
    """In the seconds in which an event lies, `(19,)`."""
    first, last = ((event.start + at) // sfreq_hz for at in event.core)
    return np.asarray(rms_uv[:, min(first, rms_uv.shape[1] - 1) : last + 1].max(axis=1))


def _mean_rms(rms_uv: Floats, seconds: slice) -> Floats:
    first = min(seconds.start, rms_uv.shape[1] - 1)
    return np.asarray(rms_uv[:, first : max(seconds.stop, first + 1)].mean(axis=1))
