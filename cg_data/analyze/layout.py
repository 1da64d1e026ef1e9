"""Which electrodes of the 10-20 system are neighbours and which are homologous."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, N_CHANNELS, POSITIONS_XY, REGION_CHANNELS, Region

NEIGHBOUR_DISTANCE = 0.75
"""On the unit disc of `POSITIONS_XY`: takes in the electrodes beside, before, behind and on the diagonal (0.42 to 0.71)."""


def _neighbours() -> npt.NDArray[np.bool_]:
    xy = np.array([POSITIONS_XY[name] for name in CHANNELS])
    distance = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    result: npt.NDArray[np.bool_] = (distance < NEIGHBOUR_DISTANCE) & ~np.eye(N_CHANNELS, dtype=np.bool_)
    return result


NEIGHBOURS: npt.NDArray[np.bool_] = _neighbours()
"""bool `(19, 19)`: True where two different electrodes are neighbours."""


_RIM_RAD = np.deg2rad(72)
"""T3 lies at 40 % of the arc of 180 degrees from the vertex (Jasper 1958)."""


def _on_sphere() -> npt.NDArray[np.float64]:
    xy = np.array([POSITIONS_XY[name] for name in CHANNELS])
    distance = np.hypot(xy[:, 0], xy[:, 1])
    polar = distance * _RIM_RAD
    across = xy * np.divide(np.sin(polar), distance, out=np.zeros_like(distance), where=distance > 0)[:, None]
    return np.column_stack([across, np.cos(polar)])


SPHERE_XYZ: npt.NDArray[np.float64] = _on_sphere()
"""Electrodes on the unit sphere, `(19, 3)`: x to the right ear, y to the nose, z to the vertex."""

REGION_INDEX: dict[Region, npt.NDArray[np.intp]] = {
    region: np.array([CHANNEL_INDEX[name] for name in names]) for region, names in REGION_CHANNELS.items()
}
"""Row numbers of each region's electrodes."""


def names_of(rows: npt.NDArray[np.intp] | list[int]) -> tuple[str, ...]:
    """Electrode names of row numbers, in page order."""
    return tuple(CHANNELS[int(row)] for row in sorted(rows))


def in_page_order(names: frozenset[str] | set[str]) -> tuple[str, ...]:
    """Electrode names sorted from the top row of the page down."""
    return tuple(name for name in CHANNELS if name in names)
