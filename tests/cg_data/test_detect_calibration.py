"""Probabilities mean what they say on events not seen before, and the ranking of events stays as it was."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.special import expit, logit

from cg_data.detect.calibration import ISOTONIC_FROM, Calibration, expected_calibration_error, fit_calibration, reliability
from cg_train.detection_metrics import Matches, average_precision

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

TRUTHS = {
    "calibrated": lambda s: s,
    "overconfident": lambda s: expit(0.5 * logit(s) - 1),
    "steep": lambda s: expit(4 * (logit(s) + 0.5)),
    "plateau": lambda s: 0.85 * expit(3 * (logit(s) + 1)),
    "rarely right": lambda s: 0.25 * s**2,
}


def _events(truth: str, n: int, seed: int) -> tuple[Floats, Bools]:
    """Many weak events near the floor of a detector, fewer strong ones, right with the probability that `truth` gives."""
    rng = np.random.default_rng(seed)
    weak, strong = 0.05 + 0.945 * rng.beta(0.7, 5, n), 0.05 + 0.945 * rng.beta(5, 2.5, n)
    scores = np.round(np.where(rng.random(n) < 0.6, weak, strong), 4)
    return scores, rng.random(n) < TRUTHS[truth](scores)


@pytest.mark.parametrize(("n", "each", "mean"), [(30, 0.12, 0.07), (100, 0.08, 0.05), (300, 0.06, 0.035), (2000, 0.03, 0.02)])
def test_probabilities_hold_on_fresh_events_the_better_the_more_were_seen(n: int, each: float, mean: float) -> None:
    errors = []
    for truth in TRUTHS:
        fresh, right = _events(truth, 20_000, seed=99)
        fitted = [fit_calibration(*_events(truth, n, seed), n) for seed in range(5)]
        errors.append(np.mean([expected_calibration_error(c.apply(fresh), right) for c in fitted]))
    assert max(errors) < each
    assert np.mean(errors) < mean


@pytest.mark.parametrize("truth", [t for t in TRUTHS if t != "calibrated"])
def test_few_hundred_events_mend_a_score_that_is_no_probability(truth: str) -> None:
    fresh, right = _events(truth, 20_000, seed=99)
    after = expected_calibration_error(fit_calibration(*_events(truth, 300, seed=1), 300).apply(fresh), right)
    assert after < expected_calibration_error(fresh, right) / 2
    assert after < 0.06


@pytest.mark.parametrize("n", [1, 40, ISOTONIC_FROM - 1, ISOTONIC_FROM, 5000])
@pytest.mark.parametrize("truth", TRUTHS)
def test_average_precision_is_the_same_to_the_last_bit(truth: str, n: int) -> None:
    calibration = fit_calibration(*_events(truth, n, seed=n), n)
    assert calibration.method == ("beta" if n < ISOTONIC_FROM else "isotonic")
    scores, hits = _events(truth, 4000, seed=5)
    before, after = (_ap(s, hits) for s in (scores, calibration.apply(scores)))
    assert after == before
    assert 0 < after < 1


def _ap(scores: Floats, hits: Bools) -> float:
    order = np.argsort(-scores, kind="stable")
    pages, alarms = np.zeros(len(scores), dtype=np.int64), np.ones(len(scores), dtype=np.bool_)
    matches = Matches(scores=scores[order], pages=pages, hits_at=hits[None, order], alarms=alarms, references=int(hits.sum()) + 50)
    return average_precision(matches)


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=0, max_size=60),
    copies=st.sampled_from([1, 40]),
    others=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=50),
)
def test_scores_keep_their_order_and_stay_apart_whatever_was_fitted(
    events: list[tuple[float, bool]], copies: int, others: list[float]
) -> None:
    seen = events * copies
    calibration = fit_calibration([s for s, _ in seen], [h for _, h in seen], len(seen))
    scores = np.unique(np.round(np.array(others), 9))
    probabilities = calibration.apply(scores)
    assert np.all(np.diff(probabilities) > 0)
    assert np.all((probabilities >= 0) & (probabilities <= 1))


def test_without_events_scores_stay_and_each_further_one_moves_them() -> None:
    scores = np.linspace(0, 1, 11)
    nothing = fit_calibration([], [], 3)
    assert nothing == Calibration()
    assert nothing.apply(scores).tolist() == scores.tolist()
    assert fit_calibration([0.6] * 100, [False] * 100, 0) == Calibration()  # no mark there that an event could hit
    misses = [float(fit_calibration([0.6] * n, [False] * n, 5).apply([0.6])[0]) for n in (1, 3, 10, 100)]
    assert 0.2 < misses[0] < 0.6
    assert misses == sorted(misses, reverse=True)
    assert misses[-1] < 0.05


def test_isotonic_steps_rest_on_enough_events() -> None:
    """One lucky event at the top is no certainty, one unlucky at the bottom no impossibility."""
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random(2000))
    hits = rng.random(2000) < 0.5
    hits[0], hits[-1] = False, True
    calibration = fit_calibration(scores, hits, 2000)
    assert calibration.method == "isotonic"
    assert 0.2 < calibration.apply([0.0])[0] < calibration.apply([1.0])[0] < 0.8


def test_a_calibration_goes_through_json_and_gives_the_same() -> None:
    calibration = fit_calibration(*_events("steep", 500, seed=2), 500)
    again = Calibration.model_validate_json(calibration.model_dump_json())
    assert again == calibration
    assert (calibration.events, calibration.hits) == (500, int(_events("steep", 500, seed=2)[1].sum()))
    assert all(round(value, 6) == value for value in calibration.scores + calibration.probabilities)


@pytest.mark.parametrize(
    ("scores", "probabilities", "said"),
    [
        ((0, 1), (0.2, 0.2), "must rise"),
        ((0, 0.5, 0.5, 1), (0, 0.1, 0.2, 0.3), "must rise"),
        ((0, float("nan"), 1), (0, 0.1, 0.2), "must rise"),
        ((0.1, 1), (0, 1), "from 0 to 1"),
        ((0, 1), (0, 1.1), "between 0 and 1"),
        ((0, 1), (0, 0.5, 1), "equally many"),
        ((), (), "equally many"),
    ],
)
def test_knots_that_are_no_rising_map_are_refused(scores: tuple[float, ...], probabilities: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Calibration(scores=scores, probabilities=probabilities)


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan")])
def test_what_is_no_score_is_refused(score: float) -> None:
    for call in (Calibration().apply, lambda s: fit_calibration(s, [True], 1), lambda s: reliability(s, [True])):
        with pytest.raises(ValueError, match="not a number between 0 and 1"):
            call([score])
    with pytest.raises(ValueError, match="alike"):
        fit_calibration([0.5], [True, False], 2)
    with pytest.raises(ValueError, match="1 references for 2 hits"):
        fit_calibration([0.5, 0.6], [True, True], 1)


def test_the_error_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(4)
    probabilities, hits = np.round(rng.beta(1, 3, 437), 2), rng.random(437) < 0.3
    assert expected_calibration_error(probabilities, hits, 7) == pytest.approx(_slow_error(probabilities, hits, 7), abs=1e-12)


def _slow_error(probabilities: Floats, hits: Bools, bins: int) -> float:
    """Fill a bin event by event; close it when its share is reached and the next event has another probability."""
    order = np.argsort(probabilities, kind="stable")
    error, held = 0.0, []
    for rank, i in enumerate(order, start=1):
        held.append(i)
        due = {n * len(order) // bins for n in range(1, bins + 1)}
        shut = any(rank - len(held) < end <= rank for end in due)
        if shut and (rank == len(order) or probabilities[order[rank]] != probabilities[i]):
            error += abs(sum(probabilities[j] - hits[j] for j in held))
            held = []
    return error / len(order)


def test_bins_hold_about_equally_many_events_and_never_part_equal_probabilities() -> None:
    rng = np.random.default_rng(4)
    plain = reliability(rng.random(1003), rng.random(1003) < 0.5, bins=10)
    assert {b.events for b in plain} == {100, 101}
    tied = reliability([0.1] * 70 + [0.2] * 5 + [0.9] * 25, [False] * 75 + [True] * 25, bins=10)
    assert [(b.low, b.high, b.events) for b in tied] == [(0.1, 0.1, 70), (0.2, 0.9, 30)]
    assert tied[1].hit_share == pytest.approx(25 / 30)


def test_the_error_of_right_probabilities_is_chance_alone_and_of_wrong_ones_their_distance() -> None:
    rng = np.random.default_rng(6)
    probabilities = rng.random(1000)
    chance = np.mean([expected_calibration_error(probabilities, rng.random(1000) < probabilities) for _ in range(50)])
    assert 0.02 < chance < 0.04
    assert expected_calibration_error([0.9] * 10, [False] * 10) == pytest.approx(0.9)
    assert math.isnan(expected_calibration_error([], []))
    assert reliability([], []) == []
