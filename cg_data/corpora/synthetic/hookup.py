"""How a subject is wired: which electrodes there are, what they are recorded against, and how a page therefore shows them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from cg_data.corpora.synthetic.fields import Floats, field
from cg_data.montage import enough_for_average
from cg_data.vocabulary import CHANNELS, N_CHANNELS

_EARS_XY = {"A1": (-1.15, -0.15), "A2": (1.15, -0.15)}
_EAR_SHARE, _EAR_WIDTH = 0.5, 0.3


class Reference(StrEnum):
    """What a recording is against, by the name that its labels carry."""

    REMOTE = "REF"
    LINKED_EARS = "LE"
    LEFT_EAR = "A1"
    RIGHT_EAR = "A2"
    AVERAGE = "AVG"


SPARSE: tuple[tuple[str, ...], ...] = (
    ("Fp1", "C3", "O1", "Cz"),
    ("Fp1", "Cz", "O1"),
    ("Fp2", "C4", "O2", "Cz"),
    ("F3", "C3", "O1", "Fz"),
    ("F4", "C4", "O2"),
)
"""Electrodes of sleep studies, as in DREAMS (Devuyst 2014), recorded against an ear."""


def reference_weights(reference: Reference, electrodes: Sequence[str]) -> Floats:
    """What the reference picks up of the potential at each electrode, `(19,)`. An ear is not silent: it sees the temporal lobe."""
    if reference is Reference.AVERAGE:
        return _present(electrodes) / len(electrodes)
    ears = {Reference.LINKED_EARS: ("A1", "A2"), Reference.LEFT_EAR: ("A1",), Reference.RIGHT_EAR: ("A2",)}.get(reference, ())
    return sum((_EAR_SHARE / len(ears) * field(_EARS_XY[ear], _EAR_WIDTH) for ear in ears), start=np.zeros(N_CHANNELS))


def shown_matrix(reference: Reference, electrodes: Sequence[str]) -> Floats:
    """What a page shows of the potentials, `(19, 19)`: against the average of the electrodes, or as recorded where these are too few."""
    present = _present(electrodes)
    weights = present / len(electrodes) if enough_for_average(electrodes) else reference_weights(reference, electrodes)
    return present[:, None] * (np.eye(N_CHANNELS) - weights)


def _present(electrodes: Sequence[str]) -> Floats:
    return np.array([float(name in electrodes) for name in CHANNELS])
