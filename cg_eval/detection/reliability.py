"""How far the stated probability of an event is to be believed: reliability curves and expected calibration error with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.detect.calibration import expected_calibration_error, reliability
from cg_data.intervals import resampled_sums
from cg_eval.detection.tally import NO_FIGURE, Figure, figure
from cg_eval.settings import EvalSettings

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def view(probability: Floats, hit: Floats, owners: Indices, n_subjects: int, settings: EvalSettings) -> dict[str, Any]:
    """`n` events, the `ece` with its interval, and `bins` of equal mass with their `n`, mean `probability` and share of `hits`.

    Args:
        probability: stated, `(n,)`.
        hit: 1 for a hit, else 0, `(n,)`.
        owners: index of the subject whose event it is, `(n,)`.
        n_subjects: number of subjects, also of those without events.
    """
    bins = [{"n": b.events, "probability": b.mean_probability, "hits": b.hit_share} for b in reliability(probability, hit)]
    return {"n": len(probability), "ece": ece_figure(probability, hit, owners, n_subjects, settings), "bins": bins}


def ece_figure(probability: Floats, hit: Floats, owners: Indices, n_subjects: int, settings: EvalSettings) -> Figure:
    """The expected calibration error (`cg_data.detect.calibration`) with its interval; arguments as of `view`.

    In every resample the bins are those of all events. Chance takes a resample further from the diagonal, so that the interval lies
    somewhat high.
    """
    if not len(probability):
        return dict(NO_FIGURE)
    lows = np.array([b.low for b in reliability(probability, hit)])
    sums = np.zeros((n_subjects, len(lows) + 1))
    np.add.at(sums, (owners, np.searchsorted(lows, probability, side="right") - 1), probability - hit)
    sums[:, -1] = np.bincount(owners, minlength=n_subjects)
    drawn = resampled_sums(sums, resamples=settings.resamples, seed=settings.seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = np.abs(drawn[:, :-1]).sum(axis=1) / drawn[:, -1]
    return figure(expected_calibration_error(probability, hit), resampled, len(np.unique(owners)))
