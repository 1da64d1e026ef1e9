"""Recordings that are no EDF, read through MNE: slower, the same records.

BDF, BrainVision, EEGLAB, FIF, GDF, Neuroscan CNT and Persyst. Files in an object store are copied to a temporary folder first, for MNE
reads local files only. What `cg_data.edf` finds out about damage inside the signal is not looked for here: these formats are trusted as
far as MNE trusts them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import tempfile
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mne
import numpy as np
import numpy.typing as npt
from pyarrow import fs

from cg_data import storage
from cg_data.edf.tal import Annotation
from cg_data.errors import EdfError, StorageError

THROUGH_MNE = "format.through_mne"
WARNED = "format.reader_warned"
_FIFF_UNIT_V = 107
_CHUNK_BYTES = 16 << 20
_LONGEST_HEADER_BYTES = 4 << 20
_NAMED_FILES = {
    ".vhdr": re.compile(rb"^(?:DataFile|MarkerFile)[ \t]*=[ \t]*(.+?)[ \t]*\r?$", re.MULTILINE),
    ".lay": re.compile(rb"^File[ \t]*=[ \t]*(.+?)[ \t]*\r?$", re.MULTILINE),
}
_SKIPS = ("bad_acq_skip",)
_BOUNDARIES = ("boundary", "edge boundary", "bad boundary", "new segment/")
_LOOKS, _LOOK_S = 8, 2.0
_LEAST_EEG_UV, _MOST_EEG_UV = 0.05, 5000.0
"""As for EDF: bounds of the median standard deviation of EEG."""


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
            EdfError: ``format.unreadable``, ``format.companion`` (a file that belongs to it is missing or elsewhere), ``file.changed``.
            StorageError: it is not there or cannot be read.
        """
        self.name = uri.rsplit("/", 1)[-1]
        uris = _parts(uri, self.name)
        sizes = tuple(_size(part) for part in uris)
        known = None if index is None else _Index(**json.loads(index))
        if known is not None and tuple(known.sizes) != sizes:
            raise EdfError("file.changed", f"{self.name}: its files do not have the sizes that they had when it was indexed.")
        self._index = known or _Index(sizes=sizes, sha256=_sha256(uris))
        self._folder, local = _local(uris)
        self._raw, warned = _opened(local, self.name)
        self.flags: tuple[str, ...] = (THROUGH_MNE, *((WARNED,) if warned else ()))

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
        found = [Annotation(onset_s=float(onset) - shift_s, duration_s=float(duration), text=str(text)) for onset, duration, text in rows]
        return tuple(sorted(found, key=lambda note: (note.onset_s, note.text)))

    @cached_property
    def runs_s(self) -> tuple[tuple[float, float], ...]:
        """Cut where the format says that the recording was interrupted: BAD_ACQ_SKIP of FIF, boundaries of EEGLAB and BrainVision."""
        end_s = self._raw.n_times / self._raw.info["sfreq"]
        gaps = sorted(
            (note.onset_s, note.onset_s + (note.duration_s or 0.0) * note.text.lower().startswith(_SKIPS))
            for note in self.annotations
            if note.text.lower().startswith(_SKIPS + _BOUNDARIES)
        )
        runs, start_s = [], 0.0
        for gap_start_s, gap_stop_s in gaps:
            runs.append((start_s, min(gap_start_s, end_s)))
            start_s = max(start_s, gap_stop_s)
        return tuple((a, b) for a, b in [*runs, (start_s, end_s)] if b > a)

    def sfreq_hz(self, signal: int) -> float:
        return float(self._raw.info["sfreq"])

    def check(self, signals: Sequence[int]) -> None:
        """Refuse signals that are no EEG in microvolts.

        Raises:
            EdfError: ``signal.unit``, ``signal.amplitude`` or ``data.not_finite``.
        """
        for i in signals:
            if self._raw.info["chs"][i]["unit"] != _FIFF_UNIT_V:
                raise EdfError("signal.unit", f"{self.name}: the unit of signal '{self.labels[i]}' is not volts. Correct it in the file.")
        spread_uv = float(np.median([np.std(self.read_uv(signals, *look), axis=1) for look in self._looks()]))
        if not math.isfinite(spread_uv):
            raise EdfError("data.not_finite", f"{self.name}: the signal holds values that are no numbers.")
        if spread_uv > _MOST_EEG_UV or 0 < spread_uv < _LEAST_EEG_UV:
            raise EdfError(
                "signal.amplitude",
                f"{self.name}: the EEG has a standard deviation of {spread_uv:.3g} uV; "
                f"{_LEAST_EEG_UV:g} to {_MOST_EEG_UV:g} uV are possible. Is its unit right?",
            )

    def read_digital(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.int16]:
        raise EdfError("format.no_steps", f"{self.name}: {Path(self.name).suffix} files are not read as int16. Convert it to EDF+.")

    def read_uv(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.float32]:
        if not any(a <= start_s <= stop_s <= b + 1e-6 for a, b in self.runs_s):
            raise ValueError(f"{start_s:g} s to {stop_s:g} s is not within one contiguous run of {self.name}")
        sfreq_hz = self._raw.info["sfreq"]
        start, stop = round(start_s * sfreq_hz), round(stop_s * sfreq_hz)
        if start == stop:
            return np.empty((len(signals), 0), dtype=np.float32)
        volts = self._raw.get_data(picks=list(signals), start=start, stop=stop, verbose="ERROR")
        return (volts * 1e6).astype(np.float32)

    def _looks(self) -> list[tuple[float, float]]:
        """Some short stretches over all runs."""
        longest = sorted(self.runs_s, key=lambda run: run[0] - run[1])[:_LOOKS]
        each = -(-_LOOKS // len(longest))
        return [
            (at, min(at + _LOOK_S, stop_s))
            for start_s, stop_s in longest
            for at in np.linspace(start_s, max(start_s, stop_s - _LOOK_S), each).tolist()
        ]


def _parts(uri: str, name: str) -> list[str]:
    """The files of a recording: itself first, then those that it names.

    Raises:
        EdfError: ``format.companion``.
    """
    stem, suffix = uri.rsplit(".", 1)[0], f".{uri.rsplit('.', 1)[-1].lower()}"
    if suffix == ".set":
        return [uri, *(part for part in (f"{stem}.fdt",) if storage.exists(part))]
    if suffix not in _NAMED_FILES:
        return [uri]
    base = uri.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    parts = [uri]
    for match in _NAMED_FILES[suffix].finditer(_head(uri)):
        companion = match[1].decode("utf-8", "replace").replace("$b", base)
        if re.search(r"[/\\]", companion):
            companion = re.split(r"[/\\]", companion)[-1] if suffix == ".lay" else ""  # Persyst writes the path of where it was exported
        place = f"{uri.rsplit('/', 1)[0]}/{companion}" if "/" in uri else companion
        if not companion or companion.startswith(".") or not storage.exists(place):
            raise EdfError("format.companion", f"{name}: the file that it names as its data is not in the same folder. Put them together.")
        parts.append(place)
    return parts


def _head(uri: str) -> bytes:
    filesystem, path = storage.resolve(uri)
    try:
        with filesystem.open_input_stream(path) as file:
            return bytes(file.read(_LONGEST_HEADER_BYTES))
    except FileNotFoundError as error:
        raise StorageError(f"{uri}: no such file.") from error
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read ({error}).") from error


def _size(uri: str) -> int:
    filesystem, path = storage.resolve(uri)
    info = filesystem.get_file_info(path)
    if info.type != fs.FileType.File:
        raise StorageError(f"{uri}: no such file.")
    return int(info.size)


def _sha256(uris: Sequence[str]) -> str:
    """Over the bytes of all files, one after the other."""
    digest = hashlib.sha256()
    for uri in uris:
        filesystem, path = storage.resolve(uri)
        with filesystem.open_input_stream(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _local(uris: Sequence[str]) -> tuple[tempfile.TemporaryDirectory[str] | None, Path]:
    """The recording's own file on this machine; the folder holds a copy of what lies elsewhere."""
    filesystem, path = storage.resolve(uris[0])
    if isinstance(filesystem, fs.LocalFileSystem):
        return None, Path(path)
    folder = tempfile.TemporaryDirectory(prefix="cg-recording-")
    for uri in uris:
        source, path = storage.resolve(uri)
        target = f"{folder.name}/{uri.rsplit('/', 1)[-1]}"
        fs.copy_files(path, target, source_filesystem=source, destination_filesystem=fs.LocalFileSystem())
    return folder, Path(folder.name) / uris[0].rsplit("/", 1)[-1]


def _opened(path: Path, name: str) -> tuple[Any, bool]:
    """MNE's view of the file, and whether it warned of something.

    Raises:
        EdfError: ``format.unreadable``: whatever MNE and the libraries below it raise for a damaged file.
    """
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, verbose="ERROR")
    except Exception as error:
        said = " ".join(str(error).replace(str(path), name).split())[:200]
        raise EdfError("format.unreadable", f"{name}: MNE cannot read it ({type(error).__name__}: {said}).") from error
    if not raw.n_times:
        raise EdfError("data.none", f"{name}: there are no samples.")
    return raw, bool(warned)
