"""Time-stamped annotation lists (TALs) of EDF+: where each record starts and what was noted (Kemp and Olivan 2003, section 2.2)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from cg_data.errors import EdfError

_SECONDS = rb"[0-9]{1,9}(?:\.[0-9]{0,15})?"
_TAL = re.compile(rb"([+-]" + _SECONDS + rb")(?:\x15(" + _SECONDS + rb"))?\x14((?:[^\x00\x14]*\x14)+)\x00+")
_KEPT_TIME = re.compile(rb"([+-]" + _SECONDS + rb")\x14\x14(?:[^\x00\x14]*\x14)*\x00")
"""The first annotation of a record is empty; others may follow with the same time stamp (section 2.2.4)."""
_RECORD_START = re.compile(rb"([+-]" + _SECONDS + rb")\x14\x14\x00")
_START_TOLERANCE_S = 0.001
_DRIFT_S = 0.1
"""How far the clock of the record starts may run away from the records' stated duration before a new run begins."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One note; `onset_s` counts from the start of the first data record."""

    onset_s: float
    duration_s: float
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What the annotation signals say: the contiguous runs as (first record, records, start in seconds), the notes, and flags.

    `origin_s` is the start of the first record as written, from the start time in the header.
    """

    runs: tuple[tuple[int, int, float], ...]
    annotations: tuple[Annotation, ...]
    flags: tuple[str, ...]
    origin_s: float


class TimingReader:
    """Takes the annotation signals record by record and finds the runs.

    Text that cannot be read costs the notes, never the signal; but a record whose start is unreadable has no time in an EDF+D file, and
    in any file where the records around it do not follow one another.
    """

    def __init__(self, *, kind: str, record_s: float, fastest_hz: float, name: str) -> None:
        self._kind, self._record_s, self._name = kind, record_s, name
        self._tolerance_s = max(_START_TOLERANCE_S, 0.5 / fastest_hz)
        self._notes: list[Annotation] = []
        self._flags: set[str] = set()
        self._runs: list[tuple[int, int, float]] = []
        self._records = self._first = self._unreadable = self._gaps = 0
        self._zero_s: float | None = None
        self._previous_s = 0.0
        self._doubtful = False

    def add(self, parts: Sequence[bytes]) -> bool:
        """The next record: the bytes of each annotation signal, the one that keeps time first. False where not all could be read.

        Raises:
            EdfError: ``records.not_increasing`` or ``records.start_unreadable``.
        """
        clean = True
        for part in parts:
            found, flags = read_notes(part)
            self._notes += found
            self._flags |= flags
            clean = clean and "annotations.unreadable" not in flags
        match = _KEPT_TIME.match(parts[0])
        if match is None:
            self._unreadable += 1
            self._doubtful = True
            self._previous_s += self._record_s
        else:
            self._place(float(match[1]))
            self._doubtful = False
        self._records += 1
        return clean and match is not None

    def expected_s(self) -> float:
        """Where the next record should start, by the clock of the file."""
        return self._previous_s + self._record_s

    def finish(self) -> Timing:
        """All records have been added.

        Raises:
            EdfError: ``records.start_unreadable`` or ``header.record_duration``.
        """
        if self._unreadable and self._kind == "EDF+D":
            raise EdfError(
                "records.start_unreadable",
                f"{self._name}: {self._unreadable} of {self._records} records of this discontinuous file (EDF+D) carry no start time.",
            )
        if self._kind != "EDF+D" and self._gaps > max(1, (self._records - 1) / 2):
            raise EdfError(
                "header.record_duration",
                f"{self._name}: the header says that a record lasts {self._record_s:g} s, "
                f"but {self._gaps} of {self._records} records start later than that after the one before.",
            )
        zero_s = self._zero_s or 0.0
        runs = [*self._runs, (self._first, self._records - self._first, zero_s)]
        origin_s = runs[0][2]
        if self._unreadable:
            self._flags.add("annotations.unreadable")
        if self._gaps and self._kind != "EDF+D":
            self._flags.add("records.gap_in_edf_plus_c")
        notes = (dataclasses.replace(note, onset_s=note.onset_s - origin_s) for note in self._notes)
        return Timing(
            runs=tuple((first, count, start_s - origin_s) for first, count, start_s in runs),
            annotations=tuple(sorted(notes, key=lambda note: (note.onset_s, note.text))),
            flags=tuple(sorted(self._flags)),
            origin_s=origin_s,
        )

    def _place(self, start_s: float) -> None:
        """Set the start of the record that comes next: it goes on, opens a new run, or is refused."""
        if self._zero_s is None:
            self._zero_s = start_s - self._records * self._record_s
        else:
            jump_s = start_s - self.expected_s()
            drift_s = start_s - (self._zero_s + (self._records - self._first) * self._record_s)
            if jump_s < -self._tolerance_s or drift_s < -_DRIFT_S:
                self._refuse_backwards(start_s)
            if jump_s > self._tolerance_s:
                if self._doubtful:
                    self._refuse_doubtful()
                self._gaps += 1
            elif abs(drift_s) > self._tolerance_s:
                self._flags.add("records.clock_drift")
            if jump_s > self._tolerance_s or drift_s > _DRIFT_S:
                self._runs.append((self._first, self._records - self._first, self._zero_s))
                self._first, self._zero_s = self._records, start_s
        self._previous_s = start_s

    def _refuse_backwards(self, start_s: float) -> None:
        raise EdfError(
            "records.not_increasing",
            f"{self._name}: record {self._records + 1} starts at {start_s:g} s, "
            f"before the end of the one before it ({self.expected_s():g} s).",
        )

    def _refuse_doubtful(self) -> None:
        raise EdfError(
            "records.start_unreadable",
            f"{self._name}: there is a gap before record {self._records + 1}, and the record before it carries no start time.",
        )


def misplaced_record_start(block: memoryview, record_bytes: int, offsets: set[int], expected_s: float, slack_s: float) -> bool:
    """Whether a record's start time stands at another byte of its record than the header says: bytes were lost or added before it.

    `block` begins with a record. By chance such a pattern turns up once in 50 GB of signal, so the time must fit too: within `slack_s`
    of `expected_s`.
    """
    return any(
        match.start() % record_bytes not in offsets and abs(float(match[1]) - expected_s) <= slack_s
        for match in _RECORD_START.finditer(block)
    )


def read_notes(part: bytes) -> tuple[list[Annotation], set[str]]:
    """Notes of one annotation signal in one record, onsets as written, and what is wrong with it.

    Flags are ``annotations.unreadable`` (from some byte on) and ``annotations.not_utf8`` (read as Latin-1 instead).
    """
    notes: list[Annotation] = []
    flags: set[str] = set()
    at = 0
    while (match := _TAL.match(part, at)) is not None:
        at = match.end()
        duration_s = float(match[2]) if match[2] else 0.0
        for raw in match[3].split(b"\x14"):
            if raw:
                text, utf8 = _text(raw)
                flags |= set() if utf8 else {"annotations.not_utf8"}
                notes.append(Annotation(onset_s=float(match[1]), duration_s=duration_s, text=text))
    if part[at:].strip(b"\x00"):
        flags.add("annotations.unreadable")
    return notes, flags


def rewrite_notes(part: bytes, keep: Callable[[str], str | None], start_s: float | None) -> tuple[bytes, int, int]:
    """One annotation signal of one record with other texts: its bytes, and how many notes were kept and dropped.

    Args:
        part: the bytes of the signal in the record.
        keep: the new text of a note, no longer than the old one, or None to drop it.
        start_s: start of the record, written where the record's own cannot be read; None for a signal that does not keep time.
    """
    kept = dropped = 0
    lists: list[bytes] = []
    if start_s is not None:
        match = _KEPT_TIME.match(part)
        lists.append((match[1] if match is not None else f"{start_s:+.12g}".encode()) + b"\x14\x14\x00")
    at = 0
    while (match := _TAL.match(part, at)) is not None:
        at = match.end()
        texts = [_text(raw)[0] for raw in match[3].split(b"\x14") if raw]
        new = [text.encode() for text in map(keep, texts) if text is not None]
        kept, dropped = kept + len(new), dropped + len(texts) - len(new)
        if new:
            duration = b"\x15" + match[2] if match[2] else b""
            lists.append(match[1] + duration + b"\x14" + b"\x14".join(new) + b"\x14\x00")
    return b"".join(lists).ljust(len(part), b"\x00"), kept, dropped


def _text(raw: bytes) -> tuple[str, bool]:
    try:
        return raw.decode("utf-8").strip(), True
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip(), False
