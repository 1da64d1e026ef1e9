"""cg_eval.detection.reliability: calibration errors with intervals over subjects."""

from __future__ import annotations

import numpy as np
import pytest

from cg_data.detect.calibration import expected_calibration_error, reliability
from cg_eval.detection.reliability import ece_figure, view
from cg_eval.settings import EvalSettings


def test_without_events_there_is_no_error_and_one_subject_has_no_interval() -> None:
    none = np.zeros(0)
    assert ece_figure(none, none, none.astype(np.int64), 3, EvalSettings())["value"] is None
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
    lows = [b.low for b in reliability(p, hit)]
    bins, q, h = (np.repeat(values, times) for values in (np.digitize(p, lows), p, hit))
    expected = sum(abs((q[bins == b] - h[bins == b]).sum()) for b in range(1, 11)) / len(q)
    found = ece_figure(p, hit, owners, 3, EvalSettings(resamples=100))
    assert found["low"] == pytest.approx(expected)
    assert found["high"] == pytest.approx(expected)
    assert found["value"] == pytest.approx(expected_calibration_error(p, hit))


def test_the_view_holds_the_curve() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(400)
    hit = (rng.random(400) < p).astype(np.float64)
    seen = view(p, hit, rng.integers(0, 4, 400), 4, EvalSettings(resamples=100))
    assert seen["n"] == sum(b["n"] for b in seen["bins"]) == 400
    assert [b["hits"] for b in seen["bins"]] == [b.hit_share for b in reliability(p, hit)]
    assert 0 < seen["ece"]["low"] < seen["ece"]["high"] < 0.2
