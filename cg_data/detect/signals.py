"""What a detector is given: refused where it cannot be looked at, and where there is no signal on a channel."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

from cg_data.analyze.artefacts import CLIP_UV, clipped_samples, flat_stretches
from cg_data.detect.boxes import Marks
from cg_data.errors import SignalError
from cg_data.vocabulary import CHANNELS, N_CHANNELS, SEGMENT_S, SEGMENT_SAMPLES, SFREQ_HZ

Signals = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LEAST_UV = 0.02
"""A median deviation below this, of the middle one of a page's channels, is no EEG in microvolts: the electronics of an amplifier alone
have ten times as much noise."""
FLAT_SHARE = 0.5
"""A channel that is flat for more than this share of the page is not shown to the network, and an event more than this share of which is
flat is none."""
_EVERY = 8
"""Samples between those that the median deviation is taken from."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Silence:
    """A stretch of a channel in which there is no signal, and why: it does not vary, or it stands at the end of the range."""

    channel: str
    onset_s: float
    duration_s: float
    reason: Literal["flat", "clipped"]


def checked(eeg_uv: npt.NDArray[np.floating], mask: npt.NDArray[np.bool_]) -> tuple[Signals, Mask]:
    """Signals `(n, 19, 2000)` in microvolts and masks `(n, 19)` as a network takes them: float32, zero on channels that do not exist.

    Raises:
        SignalError: other shapes or types; a value that is not finite on a channel that exists; a page that is not in microvolts.
    """
    eeg_uv, mask = np.asarray(eeg_uv), np.asarray(mask)
    _check_shapes(eeg_uv, mask)
    exists: Mask = np.ascontiguousarray(mask)
    signals: Signals = np.ascontiguousarray(eeg_uv, dtype=np.float32)
    if not exists.all():
        signals = np.where(exists[..., None], signals, np.float32(0.0))
    if not np.isfinite(signals).all():
        page, row = np.argwhere(~np.isfinite(signals).all(axis=2))[0]
        bad = int((~np.isfinite(signals[page, row])).sum())
        raise SignalError(
            f"Page {page}, channel {CHANNELS[row]}: {bad} of {SEGMENT_SAMPLES} samples are not finite. "
            "Mask the channel or repair the signal."
        )
    for page, (eeg, there) in enumerate(zip(signals, exists, strict=True)):
        _check_unit(page, eeg[there, ::_EVERY])
    return signals, exists


def _check_shapes(eeg_uv: npt.NDArray[np.generic], mask: npt.NDArray[np.generic]) -> None:
    needed = f"a detector needs (pages, {N_CHANNELS}, {SEGMENT_SAMPLES}): {SEGMENT_S} s at {SFREQ_HZ} Hz of {', '.join(CHANNELS)}"
    if eeg_uv.ndim != 3 or eeg_uv.shape[1] != N_CHANNELS:
        raise SignalError(
            f"Signals of shape {eeg_uv.shape} do not have {N_CHANNELS} channels; {needed}, in microvolts. Mask those missing."
        )
    if eeg_uv.shape[2] != SEGMENT_SAMPLES:
        raise SignalError(
            f"Signals of shape {eeg_uv.shape} have {eeg_uv.shape[2]} samples a page, {eeg_uv.shape[2] / SEGMENT_S:g} Hz if they last "
            f"{SEGMENT_S} s; {needed}, in microvolts. Resample or cut them."
        )
    if not np.issubdtype(eeg_uv.dtype, np.floating):
        raise SignalError(f"Signals of type {eeg_uv.dtype} are no microvolts; {needed}, in microvolts. Scale them and give floating point.")
    if mask.shape != eeg_uv.shape[:2] or mask.dtype != np.bool_:
        raise SignalError(
            f"A mask of shape {mask.shape} and type {mask.dtype} does not fit: "
            f"give bool {eeg_uv.shape[:2]}, True where the electrode exists."
        )


def _check_unit(page: int, eeg_uv: Signals) -> None:
    """Of some samples `(channels, k)` of the channels that exist; one without any variation says nothing, for it is flat in any unit."""
    deviations_uv = np.median(np.abs(eeg_uv - np.median(eeg_uv, axis=1, keepdims=True)), axis=1)
    varying_uv = deviations_uv[deviations_uv > 0]
    if not len(varying_uv):
        return
    deviation_uv = float(np.median(varying_uv))
    if deviation_uv < LEAST_UV:
        raise SignalError(
            f"Page {page}: the median deviation is {deviation_uv:.2g}, too little for an EEG in microvolts; is it in volts or millivolts? "
            "Give microvolts, or mask its channels if nothing was connected."
        )
    if deviation_uv > CLIP_UV:
        raise SignalError(
            f"Page {page}: the median deviation is {deviation_uv:.3g}, more than the {CLIP_UV:g} uV that a segment holds; "
            "is it in integers of the converter or in nanovolts? Give microvolts."
        )


def silences(eeg_uv: Signals, mask: Mask) -> tuple[Silence, ...]:
    """Where a page, `(19, 2000)` microvolts with mask `(19,)`, has no signal on channels that exist: flat and clipped stretches as
    `cg_data.analyze.artefacts` finds them. No event is found there."""
    found = [
        Silence(channel=CHANNELS[row], onset_s=onset_s, duration_s=duration_s, reason="flat")
        for row, onset_s, duration_s in flat_stretches(eeg_uv, mask)
    ]
    clipped = clipped_samples(eeg_uv, mask)
    for row in np.flatnonzero(clipped.any(axis=1)):
        at = np.flatnonzero(clipped[row])
        for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1):
            onset_s, duration_s = float(run[0]) / SFREQ_HZ, len(run) / SFREQ_HZ
            found.append(Silence(channel=CHANNELS[row], onset_s=onset_s, duration_s=duration_s, reason="clipped"))
    return tuple(found)


def seen(mask: Mask, silent: tuple[Silence, ...]) -> Mask:
    """`mask` `(19,)` without the channels that are flat for most of the page."""
    flat_s = {channel: sum(s.duration_s for s in silent if s.channel == channel and s.reason == "flat") for channel in CHANNELS}
    return mask & np.array([flat_s[channel] <= FLAT_SHARE * SEGMENT_S for channel in CHANNELS])


def sounding(marks: Marks, silent: tuple[Silence, ...]) -> Mask:
    """Which of `marks` `(k, 4)` lie on a signal: not on any clipped sample, and not for the most part where the channel is flat."""
    flat_s = np.zeros(len(marks))
    clean = np.ones(len(marks), dtype=np.bool_)
    for silence in silent:
        stop_s = silence.onset_s + silence.duration_s
        here = marks[:, 1] == CHANNELS.index(silence.channel)
        shared_s = (np.minimum(marks[:, 3], stop_s) - np.maximum(marks[:, 2], silence.onset_s)) * here
        if silence.reason == "clipped":
            clean &= shared_s <= 0
        else:
            flat_s += np.clip(shared_s, 0.0, None)
    return clean & (flat_s <= FLAT_SHARE * (marks[:, 3] - marks[:, 2]))
