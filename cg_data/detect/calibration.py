"""From a detector's raw score to the probability that the event is right: a hit at a temporal overlap (IoU) of at least 0.5.

One map per waveform, fitted on the events of validation subjects. It rises strictly, so ranking and average precision stay as they were.

Which fit: `python benchmarks/calibration.py` compares candidates on simulated scores whose true probability is known. Below about 1,000
events beta calibration, drawn towards the identity, has the least error; above, isotonic regression follows shapes that no sigmoid has
(plateaus where the reference itself is doubtful) and beta calibration does not. A temperature alone cannot move the odds of a class whose
events are rarely right, and stays at an error of a tenth with any number of events.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from cg_data.settings import Settings

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Curve = Callable[[Floats], Floats]
"""Probabilities of scores, elementwise, never falling."""

ISOTONIC_FROM = 1000
"""Events from which isotonic regression is better than beta calibration."""
BLOCK_EVENTS = 20
"""Least events behind one step of the isotonic curve."""
RIDGE = 1.0
"""Precision of the normal prior of the beta calibration's three parameters about the identity (1, 1, 0)."""
_IDENTITY_SHARE = 1e-3
# Knots lie closer at the ends, where a sigmoid of the logit bends; everywhere far enough apart that what `_IDENTITY_SHARE` adds between
# two neighbours (at least 5e-6) survives the rounding to 6 digits.
_GRID: Floats = np.unique(np.round(np.concatenate([np.linspace(0, 1, 51), [0.005, 0.01, 0.03, 0.97, 0.99, 0.995]]), 6))
_DIGITS = 6
_LOGIT_EDGE = 1e-6


class Calibration(Settings):
    """A strictly rising, piecewise linear map from score to probability; without a fit the identity.

    `events` and `hits` count what it was fitted on.
    """

    method: Literal["identity", "beta", "isotonic"] = "identity"
    events: int = Field(default=0, ge=0)
    hits: int = Field(default=0, ge=0)
    scores: tuple[float, ...] = (0.0, 1.0)
    probabilities: tuple[float, ...] = (0.0, 1.0)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.scores) != len(self.probabilities) or len(self.scores) < 2:
            raise ValueError("scores and probabilities must be equally many, at least two")
        if self.scores[0] != 0 or self.scores[-1] != 1:
            raise ValueError("scores must go from 0 to 1")
        if any(not a < b for knots in (self.scores, self.probabilities) for a, b in pairwise(knots)):
            raise ValueError("scores and probabilities must rise from knot to knot")
        if not 0 <= self.probabilities[0] < self.probabilities[-1] <= 1:
            raise ValueError("probabilities must lie between 0 and 1")
        return self

    def apply(self, scores: npt.ArrayLike) -> Floats:
        """Probabilities of `scores`, of the same shape, within [0, 1]. Scores 1e-9 apart stay apart, in their order.

        Raises:
            ValueError: a score is not a number between 0 and 1.
        """
        return np.clip(np.interp(_checked(scores), self.scores, self.probabilities), 0.0, 1.0)


def fit_calibration(scores: npt.ArrayLike, hits: npt.ArrayLike, references: int) -> Calibration:
    """Calibration of one waveform from its events `(n,)` on validation subjects and whether each was right `(n,)`.

    With few events the map stays near the identity and moves as evidence comes. Without events, or where the pages hold no reference mark
    that an event could have hit, nothing is learnt: the identity. Events of one subject are alike: what a few subjects show need not hold
    for others, however many events they give.

    Raises:
        ValueError: the shapes differ, a score is not a number between 0 and 1, or there are fewer references than hits.
    """
    x, y = _paired(scores, hits)
    if references < y.sum():
        raise ValueError(f"{references} references for {y.sum()} hits")
    if not len(x) or references == 0:
        return Calibration()
    isotonic = len(x) >= ISOTONIC_FROM
    curve = isotonic_curve(x, y) if isotonic else beta_curve(x, y)
    # A share of the identity keeps flat stretches rising: what ranked higher before does so afterwards.
    knots = np.round((1 - _IDENTITY_SHARE) * np.clip(curve(_GRID), 0, 1) + _IDENTITY_SHARE * _GRID, _DIGITS)
    return Calibration(
        method="isotonic" if isotonic else "beta",
        events=len(x),
        hits=int(y.sum()),
        scores=tuple(_GRID.tolist()),
        probabilities=tuple(knots.tolist()),
    )


def beta_curve(scores: Floats, hits: Bools) -> Curve:
    """Beta calibration (Kull, Silva Filho and Flach 2017): logit p = a log s - b log(1 - s) + c with a, b >= 0.

    The greatest posterior under a normal prior of precision `RIDGE` about a = b = 1, c = 0, which is the identity.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    identity = np.array([1.0, 1.0, 0.0])
    features = _beta_features(scores)

    def loss(weights: Floats) -> tuple[float, Floats]:
        z = features @ weights
        away = weights - identity
        value = np.logaddexp(0, z).sum() - z[hits].sum() + RIDGE / 2 * (away**2).sum()
        return float(value), features.T @ (expit(z) - hits) + RIDGE * away

    bounds = [(0, None), (0, None), (None, None)]
    weights = minimize(loss, identity, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14, "gtol": 1e-9}).x
    return lambda s: np.asarray(expit(_beta_features(s) @ weights))


def _beta_features(scores: Floats) -> Floats:
    s = np.clip(scores, _LOGIT_EDGE, 1 - _LOGIT_EDGE)
    return np.stack([np.log(s), -np.log1p(-s), np.ones_like(s)], axis=-1)


def isotonic_curve(scores: Floats, hits: Bools) -> Curve:
    """Isotonic regression (Zadrozny and Elkan 2002), its steps merged to at least `BLOCK_EVENTS` events and joined by lines.

    A line runs from the mean score of one step to that of the next; before the first and after the last the curve is flat.
    """
    from scipy.optimize import isotonic_regression

    x, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    right = np.bincount(inverse, weights=hits.astype(np.float64))
    starts = isotonic_regression(right / counts, weights=counts).blocks[:-1]
    events = np.add.reduceat(counts, starts)
    steps = starts[_merged(events)]
    events = np.add.reduceat(counts, steps)
    centres = np.add.reduceat(counts * x, steps) / events
    shares = np.add.reduceat(right, steps) / events
    return lambda s: np.interp(s, centres, shares)


def _merged(events: npt.NDArray[np.int64]) -> list[int]:
    """First member of each group of neighbouring steps with at least `BLOCK_EVENTS` events; a poor last group joins the one before."""
    firsts, held = [0], 0
    for i, count in enumerate(events):
        if held >= BLOCK_EVENTS:
            firsts.append(i)
            held = 0
        held += int(count)
    return firsts[:-1] if held < BLOCK_EVENTS and len(firsts) > 1 else firsts


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """A point of the reliability diagram: events whose probability lies from `low` to `high`, both included."""

    low: float
    high: float
    events: int
    mean_probability: float
    hit_share: float


def reliability(probabilities: npt.ArrayLike, hits: npt.ArrayLike, bins: int = 10) -> list[ReliabilityBin]:
    """Bins of about equally many events, by rising probability; equal probabilities are never parted, so there may be fewer bins.

    Raises:
        ValueError: the shapes differ, a probability is not a number between 0 and 1, or there is less than one bin.
    """
    p, y = _paired(probabilities, hits)
    if bins < 1:
        raise ValueError(f"{bins} bins: at least one is needed")
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    wanted = np.arange(1, bins) * len(p) // bins
    ends = np.searchsorted(p, p[wanted[wanted > 0] - 1], side="right")
    cuts = np.unique(np.concatenate([[0], ends, [len(p)]])).tolist()
    return [
        ReliabilityBin(
            low=float(p[a]), high=float(p[b - 1]), events=b - a, mean_probability=float(p[a:b].mean()), hit_share=float(y[a:b].mean())
        )
        for a, b in pairwise(cuts)
    ]


def expected_calibration_error(probabilities: npt.ArrayLike, hits: npt.ArrayLike, bins: int = 10) -> float:
    """Mean distance of probability and share of hits over the bins of `reliability`, weighted by events; NaN without events.

    The ECE of Naeini, Cooper and Hauskrecht (2015) with bins of equal mass (Nixon et al. 2019). Chance alone gives more than 0: about
    0.03 with 1,000 events and ten bins.

    Raises:
        ValueError: as `reliability`.
    """
    found = reliability(probabilities, hits, bins)
    events = sum(b.events for b in found)
    return sum(b.events * abs(b.mean_probability - b.hit_share) for b in found) / events if events else float("nan")


def _paired(scores: npt.ArrayLike, hits: npt.ArrayLike) -> tuple[Floats, Bools]:
    x, y = _checked(scores), np.asarray(hits)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"scores {x.shape} and hits {y.shape} must be (n,) alike")
    return x, y.astype(np.bool_)


def _checked(scores: npt.ArrayLike) -> Floats:
    x = np.asarray(scores, dtype=np.float64)
    if not np.all((x >= 0) & (x <= 1)):
        raise ValueError("a score is not a number between 0 and 1")
    return x
