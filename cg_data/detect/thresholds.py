"""Working thresholds of a detector, chosen by a stated target on validation subjects."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from cg_data.settings import Settings
from cg_data.vocabulary import EPILEPTIFORM, Waveform

Floats = npt.NDArray[np.float64]

RATE_CONFIDENCE = 0.9
"""Confidence of the upper limit on false alarms per minute."""
_UNSEEN = 0.5


class ThresholdTarget(Settings):
    """What a threshold is chosen for.

    `f1`: the greatest F1. `precision`, `recall`: at least `bound`. `false_per_minute`: at most `bound` false alarms of the waveform in a
    minute of pages.
    """

    measure: Literal["f1", "precision", "recall", "false_per_minute"] = "f1"
    bound: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="none for f1; a share for precision and recall")

    @model_validator(mode="after")
    def _bound_fits(self) -> Self:
        if self.measure == "f1" and self.bound is not None:
            raise ValueError("f1 takes no bound: it is made as great as it can be. Leave bound out or name another measure")
        if self.measure != "f1" and self.bound is None:
            example = 1.0 if self.measure == "false_per_minute" else 0.9
            raise ValueError(f"{self.measure} needs a bound, for example {{measure: {self.measure}, bound: {example}}}")
        if self.measure in ("precision", "recall") and self.bound is not None and self.bound > 1:
            raise ValueError(f"{self.measure} is a share: bound must lie between 0 and 1, not {self.bound:g}")
        return self

    def __str__(self) -> str:
        match self.measure:
            case "f1":
                return "greatest F1"
            case "false_per_minute":
                return f"at most {self.bound:g} false a minute"
            case share:
                return f"{share} at least {self.bound:g}"


class TargetSettings(Settings):
    """The target of each waveform: its own, else that of its family."""

    default: ThresholdTarget = ThresholdTarget()
    epileptiform: ThresholdTarget = Field(
        default=ThresholdTarget(measure="false_per_minute", bound=0.15),
        description="of spikes, of sharp waves and of their complexes, each: together they stay under one false alarm in two minutes",
    )
    waveforms: dict[Waveform, ThresholdTarget] = Field(default_factory=dict, description="of single waveforms, before all others")

    def target(self, waveform: Waveform) -> ThresholdTarget:
        return self.waveforms.get(waveform, self.epileptiform if waveform in EPILEPTIFORM else self.default)


class WorkingPoint(Settings):
    """A threshold and what it gives where it was chosen: events with `score >= threshold` are kept.

    `false_per_minute_upper` is the upper 90 % confidence limit; `met` is false where no threshold reaches the target. Rates without
    events or without references are 0.
    """

    threshold: float
    precision: float
    recall: float
    f1: float
    false_per_minute: float
    false_per_minute_upper: float
    met: bool


def choose_threshold(
    scores: npt.ArrayLike,
    hits: npt.ArrayLike,
    references: int,
    minutes: npt.ArrayLike,
    target: ThresholdTarget,
    subjects: npt.ArrayLike | None = None,
    alarms: npt.ArrayLike | None = None,
) -> WorkingPoint:
    """The working point of one waveform that meets `target` with the greatest recall (for `recall`, with the greatest precision; for
    `false_per_minute`, with the greatest F0.5: a false alarm is not all that a low threshold lets through).

    Of thresholds that are equally good the lowest is taken. `alarms` tells the wrong events that are a false alarm of their own from those
    that only repeat one on another channel.

    False alarms are held to their bound by an upper limit at `RATE_CONFIDENCE`, not by the count seen: a threshold that lets through just
    as many as allowed gives too many on new subjects every second time (`python benchmarks/calibration.py`). It is the exact limit of a
    Poisson count (Garwood 1936), widened by as much as subjects differ more than chance would have it (quasi-Poisson, McCullagh and Nelder
    1989, section 6.2). With few minutes this is strict: at one a minute, one false alarm is too much in less than 3.9 minutes, and in less
    than 2.3 even none is no proof.

    Where no threshold meets the target, the one above every score seen is given and `met` is false: rather silent than wrong. Without any
    event there is no score to go by, and the threshold is one half.

    Args:
        scores: `(n,)` raw scores or calibrated probabilities, in any order; the map between them rises, so both choose the same events.
        hits: `(n,)` whether each event was right.
        references: reference marks of the waveform on the pages looked at.
        minutes: length of these pages, `(subjects,)`, those without events included; or one number for all.
        target: what to reach.
        subjects: `(n,)` index into `minutes` of the subject of each event; left out where `minutes` is one number.
        alarms: `(n,)` whether a wrong event is a false alarm of its own; left out where each is.

    Raises:
        ValueError: the shapes differ, a score is not finite, there are fewer references than hits, or a subject has no minutes.
    """
    s, right, lengths, owner = _checked(scores, hits, minutes, subjects)
    if references < right.sum():
        raise ValueError(f"{references} references for {right.sum()} hits")
    alarm = ~right if alarms is None else ~right & np.asarray(alarms, dtype=np.bool_)
    order = np.argsort(-s, kind="stable")
    s, right, owner, alarm = s[order], right[order], owner[order], alarm[order]
    # A threshold keeps equal scores together: it stands at the last of each tie. Row 0 keeps nothing.
    last = np.append(0, np.flatnonzero(np.append(s[1:] < s[:-1], True)) + 1) if len(s) else np.zeros(1, dtype=np.int64)
    thresholds = np.append(np.nextafter(s[0], np.inf) if len(s) else _UNSEEN, s[last[1:] - 1])
    false = np.zeros((len(last), len(lengths)))
    np.add.at(false, (np.searchsorted(last, np.flatnonzero(alarm) + 1), owner[alarm]), 1)
    points = _points(np.append(0, np.cumsum(right))[last], last, np.cumsum(false, axis=0), references, lengths)
    best, met = _best(points, target)
    return WorkingPoint(threshold=float(thresholds[best]), met=met, **{name: float(values[best]) for name, values in points.items()})


def _checked(
    scores: npt.ArrayLike, hits: npt.ArrayLike, minutes: npt.ArrayLike, subjects: npt.ArrayLike | None
) -> tuple[Floats, npt.NDArray[np.bool_], Floats, npt.NDArray[np.int64]]:
    s, right = np.asarray(scores, dtype=np.float64), np.asarray(hits).astype(np.bool_)
    lengths = np.atleast_1d(np.asarray(minutes, dtype=np.float64))
    if (subjects is None) != (np.ndim(minutes) == 0):
        raise ValueError("give minutes for each subject with the subject of each event, or one number of minutes without")
    owner = np.zeros(s.shape, dtype=np.int64) if subjects is None else np.asarray(subjects, dtype=np.int64)
    if s.ndim != 1 or not s.shape == right.shape == owner.shape or not np.isfinite(s).all():
        raise ValueError(f"scores {s.shape}, hits {right.shape} and subjects {owner.shape} must be (n,) alike and scores finite")
    if not len(lengths) or not (lengths > 0).all() or np.any((owner < 0) | (owner >= len(lengths))):
        raise ValueError("each subject must have its minutes, more than none")
    return s, right, lengths, owner


def _points(
    hits: npt.NDArray[np.int64], events: npt.NDArray[np.int64], false: Floats, references: int, minutes: Floats
) -> dict[str, Floats]:
    """Figures of each threshold, highest first: `hits` and `events` `(points,)` and `false` alarms `(points, subjects)` that it keeps."""
    counts = false.sum(axis=1)
    return {
        "precision": hits / np.maximum(events, 1),
        "recall": hits / max(references, 1),
        "f1": 2 * hits / np.maximum(events + references, 1),
        "false_per_minute": counts / minutes.sum(),
        "false_per_minute_upper": _upper_count(false, minutes) / minutes.sum(),
    }


def _upper_count(false: Floats, minutes: Floats) -> Floats:
    """Upper limits of the counts `false` `(points, subjects)` taken together, as if the same minutes were looked at in new subjects."""
    from scipy.stats import chi2

    counts = false.sum(axis=1)
    due = counts[:, None] * minutes / minutes.sum()
    excess = ((false - due) ** 2 / np.maximum(due, 1e-12)).sum(axis=1) / max(len(minutes) - 1, 1)
    dispersion = np.maximum(excess, 1.0)
    return np.asarray(dispersion * chi2.ppf(RATE_CONFIDENCE, 2 * (counts / dispersion + 1)) / 2)


def _best(points: dict[str, Floats], target: ThresholdTarget) -> tuple[int, bool]:
    """Row of the best point and whether it meets the target; row 0 where none does."""
    recall, precision = points["recall"], points["precision"]
    if target.measure == "f1":
        meets, first, second = points["f1"] > 0, points["f1"], recall
    elif target.measure == "recall":
        meets, first, second = recall >= _bound(target), precision, recall
    elif target.measure == "precision":
        meets, first, second = precision >= _bound(target), recall, precision
    else:
        meets, first, second = points["false_per_minute_upper"] <= _bound(target), _prudent(precision, recall), recall
    if not meets.any():
        return 0, False
    ranked = np.lexsort((second, first, meets))
    return int(ranked[-1]), True


def _prudent(precision: Floats, recall: Floats) -> Floats:
    """F0.5, in which precision weighs twice as much as recall (van Rijsbergen 1979)."""
    return np.asarray(1.25 * precision * recall / np.maximum(0.25 * precision + recall, 1e-12))


def _bound(target: ThresholdTarget) -> float:
    assert target.bound is not None  # by the validator
    return target.bound
