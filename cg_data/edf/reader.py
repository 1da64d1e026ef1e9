"""EDF and EDF+ files read by range: any window as float32 microvolts or as int16, never the whole file in memory.

A file is read whole once, in blocks (`cg_data.edf.scan`); with the index of that reading another process opens it by its header alone.

A damaged file is refused with a typed reason, never read as signal. What is accepted although it departs from the standard is named in
`EdfFile.flags`: ``header.not_ascii``, ``header.decimal_comma``, ``records.unclosed``, ``records.count_corrected``,
``records.fewer_than_header``, ``records.gap_in_edf_plus_c``, ``records.clock_drift``, ``data.trailing_bytes``,
``data.beyond_digital_range``, ``annotations.unreadable``, ``annotations.not_utf8`` and ``annotations.absent``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cg_data.edf.header import EdfHeader, calibration_uv, parse_header
from cg_data.edf.index import EdfIndex
from cg_data.edf.scan import scan
from cg_data.edf.source import ByteSource, FileSource, MemorySource
from cg_data.edf.tal import Annotation, read_notes
from cg_data.errors import EdfError
from cg_data.signal_file import refuse_impossible_spread

_LARGEST_HEADER_BYTES = 256 * 513
_STRIPS_FROM_BYTES = 1 << 20
"""Records larger than this are read signal by signal, only where the window is."""
_BEYOND_SHARE = 0.01

__all__ = ["Annotation", "EdfFile", "read_annotations"]


class EdfFile:
    """One checked recording (a `cg_data.signal_file.SignalFile`). Time counts in seconds from the start of the first record."""

    def __init__(self, source: ByteSource, index: EdfIndex | None = None) -> None:
        """Check `source` by reading all of it, or by its header alone where its `index` is given.

        Raises:
            EdfError: it is no EDF file, a damaged one, or not the one that was indexed (``file.changed``).
            StorageError: it cannot be read.
        """
        self._source = source
        self.name = source.name
        if index is not None and source.size != index.size:
            raise EdfError("file.changed", f"{self.name}: the file has {source.size} bytes, it had {index.size} when it was indexed.")
        head = source.read(0, min(source.size, _LARGEST_HEADER_BYTES if index is None else index.header_bytes)).tobytes()
        if index is not None and hashlib.sha256(head).hexdigest() != index.header_sha256:
            raise EdfError("file.changed", f"{self.name}: the header is not the one that was indexed.")
        self.header: EdfHeader = parse_header(head, self.name)
        if not self.header.has_signal:
            raise EdfError("header.no_signal", f"{self.name}: the file holds annotations only, no signal.")
        if index is None:
            index, self.__dict__["annotations"] = scan(source, head[: self.header.header_bytes], self.header)
        self._index = index

    @classmethod
    def open(cls, uri: str, index: EdfIndex | None = None) -> EdfFile:
        """Open the file at `uri`; errors as above."""
        return cls(FileSource(uri), index)

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> EdfFile:
        """A file that is in memory already, such as an upload; errors as above."""
        return cls(MemorySource(data, name))

    @property
    def index(self) -> bytes:
        return self._index.to_bytes()

    @property
    def sha256(self) -> str:
        return self._index.sha256

    @property
    def flags(self) -> tuple[str, ...]:
        return self._index.flags

    @property
    def labels(self) -> tuple[str, ...]:
        return self.header.labels

    @property
    def patient(self) -> str:
        return self.header.patient

    @cached_property
    def annotations(self) -> tuple[Annotation, ...]:
        """The notes by onset. An index does not hold them: a file opened with one is read whole when they are asked for."""
        head = self._source.read(0, self.header.header_bytes).tobytes()
        return scan(self._source, head, self.header)[1]

    @property
    def runs(self) -> tuple[tuple[int, int, float], ...]:
        """Contiguous stretches as (first record, records, start in seconds from the start of the first record)."""
        return self._index.runs

    @property
    def origin_s(self) -> float:
        """The start of the first record as written, in seconds from the start time of the header."""
        return self._index.origin_s

    @property
    def runs_s(self) -> tuple[tuple[float, float], ...]:
        return tuple((start_s, start_s + count * self.header.record_s) for _, count, start_s in self._index.runs)

    def sfreq_hz(self, signal: int) -> float:
        return self.header.sfreq_hz(signal)

    def check(self, signals: Sequence[int]) -> None:
        """Refuse signals that are no EEG in microvolts.

        Raises:
            EdfError: ``signal.unit``, ``signal.digital_range``, ``signal.physical_range``, ``signal.amplitude``, ``data.misaligned`` or
                ``data.beyond_digital_range`` (more than one sample in a hundred).
        """
        gains_uv = [calibration_uv(self.header.signals[i], self.name)[0] for i in signals]
        evidence = [self._index.evidence[i] for i in signals]
        if 2 * sum(e.noise_looks > 0 for e in evidence) > len(evidence):
            raise EdfError("data.misaligned", f"{self.name}: the samples are noise over the whole digital range: bytes were lost or added.")
        for i, e in zip(signals, evidence, strict=True):
            h = self.header.signals[i]
            if e.beyond_range > _BEYOND_SHARE * self._index.n_records * h.samples_per_record:
                raise EdfError(
                    "data.beyond_digital_range",
                    f"{self.name}: {e.beyond_range} samples of signal '{h.label}' lie beyond its digital range "
                    f"({h.digital_min:g} to {h.digital_max:g}): the header is wrong, or bytes were lost.",
                )
        spread_uv = float(np.median([e.spread_steps * abs(gain) for e, gain in zip(evidence, gains_uv, strict=True)]))
        refuse_impossible_spread(spread_uv, self.name)

    def read_digital(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.int16]:
        """Signals of one rate from `start_s` to `stop_s` (rounded to samples) as they lie in the file, int16 `(signals, samples)`.

        Raises:
            EdfError: ``file.changed``.
            StorageError: the file cannot be read.
            ValueError: the stretch is not within one run, or the signals differ in rate.
        """
        headers = [self.header.signals[i] for i in signals]
        per_record = headers[0].samples_per_record
        if any(h.samples_per_record != per_record for h in headers):
            raise ValueError("signals of one rate are read together")
        first_record, start, stop = self._samples(start_s, stop_s, per_record)
        out = np.empty((len(headers), stop - start), dtype=np.int16)
        if self.header.record_bytes > _STRIPS_FROM_BYTES:
            self._read_strips(out, [h.offset for h in headers], first_record, start, per_record)
            return out
        from_record, to_record, skip = start // per_record, math.ceil(stop / per_record), start % per_record
        size = self.header.record_bytes
        at = self.header.header_bytes + first_record * size
        records = self._source.read(at + from_record * size, at + to_record * size).view("<i2").reshape(-1, size // 2)
        for row, h in zip(out, headers, strict=True):
            row[:] = records[:, h.offset : h.offset + per_record].reshape(-1)[skip : skip + len(row)]
        return out

    def read_uv(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.float32]:
        """As `read_digital`, in microvolts: float32, computed in float64 and rounded once.

        Raises:
            EdfError: a signal's calibration fixes no scale (``signal.*``), or as above.
        """
        scales = [calibration_uv(self.header.signals[i], self.name) for i in signals]
        digital = self.read_digital(signals, start_s, stop_s)
        out = np.empty(digital.shape, dtype=np.float32)
        for row, steps, (gain, offset) in zip(out, digital, scales, strict=True):
            row[:] = steps * gain + offset
        return out

    def _read_strips(self, out: npt.NDArray[np.int16], offsets: list[int], first_record: int, start: int, per_record: int) -> None:
        """Fill `out` from very long records, of which only the part within the window is read."""
        stop = start + out.shape[1]
        for record in range(start // per_record, math.ceil(stop / per_record)):
            low, high = max(start, record * per_record), min(stop, (record + 1) * per_record)
            at = self.header.header_bytes + (first_record + record) * self.header.record_bytes
            for row, offset in zip(out, offsets, strict=True):
                first = at + 2 * (offset + low - record * per_record)
                row[low - start : high - start] = self._source.read(first, first + 2 * (high - low)).view("<i2")

    def _samples(self, start_s: float, stop_s: float, per_record: int) -> tuple[int, int, int]:
        """First record of the run that holds the stretch, and its first and last sample counted from there."""
        sfreq_hz = per_record / self.header.record_s
        for first_record, count, run_start_s in self._index.runs:
            start, stop = round((start_s - run_start_s) * sfreq_hz), round((stop_s - run_start_s) * sfreq_hz)
            if 0 <= start <= stop <= count * per_record:
                return first_record, start, stop
        raise ValueError(f"{start_s:g} s to {stop_s:g} s is not within one contiguous run of {self.name}")


def read_annotations(uri: str) -> tuple[Annotation, ...]:
    """The notes of an EDF+ file that may hold nothing else, such as the hypnograms of Sleep-EDF; onsets from the header's start time.

    Raises:
        EdfError: it is no EDF+ file, or its notes cannot be read (``annotations.*``).
        StorageError: it cannot be read.
    """
    source = FileSource(uri)
    header = parse_header(source.read(0, min(source.size, _LARGEST_HEADER_BYTES)).tobytes(), source.name)
    spans = [(2 * s.offset, 2 * (s.offset + s.samples_per_record)) for s in header.signals if s.is_annotations]
    if not spans:
        raise EdfError("annotations.absent", f"{source.name}: the file has no signal named 'EDF Annotations'.")
    notes: list[Annotation] = []
    for at in range(header.header_bytes, source.size - header.record_bytes + 1, header.record_bytes):
        for start, stop in spans:
            found, flags = read_notes(source.read(at + start, at + stop).tobytes())
            if "annotations.unreadable" in flags:
                raise EdfError("annotations.unreadable", f"{source.name}: an annotation is not written as EDF+ demands.")
            notes += found
    return tuple(sorted(notes, key=lambda note: (note.onset_s, note.text)))
