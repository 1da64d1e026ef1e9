"""Why scores are calibrated and thresholds chosen as they are, on simulated events whose true probability is known. No detector takes part.

    python benchmarks/calibration.py

First table: mean distance of the fitted probability from the true one (and the worst of the seven shapes of truth), over numbers of events
and fits. Of every eight events about four share their luck, as the channels of one discharge do.

Second table: how often the threshold for "at most one false alarm a minute" gives more than one on new subjects: for the count as seen,
for the upper limit of a Poisson count, and for `choose_threshold`, which also looks at how subjects differ. Subjects of three minutes are
alike, or their rates are drawn from a gamma distribution with a coefficient of variation of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize
from scipy.special import expit, logit

from cg_data.detect.calibration import RIDGE, beta_curve, fit_calibration, isotonic_curve
from cg_data.detect.thresholds import ThresholdTarget, choose_threshold

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Fit = Callable[[Floats, Bools], Callable[[Floats], Floats]]

REPEATS = 8
SHARED = 0.5
FALSE_PER_MINUTE = 12.0
MINUTES = 3.0

TRUTHS: Mapping[str, Callable[[Floats], Floats]] = {
    "calibrated": lambda s: s,
    "overconfident": lambda s: expit(0.5 * logit(s) - 1.0),
    "underconfident": lambda s: expit(1.8 * logit(s) + 1.2),
    "steep": lambda s: expit(4 * (logit(s) + 0.5)),
    "plateau": lambda s: 0.85 * expit(3 * (logit(s) + 1.0)),
    "steps": lambda s: np.where(s < 0.3, 0.03, np.where(s < 0.6, 0.5, 0.93)),
    "rarely right": lambda s: 0.25 * s**2,
}


def temperature(scores: Floats, hits: Bools) -> Callable[[Floats], Floats]:
    """Guo et al. (2017): the logit times one number."""
    return _sigmoid(scores, hits, lambda s: logit(s)[:, None])


def platt(scores: Floats, hits: Bools) -> Callable[[Floats], Floats]:
    """Platt (1999) on the logit: times one number, plus another."""
    return _sigmoid(scores, hits, lambda s: np.stack([logit(s), np.ones_like(s)], axis=1))


def _sigmoid(scores: Floats, hits: Bools, features: Callable[[Floats], Floats]) -> Callable[[Floats], Floats]:
    x = features(scores)
    start = np.array([1.0, 0.0])[: x.shape[1]]

    def loss(w: Floats) -> float:
        return float(np.logaddexp(0, x @ w).sum() - (x @ w)[hits].sum() + RIDGE / 2 * ((w - start) ** 2).sum())

    weights = minimize(loss, start).x
    return lambda s: expit(features(s) @ weights)


FITS: Mapping[str, Fit] = {
    "as it is": lambda scores, hits: lambda s: s,
    "temperature": temperature,
    "Platt": platt,
    "beta": beta_curve,
    "isotonic": isotonic_curve,
    "fit_calibration": lambda scores, hits: fit_calibration(scores, hits, len(hits)).apply,
}


def events(truth: str, n: int, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Scores `(n,)`, many near a floor of 0.05 and fewer strong, and whether each is right."""
    weak, strong = rng.beta(0.7, 5, n), rng.beta(5, 2.5, n)
    scores = 0.05 + 0.945 * np.where(rng.random(n) < 0.6, weak, strong)
    luck = np.where(rng.random(n) < SHARED, np.repeat(rng.random(n // 8 + 1), 8)[:n], rng.random(n))
    return scores, luck < TRUTHS[truth](scores)


def distances(fit: Fit, n: int) -> list[float]:
    """Mean distance from the truth, for each truth."""
    found = []
    for truth, curve in TRUTHS.items():
        fresh, _ = events(truth, 4000, np.random.default_rng(1))
        fitted = [fit(*events(truth, n, np.random.default_rng([n, repeat]))) for repeat in range(REPEATS)]
        found.append(float(np.mean([np.abs(f(fresh) - curve(fresh)).mean() for f in fitted])))
    return found


def broken(subjects: int, unlike: bool) -> list[float]:
    """Share of 400 validation sets whose threshold gives more than one false alarm a minute in truth: as seen, Poisson, `choose_threshold`.

    Scores are even between 0 and 1, so the true rate above a threshold is known; hits lie everywhere, so recall asks for the lowest.
    """
    counts = np.zeros(3)
    target = ThresholdTarget(measure="false_per_minute", bound=1.0)
    minutes = np.full(subjects, MINUTES)
    right = np.linspace(0.0, 1.0, 400)
    for repeat in range(400):
        rng = np.random.default_rng([subjects, repeat])
        rates = FALSE_PER_MINUTE * (rng.gamma(1.0, 1.0, subjects) if unlike else np.ones(subjects))
        owner = np.repeat(np.arange(subjects), rng.poisson(rates * MINUTES))
        false = rng.random(len(owner))
        scores, hits = np.append(false, right), np.arange(len(false) + len(right)) >= len(false)
        whose = np.append(owner, np.zeros(len(right), dtype=np.int64))
        ranked = np.append(-np.sort(-false), 0.0)
        points = [
            ranked[min(int(minutes.sum()), len(false))],
            choose_threshold(scores, hits, len(right), float(minutes.sum()), target).threshold,
            choose_threshold(scores, hits, len(right), minutes, target, whose).threshold,
        ]
        counts += FALSE_PER_MINUTE * (1 - np.array(points)) > 1
    return (counts / 400).tolist()


def main() -> None:
    console = Console(width=120)
    table = Table("events", *FITS, title="distance from the true probability: mean (worst shape)")
    for n in (10, 30, 100, 300, 1000, 2000, 5000):
        rows = [distances(fit, n) for fit in FITS.values()]
        table.add_row(str(n), *[f"{np.mean(row):.3f} ({max(row):.2f})" for row in rows])
    console.print(table)
    table = Table("subjects", "", "as seen", "Poisson limit", "choose_threshold", title="bound broken")
    for subjects in (2, 6, 20, 60):
        for unlike in (False, True):
            table.add_row(str(subjects), "unlike" if unlike else "alike", *[f"{share:.0%}" for share in broken(subjects, unlike)])
    console.print(table)


if __name__ == "__main__":
    main()
