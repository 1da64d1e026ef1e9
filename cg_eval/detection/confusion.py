"""Which class each reference was found as, and what was found where there is none."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from cg_data.vocabulary import WAVEFORMS
from cg_eval.detection.judged import JudgedPage
from cg_eval.detection.tally import Counts, Key, Tally
from cg_train.detection_metrics import IOU, take

BACKGROUND = "background"
NAMES: tuple[str, ...] = (*map(str, WAVEFORMS), BACKGROUND)
"""Rows (what is there) and columns (what was found) of the matrix. As a row, background is where nothing is marked; as a column, a miss."""

_TIE = 1e-9


def count(page: JudgedPage) -> Counts:
    """Pairs of a page, matched by overlap in time of at least 0.5 on one row whatever the class, one to one, best score first.

    Of references that an event overlaps equally it takes one of its own class.
    """
    taken = take(page.overlap + _TIE * page.same_class, np.array([IOU]))[0]
    rows = np.where(taken >= 0, np.append(page.truth[:, 0], len(WAVEFORMS))[taken], len(WAVEFORMS)).astype(np.int64)
    counts = Counter(_key(row, column) for row, column in zip(rows, page.found[:, 0].astype(np.int64), strict=True))
    missed = ~np.isin(np.arange(len(page.truth)), taken)
    counts.update(_key(row, len(WAVEFORMS)) for row in page.truth[missed, 0].astype(np.int64))
    return counts


def matrix(tally: Tally) -> dict[str, Any]:
    """`names`, `counts` `(10, 10)`, and `shares`, each cell as a share of its row with its interval (None in an empty row)."""
    size = len(NAMES)
    rows = [{_key(row, column): 1.0 for column in range(size)} for row in range(size)]
    return {
        "names": list(NAMES),
        "counts": [[tally.count(_key(row, column)) for column in range(size)] for row in range(size)],
        "shares": [[tally.share({_key(row, column): 1.0}, rows[row]) for column in range(size)] for row in range(size)],
    }


def _key(row: int, column: int) -> Key:
    return ("confusion", NAMES[row], NAMES[column])
