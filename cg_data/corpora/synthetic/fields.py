"""Where on the scalp an activity is seen: smooth fields over the schematic 10-20 layout."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cg_data.vocabulary import CHANNELS, POSITIONS_XY

Floats = npt.NDArray[np.float64]
XY: Floats = np.array([POSITIONS_XY[name] for name in CHANNELS])
"""Electrode positions, `(19, 2)`."""


def field(centre_xy: tuple[float, float], width: float) -> Floats:
    """``exp(-d^2 / 2 s^2)`` of the distance from `centre_xy`, `(19,)`, 1 at the centre."""
    squared = ((XY - np.array(centre_xy)) ** 2).sum(axis=1)
    return np.asarray(np.exp(-squared / (2 * width**2)))


def field_of(channel: str, width: float) -> Floats:
    """Field with its maximum at one electrode."""
    return field(POSITIONS_XY[channel], width)


def gains(values: dict[str, float]) -> Floats:
    """Weights given by channel, 0 elsewhere, `(19,)`."""
    return np.array([values.get(name, 0.0) for name in CHANNELS])
