"""Montages derived from nineteen electrodes that are held against one common reference.

A derivation whose electrode is missing is masked, never invented. Sources: longitudinal ("double banana", LB-18.1) and transverse bipolar
(TB-18.1) and Cz reference from ACNS Guideline 3 (Acharya et al. 2016); TCP, the 22 derivations of the TUH corpora, from Lopez et al. 2016;
Laplacian from Hjorth 1975: each electrode against the mean of its nearest neighbours. Hjorth has four neighbours at each site; those of
the outer ring, which lack one or two, are held against the neighbours that the 10-20 system gives them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from cg_data.errors import MontageError
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, LEFT_CHANNELS, N_CHANNELS, RIGHT_CHANNELS, Montage

AVERAGE_FROM = 12
AVERAGE_FROM_EACH_SIDE = 4
"""Electrodes that an average needs: about two thirds of the nineteen, half of each side."""

_PAIRS = {
    Montage.LONGITUDINAL_BIPOLAR: (
        "Fp1-F7 F7-T3 T3-T5 T5-O1 Fp1-F3 F3-C3 C3-P3 P3-O1 Fz-Cz Cz-Pz Fp2-F4 F4-C4 C4-P4 P4-O2 Fp2-F8 F8-T4 T4-T6 T6-O2"
    ),
    Montage.TRANSVERSE_BIPOLAR: (
        "F7-Fp1 Fp1-Fp2 Fp2-F8 F7-F3 F3-Fz Fz-F4 F4-F8 T3-C3 C3-Cz Cz-C4 C4-T4 T5-P3 P3-Pz Pz-P4 P4-T6 T5-O1 O1-O2 O2-T6"
    ),
    Montage.TCP: (
        "Fp1-F7 F7-T3 T3-T5 T5-O1 Fp2-F8 F8-T4 T4-T6 T6-O2 A1-T3 T3-C3 C3-Cz Cz-C4 C4-T4 T4-A2 "
        "Fp1-F3 F3-C3 C3-P3 P3-O1 Fp2-F4 F4-C4 C4-P4 P4-O2"
    ),
    Montage.CZ: " ".join(f"{name}-Cz" for name in CHANNELS if name != "Cz"),
}
_NEIGHBOURS = {
    "Fp1": "F7 F3 Fp2", "Fp2": "Fp1 F4 F8",
    "F7": "Fp1 F3 T3", "F3": "Fp1 F7 Fz C3", "Fz": "Fp1 Fp2 F3 F4 Cz", "F4": "Fp2 Fz F8 C4", "F8": "Fp2 F4 T4",
    "T3": "F7 C3 T5", "C3": "F3 T3 Cz P3", "Cz": "Fz C3 C4 Pz", "C4": "F4 Cz T4 P4", "T4": "F8 C4 T6",
    "T5": "T3 P3 O1", "P3": "C3 T5 Pz O1", "Pz": "Cz P3 P4 O1 O2", "P4": "C4 Pz T6 O2", "T6": "T4 P4 O2",
    "O1": "T5 P3 O2", "O2": "O1 P4 T6",
}  # fmt: skip

Weights = npt.NDArray[np.float32]


def row_names(montage: Montage) -> tuple[str, ...]:
    """Names of the rows of a page in a montage, from the top down."""
    return tuple(_PAIRS[montage].split()) if montage in _PAIRS else CHANNELS


def enough_for_average(names: Iterable[str]) -> bool:
    """Whether electrodes cover the head widely enough for their average to stand for zero: twelve, at least four on either side."""
    there = set(names)
    sides = min(len(there & LEFT_CHANNELS), len(there & RIGHT_CHANNELS))
    return len(there) >= AVERAGE_FROM and sides >= AVERAGE_FROM_EACH_SIDE


def derive(
    eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], montage: Montage
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], tuple[str, ...]]:
    """Rows of a montage from electrodes against any common reference.

    Args:
        eeg_uv: `(19, samples)` microvolts, rows in the order of `CHANNELS`.
        mask: `(19,)`, True where the electrode exists.
        montage: what is wanted; ``recorded`` gives the rows as they are.

    Returns:
        Microvolts float32 `(rows, samples)`, zero where masked; the rows' mask `(rows,)`; their names. An average of too few electrodes
        (`enough_for_average`) is masked, as are the two derivations of TCP that need the ears.

    Raises:
        MontageError: ``montage.ears_missing``: linked ears do not follow from the nineteen.
    """
    weights, there = _weights(montage, tuple(bool(exists) for exists in mask))
    return weights @ np.where(mask[:, None], eeg_uv, np.float32(0)), there.copy(), row_names(montage)


@functools.lru_cache(maxsize=256)
def _weights(montage: Montage, mask: tuple[bool, ...]) -> tuple[Weights, npt.NDArray[np.bool_]]:
    """Weights `(rows, 19)` of the electrodes in each row, and which rows exist; those of a missing row are zero."""
    if montage is Montage.LINKED_EARS:
        raise MontageError(
            "montage.ears_missing",
            "linked ears need A1 and A2, which segments do not hold. Set data.montage to linked_ears and read the recordings again.",
        )
    exists = np.array(mask)
    if montage is Montage.RECORDED:
        weights, there = np.eye(N_CHANNELS), exists
    elif montage is Montage.AVERAGE:
        weights = np.eye(N_CHANNELS) - exists / max(1, exists.sum())
        there = exists & enough_for_average(name for name, electrode in zip(CHANNELS, mask, strict=True) if electrode)
    else:
        named = [_parts(montage, name) for name in row_names(montage)]
        there = np.array([all(part in CHANNEL_INDEX and mask[CHANNEL_INDEX[part]] for part in parts) for parts in named])
        weights = np.array([[parts.get(name, 0.0) for name in CHANNELS] for parts in named])
    return (weights * there[:, None]).astype(np.float32), there


def _parts(montage: Montage, row: str) -> dict[str, float]:
    """The electrodes of a row with their weights."""
    if montage is Montage.LAPLACIAN:
        neighbours = _NEIGHBOURS[row].split()
        return {row: 1.0} | {name: -1.0 / len(neighbours) for name in neighbours}
    plus, minus = row.split("-")
    return {plus: 1.0, minus: -1.0}
