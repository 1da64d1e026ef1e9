"""Ten-second segments of a recording: filtered, at 200 Hz, in the recording's montage, int16 at 0.1 uV.

Windows are aligned to the start of each contiguous run and never cross a gap. The montage is by default the average of the electrodes, so
that recordings against an ear, Cz or linked mastoids look alike. An electrode that is flat as recorded is left as it is for those
seconds, and it is left out of the average, as is one whose amplitude in the window is far beyond the others': a single bad electrode
would otherwise appear upside down in the eighteen good ones. Rows of electrodes that do not exist are zero and masked.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from cg_data.electrodes import potentials_matrix
from cg_data.records import Label, Recording, Segment, content_id
from cg_data.signal import BLOCK_S, FILTER_VERSION, Float32, clean_blocks
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import CHANNEL_INDEX, N_CHANNELS, SEGMENT_S, SEGMENT_SAMPLES, SFREQ_HZ, UV_PER_STEP, Montage

_PER_BLOCK = BLOCK_S // SEGMENT_S
_FLAT_UV = 1.0
"""Peak to peak over one second as recorded, in microvolts, below which an electrode is flat."""
_WILD_RMS_RATIO = 5.0
_INT16_MAX = 32767

Bools = npt.NDArray[np.bool_]


def count_segments(recording: Recording) -> int:
    """Whole ten-second windows in the runs of a recording."""
    return sum(windows_in(start_s, stop_s) for start_s, stop_s in recording.runs_s)


def windows_in(start_s: float, stop_s: float) -> int:
    """Whole windows in a run; the small term is for durations that floating point leaves just short."""
    return int((stop_s - start_s) / SEGMENT_S + 1e-6)


def segments_of(
    file: SignalFile, recording: Recording, *, start: int = 0, stop: int | None = None, device: str = "cpu"
) -> Iterator[Segment]:
    """Segments `start` to `stop` (all by default) of `recording`, in order of time; the same whatever part is asked for.

    Only the windows asked for are read, with 10 s of context. Adds the flags ``clipped`` where a sample is beyond the range of int16
    (3276.7 uV) and ``montage.ear_flat`` where an ear of the reference is flat as recorded. On the CPU one block of 60 s is in memory at
    a time; `device` is torch's name of where the filter works.
    """
    first = 0
    for run_start_s, run_stop_s in recording.runs_s:
        count = windows_in(run_start_s, run_stop_s)
        low, high = max(start - first, 0), count if stop is None else min(stop - first, count)
        run = _Run(file=file, recording=recording, start_s=run_start_s, stop_s=run_stop_s, device=device)
        labels = labels_of_windows(recording.labels, run_start_s, range(low, high)) if low < high else {}
        for window, eeg_uv, flat in run.windows(low, high):
            ear_flat = ("montage.ear_flat",) if flat[len(recording.electrodes) :].any() else ()
            yield _segment(recording, run_start_s + window * SEGMENT_S, eeg_uv, ear_flat, labels.get(window, ()))
        first += count


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """One contiguous stretch of the signals."""

    file: SignalFile
    recording: Recording
    start_s: float
    stop_s: float
    device: str

    def read(self, start: int, stop: int) -> Float32:
        """Samples of the recording's electrodes, and of the ears behind them where it has them."""
        sfreq_hz, channels = self.recording.sfreq_hz, self.recording.channels
        eeg_uv = self.file.read_uv(self.recording.signals, self.start_s + start / sfreq_hz, self.start_s + stop / sfreq_hz)
        return potentials_matrix(channels, self.recording.electrodes) @ eeg_uv if "-" in channels[0] else eeg_uv

    def windows(self, low: int, high: int) -> Iterator[tuple[int, Float32, Bools]]:
        """Windows `low` to `high` of the run: the number of each, float32 `(electrodes, 2000)` microvolts in the recording's montage, and
        in which seconds a row of what was read is flat, `(rows, 10)`."""
        if low >= high:
            return
        sfreq_hz, mains_hz = self.recording.sfreq_hz, self.recording.mains_hz
        n_samples = round((self.stop_s - self.start_s) * sfreq_hz)
        blocks = range(low // _PER_BLOCK, (high - 1) // _PER_BLOCK + 1)
        parts = {block: range(max(low, block * _PER_BLOCK), min(high, (block + 1) * _PER_BLOCK)) for block in blocks}
        flat: dict[int, Bools] = {}
        unread = iter(blocks)

        def read(start: int, stop: int) -> Float32:
            raw_uv = self.read(start, stop)
            part = parts[next(unread)]
            flat.update(zip(part, self._flat(raw_uv, start, part), strict=True))
            return raw_uv

        cleaned = clean_blocks(read, n_samples, sfreq_hz, mains_hz, blocks, self.device)
        for block, eeg_uv in zip(blocks, cleaned, strict=True):
            for window in parts[block]:
                at = (window - block * _PER_BLOCK) * SEGMENT_SAMPLES
                dead = flat.pop(window)
                yield window, self._referenced(eeg_uv[:, at : at + SEGMENT_SAMPLES], dead), dead

    def _referenced(self, eeg_uv: Float32, flat: Bools) -> Float32:
        n_electrodes = len(self.recording.electrodes)
        if self.recording.montage == Montage.AVERAGE:
            return to_average(eeg_uv, flat)
        if len(eeg_uv) > n_electrodes:
            return to_ears(eeg_uv[:n_electrodes], eeg_uv[n_electrodes:], flat[:n_electrodes])
        return eeg_uv

    def _flat(self, raw_uv: Float32, start: int, windows: range) -> list[Bools]:
        """Seconds of each window in which a row is flat as recorded, `(rows, 10)`; the filter would hide it. `raw_uv` begins at `start`."""
        seconds = range(windows.start * SEGMENT_S, windows.stop * SEGMENT_S + 1)
        *edges, end = (round(second * self.recording.sfreq_hz) - start for second in seconds)
        raw_uv = raw_uv[:, :end]
        flat = np.maximum.reduceat(raw_uv, edges, axis=1) - np.minimum.reduceat(raw_uv, edges, axis=1) < _FLAT_UV
        return np.split(flat, len(windows), axis=1)


def to_average(eeg_uv: Float32, flat: Bools) -> Float32:
    """Subtract the common average from `(n, 2000)`; `flat` `(n, 10)` says in which seconds an electrode is dead and stays as it is."""
    live = _live(flat)
    eeg = eeg_uv.astype(np.float64)
    rms_uv: npt.NDArray[np.float64] = np.sqrt((eeg**2).mean(axis=1))
    alive = np.asarray((~flat).any(axis=1))
    tame = rms_uv <= _WILD_RMS_RATIO * np.median(rms_uv[alive]) if alive.any() else alive
    weight = (live & tame[:, None]).astype(np.float64)
    average = (eeg * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0)
    return (eeg - live * average).astype(np.float32)


def _live(flat: Bools) -> Bools:
    """Where an electrode is not flat, `(n, 2000)`, or `(n, 1)` where none is flat at any time."""
    return np.repeat(~flat, SFREQ_HZ, axis=1) if flat.any() else np.ones((len(flat), 1), dtype=np.bool_)


def to_ears(eeg_uv: Float32, ears_uv: Float32, flat: Bools) -> Float32:
    """Subtract the mean of the two ears `(2, 2000)` from `(n, 2000)`; `flat` as in `to_average`."""
    return (eeg_uv - _live(flat) * ears_uv.mean(axis=0)).astype(np.float32)


def _segment(recording: Recording, start_s: float, eeg_uv: Float32, flags: tuple[str, ...], labels: Sequence[Label]) -> Segment:
    steps = np.rint(eeg_uv / np.float32(UV_PER_STEP))
    clipped = bool((np.abs(steps) > _INT16_MAX).any())
    rows = [CHANNEL_INDEX[name] for name in recording.electrodes]
    mask, eeg_steps = np.zeros(N_CHANNELS, dtype=np.bool_), np.zeros((N_CHANNELS, SEGMENT_SAMPLES), dtype=np.int16)
    mask[rows], eeg_steps[rows] = True, np.clip(steps, -_INT16_MAX, _INT16_MAX).astype(np.int16)
    filter_version = FILTER_VERSION + (f"+notch-{recording.mains_hz:g}" if recording.mains_hz else "")
    return Segment(
        segment_id=content_id(recording.sha256, start_s, recording.montage, filter_version),
        recording_id=recording.recording_id,
        sha256=recording.sha256,
        corpus=recording.corpus,
        subject=recording.subject,
        split=recording.split,
        start_s=start_s,
        montage=recording.montage,
        sfreq_recorded_hz=recording.sfreq_hz,
        filter_version=filter_version,
        flags=recording.flags + flags + (("clipped",) if clipped else ()),
        mask=mask,
        eeg_steps=eeg_steps,
        labels=tuple(_clip(label, start_s) for label in labels),
    )


def labels_of_windows(labels: Sequence[Label], run_start_s: float, windows: range) -> dict[int, list[Label]]:
    """The labels of each of some windows of a run, in their order; each label is looked at once, not once for each window."""
    found: dict[int, list[Label]] = {}
    for label in labels:
        first, last = (math.floor((at_s - run_start_s) / SEGMENT_S) for at_s in (label.onset_s, label.onset_s + label.duration_s))
        # One window more on either side, for an edge that rounding moves: `_overlaps` decides.
        for window in range(max(first - 1, windows.start), min(last + 2, windows.stop)):
            if _overlaps(label, run_start_s + window * SEGMENT_S):
                found.setdefault(window, []).append(label)
    return found


def _overlaps(label: Label, start_s: float) -> bool:
    """A label without a duration belongs to the segment that holds its onset."""
    stop_s = label.onset_s + label.duration_s
    return label.onset_s < start_s + SEGMENT_S and (stop_s > start_s or label.onset_s >= start_s)


def _clip(label: Label, start_s: float) -> Label:
    onset_s = max(label.onset_s - start_s, 0.0)
    stop_s = min(label.onset_s + label.duration_s - start_s, float(SEGMENT_S))
    return dataclasses.replace(label, onset_s=onset_s, duration_s=stop_s - onset_s)
