"""An EDF file known by its header: enough to say what a recording holds, at the cost of a few kilobytes, whatever its length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cg_data import storage
from cg_data.edf.header import EdfHeader, calibration_uv, parse_header
from cg_data.edf.reader import EdfFile
from cg_data.edf.tal import Annotation
from cg_data.errors import EdfError, StorageError

_LARGEST_HEADER_BYTES = 256 * 513


class HeaderFile:
    """A `cg_data.signal_file.SignalFile` that reads its file whole only for annotations, for the runs of an EDF+D file, and for samples.

    What only the samples tell (damage inside the file, its hash) is not known: `sha256` is empty, `check` looks at the calibration alone.
    """

    def __init__(self, uri: str) -> None:
        """Read the header of the EDF file at `uri`.

        Raises:
            EdfError: it is no EDF file, its header is damaged, or there is no whole record after it.
            StorageError: it is not there or cannot be read.
        """
        self._uri = uri
        head, size = _head(uri)
        self.name = uri.rsplit("/", 1)[-1]
        self.sha256 = ""
        self.flags: tuple[str, ...] = ()
        self.header: EdfHeader = parse_header(head, self.name)
        self._n_records = _whole_records(self.header, size, self.name)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.header.labels

    @property
    def patient(self) -> str:
        return self.header.patient

    @property
    def annotations(self) -> tuple[Annotation, ...]:
        if not any(signal.is_annotations for signal in self.header.signals):
            return ()
        return self._whole.annotations

    @property
    def runs_s(self) -> tuple[tuple[float, float], ...]:
        if self.header.kind == "EDF+D":
            return self._whole.runs_s
        return ((0.0, self._n_records * self.header.record_s),)

    def sfreq_hz(self, signal: int) -> float:
        return self.header.sfreq_hz(signal)

    def check(self, signals: Sequence[int]) -> None:
        for i in signals:
            calibration_uv(self.header.signals[i], self.name)

    @property
    def index(self) -> bytes:
        return self._whole.index

    def read_digital(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.int16]:
        return self._whole.read_digital(signals, start_s, stop_s)

    def read_uv(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.float32]:
        return self._whole.read_uv(signals, start_s, stop_s)

    @cached_property
    def _whole(self) -> EdfFile:
        return EdfFile.open(self._uri)


def _head(uri: str) -> tuple[bytes, int]:
    """The bytes that a header can have at most, and the size of the file."""
    filesystem, path = storage.resolve(uri)
    try:
        with filesystem.open_input_file(path) as file:
            return bytes(file.read(_LARGEST_HEADER_BYTES)), int(file.size())
    except FileNotFoundError as error:
        raise StorageError(f"{uri}: no such file.") from error
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read ({error}).") from error


def _whole_records(header: EdfHeader, size: int, name: str) -> int:
    """Records that are there, at most as many as the header says where it says so."""
    there = (size - header.header_bytes) // header.record_bytes
    if there < 1:
        raise EdfError("data.none", f"{name}: there is not one whole data record after the header.")
    return min(there, header.n_records) if header.n_records > 0 else there
