"""Do the samples lie where the header says? Evidence gathered while a file is read once, record by record.

EDF has no check sums: where bytes were lost or added, all that follows still reads as numbers. Three things give it away, each weighed
against sound real recordings (`tests/cg_data/test_edf_reader.py`):

* an even number of bytes: the seam between two signals no longer lies where the header puts it. Samples that are neighbours in the file
  then go on smoothly across a supposed change of signal, while "one" signal jumps from record to record;
* an odd number: low and high byte change places, and a signal becomes white noise over the whole range of int16;
* either, or a wrong header: samples fall outside the digital minimum and maximum that the header states.

What it cannot see: a shift by whole signals, a recording that is mains hum all over, fewer than `_VOTES` seams after the shift.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import scipy.signal

from cg_data.edf.header import EdfHeader
from cg_data.errors import EdfError

_VOTES = 100
"""Seams (records times pairs of signals) that a verdict rests on."""
_BROKEN_SHARE = 0.25
"""Share of broken seams: at most 0.08 was seen in sound real recordings and simulated noise, 0.4 and more in shifted ones."""
_FEWEST_SAMPLES = 8
_EVERY = 8
"""One record in so many is looked at for noise and amplitude."""
_UNIFORM_SPREAD = 0.2 * 65536
"""A uniform distribution over int16 has a standard deviation of 0.29 of its width."""
_WHITE_FLATNESS = 0.8
"""White samples have a spectral flatness near 1; 0.97 was seen in recordings shifted by a byte, 0.3 at most in sound ones, be they all
mains."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SignalEvidence:
    """What was seen of one signal: samples beyond its digital range, looks that found noise, and the median standard deviation of a
    look (within one record), in digital steps."""

    beyond_range: int
    noise_looks: int
    spread_steps: float


class AlignmentReader:
    """Takes blocks of whole records in order."""

    def __init__(self, header: EdfHeader, name: str) -> None:
        self._name = name
        signals = header.signals
        self._spans = [(s.offset, s.offset + s.samples_per_record) for s in signals]
        self._limits = [(s.digital_min, s.digital_max) for s in signals]
        self._is_signal = [not s.is_annotations for s in signals]
        long = [not s.is_annotations and s.samples_per_record >= _FEWEST_SAMPLES for s in signals]
        self._pairs = np.array([i for i in range(len(signals) - 1) if long[i] and long[i + 1]], dtype=np.intp)
        self._beyond = np.zeros(len(signals), dtype=np.int64)
        self._noise = np.zeros(len(signals), dtype=np.int64)
        self._spreads: list[npt.NDArray[np.float32]] = []
        self._broken: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._records = 0

    def add(self, records: npt.NDArray[np.int16]) -> None:
        """The next records, int16 `(records, samples of all signals in a record)`.

        Raises:
            EdfError: ``data.misaligned``.
        """
        self._count_beyond(records)
        self._look(records[-self._records % _EVERY :: _EVERY])
        if len(self._pairs):
            self._judge(records)
        self._records += len(records)

    def finish(self) -> tuple[SignalEvidence, ...]:
        """What was seen of each signal."""
        spread = np.median(np.concatenate(self._spreads), axis=0)
        rows = zip(self._beyond.tolist(), self._noise.tolist(), spread.tolist(), strict=True)
        return tuple(SignalEvidence(beyond_range=b, noise_looks=n, spread_steps=round(s, 3)) for b, n, s in rows)

    def _count_beyond(self, records: npt.NDArray[np.int16]) -> None:
        for i, ((start, stop), (low, high)) in enumerate(zip(self._spans, self._limits, strict=True)):
            if self._is_signal[i] and low < high and (low > -32768 or high < 32767):
                part = records[:, start:stop]
                if part.min() < low or part.max() > high:
                    self._beyond[i] += int(((part < low) | (part > high)).sum())

    def _look(self, records: npt.NDArray[np.int16]) -> None:
        spreads = np.zeros((len(records), len(self._spans)), dtype=np.float32)
        for i, (start, stop) in enumerate(self._spans):
            if self._is_signal[i] and stop - start > 1 and len(records):
                part = records[:, start:stop].astype(np.float32)
                spreads[:, i] = part.std(axis=1)
                wide = spreads[:, i] > _UNIFORM_SPREAD
                if wide.any():
                    self._noise[i] += int((_flatness(part[wide]) > _WHITE_FLATNESS).sum())
        self._spreads.append(spreads)

    def _judge(self, records: npt.NDArray[np.int16]) -> None:
        """Add the broken seams of each record; judge every stretch of records that makes up `_VOTES` seams."""
        broken = np.concatenate([self._broken, self._seams(records)])
        span = max(1, -(-_VOTES // len(self._pairs)))
        if len(broken) >= span:
            totals = np.concatenate([[0], broken.cumsum()])
            if (totals[span:] - totals[:-span]).max() > _BROKEN_SHARE * span * len(self._pairs):
                raise EdfError(
                    "data.misaligned", f"{self._name}: the signals do not begin where the header says: bytes were lost or added inside."
                )
        self._broken = broken[-(span - 1) :] if span > 1 else broken[:0]

    def _seams(self, records: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
        """Broken seams of each record: the step across two signals is less than half of both signals' steps to their next record, and
        those are larger than any of three steps within the record (mains hum makes large steps everywhere)."""
        starts = np.array([start for start, _ in self._spans])
        stops = np.array([stop for _, stop in self._spans])
        first, last = records[:, starts].astype(np.int32), records[:, stops - 1].astype(np.int32)
        # At two places, for after a shift by half a signal the seam lies in the middle of one.
        step = np.minimum(_largest_step(records[:-1], starts, stops, 1 / 2), _largest_step(records[:-1], starts, stops, 1 / 4))
        left, right = self._pairs, self._pairs + 1
        across = np.abs(first[:-1, right] - last[:-1, left])
        onward = np.abs(first[1:] - last[:-1])
        jump = np.minimum(onward[:, left], onward[:, right])
        broken = (2 * across < jump) & (jump > np.maximum(step[:, left], step[:, right]))
        return np.asarray(broken.sum(axis=1), dtype=np.int64)


def _largest_step(
    records: npt.NDArray[np.int16], starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64], where: float
) -> npt.NDArray[np.int32]:
    """Largest of three steps of each signal at a share `where` of the record, `(records, signals)`."""
    place = np.minimum(starts + ((stops - starts) * where).astype(np.int64), stops - 1)
    samples = records[:, place[:, None] + np.minimum(np.arange(4), (stops - 1 - place)[:, None])].astype(np.int32)
    largest: npt.NDArray[np.int32] = np.abs(np.diff(samples)).max(axis=2)
    return largest


def _flatness(signals: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Spectral flatness (geometric over arithmetic mean of Welch's spectrum) of each row of `(signals, samples)`."""
    power = scipy.signal.welch(signals, nperseg=min(64, signals.shape[1]), axis=1)[1][:, 1:] + 1e-9
    flatness: npt.NDArray[np.float64] = np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)
    return flatness
