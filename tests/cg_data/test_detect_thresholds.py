"""A threshold keeps what its target states, with as much recall as that allows."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cg_data.detect.calibration import fit_calibration
from cg_data.detect.thresholds import TargetSettings, ThresholdTarget, WorkingPoint, choose_threshold
from cg_data.vocabulary import EPILEPTIFORM, WAVEFORMS, Waveform

F1 = ThresholdTarget()
PRECISION = ThresholdTarget(measure="precision", bound=0.75)
RECALL = ThresholdTarget(measure="recall", bound=0.75)
RATE = ThresholdTarget(measure="false_per_minute", bound=0.5)

SCORES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
HITS = [True, True, False, True, False, False]


def _choose(target: ThresholdTarget, minutes: float = 10.0, references: int = 4) -> WorkingPoint:
    return choose_threshold(SCORES, HITS, references, minutes, target)


def _rated(minutes: float) -> WorkingPoint:
    """Three false alarms below eight hits, eight more hits below the first of them."""
    scores = [0.9] * 4 + [0.8] * 4 + [0.7] + [0.6] * 8 + [0.5, 0.4]
    return choose_threshold(scores, [s not in (0.7, 0.5, 0.4) for s in scores], 17, minutes, RATE)


def test_each_target_has_its_point() -> None:
    f1 = _choose(F1)
    assert (f1.threshold, f1.precision, f1.recall, f1.f1, f1.met) == (0.6, 0.75, 0.75, 0.75, True)
    assert f1.false_per_minute == 0.1
    assert _choose(PRECISION).threshold == 0.6
    assert _choose(ThresholdTarget(measure="precision", bound=0.8)).threshold == 0.8
    assert _choose(RECALL).threshold == 0.6
    assert _choose(ThresholdTarget(measure="recall", bound=0.5)).threshold == 0.8


def test_false_alarms_are_held_by_their_upper_limit_not_by_what_was_seen() -> None:
    """The 90 % limits of 0, 1, 2 and 3 events are 2.30, 3.89, 5.32 and 6.68 (Garwood 1936)."""
    assert [_rated(minutes).threshold for minutes in (13.4, 10.7, 7.8)] == [0.6, 0.6, 0.6]
    assert _rated(7.7).threshold == 0.8
    assert _rated(7.8).false_per_minute_upper == pytest.approx(3.890 / 7.8, abs=1e-3)


def test_false_alarms_within_the_bound_that_bring_no_hit_stay_out_all_the_same() -> None:
    assert _rated(minutes=60).threshold == 0.6


def test_a_target_out_of_reach_keeps_nothing_and_says_so() -> None:
    for target, minutes in ((ThresholdTarget(measure="recall", bound=0.9), 10.0), (RATE, 4.0)):
        point = _choose(target, minutes)
        assert not point.met
        assert 0.9 < point.threshold < 0.9 + 1e-9
        assert (point.recall, point.precision, point.f1, point.false_per_minute) == (0, 0, 0, 0)
    assert _choose(RATE, 4.0).false_per_minute_upper > 0.5


def test_equal_scores_fall_together() -> None:
    point = choose_threshold([0.5, 0.5, 0.5, 0.3], [True, False, True, True], 3, 1.0, ThresholdTarget(measure="precision", bound=0.7))
    assert (point.threshold, point.precision, point.recall) == (0.3, 0.75, 1.0)


def test_without_events_hits_or_references_nothing_breaks() -> None:
    assert choose_threshold([], [], 3, 1.0, F1).model_dump(include={"threshold", "met"}) == {"threshold": 0.5, "met": False}
    assert choose_threshold([], [], 0, 60.0, RATE).met
    assert not choose_threshold([0.4, 0.3], [False, False], 3, 1.0, F1).met
    # Of a waveform that validation does not hold, as much is kept as its rate of false alarms allows.
    unseen = choose_threshold([0.4, 0.3, 0.2], [False] * 3, 0, 11.0, RATE)
    assert (unseen.threshold, unseen.met) == (0.3, True)


def test_what_cannot_be_is_refused() -> None:
    for scores, hits, references, minutes in (
        ([0.5], [True, False], 2, 1.0),
        ([float("nan")], [True], 2, 1.0),
        ([0.5, 0.4], [True, True], 1, 1.0),
        ([0.5], [True], 1, 0.0),
        ([0.5], [True], 1, [1.0, 2.0]),
    ):
        with pytest.raises(ValueError):
            choose_threshold(scores, hits, references, minutes, F1)
    for minutes, subjects in ((1.0, [0]), ([1.0, 1.0], [2]), ([1.0, 1.0], [-1]), ([1.0, 0.0], [0]), ([1.0, 1.0], [0, 1]), ([], [0])):
        with pytest.raises(ValueError):
            choose_threshold([0.5], [True], 1, minutes, F1, subjects)


_EVENTS = st.lists(st.tuples(st.sampled_from(np.linspace(0.05, 0.95, 10).tolist()), st.booleans()), min_size=1, max_size=40)


@settings(max_examples=150, deadline=None)
@given(events=_EVENTS, missed=st.integers(0, 20), minutes=st.floats(0.5, 200), target=st.sampled_from([F1, PRECISION, RECALL, RATE]))
def test_the_point_is_that_of_trying_every_threshold(
    events: list[tuple[float, bool]], missed: int, minutes: float, target: ThresholdTarget
) -> None:
    scores, hits = np.array([s for s, _ in events]), np.array([h for _, h in events])
    references = int(hits.sum()) + missed
    point = choose_threshold(scores, hits, references, minutes, target)
    kept = scores >= point.threshold
    assert point.recall == pytest.approx(hits[kept].sum() / max(references, 1))
    assert point.false_per_minute == pytest.approx((~hits[kept]).sum() / minutes)
    best = _best_by_trial(scores, hits, references, minutes, target)
    assert point.met == (best is not None)
    if best is not None:
        assert _aim(point, target) == pytest.approx(best)


def _aim(point: WorkingPoint, target: ThresholdTarget) -> float:
    aims = {"f1": point.f1, "recall": point.precision, "false_per_minute": _f05(point.precision, point.recall)}
    return aims.get(target.measure, point.recall)


def _f05(precision: float, recall: float) -> float:
    return 1.25 * precision * recall / (0.25 * precision + recall) if recall else 0.0


def _best_by_trial(
    scores: npt.NDArray[np.float64], hits: npt.NDArray[np.bool_], references: int, minutes: float, target: ThresholdTarget
) -> float | None:
    """Greatest aim over all thresholds that meet the target."""
    reached = []
    for threshold in [*np.unique(scores), 2.0]:
        kept = hits[scores >= threshold]
        right, false = int(kept.sum()), int((~kept).sum())
        precision, recall = right / max(len(kept), 1), right / max(references, 1)
        f1 = 2 * right / max(len(kept) + references, 1)
        meets = {
            "f1": f1 > 0,
            "precision": precision >= 0.75,
            "recall": recall >= 0.75,
            "false_per_minute": _is_held(false, 0.5 * minutes),
        }[target.measure]
        if meets:
            reached.append({"f1": f1, "recall": precision, "false_per_minute": _f05(precision, recall)}.get(target.measure, recall))
    return max(reached, default=None)


def _is_held(seen: int, expected: float) -> bool:
    """Whether so few events, or fewer, have a chance of at most one in ten where `expected` are due: the limit by its definition."""
    term, total = np.exp(-expected), 0.0
    for k in range(seen + 1):
        total, term = total + term, term * expected / (k + 1)
    return bool(total <= 0.1)


def test_scores_and_their_probabilities_choose_the_same_events() -> None:
    rng = np.random.default_rng(3)
    scores = np.round(0.05 + 0.9 * rng.beta(1, 2, 1500), 4)
    hits = rng.random(1500) < scores**2
    probabilities = fit_calibration(scores, hits, 600).apply(scores)
    for target in (F1, ThresholdTarget(measure="precision", bound=0.4), RECALL, RATE):
        raw, calibrated = (choose_threshold(x, hits, 600, 60.0, target) for x in (scores, probabilities))
        assert np.array_equal(scores >= raw.threshold, probabilities >= calibrated.threshold)


def test_the_greatest_f1_is_where_training_finds_it() -> None:
    rng = np.random.default_rng(8)
    scores = -np.sort(-np.round(rng.random(400), 2))
    hits = rng.random(400) < scores
    f1 = {t: 2 * hits[scores >= t].sum() / ((scores >= t).sum() + 300) for t in np.unique(scores)}
    expected = min(t for t, value in f1.items() if value == max(f1.values()))
    assert choose_threshold(scores, hits, 300, 30.0, F1).threshold == expected


def test_the_limit_widens_as_far_as_subjects_differ_more_than_chance() -> None:
    """Twelve false alarms in four subjects of five minutes: spread evenly no more than chance, of one subject alone twelve times so."""
    scores, hits, minutes = np.append(np.full(12, 0.5), 0.4), np.append(np.zeros(12, bool), True), np.full(4, 5.0)
    target = ThresholdTarget(measure="recall", bound=1.0)
    even = choose_threshold(scores, hits, 1, minutes, target, np.append(np.arange(12) % 4, 0))
    alone = choose_threshold(scores, hits, 1, minutes, target, np.append(np.zeros(12, int), 0))
    pooled = choose_threshold(scores, hits, 1, 20.0, target)
    assert even == pooled
    assert pooled.false_per_minute_upper == pytest.approx(17.782 / 20, abs=1e-3)
    # Twelve alarms of one subject count as one that weighs twelve: 12 times the limit 3.890 of a single count.
    assert alone.false_per_minute_upper == pytest.approx(12 * 3.890 / 20, abs=1e-2)
    assert alone.false_per_minute == pooled.false_per_minute == 0.6


def test_many_events_of_many_subjects_fit_into_memory() -> None:
    rng = np.random.default_rng(2)
    scores, owner = np.round(rng.random(200_000), 2), rng.integers(0, 300, 200_000)
    tracemalloc.start()
    try:
        choose_threshold(scores, np.zeros(len(scores), bool), 1, np.full(300, 5.0), RATE, owner)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_longer_looks_are_expected_to_hold_more_false_alarms() -> None:
    scores, hits, owner = [0.5] * 12 + [0.4], [False] * 12 + [True], [0] * 9 + [1] * 3 + [0]
    target = ThresholdTarget(measure="recall", bound=1.0)
    due = choose_threshold(scores, hits, 1, [15.0, 5.0], target, owner)
    not_due = choose_threshold(scores, hits, 1, [5.0, 15.0], target, owner)
    assert due.false_per_minute_upper == choose_threshold(scores, hits, 1, 20.0, target).false_per_minute_upper
    assert not_due.false_per_minute_upper > 1.5 * due.false_per_minute_upper


@pytest.mark.parametrize(("spread", "most"), [(0.0, 0.12), (0.5, 0.2)])
def test_new_subjects_keep_the_rate_of_false_alarms_where_the_count_alone_would_not(spread: float, most: float) -> None:
    """Scores of false alarms are even, so the true rate above a threshold is known. `spread` is the variance of the subjects' rates."""
    rng = np.random.default_rng(1)
    target, minutes, rate, right = ThresholdTarget(measure="false_per_minute", bound=1.0), np.full(8, 3.0), 12.0, np.linspace(0, 1, 200)
    broken = np.zeros(2)
    for _ in range(200):
        rates = rate * (rng.gamma(1 / spread, spread, 8) if spread else np.ones(8))
        owner = np.repeat(np.arange(8), rng.poisson(3.0 * rates))
        false = rng.random(len(owner))
        scores, hits = np.append(false, right), np.append(np.zeros(len(false), bool), np.ones(200, bool))
        chosen = choose_threshold(scores, hits, 200, minutes, target, np.append(owner, np.zeros(200, int))).threshold
        by_count = np.append(-np.sort(-false), 0.0)[min(24, len(false))]
        broken += rate * (1 - np.array([chosen, by_count])) > 1.0
    assert broken[0] / 200 < most
    assert broken[1] / 200 > 0.4


def test_discharges_are_held_to_few_false_alarms_unless_told_otherwise() -> None:
    targets = TargetSettings()
    assert {w: str(targets.target(w)) for w in WAVEFORMS} == {
        w: "at most 0.15 false a minute" if w in EPILEPTIFORM else "greatest F1" for w in WAVEFORMS
    }
    told = TargetSettings.model_validate(
        {"epileptiform": {"measure": "recall", "bound": 0.9}, "waveforms": {"spike": {"measure": "precision", "bound": 0.8}}}
    )
    assert str(told.target(Waveform.SPIKE)) == "precision at least 0.8"
    assert str(told.target(Waveform.SHARP_WAVE)) == "recall at least 0.9"
    assert told.target(Waveform.K_COMPLEX) == F1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"default": {"measure": "f1", "bound": 0.5}}, "f1 takes no bound"),
        ({"default": {"measure": "recall"}}, "recall needs a bound, for example {measure: recall, bound: 0.9}"),
        ({"default": {"measure": "precision", "bound": 90}}, "precision is a share: bound must lie between 0 and 1, not 90"),
        ({"default": {"measure": "false_per_minute", "bound": 0}}, "greater than 0"),
        ({"default": {"measure": "accuracy"}}, "'f1', 'precision', 'recall' or 'false_per_minute'"),
        ({"waveforms": {"spindle": {}}}, "sleep_spindle"),
        ({"spike": {}}, "Extra inputs"),
    ],
)
def test_a_target_that_cannot_be_is_refused_with_the_way_out(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TargetSettings.model_validate(given)
    assert said in str(refused.value)


def test_a_working_point_goes_through_json() -> None:
    for minutes, target in itertools.product((0.5, 20.0), (F1, PRECISION, RECALL, RATE)):
        point = _choose(target, minutes)
        assert WorkingPoint.model_validate_json(point.model_dump_json()) == point


def test_under_a_bound_of_false_alarms_a_threshold_does_not_fall_below_the_greatest_f05() -> None:
    scores = np.linspace(0.9, 0.1, 81)
    hits = np.random.default_rng(1).random(81) < scores
    target = ThresholdTarget(measure="false_per_minute", bound=0.5)
    point = choose_threshold(scores, hits, 60, 100.0, target, alarms=np.zeros(81, dtype=np.bool_))
    f05 = {t: _f05(hits[scores >= t].sum() / (scores >= t).sum(), hits[scores >= t].sum() / 60) for t in scores}
    assert point.threshold == max(f05, key=lambda t: f05[t])
    assert point.threshold > choose_threshold(scores, hits, 60, 100.0, ThresholdTarget()).threshold
    assert point.met
