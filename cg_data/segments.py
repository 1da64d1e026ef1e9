"""Ten-second segments of a recording: filtered, at 200 Hz, against the common average, int16 at 0.1 uV.

Windows are aligned to the start of each contiguous run and never cross a gap. The montage is the average of the nineteen electrodes, so
that recordings against an ear, Cz or linked mastoids look alike. An electrode that is flat as recorded is left as it is for those
seconds, and it is left out of the average, as is one whose amplitude in the window is far beyond the others': a single bad electrode
would otherwise appear upside down in the eighteen good ones.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cg_data.edf.reader import EdfFile
from cg_data.recording import channels_of
from cg_data.records import Label, Recording, Segment, content_id
from cg_data.settings import DataSettings
from cg_data.signal import BLOCK_S, FILTER_VERSION, Float32, clean_blocks, find_mains_hz
from cg_data.vocabulary import N_CHANNELS, SEGMENT_S, SEGMENT_SAMPLES, SFREQ_HZ, UV_PER_STEP

MONTAGE = "average"
_PER_BLOCK = BLOCK_S // SEGMENT_S
_FLAT_UV = 1.0
"""Peak to peak over one second as recorded, in microvolts, below which an electrode is flat."""
_WILD_RMS_RATIO = 5.0
_MAINS_PROBES = 12
_INT16_MAX = 32767


def count_segments(recording: Recording) -> int:
    """Whole ten-second windows in the runs of a recording."""
    return sum(_windows(start_s, stop_s) for start_s, stop_s in recording.runs_s)


def segments_of(
    edf: EdfFile, recording: Recording, *, settings: DataSettings, start: int = 0, stop: int | None = None
) -> Iterator[Segment]:
    """Segments `start` to `stop` (all by default) of `recording`, in order of time; the same whatever part is asked for.

    Adds the flag ``clipped`` where a sample is beyond the range of int16 (3276.7 uV). One block of 60 s is in memory at a time.
    """
    signals = channels_of(edf)
    mains_hz = _mains_hz(edf, recording, signals, settings)
    first = 0
    for run_start_s, run_stop_s in recording.runs_s:
        count = _windows(run_start_s, run_stop_s)
        low, high = max(start - first, 0), count if stop is None else min(stop - first, count)
        run = _Run(edf=edf, signals=signals, sfreq_hz=recording.sfreq_hz, start_s=run_start_s, stop_s=run_stop_s, mains_hz=mains_hz)
        for window, eeg_uv in run.windows(low, high):
            yield _segment(recording, run_start_s + window * SEGMENT_S, eeg_uv, mains_hz)
        first += count


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """One contiguous stretch of the nineteen signals."""

    edf: EdfFile
    signals: tuple[int, ...]
    sfreq_hz: float
    start_s: float
    stop_s: float
    mains_hz: float | None

    def read(self, start: int, stop: int) -> Float32:
        return self.edf.read_uv(self.signals, self.start_s + start / self.sfreq_hz, self.start_s + stop / self.sfreq_hz)

    def windows(self, low: int, high: int) -> Iterator[tuple[int, Float32]]:
        """Windows `low` to `high` of the run, re-referenced, each float32 `(19, 2000)` in microvolts with its number."""
        if low >= high:
            return
        n_samples = round((self.stop_s - self.start_s) * self.sfreq_hz)
        blocks = range(low // _PER_BLOCK, (high - 1) // _PER_BLOCK + 1)
        for block, eeg_uv in zip(blocks, clean_blocks(self.read, n_samples, self.sfreq_hz, self.mains_hz, blocks), strict=True):
            for window in range(max(low, block * _PER_BLOCK), min(high, (block + 1) * _PER_BLOCK)):
                at = (window - block * _PER_BLOCK) * SEGMENT_SAMPLES
                yield window, to_average(eeg_uv[:, at : at + SEGMENT_SAMPLES], self._flat(window))

    def _flat(self, window: int) -> npt.NDArray[np.bool_]:
        """Seconds of a window in which a signal is flat as recorded, `(19, 10)`; the filter would hide it."""
        edges = [round((window * SEGMENT_S + second) * self.sfreq_hz) for second in range(SEGMENT_S + 1)]
        raw_uv = self.read(edges[0], edges[-1])
        seconds = [raw_uv[:, a - edges[0] : b - edges[0]] for a, b in itertools.pairwise(edges)]
        return np.stack([np.ptp(second, axis=1) < _FLAT_UV for second in seconds], axis=1)


def to_average(eeg_uv: Float32, flat: npt.NDArray[np.bool_]) -> Float32:
    """Subtract the common average from `(19, 2000)`; `flat` `(19, 10)` says in which seconds an electrode is dead and stays as it is."""
    live = np.repeat(~flat, SFREQ_HZ, axis=1)
    rms_uv: npt.NDArray[np.float64] = np.sqrt((eeg_uv.astype(np.float64) ** 2).mean(axis=1))
    alive = np.asarray((~flat).any(axis=1))
    tame = rms_uv <= _WILD_RMS_RATIO * np.median(rms_uv[alive]) if alive.any() else alive
    weight = (live & tame[:, None]).astype(np.float64)
    average = (eeg_uv * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0)
    return (eeg_uv - live * average).astype(np.float32)


def _windows(start_s: float, stop_s: float) -> int:
    """Whole windows in a run; the small term is for durations that floating point leaves just short."""
    return int((stop_s - start_s) / SEGMENT_S + 1e-6)


def _mains_hz(edf: EdfFile, recording: Recording, signals: tuple[int, ...], settings: DataSettings) -> float | None:
    """The notch: as configured, or found in windows spread evenly over the whole recording."""
    if settings.mains_hz != "auto":
        return None if settings.mains_hz == "none" else float(settings.mains_hz)
    starts_s = [a + i * SEGMENT_S for a, b in recording.runs_s for i in range(_windows(a, b))]
    chosen = sorted({round(i) for i in np.linspace(0, len(starts_s) - 1, _MAINS_PROBES)})
    # The last samples of a window are left out so that rounding never reaches past the end of a run.
    probes = [edf.read_uv(signals, starts_s[i], starts_s[i] + SEGMENT_S - 0.1) for i in chosen]
    shortest = min(probe.shape[1] for probe in probes)
    levelled = [probe[:, :shortest] - probe[:, :shortest].mean(axis=1, keepdims=True) for probe in probes]
    return find_mains_hz(np.concatenate(levelled, axis=1), recording.sfreq_hz)


def _segment(recording: Recording, start_s: float, eeg_uv: Float32, mains_hz: float | None) -> Segment:
    steps = np.rint(eeg_uv / np.float32(UV_PER_STEP))
    clipped = bool((np.abs(steps) > _INT16_MAX).any())
    filter_version = FILTER_VERSION + (f"+notch-{mains_hz:g}" if mains_hz else "")
    return Segment(
        segment_id=content_id(recording.sha256, start_s, MONTAGE, filter_version),
        recording_id=recording.recording_id,
        sha256=recording.sha256,
        corpus=recording.corpus,
        subject=recording.subject,
        split=recording.split,
        start_s=start_s,
        montage=MONTAGE,
        sfreq_recorded_hz=recording.sfreq_hz,
        filter_version=filter_version,
        flags=recording.flags + (("clipped",) if clipped else ()),
        mask=np.ones(N_CHANNELS, dtype=np.bool_),
        eeg_steps=np.clip(steps, -_INT16_MAX, _INT16_MAX).astype(np.int16),
        labels=tuple(_clip(label, start_s) for label in recording.labels if _overlaps(label, start_s)),
    )


def _overlaps(label: Label, start_s: float) -> bool:
    """A label without a duration belongs to the segment that holds its onset."""
    stop_s = label.onset_s + label.duration_s
    return label.onset_s < start_s + SEGMENT_S and (stop_s > start_s or label.onset_s >= start_s)


def _clip(label: Label, start_s: float) -> Label:
    onset_s = max(label.onset_s - start_s, 0.0)
    stop_s = min(label.onset_s + label.duration_s - start_s, float(SEGMENT_S))
    return dataclasses.replace(label, onset_s=onset_s, duration_s=stop_s - onset_s)
