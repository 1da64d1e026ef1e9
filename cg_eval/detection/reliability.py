"""How far the stated probability of an event is to be believed: reliability curves and expected calibration error."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.intervals import resampled_sums
from cg_eval.detection.tally import NO_FIGURE, Figure, figure
from cg_eval.settings import EvalSettings

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

BINS = 10


def equal_mass_bins(probability: Floats, bins: int = BINS) -> Indices:
    """The bin of each value, `(n,)`: about as many values in each, equal values in one, so that there may be fewer bins than asked for."""
    values, counts = np.unique(probability, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    of_value = np.minimum((middle * bins / max(1, len(probability))).astype(np.int64), bins - 1)
    return of_value[np.searchsorted(values, probability)]


def expected_calibration_error(probability: Floats, hit: Floats, bins: int = BINS) -> float:
    """Mean distance between stated probability and share of hits over bins of equal mass, each weighted by its events (Naeini et al. 2015;
    bins of equal mass as Nixon et al. 2019 advise); NaN without events."""
    if not len(probability):
        return float("nan")
    gaps = np.bincount(equal_mass_bins(probability, bins), weights=probability - hit)
    return float(np.abs(gaps).sum() / len(probability))


def reliability(probability: Floats, hit: Floats, bins: int = BINS) -> list[dict[str, float]]:
    """Number, mean stated probability and share of hits of the events in each bin, from the least probable."""
    of = equal_mass_bins(probability, bins)
    return [
        {"n": int((of == b).sum()), "probability": float(probability[of == b].mean()), "hits": float(hit[of == b].mean())}
        for b in np.unique(of)
    ]


def ece_figure(probability: Floats, hit: Floats, owners: Indices, n_subjects: int, settings: EvalSettings) -> Figure:
    """The expected calibration error with its interval; the bins are those of all events in every resample.

    Args:
        probability: stated, `(n,)`.
        hit: 1 for a hit, else 0, `(n,)`.
        owners: index of the subject whose event it is, `(n,)`.
        n_subjects: number of subjects, also of those without events.
    """
    if not len(probability):
        return dict(NO_FIGURE)
    gaps = np.zeros((n_subjects, BINS + 1))
    np.add.at(gaps, (owners, equal_mass_bins(probability)), probability - hit)
    gaps[:, BINS] = np.bincount(owners, minlength=n_subjects)
    drawn = resampled_sums(gaps, resamples=settings.resamples, seed=settings.seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = np.abs(drawn[:, :BINS]).sum(axis=1) / drawn[:, BINS]
    return figure(expected_calibration_error(probability, hit), resampled, len(np.unique(owners)))


def view(probability: Floats, hit: Floats, owners: Indices, n_subjects: int, settings: EvalSettings) -> dict[str, Any]:
    """`n` events, `ece` with its interval, and the `bins` of the curve."""
    return {
        "n": len(probability),
        "ece": ece_figure(probability, hit, owners, n_subjects, settings),
        "bins": reliability(probability, hit),
    }
