"""Figures of the bench with their uncertainty: every interval resamples subjects, for the pages of one subject are not independent.

Plain numpy. A score is an array with one value per item (1 right, 0 wrong, or any real number) beside the item's subject.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cg_data.intervals import Floats, Interval, interval, subject_weights
from cg_eval.settings import EvalSettings


def by_subject(subjects: Sequence[str], statistic: Callable[[Floats], float], *, resamples: int, seed: int) -> Interval:
    """Interval of any `statistic` that takes one weight per item (how often its subject was drawn) and returns a figure."""
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    weights = subject_weights(len(names), resamples=resamples, seed=seed)
    resampled = np.array([statistic(w[index]) for w in weights])
    return interval(statistic(np.ones(len(index))), resampled, len(names))


def mean(subjects: Sequence[str], scores: Floats, *, resamples: int, seed: int) -> Interval:
    """Mean score over items (accuracy, for scores of 0 and 1) with its interval over subjects.

    Raises:
        ValueError: there is no item.
    """
    if not len(scores):
        raise ValueError("a mean needs at least one item")
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    sums = np.bincount(index, weights=scores, minlength=len(names))
    counts = np.bincount(index, minlength=len(names)).astype(np.float64)
    weights = subject_weights(len(names), resamples=resamples, seed=seed)
    return interval(float(sums.sum() / counts.sum()), (weights @ sums) / (weights @ counts), len(names))


def balanced_accuracy(subjects: Sequence[str], truths: Sequence[str], correct: Floats, *, resamples: int, seed: int) -> Interval:
    """Mean over the classes in `truths` of the share answered rightly, with its interval over subjects."""
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    _, classes = np.unique(np.asarray(truths), return_inverse=True)
    shape = (len(names), int(classes.max()) + 1)
    hits, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(hits, (index, classes), correct)
    np.add.at(counts, (index, classes), 1.0)
    weights = subject_weights(len(names), resamples=resamples, seed=seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = ((weights @ hits) / (weights @ counts)).mean(axis=1)
    return interval(float((hits.sum(0) / counts.sum(0)).mean()), resampled, len(names))


CALIBRATION_BINS = 10


def expected_calibration_error(probabilities: Floats, correct: Floats, weights: Floats | None = None) -> float:
    """Mean distance between confidence and accuracy over ten equally wide bins, each weighted by its items (Naeini et al. 2015).

    `weights` counts every item that many times; None means once.
    """
    bins = _bins(probabilities)
    counted = np.ones(len(bins)) if weights is None else weights
    gaps = np.bincount(bins, weights=counted * (probabilities - correct), minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / counted.sum())


def reliability(probabilities: Floats, correct: Floats) -> list[dict[str, float]]:
    """Number, mean probability and accuracy of the items in each of ten equally wide bins that holds any."""
    bins = _bins(probabilities)
    return [
        {"n": int((bins == b).sum()), "confidence": float(probabilities[bins == b].mean()), "accuracy": float(correct[bins == b].mean())}
        for b in np.unique(bins)
    ]


def _bins(probabilities: Floats) -> npt.NDArray[np.int64]:
    return np.minimum((probabilities * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def rouge(truth: str, answer: str) -> tuple[float, float]:
    """ROUGE-1 and ROUGE-L F-measure (Lin 2004) with Porter stemming, 0 to 1."""
    scores = _rouge_scorer().score(truth, answer)  # type: ignore[attr-defined]
    return float(scores["rouge1"].fmeasure), float(scores["rougeL"].fmeasure)


@cache
def _rouge_scorer() -> object:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], use_stemmer=True)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Page-level agreement on one kind of finding: pages that truly hold it, pages said to hold it, pages where both hold.

    `precision` and `recall` are None where nothing was said, or there was nothing to find.
    """

    true_pages: int
    found_pages: int
    both: int
    precision: float | None
    recall: float | None


def agreement(truth: Iterable[frozenset[str]], found: Iterable[frozenset[str]], kinds: Iterable[str]) -> dict[str, Agreement]:
    """Agreement per kind over pages in the same order."""
    pairs = list(zip(truth, found, strict=True))
    return {kind: _agreement([(kind in t, kind in f) for t, f in pairs]) for kind in kinds}


def pooled(parts: Mapping[str, Agreement]) -> Agreement:
    """All kinds together: sums of pages, precision and recall of the sums."""
    return _counted(
        sum(p.true_pages for p in parts.values()), sum(p.found_pages for p in parts.values()), sum(p.both for p in parts.values())
    )


def _agreement(pairs: list[tuple[bool, bool]]) -> Agreement:
    return _counted(sum(t for t, _ in pairs), sum(f for _, f in pairs), sum(t and f for t, f in pairs))


def _counted(true_pages: int, found_pages: int, both: int) -> Agreement:
    return Agreement(
        true_pages=true_pages,
        found_pages=found_pages,
        both=both,
        precision=both / found_pages if found_pages else None,
        recall=both / true_pages if true_pages else None,
    )


_QUESTIONS: tuple[tuple[str, str, str, str, bool], ...] = (
    ("binary", "correct", "yes/no questions", "majority answer", True),
    ("open", "correct", "open questions", "majority answer", True),
    ("open", "option_correct", "open questions, most likely of the topic's answers", "majority answer", False),
    ("mcq", "option_correct", "multiple choice, most likely option", "chance", True),
    ("mcq", "option_correct", "multiple choice, most likely option", "majority answer", False),
    ("mcq", "option_correct_per_token", "multiple choice, most likely option per token", "chance", False),
    ("mcq", "letter_correct", "multiple choice, most likely letter", "chance", False),
    ("mcq", "correct", "multiple choice, generated letter", "chance", False),
)
"""Kind, column of the score table, name, baseline, and whether it is one of the stated figures.

Stated for multiple choice is the likelihood of whole options: a model that says every answer word by word has no use for their length."""


def summarise(table: pa.Table, detector: Mapping[str, Any] | None, settings: EvalSettings) -> dict[str, Any]:
    """All figures of the bench as plain values for ``metrics.json``.

    Args:
        table: marked answers, of `cg_eval.bench.SCORE_SCHEMA`.
        detector: figures of the detector on the same pages, passed through.
        settings: resamples and seed of the intervals.
    """
    rows = table.to_pylist()
    of_kind = {kind: [r for r in rows if r["kind"] == kind] for kind in ("binary", "open", "mcq", "description")}
    asked = [r for r in rows if r["kind"] != "description"]
    return {
        "subjects": len({r["subject"] for r in rows}),
        "segments": len({r["segment_id"] for r in rows}),
        "asked": len(asked),
        "unparsed": sum(not r["parsed"] for r in asked),
        "scores": [_compared(of_kind[k], c, n, b, settings) | {"kind": k, "stated": s} for k, c, n, b, s in _QUESTIONS if of_kind[k]],
        "balanced_accuracy": _balanced_figure(of_kind["binary"], settings),
        "topics": _topics(of_kind, settings),
        "description": _description(of_kind["description"], settings),
        "calibration": {k: _calibration(of_kind[k], settings) for k in ("binary", "open") if of_kind[k]},
        "detector": detector,
    }


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Floats:
    return np.array([float(row[name] or 0.0) for row in rows])


def _subjects(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [row["subject"] for row in rows]


def _figure(rows: Sequence[Mapping[str, Any]], scores: Floats, settings: EvalSettings) -> dict[str, Any]:
    return dataclasses.asdict(mean(_subjects(rows), scores, resamples=settings.resamples, seed=settings.seed))


def _compared(rows: Sequence[Mapping[str, Any]], column: str, name: str, baseline: str, settings: EvalSettings) -> dict[str, Any]:
    """Accuracy of a column beside its baseline; "above" means that the whole interval of the paired difference is above nothing."""
    scores, usual = _column(rows, column), _column(rows, "chance" if baseline == "chance" else "majority_correct")
    difference = _figure(rows, scores - usual, settings)
    return {
        "name": name,
        "column": column,
        "n": len(rows),
        "accuracy": _figure(rows, scores, settings),
        "baseline_name": baseline,
        "baseline": float(usual.mean()),
        "difference": difference,
        "above": difference["low"] is not None and difference["low"] > 0,
    }


def _balanced_figure(rows: Sequence[Mapping[str, Any]], settings: EvalSettings) -> dict[str, Any] | None:
    if not rows:
        return None
    truths = [row["truth"].strip().casefold()[:2] for row in rows]
    figure = balanced_accuracy(_subjects(rows), truths, _column(rows, "correct"), resamples=settings.resamples, seed=settings.seed)
    return dataclasses.asdict(figure)


_TOPIC_SCORES = (("binary", "yes/no", "correct"), ("open", "open", "correct"), ("mcq", "multiple choice", "option_correct"))


def _topics(of_kind: Mapping[str, Sequence[Mapping[str, Any]]], settings: EvalSettings) -> list[dict[str, Any]]:
    table = []
    for kind, name, column in _TOPIC_SCORES:
        for topic in sorted({row["topic"] for row in of_kind[kind]}):
            rows = [row for row in of_kind[kind] if row["topic"] == topic]
            usual = _column(rows, "chance" if kind == "mcq" else "majority_correct")
            figure = _figure(rows, _column(rows, column), settings)
            table.append(
                {"kind": kind, "kind_name": name, "topic": topic, "n": len(rows), "accuracy": figure, "baseline": float(usual.mean())}
            )
    return table


def _description(rows: Sequence[Mapping[str, Any]], settings: EvalSettings) -> dict[str, Any] | None:
    if not rows:
        return None
    figures = {name: _figure(rows, _column(rows, name), settings) for name in ("rouge_1", "rouge_l")}
    usual = {name: float(_column(rows, name).mean()) for name in ("majority_rouge_1", "majority_rouge_l")}
    return {"n": len(rows), **figures, **usual}


def _calibration(rows: Sequence[Mapping[str, Any]], settings: EvalSettings) -> dict[str, Any]:
    probabilities, correct = _column(rows, "probability"), _column(rows, "correct")

    def error(weights: Floats) -> float:
        return expected_calibration_error(probabilities, correct, weights)

    figure = by_subject(_subjects(rows), error, resamples=settings.resamples, seed=settings.seed)
    names = {"binary": "yes/no", "open": "open"}
    return {"name": names[rows[0]["kind"]], "ece": dataclasses.asdict(figure), "bins": reliability(probabilities, correct)}
