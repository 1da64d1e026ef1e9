"""One pass over a whole EDF file, in blocks of whole records: its hash, its runs, its notes, and whether it is damaged."""

from __future__ import annotations

import hashlib

import numpy as np

from cg_data.edf.alignment import AlignmentReader
from cg_data.edf.header import EdfHeader
from cg_data.edf.index import EdfIndex
from cg_data.edf.source import Bytes, ByteSource
from cg_data.edf.tal import Annotation, Timing, TimingReader, misplaced_record_start
from cg_data.errors import EdfError

BLOCK_BYTES = 8 << 20
"""How much of a file is in memory at a time, unless one record is larger."""
_LINE_ENDS_LOOKED_AT = 1 << 24
_LINE_ENDS_NEEDED = 16


def scan(source: ByteSource, head: bytes, header: EdfHeader) -> tuple[EdfIndex, tuple[Annotation, ...]]:
    """Read the whole file once. `head` is its header as bytes.

    Raises:
        EdfError: ``data.none``, ``data.line_ends``, ``data.misaligned``, ``records.*`` or ``header.record_duration``.
    """
    n_records, flags = count_records(header, source.size - header.header_bytes, source.name)
    digest = hashlib.sha256(head)
    line_ends, alignment, notes = _LineEnds(source.name), AlignmentReader(header, source.name), _Notes(header, source.name)
    end = header.header_bytes + n_records * header.record_bytes
    step = max(1, BLOCK_BYTES // header.record_bytes) * header.record_bytes
    for at in range(header.header_bytes, end, step):
        block = source.read(at, min(at + step, end))
        digest.update(block.data)
        line_ends.add(block)
        records = block.view("<i2").reshape(-1, header.record_bytes // 2)
        notes.add(records)
        alignment.add(records)
    for at in range(end, source.size, BLOCK_BYTES):
        digest.update(source.read(at, min(at + BLOCK_BYTES, source.size)).data)
    timing, evidence = notes.finish(n_records), alignment.finish()
    beyond = ("data.beyond_digital_range",) if any(e.beyond_range for e in evidence) else ()
    index = EdfIndex(
        size=source.size,
        sha256=digest.hexdigest(),
        header_bytes=header.header_bytes,
        header_sha256=hashlib.sha256(head).hexdigest(),
        n_records=n_records,
        origin_s=timing.origin_s,
        runs=timing.runs,
        flags=header.flags + flags + beyond + timing.flags,
        evidence=evidence,
    )
    return index, timing.annotations


def count_records(header: EdfHeader, payload_bytes: int, name: str) -> tuple[int, tuple[str, ...]]:
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


class _LineEnds:
    """Refuses a file in which a text-mode transfer turned LF into CRLF: all samples after the first line end lie elsewhere.

    Then no LF is left without a CR before it, while in sound data one in 256 has one. The file's size does not always tell, for some
    tools cut it to what the header says.
    """

    def __init__(self, name: str) -> None:
        self._name, self._seen, self._blocks, self._line_feeds, self._after_cr = name, 0, 0, 0, 0

    def add(self, block: Bytes) -> None:
        part = block[: max(0, _LINE_ENDS_LOOKED_AT - self._seen)]
        line_feeds = np.flatnonzero(part == 0x0A)
        self._seen += len(block)
        self._blocks += 1
        self._line_feeds += len(line_feeds)
        self._after_cr += int((part[line_feeds[line_feeds > 0] - 1] == 0x0D).sum())
        # The CR of a line end may be the last byte of the block before, so one a block may be missed.
        if self._line_feeds >= _LINE_ENDS_NEEDED and self._after_cr >= self._line_feeds - self._blocks:
            raise EdfError(
                "data.line_ends", f"{self._name}: a text-mode transfer turned LF into CRLF inside the signal. Fetch the file again."
            )


class _Notes:
    """The annotation signals of a file, or their absence."""

    def __init__(self, header: EdfHeader, name: str) -> None:
        self._name, self._header = name, header
        self._spans = [(s.offset, s.offset + s.samples_per_record) for s in header.signals if s.is_annotations]
        self._reader = TimingReader(kind=header.kind, record_s=header.record_s, fastest_hz=header.fastest_hz, name=name)
        if not self._spans and header.kind == "EDF+D":
            raise EdfError(
                "records.start_unreadable", f"{name}: a discontinuous file (EDF+D) without the signal that gives its records' times."
            )

    def add(self, records: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> None:
        if not self._spans:
            return
        expected_s, offsets = self._reader.expected_s(), {2 * start for start, _ in self._spans}
        columns = [np.ascontiguousarray(records[:, start:stop]).data.cast("B") for start, stop in self._spans]
        widths = [2 * (stop - start) for start, stop in self._spans]
        clean = True
        for k in range(len(records)):
            parts = [bytes(column[k * width : (k + 1) * width]) for column, width in zip(columns, widths, strict=True)]
            clean = self._reader.add(parts) and clean
        if not clean:
            span_s = (len(records) + 1) * self._header.record_s
            payload = np.ascontiguousarray(records).data.cast("B")
            if misplaced_record_start(payload, self._header.record_bytes, offsets, expected_s + span_s / 2, span_s):
                raise EdfError(
                    "records.shifted", f"{self._name}: records do not lie where the header says: bytes were lost or added inside the file."
                )

    def finish(self, n_records: int) -> Timing:
        if self._spans:
            return self._reader.finish()
        flags = ("annotations.absent",) if self._header.kind != "EDF" else ()
        return Timing(runs=((0, n_records, 0.0),), annotations=(), flags=flags, origin_s=0.0)
