"""cg_eval.detection.reliability: expected calibration error over bins of equal mass."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from cg_eval.detection.reliability import ece_figure, equal_mass_bins, expected_calibration_error, reliability
from cg_eval.settings import EvalSettings


def test_bins_and_curve_are_those_of_quantiles() -> None:
    rng = np.random.default_rng(1)
    probability = rng.random(1000) ** 2
    hit = (rng.random(1000) < probability).astype(np.float64)
    hits, stated = calibration_curve(hit, probability, n_bins=10, strategy="quantile")
    bins = reliability(probability, hit)
    assert [b["n"] for b in bins] == [100] * 10
    np.testing.assert_allclose([b["probability"] for b in bins], stated, atol=5e-3)
    np.testing.assert_allclose([b["hits"] for b in bins], hits, atol=0.02)
    by_hand = sum(b["n"] * abs(b["probability"] - b["hits"]) for b in bins) / 1000
    assert expected_calibration_error(probability, hit) == pytest.approx(by_hand)


def test_an_honest_probability_errs_little_and_an_overconfident_one_by_its_excess() -> None:
    rng = np.random.default_rng(2)
    probability = rng.uniform(0.05, 0.8, 20_000)
    hit = (rng.random(20_000) < probability).astype(np.float64)
    assert expected_calibration_error(probability, hit) < 0.015
    assert expected_calibration_error(probability + 0.2, hit) == pytest.approx(0.2, abs=0.01)


def test_equal_values_share_a_bin() -> None:
    probability = np.array([0.1] * 50 + [0.9] * 3 + [0.95] * 47)
    bins = equal_mass_bins(probability)
    assert len({*bins[:50]}) == len({*bins[50:53]}) == len({*bins[53:]}) == 1
    assert len(set(equal_mass_bins(np.full(30, 0.5)))) == 1
    assert list(np.sort(bins)) == list(bins)


def test_without_events_there_is_no_error_and_one_subject_has_no_interval() -> None:
    none = np.zeros(0)
    assert ece_figure(none, none, none.astype(np.int64), 3, EvalSettings())["value"] is None
    assert np.isnan(expected_calibration_error(none, none))
    rng = np.random.default_rng(3)
    p, hit = rng.random(200), (rng.random(200) < 0.5).astype(np.float64)
    alone = ece_figure(p, hit, np.zeros(200, dtype=np.int64), 1, EvalSettings())
    assert alone["value"] == pytest.approx(expected_calibration_error(p, hit))
    assert alone["low"] is None


def test_a_resampled_error_is_that_of_repeated_events_in_the_same_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    owners = rng.integers(0, 3, 300)
    p, hit = rng.random(300), (rng.random(300) < 0.4).astype(np.float64)
    drawn = np.array([2.0, 0.0, 1.0])
    monkeypatch.setattr("cg_eval.detection.reliability.resampled_sums", lambda sums, **_: np.tile(drawn, (100, 1)) @ sums)
    times = drawn[owners].astype(int)
    bins, q, h = (np.repeat(values, times) for values in (equal_mass_bins(p), p, hit))
    expected = sum(abs((q[bins == b] - h[bins == b]).sum()) for b in range(10)) / len(q)
    found = ece_figure(p, hit, owners, 3, EvalSettings(resamples=100))
    assert found["low"] == pytest.approx(expected)
    assert found["high"] == pytest.approx(expected)
