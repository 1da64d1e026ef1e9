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
