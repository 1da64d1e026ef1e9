"""cg_eval.detection.tally: ratios of sums over subjects, and intervals that do not pretend."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cg_data.intervals import interval, unseen_bound
from cg_eval.detection.tally import Tally, by_subject
from cg_eval.settings import EvalSettings

SETTINGS = EvalSettings(resamples=300, seed=5)
HIT, ALL, NONE, TIME = ("hit",), ("all",), ("none",), ("time",)


def tally(subjects: int = 8) -> tuple[Tally, np.ndarray]:
    rng = np.random.default_rng(1)
    table = np.column_stack([rng.integers(0, 5, subjects), rng.integers(6, 9, subjects), np.full(subjects, 0.5)])
    counts = {f"s{i}": Counter({HIT: int(h), ALL: int(a), TIME: t}) for i, (h, a, t) in enumerate(table)}
    return Tally(counts, SETTINGS), table  # type: ignore[arg-type]


def test_a_share_is_that_of_the_sums_and_its_interval_resamples_subjects() -> None:
    counted, table = tally()
    weights = np.random.default_rng(5).multinomial(8, np.full(8, 1 / 8), size=300)
    resampled = np.array([(w @ table[:, 0]) / (w @ table[:, 1]) for w in weights])
    expected = interval(table[:, 0].sum() / table[:, 1].sum(), resampled, 8)
    assert counted.share({HIT: 1}, {ALL: 1}) == pytest.approx({"value": expected.value, "low": expected.low, "high": expected.high})
    assert counted.share({HIT: 2}, {ALL: 1, HIT: 1})["value"] == pytest.approx(
        2 * table[:, 0].sum() / (table[:, 0].sum() + table[:, 1].sum())
    )


def test_nothing_of_something_is_not_certain() -> None:
    counted, _ = tally()
    assert counted.share({NONE: 1}, {ALL: 1}) == {"value": 0.0, "low": 0.0, "high": unseen_bound(8)}
    assert counted.share({ALL: 1}, {ALL: 1}) == pytest.approx({"value": 1.0, "low": 1 - unseen_bound(8), "high": 1.0})
    # Four minutes without an event: at 95 % at most 3.69 of them were to be expected.
    assert counted.rate({NONE: 1}, {TIME: 1}) == {"value": 0.0, "low": 0.0, "high": pytest.approx(3.689 / 4, abs=1e-3)}


def test_a_share_of_nothing_is_no_figure_and_one_subject_has_no_interval() -> None:
    counted, _ = tally()
    assert counted.share({HIT: 1}, {NONE: 1}) == {"value": None, "low": None, "high": None}
    alone, table = tally(1)
    assert alone.share({HIT: 1}, {ALL: 1}) == {"value": table[0, 0] / table[0, 1], "low": None, "high": None}


def test_a_formula_that_is_undefined_is_no_figure() -> None:
    counted, _ = tally()
    assert counted.formula(lambda s: s[0] / s[1], {HIT: 1}, {NONE: 1})["value"] is None
    found, share = counted.formula(lambda s: s[0] / s[1], {HIT: 1}, {ALL: 1}), counted.share({HIT: 1}, {ALL: 1})
    assert found == pytest.approx(share)


def test_pages_are_summed_by_subject() -> None:
    sums = by_subject(["a", "b", "a"], [Counter({HIT: 1}), Counter({ALL: 2}), Counter({HIT: 2, ALL: 1})])
    assert sums == {"a": {HIT: 3, ALL: 1}, "b": {ALL: 2}}
