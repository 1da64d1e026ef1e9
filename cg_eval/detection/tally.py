"""Counts by subject, and figures of their sums with intervals over resampled subjects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from cg_data.intervals import CONFIDENCE, interval, resampled_sums, unseen_bound
from cg_eval.settings import EvalSettings

Floats = npt.NDArray[np.float64]
Key = tuple[str, ...]
Counts = Counter[Key]
Terms = Mapping[Key, float]
"""A weighted sum of counts."""
Figure = dict[str, float | None]
"""`value` and the ends `low` and `high` of its 95 % interval; None where there is none."""

NO_FIGURE: Figure = {"value": None, "low": None, "high": None}


def figure(value: float, resampled: Floats, n_subjects: int) -> Figure:
    """A value with its interval, ready for JSON; nothing where the value is not a number."""
    if not np.isfinite(value):
        return dict(NO_FIGURE)
    found = interval(value, resampled, n_subjects)
    return {"value": found.value, "low": found.low, "high": found.high}


def by_subject(subjects: Iterable[str], counts: Iterable[Mapping[Key, float]]) -> dict[str, Counts]:
    """Counts of pages summed for each subject."""
    sums: dict[str, Counts] = {}
    for subject, page in zip(subjects, counts, strict=True):
        own = sums.setdefault(subject, Counter())
        for key, count in page.items():
            own[key] += count  # type: ignore[assignment]  # seconds are counted too
    return sums


def minutes(waveform: str) -> Key:
    """Key of the time in which a waveform was looked for, in minutes; of "all", in which any was."""
    return ("minutes", waveform)


class Tally:
    """Sums of all counts, as they are and in every resample."""

    def __init__(self, counts: Mapping[str, Counts], settings: EvalSettings) -> None:
        keys = sorted({key for own in counts.values() for key in own})
        self._column = {key: place for place, key in enumerate(keys)}
        self._table = np.array([[own[key] for key in keys] for _, own in sorted(counts.items())], dtype=np.float64)
        self._drawn = resampled_sums(self._table, resamples=settings.resamples, seed=settings.seed)

    def total(self, *keys: Key) -> float:
        """Sum of the counts of `keys`."""
        return float(self._of(dict.fromkeys(keys, 1.0), self._table).sum())

    def count(self, *keys: Key) -> int:
        return round(self.total(*keys))

    def share(self, top: Terms, bottom: Terms) -> Figure:
        """A ratio between 0 and 1; one of exactly 0 or 1 gets the exact interval, for a resample cannot hold what was never seen."""
        found, asked = self._ratio(top, bottom)
        if asked > 1 and found["value"] in (0.0, 1.0):
            value, bound = float(found["value"]), unseen_bound(asked)
            return {"value": value, "low": value * (1 - bound), "high": value + (1 - value) * bound}
        return found

    def rate(self, top: Terms, time: Terms) -> Figure:
        """A number of things in an amount of time; none at all gets the exact bound of a Poisson count (Garwood 1936)."""
        found, asked = self._ratio(top, time)
        if asked > 1 and found["value"] == 0.0:
            most = -np.log((1 - CONFIDENCE) / 2)
            return {"value": 0.0, "low": 0.0, "high": float(most / self._of(time, self._table).sum())}
        return found

    def formula(self, compute: Callable[[list[Floats]], Floats], *terms: Terms) -> Figure:
        """Any figure of sums: `compute` takes the sum of each of `terms` as an array `(n,)` and returns `(n,)`, NaN where undefined."""
        with np.errstate(invalid="ignore", divide="ignore"):
            value = compute([self._of(term, self._table).sum(keepdims=True) for term in terms])
            drawn = compute([self._of(term, self._drawn) for term in terms])
        touched = np.sum([self._of(term, self._table) != 0 for term in terms], axis=0)
        return figure(float(value[0]), drawn, int((touched > 0).sum()))

    def _ratio(self, top: Terms, bottom: Terms) -> tuple[Figure, int]:
        parts = self._of(top, self._table), self._of(bottom, self._table)
        asked = int((parts[1] > 0).sum())
        if not asked:
            return dict(NO_FIGURE), 0
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = self._of(top, self._drawn) / self._of(bottom, self._drawn)
        return figure(float(parts[0].sum() / parts[1].sum()), drawn, asked), asked

    def _of(self, terms: Terms, table: Floats) -> Floats:
        """The weighted sum in each row of a table."""
        known = [(self._column[key], weight) for key, weight in terms.items() if key in self._column]
        total = np.zeros(len(table))
        for column, weight in known:
            total += weight * table[:, column]
        return total
