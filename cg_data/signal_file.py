"""What every reader of recordings offers, whatever the format: EDF in place, other formats through MNE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cg_data.edf.tal import Annotation
from cg_data.errors import EdfError

_LEAST_EEG_UV, _MOST_EEG_UV = 0.05, 5000.0
"""Bounds of the median standard deviation of EEG; amplifiers alone have 0.3 uV of noise, and 5 mV is a saturated input."""


def refuse_impossible_spread(spread_uv: float, name: str) -> None:
    """Refuse a recording whose EEG has a median standard deviation that none has; all zero is flat, not impossible.

    Raises:
        EdfError: ``signal.amplitude``.
    """
    if spread_uv > _MOST_EEG_UV or 0 < spread_uv < _LEAST_EEG_UV:
        raise EdfError(
            "signal.amplitude",
            f"{name}: by the unit and range that the file states the EEG has a standard deviation of {spread_uv:.3g} uV; "
            f"{_LEAST_EEG_UV:g} to {_MOST_EEG_UV:g} uV are possible. Correct the unit in the file.",
        )


class SignalFile(Protocol):
    """One checked recording, opened for reading. Times count in seconds from the start of its first sample.

    `patient` is the raw code of the header: identity, which stays at the door. `flags` name what was accepted although it departs from
    the format's standard.
    """

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def index(self) -> bytes:
        """What this opening found out, for `cg_data.formats.open_file`: another process then opens the file without reading it whole.

        It holds nothing that names a person.
        """
        ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def patient(self) -> str: ...

    @property
    def annotations(self) -> tuple[Annotation, ...]: ...

    @property
    def flags(self) -> tuple[str, ...]: ...

    @property
    def runs_s(self) -> tuple[tuple[float, float], ...]:
        """Contiguous stretches, (start, stop) in seconds."""
        ...

    def sfreq_hz(self, signal: int) -> float:
        """Sampling rate of a signal, in hertz."""
        ...

    def check(self, signals: Sequence[int]) -> None:
        """Refuse signals that cannot be turned into microvolts or that are no signal at all.

        Raises:
            EdfError: ``signal.*`` or ``data.*``.
        """
        ...

    def read_digital(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.int16]:
        """As `read_uv`, in the steps of the file, int16.

        Raises:
            EdfError: ``format.no_steps`` where the format holds no int16, or as below.
        """
        ...

    def read_uv(self, signals: Sequence[int], start_s: float, stop_s: float) -> npt.NDArray[np.float32]:
        """Signals of one rate from `start_s` to `stop_s` (rounded to samples), float32 `(signals, samples)` in microvolts.

        Raises:
            ValueError: the stretch is not within one run, or the signals differ in rate.
        """
        ...
