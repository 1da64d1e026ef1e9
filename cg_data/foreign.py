"""Recordings that are no EDF, read through MNE: slower, the same records.

BDF, BrainVision, EEGLAB, FIF, GDF, Neuroscan CNT and Persyst. Files in an object store are copied to a temporary folder first, for MNE
reads local files only. What `cg_data.edf` finds out about damage inside the signal is not looked for here: these formats are trusted as
far as MNE trusts them. What MNE says of a file it cannot read is not repeated, for it quotes the file.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mne
import numpy as np
import numpy.typing as npt

from cg_data.edf.tal import Annotation
from cg_data.errors import EdfError
from cg_data.foreign_parts import local_copy, parts_of, parts_read, refuse_what_mne_passes_over, sha256_of, size_of
from cg_data.signal_file import refuse_impossible_spread

THROUGH_MNE = "format.through_mne"
WARNED = "format.reader_warned"
_FIFF_UNIT_V = 107
_SKIPS = ("bad_acq_skip",)
_BOUNDARIES = ("boundary", "edge boundary", "bad boundary", "new segment/")
_NUMERIC_BOUNDARY = "-99"
"""How EEGLAB writes a boundary where all events are numbers."""
_LOOKS, _LOOK_S = 8, 2.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Index:
    """What an opening found out: the size of each file of the recording, and the SHA-256 over all of them. No names."""

    sizes: tuple[int, ...]
    sha256: str


class ForeignFile:
    """One recording (a `cg_data.signal_file.SignalFile`) that MNE reads."""

    def __init__(self, uri: str, index: bytes | None = None) -> None:
        """Open the recording at `uri`, of which all files lie in the same folder.

        Raises:
            EdfError: ``format.unreadable``, ``format.companion`` (a file that belongs to it is missing or elsewhere),
                ``format.discontinuous``, ``format.later_part``, ``data.none`` or ``file.changed``.
            StorageError: it is not there or cannot be read.
        """
        self.name = uri.rsplit("/", 1)[-1]
        known = None if index is None else _Index(**json.loads(index))
        self._refuse_changed(known, [size_of(uri)], first_only=True)
        uris = parts_of(uri)
        self._folder, local = local_copy(uris)
        self._raw, warned = _opened(local, self.name)
        if known is None:
            refuse_what_mne_passes_over(uri, local)
        uris = parts_read(uris, local, self._raw.filenames)
        sizes = [size_of(part) for part in uris]
        self._refuse_changed(known, sizes)
        self._index = known or _Index(sizes=tuple(sizes), sha256=sha256_of(uris))
        self.flags: tuple[str, ...] = (THROUGH_MNE, *((WARNED,) if warned else ()))
        if not self.runs_s:
            raise EdfError("data.none", f"{self.name}: there are no samples.")
        if known is None:
            self._volts([0], self._raw.n_times - 1, self._raw.n_times)  # where the data end before the header says, this fails

    @property
    def sha256(self) -> str:
        return self._index.sha256

    @property
    def index(self) -> bytes:
        return json.dumps(dataclasses.asdict(self._index)).encode()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._raw.ch_names)

    @property
    def patient(self) -> str:
        subject = self._raw.info["subject_info"] or {}
        return " ".join(str(subject[key]) for key in ("his_id", "last_name", "first_name", "birthday") if subject.get(key))

    @cached_property
    def annotations(self) -> tuple[Annotation, ...]:
        notes = self._raw.annotations
        shift_s = self._raw.first_time if notes.orig_time is not None else 0.0
        rows = zip(notes.onset, notes.duration, notes.description, strict=True)
        found = [
            # MNE writes the kind of a BrainVision marker before its text; what a person noted is a "Comment".
            Annotation(onset_s=float(onset) - float(shift_s), duration_s=float(duration), text=str(text).removeprefix("Comment/"))
            for onset, duration, text in rows
        ]
        return tuple(sorted(found, key=lambda note: (note.onset_s, note.text)))

    @cached_property
    def runs_s(self) -> tuple[tuple[float, float], ...]:
        """Cut where the format says that the recording was interrupted: BAD_ACQ_SKIP of FIF, boundaries of EEGLAB and BrainVision."""
        sfreq_hz = float(self._raw.info["sfreq"])
        end_s = self._raw.n_times / sfreq_hz
        gaps = sorted(
            (note.onset_s, note.onset_s + (note.duration_s or 0.0) * note.text.lower().startswith(_SKIPS))
            for note in self.annotations
            if note.text.lower().startswith(_SKIPS + _BOUNDARIES) or note.text == _NUMERIC_BOUNDARY
        )
        runs: list[tuple[float, float]] = []
        start_s = 0.0
        for gap_start_s, gap_stop_s in gaps:
            runs.append((start_s, min(gap_start_s, end_s)))
            start_s = max(start_s, gap_stop_s)
        return tuple((a, b) for a, b in [*runs, (start_s, end_s)] if round(a * sfreq_hz) < round(b * sfreq_hz))

    def sfreq_hz(self, signal: int) -> float:
        return float(self._raw.info["sfreq"])

    def check(self, signals: Sequence[int]) -> None:
        """Refuse signals that are no EEG in microvolts.

        Raises:
            EdfError: ``signal.unit``, ``signal.amplitude``, or as `read_uv`.
        """
        for i in signals:
            if self._raw.info["chs"][i]["unit"] != _FIFF_UNIT_V:
                raise EdfError("signal.unit", f"{self.name}: the unit of signal '{self.labels[i]}' is not volts. Correct it in the file.")
        spread_uv = float(np.median([np.std(self.read_uv(signals, *look), axis=1) for look in self._looks()]))
        refuse_impossible_spread(spread_uv, self.name)

    def read_digital(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.int16]:
        raise EdfError("format.no_steps", f"{self.name}: {Path(self.name).suffix} files are not read as int16. Convert it to EDF+.")

    def read_uv(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.float32]:
        """As `cg_data.signal_file.SignalFile.read_uv`.

        Raises:
            EdfError: ``format.unreadable`` or ``data.not_finite``.
            ValueError: the stretch is not within one run.
        """
        if not any(a <= start_s <= stop_s <= b + 1e-6 for a, b in self.runs_s):
            raise ValueError(f"{start_s:g} s to {stop_s:g} s is not within one contiguous run of {self.name}")
        sfreq_hz = self._raw.info["sfreq"]
        start, stop = round(start_s * sfreq_hz), round(stop_s * sfreq_hz)
        if start == stop:
            return np.empty((len(signals), 0), dtype=np.float32)
        out: npt.NDArray[np.float32] = (self._volts(signals, start, stop) * 1e6).astype(np.float32)
        if not np.isfinite(out).all():
            raise EdfError("data.not_finite", f"{self.name}: the signal holds values that are no numbers.")
        return out

    def _volts(self, signals: Sequence[int], start: int, stop: int) -> npt.NDArray[np.float64]:
        """Samples as MNE gives them, float64 `(signals, samples)` in volts."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                volts: npt.NDArray[np.float64] = self._raw.get_data(picks=list(signals), start=start, stop=stop, verbose="ERROR")
        except Exception as error:
            raise _unreadable(self.name, error) from error
        return volts

    def _refuse_changed(self, known: _Index | None, sizes: Sequence[int], *, first_only: bool = False) -> None:
        if known is not None and list(known.sizes[:1] if first_only else known.sizes) != list(sizes):
            raise EdfError("file.changed", f"{self.name}: its files do not have the sizes that they had when it was indexed.")

    def _looks(self) -> list[tuple[float, float]]:
        """Some short stretches over all runs."""
        longest = sorted(self.runs_s, key=lambda run: run[0] - run[1])[:_LOOKS]
        each = -(-_LOOKS // len(longest))
        return [
            (at, min(at + _LOOK_S, stop_s))
            for start_s, stop_s in longest
            for at in np.linspace(start_s, max(start_s, stop_s - _LOOK_S), each).tolist()
        ]


def _opened(path: Path, name: str) -> tuple[Any, bool]:
    """MNE's view of the file, and whether it warned of something.

    Raises:
        EdfError: ``format.unreadable``: whatever MNE and the libraries below it raise for a damaged file; ``data.none``.
    """
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, verbose="ERROR")
    except Exception as error:
        raise _unreadable(name, error) from error
    if not raw.n_times:
        raise EdfError("data.none", f"{name}: there are no samples.")
    return raw, bool(warned)


def _unreadable(name: str, error: Exception) -> EdfError:
    return EdfError(
        "format.unreadable", f"{name}: MNE cannot read it ({type(error).__name__}); `mne.io.read_raw` says why. Or convert it to EDF+."
    )
