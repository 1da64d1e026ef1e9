"""Figures of the bench with their uncertainty: every interval resamples subjects, for the pages of one subject are not independent.

Plain numpy. A score is an array with one value per item (1 right, 0 wrong, or any real number) beside the item's subject.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure with the ends of its 95 % interval; both are None with fewer than two subjects, for then nothing can be resampled."""

    value: float
    low: float | None
    high: float | None


def subject_weights(n_subjects: int, *, resamples: int, seed: int) -> Floats:
    """How often each subject is drawn in each resample: `(resamples, n_subjects)`, rows sum to `n_subjects`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_subjects, np.full(n_subjects, 1.0 / n_subjects), size=resamples).astype(np.float64)


def interval(value: float, resampled: Floats, n_subjects: int) -> Interval:
    """Expanded percentile interval (Hesterberg 2015, "What teachers should know about the bootstrap", section 3.3).

    With few subjects the plain percentile interval is too narrow; the percentiles are moved out so that for a mean the width is that of
    Student's t: tail = Phi(-sqrt(n / (n - 1)) * t). Resamples without a value (a class that was not drawn) are left out.
    """
    kept = resampled[np.isfinite(resampled)]
    if n_subjects < 2 or not len(kept):
        return Interval(value=value, low=None, high=None)
    tail = _expanded_tail(n_subjects)
    low, high = np.quantile(kept, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high))


@cache
def _expanded_tail(n_subjects: int) -> float:
    from scipy import stats

    t = stats.t.ppf(0.5 + CONFIDENCE / 2, n_subjects - 1)
    return float(stats.norm.cdf(-np.sqrt(n_subjects / (n_subjects - 1)) * t))


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


def expected_calibration_error(probabilities: Floats, correct: Floats, bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over equally wide bins (Naeini et al. 2015), each weighted by its items."""
    return sum(b["n"] * abs(b["confidence"] - b["accuracy"]) for b in reliability(probabilities, correct, bins)) / len(correct)


def reliability(probabilities: Floats, correct: Floats, bins: int = 10) -> list[dict[str, float]]:
    """Mean probability and accuracy of the items in each equally wide bin that holds any."""
    which = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    rows = []
    for b in np.unique(which):
        inside = which == b
        rows.append(
            {"n": float(inside.sum()), "confidence": float(probabilities[inside].mean()), "accuracy": float(correct[inside].mean())}
        )
    return rows


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
