"""Models that answered the same bench, beside each other: figures with intervals, and paired differences to one of them over subjects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from cg_data.errors import UserError
from cg_data.intervals import Interval
from cg_eval.metrics import Floats, mean
from cg_eval.settings import EvalSettings

SCORES: Mapping[str, tuple[str, str]] = {
    "yes/no": ("binary", "correct"),
    "open": ("open", "correct"),
    "choice": ("mcq", "option_correct"),
    "ROUGE-L": ("description", "rouge_l"),
}
"""Name of each figure that is compared: the kind of item and the column of `cg_eval.bench.SCORE_SCHEMA` that it is the mean of."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """A figure of a model, and how much more it is than the base model's."""

    figure: Interval
    difference: Interval


def compare(answers: pa.Table, base: pa.Table, settings: EvalSettings) -> dict[str, Compared]:
    """Each of `SCORES` that both benches hold.

    The difference is taken item by item and then resampled by subject, so that what is hard about a subject, which both models meet, is
    not part of its interval (paired bootstrap, Efron and Tibshirani 1993).

    Args:
        answers: marked answers of a model, of `cg_eval.bench.SCORE_SCHEMA`.
        base: those of the model that it is compared with.
        settings: resamples and seed of the intervals.

    Raises:
        UserError: the two were not asked the same questions.
    """
    of_model, of_base = _by_item(answers), _by_item(base)
    if of_model.keys() != of_base.keys():
        raise UserError("the two benches hold other questions. Compare models that were asked with the same settings of evaluate and data.")
    found = {}
    for name, (kind, column) in SCORES.items():
        items = sorted(item for item, row in of_base.items() if row["kind"] == kind)
        if items:
            scores, usual = (_scores([rows[item] for item in items], column) for rows in (of_model, of_base))
            subjects = [str(of_base[item]["subject"]) for item in items]
            found[name] = Compared(figure=_mean(subjects, scores, settings), difference=_mean(subjects, scores - usual, settings))
    return found


def _by_item(answers: pa.Table) -> dict[str, dict[str, object]]:
    columns = ["item_id", "subject", "kind", *sorted({column for _, column in SCORES.values()})]
    return {row["item_id"]: row for row in answers.select(columns).to_pylist()}


def _scores(rows: Sequence[Mapping[str, object]], column: str) -> Floats:
    return np.array([float(row[column] or 0.0) for row in rows])  # type: ignore[arg-type]


def _mean(subjects: Sequence[str], scores: Floats, settings: EvalSettings) -> Interval:
    return mean(subjects, scores, resamples=settings.resamples, seed=settings.seed)
