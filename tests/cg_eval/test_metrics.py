"""cg_eval.metrics: figures are right, and their intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from cg_eval import metrics


def test_an_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    """Eight subjects that differ from each other: a binomial interval over items would cover far less often than 95 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        ability = np.clip(rng.normal(0.7, 0.12, size=8), 0, 1)
        subjects = np.repeat([f"s{i}" for i in range(8)], 25)
        scores = (rng.random(200) < np.repeat(ability, 25)).astype(float)
        found = metrics.mean(list(subjects), scores, resamples=400, seed=trial)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.7 <= found.high
    assert 0.91 <= covered / 300 <= 0.99


def test_pages_of_one_subject_count_as_one_draw() -> None:
    scores = np.array([1.0] * 50 + [0.0] * 50)
    together = metrics.mean(["a"] * 50 + ["b"] * 50, scores, resamples=500, seed=1)
    apart = metrics.mean([f"s{i}" for i in range(100)], scores, resamples=500, seed=1)
    assert (together.low, together.high) == (0.0, 1.0)
    assert apart.low is not None
    assert apart.low > 0.35


def test_one_subject_gives_no_interval() -> None:
    assert metrics.mean(["a", "a"], np.array([1.0, 0.0]), resamples=100, seed=1) == metrics.Interval(value=0.5, low=None, high=None)


def test_no_item_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one item"):
        metrics.mean([], np.array([]), resamples=100, seed=1)


def test_the_same_seed_gives_the_same_interval() -> None:
    subjects, scores = [f"s{i % 7}" for i in range(70)], np.random.default_rng(3).random(70)
    assert metrics.mean(subjects, scores, resamples=300, seed=5) == metrics.mean(subjects, scores, resamples=300, seed=5)


def test_any_statistic_is_resampled_as_the_mean_is() -> None:
    subjects, scores = [f"s{i % 7}" for i in range(70)], np.random.default_rng(3).random(70)
    quick = metrics.mean(subjects, scores, resamples=300, seed=5)
    slow = metrics.by_subject(subjects, lambda w: float((w * scores).sum() / w.sum()), resamples=300, seed=5)
    assert slow.low == pytest.approx(quick.low)
    assert slow.high == pytest.approx(quick.high)


def test_balanced_accuracy_weighs_classes_alike() -> None:
    truths = ["yes"] * 90 + ["no"] * 10
    correct = np.array([1.0] * 90 + [0.0] * 10)
    found = metrics.balanced_accuracy([f"s{i % 4}" for i in range(100)], truths, correct, resamples=200, seed=1)
    assert found.value == 0.5


def test_a_calibrated_answerer_has_a_small_error_and_a_boaster_a_large_one() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.random(20_000)
    honest = (rng.random(20_000) < probabilities).astype(float)
    assert metrics.expected_calibration_error(probabilities, honest) < 0.02
    assert metrics.expected_calibration_error(np.full(100, 0.95), np.zeros(100)) == pytest.approx(0.95)


def test_calibration_error_counts_weighted_items_as_repeated_ones() -> None:
    rng = np.random.default_rng(2)
    probabilities, correct, times = rng.random(50), rng.integers(0, 2, 50).astype(float), rng.integers(0, 4, 50)
    repeated = metrics.expected_calibration_error(np.repeat(probabilities, times), np.repeat(correct, times))
    assert metrics.expected_calibration_error(probabilities, correct, times.astype(float)) == pytest.approx(repeated)


def test_rouge_is_one_for_the_same_words_and_less_in_another_order() -> None:
    assert metrics.rouge("sleep spindles over C3 and C4", "Sleep spindles over C3 and C4.") == (1.0, 1.0)
    one, longest = metrics.rouge("sleep spindles over C3 and C4", "over C3 and C4 sleep spindles")
    assert one == 1.0
    assert longest < 1.0


def test_agreement_counts_pages() -> None:
    truth = [frozenset({"spike"}), frozenset({"spike", "blink"}), frozenset()]
    found = [frozenset({"spike"}), frozenset({"blink"}), frozenset({"spike"})]
    parts = metrics.agreement(truth, found, ["spike", "blink", "mains"])
    assert (parts["spike"].precision, parts["spike"].recall) == (0.5, 0.5)
    assert (parts["blink"].precision, parts["blink"].recall) == (1.0, 1.0)
    assert (parts["mains"].precision, parts["mains"].recall) == (None, None)
    together = metrics.pooled(parts)
    assert (together.true_pages, together.found_pages, together.both) == (3, 3, 2)
