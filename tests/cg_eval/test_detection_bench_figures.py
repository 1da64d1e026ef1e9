"""cg_eval.detection.bench_figures: the detector's figures are those of cg_train, and their intervals resample subjects."""

from __future__ import annotations

import numpy as np
import pytest

from cg_data.detect.boxes import Marks, marks_of_labels
from cg_data.records import Event, Segment
from cg_data.vocabulary import CHANNELS, WAVEFORMS, EventSource, Waveform
from cg_eval.detection.bench_figures import detector_figures
from cg_eval.settings import EvalSettings
from cg_train.detection_metrics import detection_metrics

SETTINGS = EvalSettings(resamples=150)
THRESHOLDS = dict.fromkeys(WAVEFORMS, 0.5)


def _event(waveform: Waveform, channel: str, onset_s: float, duration_s: float, score: float) -> Event:
    return Event(
        event_id="e", waveform=waveform, channel=channel, onset_s=onset_s, duration_s=duration_s, score=score, probability=score,
        source=EventSource.DETECTOR,
    )  # fmt: skip


def _truth(segments: list[Segment]) -> list[Marks]:
    return [marks_of_labels(s.labels, s.mask, 0.15) for s in segments]


def _perfect(marks: Marks) -> tuple[Event, ...]:
    return tuple(_event(WAVEFORMS[int(m[0])], CHANNELS[int(m[1])], m[2], m[3] - m[2], 0.9) for m in marks)


def _noisy(truth: list[Marks]) -> list[tuple[Event, ...]]:
    """Two of three marks found, and a false spindle on every page, with random scores."""
    rng = np.random.default_rng(4)
    found = []
    for marks in truth:
        right = [_event(WAVEFORMS[int(m[0])], CHANNELS[int(m[1])], m[2], m[3] - m[2], rng.random()) for m in marks if rng.random() < 0.67]
        found.append((*right, _event(Waveform.SLEEP_SPINDLE, "O1", 1.0, 1.0, rng.random())))
    return found


def test_a_perfect_detector_has_one_everywhere(segments: list[Segment]) -> None:
    truth = _truth(segments)
    figures = detector_figures([_perfect(t) for t in truth], truth, [s.subject for s in segments], THRESHOLDS, SETTINGS)
    assert figures["map50"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert [row["waveform"] for row in figures["classes"]] == ["spike", "sleep_spindle", "positive_sharp_transient"]
    assert all(row["precision"] == row["recall"] == 1.0 for row in figures["classes"])


def test_without_references_the_mean_is_nought_and_has_no_interval(segments: list[Segment]) -> None:
    none = [t[:0] for t in _truth(segments)]
    figures = detector_figures(_noisy(none), none, [s.subject for s in segments], THRESHOLDS, SETTINGS)
    assert figures["map50"] == {"value": 0.0, "low": None, "high": None}
    assert figures["classes"] == []


def test_the_figure_lies_in_an_interval_of_some_width(segments: list[Segment]) -> None:
    truth = _truth(segments)
    found = _noisy(truth)
    figures = detector_figures(found, truth, [s.subject for s in segments], THRESHOLDS, SETTINGS)
    assert figures["map50"]["value"] == detection_metrics(found, truth, THRESHOLDS)["map50"]
    assert figures["map50"]["low"] < figures["map50"]["value"] < figures["map50"]["high"]


def test_a_resample_gives_the_figure_of_the_pages_it_repeats(segments: list[Segment], monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects drawn 2, 0, 1, 1 and 1 times: as if the first one's pages were there twice and the second one's not at all."""
    drawn = {"subject-0": 2, "subject-1": 0, "subject-2": 1, "subject-3": 1, "subject-4": 1}
    truth = _truth(segments)
    found = _noisy(truth)
    pages = [i for i, s in enumerate(segments) for _ in range(drawn[s.subject])]
    expected = detection_metrics([found[i] for i in pages], [truth[i] for i in pages], THRESHOLDS)["map50"]
    weights = np.tile(np.array(list(drawn.values()), dtype=np.float64), (5, 1))
    monkeypatch.setattr("cg_eval.detection.bench_figures.subject_weights", lambda *_, **__: weights)
    figures = detector_figures(found, truth, [s.subject for s in segments], THRESHOLDS, SETTINGS)
    assert figures["map50"]["low"] == pytest.approx(expected)
    assert figures["map50"]["high"] == pytest.approx(expected)
