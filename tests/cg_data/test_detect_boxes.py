"""Marks and boxes go over into each other, stay on their rows and on the page, and the weaker of two that overlap goes."""

from __future__ import annotations

import numpy as np
import pytest

from cg_data.detect.boxes import boxes_of_marks, keep_marks, marks_of_boxes, marks_of_labels, overlaps
from cg_data.records import Label
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNEL_INDEX, N_CHANNELS, WAVEFORM_INDEX, LabelKind, Waveform

PAGE = PageSettings(pixels_per_row=16, pixels_per_second=128, multiple_of=32)
ALL = np.ones(N_CHANNELS, dtype=np.bool_)


def _label(waveform: str, onset_s: float, duration_s: float, channel: str = "C3", kind: LabelKind = LabelKind.WAVEFORM) -> Label:
    return Label(kind=kind, name=waveform, onset_s=onset_s, duration_s=duration_s, channel=channel)


def test_boxes_go_back_to_their_marks() -> None:
    marks = np.array([[0, 0, 0.0, 0.5], [4, 18, 9.25, 10.0], [8, 7, 3.125, 3.5]])
    boxes = boxes_of_marks(marks, PAGE)
    assert boxes[2].tolist() == [400.0, 112.0, 448.0, 128.0]
    np.testing.assert_allclose(marks_of_boxes(boxes, marks[:, 0].astype(np.int64), PAGE), marks, atol=1e-6)


def test_narrow_waveforms_are_widened_about_their_centre_and_others_are_not() -> None:
    marks = marks_of_labels([_label(w, 5.0, 0.05) for w in (Waveform.SPIKE, Waveform.SHARP_WAVE, Waveform.K_COMPLEX)], ALL, 0.15)
    np.testing.assert_allclose(marks[:, 2:], [[4.95, 5.1], [4.95, 5.1], [5.0, 5.05]])
    assert marks[:, 0].tolist() == [WAVEFORM_INDEX[w] for w in (Waveform.SPIKE, Waveform.SHARP_WAVE, Waveform.K_COMPLEX)]


def test_marks_are_cut_to_the_page() -> None:
    marks = marks_of_labels([_label(Waveform.SPIKE, 0.0, 0.05), _label(Waveform.SLEEP_SPINDLE, 9.5, 1.5)], ALL, 0.15)
    np.testing.assert_allclose(marks[:, 2:], [[0.0, 0.1], [9.5, 10.0]])


def test_only_waveforms_on_channels_that_exist_are_marked() -> None:
    mask = ALL.copy()
    mask[CHANNEL_INDEX["O1"]] = False
    labels = [
        _label(Waveform.SPIKE, 1.0, 0.1, "O1"),
        _label("n2", 0.0, 10.0, "", LabelKind.STAGE),
        _label(Waveform.SPIKE, 1.0, 0.1, ""),
        _label(Waveform.SPIKE, 1.0, 0.1, "O2"),
    ]
    assert marks_of_labels(labels, mask, 0.15)[:, 1].tolist() == [CHANNEL_INDEX["O2"]]
    assert marks_of_labels([], mask, 0.15).shape == (0, 4)


def test_a_box_of_any_height_snaps_to_the_row_of_its_centre_and_a_box_beside_the_rows_to_none() -> None:
    boxes = np.array([[10, 30, 50, 60], [-8, 2, 50, 6], [10, 300, 50, 316], [1200, 100, 1400, 110]], dtype=np.float32)
    marks = marks_of_boxes(boxes, np.zeros(4, dtype=np.int64), PAGE)
    assert marks[:, 1].tolist() == [2, 0, -1, 6]
    assert marks[1, 2] == 0.0
    assert marks[3, 3] == 10.0


def test_a_mark_too_short_to_be_written_is_none() -> None:
    marks = np.array([[0, 3, 2.0, 2.0004], [0, 4, 2.0, 2.0], [0, 5, 2.0, 2.002], [0, 6, 10.0, 9.0]])
    assert keep_marks(marks, np.full(4, 0.9, dtype=np.float32), ALL, 0.5).tolist() == [2]


def test_of_two_events_of_a_class_and_row_that_overlap_the_stronger_stays() -> None:
    marks = np.array(
        [[0, 3, 1.0, 2.0], [0, 3, 1.1, 2.1], [4, 3, 1.0, 2.0], [0, 4, 1.0, 2.0], [0, 3, 1.8, 2.8], [0, -1, 1.0, 2.0], [0, 3, 5.0, 5.0]]
    )
    scores = np.array([0.5, 0.9, 0.3, 0.4, 0.2, 0.99, 0.99], dtype=np.float32)
    assert keep_marks(marks, scores, ALL, 0.5).tolist() == [1, 3, 2, 4]
    mask = ALL.copy()
    mask[3] = False
    assert keep_marks(marks, scores, mask, 0.5).tolist() == [3]
    assert keep_marks(marks[:0], scores[:0], ALL, 0.5).tolist() == []


def test_overlap_is_that_of_the_drawn_boxes() -> None:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 9, 30)
    marks = np.stack([np.zeros(30), rng.integers(0, 3, 30), start, start + rng.uniform(0.1, 1.0, 30)], axis=1)
    boxes = boxes_of_marks(marks, PAGE).astype(float)
    low, high = np.maximum(boxes[:, None, :2], boxes[None, :, :2]), np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    np.testing.assert_allclose(overlaps(marks, marks), shared / (area[:, None] + area[None] - shared), atol=1e-4)
    assert overlaps(marks, marks).diagonal() == pytest.approx(1.0)


def test_one_place_shows_one_of_several_rival_classes() -> None:
    spike, sharp, complex_ = (WAVEFORM_INDEX[w] for w in (Waveform.SPIKE, Waveform.SHARP_WAVE, Waveform.SPIKE_AND_SLOW_WAVE))
    blink = WAVEFORM_INDEX[Waveform.POSITIVE_SHARP_TRANSIENT]
    marks = np.array([
        [complex_, 3, 1.0, 1.4],
        [spike, 3, 1.0, 1.15],
        [spike, 4, 1.0, 1.15],
        [sharp, 3, 1.25, 1.45],
        [blink, 3, 1.0, 1.4],
        [sharp, 3, 1.36, 1.56],
    ])  # fmt: skip
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], dtype=np.float32)
    # The spike and the sharp wave half in the complex go; another row, another kind and a sharp wave with 0.04 s of 0.2 in it stay.
    assert keep_marks(marks, scores, ALL, 0.5).tolist() == [0, 2, 4, 5]


def test_a_rival_that_is_itself_beaten_beats_nobody() -> None:
    marks = np.array([[2, 3, 1.0, 1.4], [0, 3, 1.2, 1.6], [1, 3, 1.45, 1.75]])
    scores = np.array([0.9, 0.8, 0.7], dtype=np.float32)
    assert keep_marks(marks, scores, ALL, 0.5).tolist() == [0, 2]
    assert keep_marks(marks[1:], scores[1:], ALL, 0.5).tolist() == [0]
