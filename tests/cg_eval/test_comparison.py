"""Differences between models are taken item by item and resampled by subject."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cg_data.errors import UserError
from cg_data.intervals import Interval, interval, subject_weights
from cg_eval import metrics
from cg_eval.bench import SCORE_SCHEMA
from cg_eval.comparison import SCORES, compare
from cg_eval.settings import EvalSettings

SETTINGS = EvalSettings(resamples=400, seed=3)
SUBJECTS = 9


def answers(seed: int, *, gain: float = 0.0, order: int = 1) -> pa.Table:
    """Answers to the same 252 items: some subjects are far harder than others, and `gain` is how much likelier each answer is right."""
    ability = np.linspace(0.1, 0.8, SUBJECTS)
    luck, rows = np.random.default_rng(seed), list[dict[str, Any]]()
    for number in range(SUBJECTS * 28):
        kind, column = list(SCORES.values())[number % 4]
        right = luck.random() < ability[number % SUBJECTS] + gain
        known = {"item_id": f"item-{number:03d}", "subject": f"subject-{number % SUBJECTS}", "kind": kind}
        rest = {"topic": "t", "truth": "yes", "probability": 0.5, "parsed": True, "correct": False}
        rows.append({**known, **rest, column: float(right) if kind == "description" else bool(right)})
    return pa.Table.from_pylist(rows[::order], schema=SCORE_SCHEMA)


def _slow(model: pa.Table, base: pa.Table, kind: str, column: str) -> Interval:
    """The paired bootstrap in its own words: draw subjects, gather their items, take the difference of the two means."""
    of_base = {row["item_id"]: row for row in base.to_pylist()}
    rows = [row for row in model.to_pylist() if row["kind"] == kind]
    pairs = [(row["subject"], float(row[column]), float(of_base[row["item_id"]][column])) for row in rows]
    names = sorted({subject for subject, _, _ in pairs})
    differences = []
    for weights in subject_weights(len(names), resamples=SETTINGS.resamples, seed=SETTINGS.seed):
        drawn = [pair for name, times in zip(names, weights, strict=True) for pair in pairs if pair[0] == name for _ in range(int(times))]
        differences.append(np.mean([one for _, one, _ in drawn]) - np.mean([other for _, _, other in drawn]))
    value = np.mean([one for _, one, _ in pairs]) - np.mean([other for _, _, other in pairs])
    return interval(float(value), np.array(differences), len(names))


def test_the_paired_difference_is_that_of_resampled_subjects() -> None:
    model, base = answers(1, gain=0.2, order=-1), answers(2)
    found = compare(model, base, SETTINGS)
    assert list(found) == list(SCORES)
    for name, (kind, column) in SCORES.items():
        slow = _slow(model, base, kind, column)
        assert found[name].difference.value == pytest.approx(slow.value)
        assert found[name].difference.low == pytest.approx(slow.low)
        assert found[name].difference.high == pytest.approx(slow.high)


def test_the_figure_is_that_of_the_bench() -> None:
    model = answers(1)
    summary = metrics.summarise(model, None, SETTINGS)["scores"]
    stated = {score["kind"]: score["accuracy"] for score in summary if score["stated"]}
    for name, (kind, _) in SCORES.items():
        if kind in stated:
            figure = compare(model, answers(2), SETTINGS)[name].figure
            assert (figure.value, figure.low, figure.high) == tuple(stated[kind].values())


def test_what_is_hard_about_a_subject_is_not_part_of_the_difference() -> None:
    """The same answers but for one yes/no question in twenty: subjects differ by far more than the models do."""
    base = answers(1)
    rows = base.to_pylist()
    for row in rows[::80]:
        row["correct"] = not row["correct"]
    found = compare(pa.Table.from_pylist(rows, schema=SCORE_SCHEMA), base, SETTINGS)["yes/no"]
    assert None not in (found.difference.low, found.figure.low)
    widths = [one.high - one.low for one in (found.difference, found.figure) if one.high is not None and one.low is not None]
    assert widths[0] < widths[1] / 2


def test_a_model_is_no_different_from_itself() -> None:
    assert compare(answers(1), answers(1), SETTINGS)["open"].difference == Interval(value=0.0, low=0.0, high=0.0)


def test_benches_of_other_questions_are_not_compared() -> None:
    with pytest.raises(UserError, match="other questions"):
        compare(answers(1).slice(1), answers(2), SETTINGS)
