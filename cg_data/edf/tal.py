"""Time-stamped annotation lists (TALs) of EDF+: where each record starts and what was noted (Kemp and Olivan 2003, section 2.2)."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import numpy.typing as npt

from cg_data.errors import EdfError

_TAL = re.compile(rb"([+-][0-9]+(?:\.[0-9]*)?)(?:\x15([0-9]+(?:\.[0-9]*)?))?\x14((?:[^\x00\x14]*\x14)+)\x00+")
_RECORD_START = re.compile(rb"[+-][0-9]+(?:\.[0-9]*)?\x14\x14\x00")
_START_TOLERANCE_S = 0.001


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One note; `onset_s` counts from the start of the first data record."""

    onset_s: float
    duration_s: float
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """What the annotation signals say: the contiguous runs as (first record, records, start in seconds), the notes, and flags."""

    runs: tuple[tuple[int, int, float], ...]
    annotations: tuple[Annotation, ...]
    flags: tuple[str, ...]


def read_timing(blocks: list[list[bytes]], *, kind: str, record_s: float, fastest_hz: float, name: str) -> Timing:
    """Runs and notes from `blocks`: for each record the bytes of each annotation signal, the one that keeps time first.

    Text that cannot be read costs the notes, never the signal; but a record whose start is unreadable has no time in an EDF+D file.

    Raises:
        EdfError: ``records.start_unreadable`` or ``records.not_increasing``.
    """
    notes: list[Annotation] = []
    starts_s = np.full(len(blocks), np.nan)
    bad = 0
    for record, parts in enumerate(blocks):
        if (match := _RECORD_START.match(parts[0])) is not None:
            starts_s[record] = float(match[0].split(b"\x14")[0])
        for part in parts:
            found, clean = _notes(part)
            notes += found
            bad += not clean
    unreadable = int(np.isnan(starts_s).sum())
    if unreadable and kind == "EDF+D":
        raise EdfError(
            "records.start_unreadable",
            f"{name}: {unreadable} of {len(blocks)} records of this discontinuous file (EDF+D) carry no start time.",
        )
    flags = ["annotations.unreadable"] if bad or unreadable else []
    runs = _runs(starts_s, record_s, max(_START_TOLERANCE_S, 0.5 / fastest_hz), name)
    if len(runs) > 1 and kind != "EDF+D":
        flags.append("records.gap_in_edf_plus_c")
    zero_s = runs[0][2] if runs else 0.0
    return Timing(
        runs=tuple((first, count, start_s - zero_s) for first, count, start_s in runs),
        annotations=tuple(sorted((dataclasses.replace(n, onset_s=n.onset_s - zero_s) for n in notes), key=lambda n: (n.onset_s, n.text))),
        flags=tuple(flags),
    )


def misplaced_record_start(payload: memoryview, record_bytes: int, offsets: set[int]) -> bool:
    """Whether a record's start time stands at another byte of its record than the header says: bytes were lost or added before it."""
    return any(match.start() % record_bytes not in offsets for match in _RECORD_START.finditer(payload))


def _notes(part: bytes) -> tuple[list[Annotation], bool]:
    """Notes of one signal in one record, and whether all of it could be read."""
    notes, at = [], 0
    while (match := _TAL.match(part, at)) is not None:
        at = match.end()
        duration_s = float(match[2]) if match[2] else 0.0
        texts = [_text(raw) for raw in match[3].split(b"\x14") if raw]
        notes += [Annotation(onset_s=float(match[1]), duration_s=duration_s, text=text) for text in texts]
    return notes, not part[at:].strip(b"\x00")


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip()


def _runs(starts_s: npt.NDArray[np.float64], record_s: float, tolerance_s: float, name: str) -> list[tuple[int, int, float]]:
    """Contiguous runs; a record without a readable start is taken to follow the one before it."""
    runs: list[tuple[int, int, float]] = []
    first, zero_s, expected_s = 0, 0.0, math.nan
    for record, start_s in enumerate(starts_s.tolist()):
        if math.isnan(start_s):
            start_s = expected_s if record else 0.0
        if record == 0:
            zero_s = start_s
        elif start_s < expected_s - tolerance_s:
            raise EdfError(
                "records.not_increasing",
                f"{name}: record {record + 1} starts at {start_s:g} s, before the end of the one before it ({expected_s:g} s).",
            )
        elif start_s > expected_s + tolerance_s:
            runs.append((first, record - first, zero_s))
            first, zero_s = record, start_s
        expected_s = start_s + record_s
    return [*runs, (first, len(starts_s) - first, zero_s)]
