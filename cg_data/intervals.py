"""Intervals of figures by resampling subjects, for the pages of one subject are not independent. Plain numpy."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure with the ends of its 95 % interval; both are None with fewer than two subjects, for then nothing can be resampled."""

    value: float
    low: float | None
    high: float | None


def subject_weights(n_subjects: int, *, resamples: int, seed: int) -> Floats:
    """How often each subject is drawn in each resample: `(resamples, n_subjects)`, rows sum to `n_subjects`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_subjects, np.full(n_subjects, 1.0 / n_subjects), size=resamples).astype(np.float64)


def interval(value: float, resampled: Floats, n_subjects: int) -> Interval:
    """Expanded percentile interval (Hesterberg 2015, "What teachers should know about the bootstrap", section 3.3).

    With few subjects the plain percentile interval is too narrow; the percentiles are moved out so that for a mean the width is that of
    Student's t: tail = Phi(-sqrt(n / (n - 1)) * t). Resamples without a value (a class that was not drawn) are left out.
    """
    kept = resampled[np.isfinite(resampled)]
    if n_subjects < 2 or not len(kept):
        return Interval(value=value, low=None, high=None)
    tail = _expanded_tail(n_subjects)
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high))


@cache
def _expanded_tail(n_subjects: int) -> float:
    from scipy import stats

    t = stats.t.ppf(0.5 + CONFIDENCE / 2, n_subjects - 1)
    return float(stats.norm.cdf(-np.sqrt(n_subjects / (n_subjects - 1)) * t))


def ratio(parts: Floats, wholes: Floats, *, resamples: int, seed: int) -> Interval:
    """A share with its interval: `parts` and `wholes` are counts, one of each for every subject.

    Raises:
        ValueError: nothing was counted.
    """
    if not wholes.sum():
        raise ValueError("a share needs at least one item")
    weights = subject_weights(len(wholes), resamples=resamples, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = (weights @ parts) / (weights @ wholes)
    return interval(float(parts.sum() / wholes.sum()), resampled, len(wholes))
