"""EDF and EDF+ files read in place: int16 records by memory map, any window as float32 microvolts.

A damaged file is refused with a typed reason, never read as signal. What is accepted although it departs from the standard is named in
`EdfFile.flags`: ``records.unclosed``, ``records.count_corrected``, ``records.fewer_than_header``, ``records.gap_in_edf_plus_c``,
``data.trailing_bytes`` and ``annotations.unreadable``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pyarrow import fs

from cg_data import storage
from cg_data.edf.header import EdfHeader, calibration_uv, parse_header
from cg_data.edf.tal import Annotation, Timing, misplaced_record_start, read_timing
from cg_data.errors import EdfError, StorageError

_LARGEST_HEADER_BYTES = 256 * 513
_LINE_ENDS_LOOKED_AT = 1 << 24
_LINE_ENDS_NEEDED = 16

__all__ = ["Annotation", "EdfFile"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EdfFile:
    """One checked recording. `records` is int16 `(records, samples of all signals in a record)`, a view of the file.

    Time counts in seconds from the start of the first record; `runs` gives (first record, records, start) of each contiguous stretch.
    """

    name: str
    sha256: str
    header: EdfHeader
    annotations: tuple[Annotation, ...]
    flags: tuple[str, ...]
    runs: tuple[tuple[int, int, float], ...]
    records: npt.NDArray[np.int16]

    @classmethod
    def open(cls, uri: str) -> EdfFile:
        """Open the file at `uri`, mapped where it is on a mounted file system, else read into memory.

        Raises:
            EdfError: it is no EDF file or a damaged one.
            StorageError: it is not there or cannot be read.
        """
        filesystem, path = storage.resolve(uri)
        name = path.rsplit("/", 1)[-1]
        if not isinstance(filesystem, fs.LocalFileSystem):
            return cls.from_bytes(storage.read_bytes(uri), name)
        try:
            if Path(path).stat().st_size == 0:
                raise EdfError("file.empty", f"{name}: the file is empty.")
            return _checked(np.memmap(path, dtype=np.uint8, mode="r"), name)
        except OSError as error:
            raise StorageError(f"{uri}: cannot be read ({error.strerror}).") from error

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> EdfFile:
        """A file that is in memory already, such as an upload.

        Raises:
            EdfError: it is no EDF file or a damaged one.
        """
        return _checked(np.frombuffer(data, dtype=np.uint8), name)

    @property
    def runs_s(self) -> tuple[tuple[float, float], ...]:
        """Contiguous stretches, (start, stop) in seconds."""
        return tuple((start_s, start_s + count * self.header.record_s) for _, count, start_s in self.runs)

    def read_uv(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.float32]:
        """Signals of one rate from `start_s` to `stop_s` (rounded to samples), float32 `(signals, samples)` in microvolts.

        Raises:
            EdfError: a signal's calibration fixes no scale (``signal.*``).
            ValueError: the stretch is not within one run, or the signals differ in rate.
        """
        headers = [self.header.signals[i] for i in signals]
        per_record = headers[0].samples_per_record
        if any(h.samples_per_record != per_record for h in headers):
            raise ValueError("signals of one rate are read together")
        first_record, start, stop = self._samples(start_s, stop_s, per_record)
        records = self.records[first_record + start // per_record : first_record + math.ceil(stop / per_record)]
        skip = start % per_record
        out = np.empty((len(headers), stop - start), dtype=np.float32)
        for row, h in zip(out, headers, strict=True):
            gain, offset = calibration_uv(h, self.name)
            digital = records[:, h.offset : h.offset + per_record].reshape(-1)[skip : skip + len(row)]
            row[:] = digital.astype(np.float64) * gain + offset
        return out

    def _samples(self, start_s: float, stop_s: float, per_record: int) -> tuple[int, int, int]:
        """First record of the run that holds the stretch, and its first and last sample counted from there."""
        sfreq_hz = per_record / self.header.record_s
        for first_record, count, run_start_s in self.runs:
            start, stop = round((start_s - run_start_s) * sfreq_hz), round((stop_s - run_start_s) * sfreq_hz)
            if 0 <= start <= stop <= count * per_record:
                return first_record, start, stop
        raise ValueError(f"{start_s:g} s to {stop_s:g} s is not within one contiguous run of {self.name}")


def _checked(data: npt.NDArray[np.uint8], name: str) -> EdfFile:
    header = parse_header(data[:_LARGEST_HEADER_BYTES].tobytes(), name)
    payload = data[header.header_bytes :]
    n_records, flags = _count_records(header, len(payload), name)
    _refuse_line_end_damage(payload, name)
    records = payload[: n_records * header.record_bytes].view("<i2").reshape(n_records, header.record_bytes // 2)
    timing = _timing(header, records, payload, name)
    return EdfFile(
        name=name,
        sha256=hashlib.sha256(data.data).hexdigest(),
        header=header,
        annotations=timing.annotations,
        flags=flags + timing.flags,
        runs=timing.runs,
        records=records,
    )


def _count_records(header: EdfHeader, payload_bytes: int, name: str) -> tuple[int, tuple[str, ...]]:
    """Whole records that are there, at most as many as the header says; flags where the two differ."""
    by_size, rest = divmod(payload_bytes, header.record_bytes)
    if by_size == 0:
        raise EdfError("data.none", f"{name}: there is not one whole data record after the header.")
    if header.n_records in (-1, 0):
        flags = ["records.unclosed" if header.n_records else "records.count_corrected"] + ["data.trailing_bytes"] * bool(rest)
        return by_size, tuple(flags)
    if by_size < header.n_records:
        return by_size, ("records.fewer_than_header",)
    more = by_size > header.n_records or rest > 0
    return header.n_records, ("data.trailing_bytes",) if more else ()


def _refuse_line_end_damage(payload: npt.NDArray[np.uint8], name: str) -> None:
    """Refuse a file in which a text-mode transfer turned LF into CRLF: all samples after the first line end lie elsewhere.

    Then no LF is left without a CR before it, while in sound data one in 256 has one. The file's size does not always tell, for some
    tools cut it to what the header says.
    """
    part = payload[:_LINE_ENDS_LOOKED_AT]
    line_feeds = np.flatnonzero(part == 0x0A)
    after_cr = int((part[line_feeds[line_feeds > 0] - 1] == 0x0D).sum())
    if len(line_feeds) >= _LINE_ENDS_NEEDED and after_cr >= len(line_feeds) - 1:
        raise EdfError("data.line_ends", f"{name}: a text-mode transfer turned LF into CRLF inside the signal. Fetch the file again.")


def _timing(header: EdfHeader, records: npt.NDArray[np.int16], payload: npt.NDArray[np.uint8], name: str) -> Timing:
    notes = [signal for signal in header.signals if signal.is_annotations]
    if not notes:
        if header.kind == "EDF+D":
            raise EdfError(
                "records.start_unreadable", f"{name}: a discontinuous file (EDF+D) without the signal that gives its records' times."
            )
        return Timing(runs=((0, len(records), 0.0),), annotations=(), flags=())
    blocks = [[row[s.offset : s.offset + s.samples_per_record].tobytes() for s in notes] for row in records]
    fastest_hz = max(header.sfreq_hz(i) for i, signal in enumerate(header.signals) if not signal.is_annotations)
    timing = read_timing(blocks, kind=header.kind, record_s=header.record_s, fastest_hz=fastest_hz, name=name)
    offsets = {2 * signal.offset for signal in notes}
    if "annotations.unreadable" in timing.flags and misplaced_record_start(payload.data, header.record_bytes, offsets):
        raise EdfError("records.shifted", f"{name}: records do not lie where the header says: bytes were lost or added inside the file.")
    return timing
