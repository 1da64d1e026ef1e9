"""Figures of the detector on held-out pages, with intervals over subjects."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.detect.boxes import Marks
from cg_data.intervals import Floats, interval, subject_weights
from cg_data.records import Event
from cg_data.vocabulary import WAVEFORMS, Waveform
from cg_eval.settings import EvalSettings
from cg_train.detection_metrics import Matches, detection_metrics, match

_AT_ONCE = 100
"""Resamples worked on together: bounds memory."""


def detector_figures(
    found: Sequence[Sequence[Event]],
    truth: Sequence[Marks],
    subjects: Sequence[str],
    thresholds: Mapping[Waveform, float],
    settings: EvalSettings,
) -> dict[str, Any]:
    """mAP@0.5 and AP@0.5 per waveform with 95 % intervals over subjects; precision and recall at the working thresholds.

    Args:
        found: events of each page down to a low score (`Detector.propose`).
        truth: reference marks of each page.
        subjects: whose page it is.
        thresholds: working score of each waveform.
        settings: resamples and seed.
    """
    plain = detection_metrics(found, truth, thresholds)
    names = sorted(set(subjects))
    weights = subject_weights(len(names), resamples=settings.resamples, seed=settings.seed)
    per_subject = [_matched(found, truth, [i for i, s in enumerate(subjects) if s == name]) for name in names]
    resampled = {w: _resampled_ap([matches[w] for matches in per_subject], weights) for w in WAVEFORMS}
    return {
        "subjects": len(names),
        "segments": len(found),
        "map50": _figure(plain["map50"], _mean_of_known(np.array(list(resampled.values()))), len(names)),
        "classes": [_class_row(plain["waveforms"][str(w)], w, resampled[w], len(names)) for w in WAVEFORMS if _known(plain, w)],
    }


def _matched(found: Sequence[Sequence[Event]], truth: Sequence[Marks], pages: Sequence[int]) -> dict[Waveform, Matches]:
    return match([found[i] for i in pages], [truth[i] for i in pages])


def _known(plain: Mapping[str, Any], waveform: Waveform) -> bool:
    return plain["waveforms"][str(waveform)]["ap50"] is not None


def _class_row(plain: Mapping[str, Any], waveform: Waveform, resampled: Floats, n_subjects: int) -> dict[str, Any]:
    return {
        "waveform": str(waveform),
        "planted": plain["references"],
        "ap50": _figure(plain["ap50"], resampled, n_subjects),
        "precision": plain["precision"],
        "recall": plain["recall"],
        "threshold": plain["threshold"],
    }


def _figure(value: float, resampled: Floats, n_subjects: int) -> dict[str, Any]:
    return dataclasses.asdict(interval(value, resampled, n_subjects))


def _mean_of_known(ap: Floats) -> Floats:
    """Mean over the classes `(classes, resamples)` that a resample holds."""
    known = np.isfinite(ap)
    return np.where(known, ap, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _resampled_ap(parts: Sequence[Matches], weights: Floats) -> Floats:
    """Average precision of one class in each resample: every page of a subject counts as often as the subject was drawn.

    The same area as `cg_train.detection_metrics.average_precision`; NaN in a resample without references.
    """
    scores = np.concatenate([part.scores for part in parts])
    hits = np.concatenate([part.hits for part in parts])
    owner = np.concatenate([np.full(len(part.scores), i) for i, part in enumerate(parts)]).astype(np.int64)
    order = np.argsort(-scores, kind="stable")
    references = weights @ np.array([part.references for part in parts], dtype=np.float64)
    areas = [_areas(weights[i : i + _AT_ONCE][:, owner[order]], hits[order]) for i in range(0, len(weights), _AT_ONCE)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(references > 0, np.concatenate(areas) / references, np.nan)


def _areas(times: Floats, hits: npt.NDArray[np.bool_]) -> Floats:
    """Precision envelope summed over the hits, for `times` `(resamples, events)`, how often each event counts."""
    true = np.cumsum(times * hits, axis=1)
    precision = true / np.maximum(np.cumsum(times, axis=1), 1.0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area: Floats = (envelope * times * hits).sum(axis=1)
    return area
