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
        default=ThresholdTarget(measure="false_per_minute", bound=1.0), description="of spikes, sharp waves and their complexes"
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


def choose_threshold(scores: npt.ArrayLike, hits: npt.ArrayLike, references: int, minutes: float, target: ThresholdTarget) -> WorkingPoint:
    """The working point of one waveform that meets `target` with the greatest recall (for `recall`, with the greatest precision).

    Of thresholds that are equally good the lowest is taken. What counts as one event is the caller's choice: each channel's own, or one for
    all channels of a discharge.

    False alarms are held to their bound by the exact upper limit of a Poisson count (Garwood 1936) at `RATE_CONFIDENCE`, not by the count
    seen: a threshold that lets through just as many as allowed gives too many on new subjects every second time
    (`python benchmarks/calibration.py`). With few minutes this is strict: at one a minute, one false alarm is too much in less than 3.9
    minutes, and in less than 2.3 even none is no proof. Where false alarms come in bursts over channels, the bound still breaks more often
    than one time in ten.

    Where no threshold meets the target, the one above every score seen is given and `met` is false: rather silent than wrong. Without any
    event there is no score to go by, and the threshold is one half.

    Args:
        scores: `(n,)` raw scores or calibrated probabilities, in any order; the map between them rises, so both choose the same events.
        hits: `(n,)` whether each event was right.
        references: reference marks of the waveform on the pages looked at.
        minutes: length of these pages.
        target: what to reach.

    Raises:
        ValueError: the shapes differ, a score is not finite, there are fewer references than hits, or no minutes.
    """
    s, right = np.asarray(scores, dtype=np.float64), np.asarray(hits).astype(np.bool_)
    if s.ndim != 1 or s.shape != right.shape or not np.isfinite(s).all():
        raise ValueError(f"scores {s.shape} and hits {right.shape} must be (n,) alike and finite")
    if references < right.sum() or minutes <= 0:
        raise ValueError(f"{references} references for {right.sum()} hits in {minutes} minutes")
    order = np.argsort(-s, kind="stable")
    s, right = s[order], right[order]
    # A threshold keeps equal scores together: it stands at the last of each tie. Row 0 keeps nothing.
    last = np.flatnonzero(np.append(s[1:] < s[:-1], True)) if len(s) else np.array([], dtype=np.int64)
    above = np.nextafter(s[0], np.inf) if len(s) else _UNSEEN
    points = _points(np.append(0, last + 1), np.append(0, np.cumsum(right)[last]), references, minutes)
    best, met = _best(points, target)
    thresholds = np.append(above, s[last])
    return WorkingPoint(threshold=float(thresholds[best]), met=met, **{name: float(values[best]) for name, values in points.items()})


def _points(events: npt.NDArray[np.int64], hits: npt.NDArray[np.int64], references: int, minutes: float) -> dict[str, Floats]:
    """Figures of each threshold, highest first, from the events and hits that it keeps."""
    from scipy.stats import chi2

    false = events - hits
    return {
        "precision": hits / np.maximum(events, 1),
        "recall": hits / max(references, 1),
        "f1": 2 * hits / np.maximum(events + references, 1),
        "false_per_minute": false / minutes,
        "false_per_minute_upper": chi2.ppf(RATE_CONFIDENCE, 2 * (false + 1)) / 2 / minutes,
    }


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
        meets, first, second = points["false_per_minute_upper"] <= _bound(target), recall, precision
    if not meets.any():
        return 0, False
    ranked = np.lexsort((second, first, meets))
    return int(ranked[-1]), True


def _bound(target: ThresholdTarget) -> float:
    assert target.bound is not None  # by the validator
    return target.bound
