"""The detector's figures in the bench: mAP@0.5 and AP@0.5 of each waveform on held-out pages, with intervals over subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cg_data.detect.boxes import Marks
from cg_data.intervals import subject_weights
from cg_data.records import Event
from cg_data.vocabulary import WAVEFORMS, Waveform
from cg_eval.detection.average_precision import LEVELS, ap_table
from cg_eval.detection.figures import references_by_subject
from cg_eval.detection.tally import NO_FIGURE, Figure, figure
from cg_eval.settings import EvalSettings
from cg_train.detection_metrics import detection_metrics, match


def detector_figures(
    found: Sequence[Sequence[Event]],
    truth: Sequence[Marks],
    subjects: Sequence[str],
    thresholds: Mapping[Waveform, float],
    settings: EvalSettings,
) -> dict[str, Any]:
    """mAP@0.5 (0 without references) and AP@0.5 per waveform with 95 % intervals over subjects; precision and recall at the thresholds.

    Args:
        found: events of each page down to a low score (`Detector.propose`).
        truth: reference marks of each page.
        subjects: whose page it is.
        thresholds: working score of each waveform.
        settings: resamples and seed.
    """
    plain = detection_metrics(found, truth, thresholds)["waveforms"]
    names, owners = np.unique(np.asarray(subjects), return_inverse=True)
    weights = subject_weights(len(names), resamples=settings.resamples, seed=settings.seed)
    table = ap_table(match(found, truth), references_by_subject(truth, owners, len(names)), owners, weights)
    known = [w for w in WAVEFORMS if plain[str(w)]["ap50"] is not None]
    return {
        "subjects": len(names),
        "segments": len(found),
        "map50": figure(*table.of_all(LEVELS["ap50"]), len(names)) if known else {**NO_FIGURE, "value": 0.0},
        "classes": [_class_row(plain[str(w)], w, figure(*table.of_class(w, LEVELS["ap50"]), len(names))) for w in known],
    }


def _class_row(plain: Mapping[str, Any], waveform: Waveform, ap50: Figure) -> dict[str, Any]:
    return {
        "waveform": str(waveform),
        "planted": plain["references"],
        "ap50": ap50,
        "precision": plain["precision"],
        "recall": plain["recall"],
        "threshold": plain["threshold"],
    }
