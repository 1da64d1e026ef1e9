"""Probabilities and working points come from subjects in whom a waveform was looked for, and from no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from cg_data.detect.calibration import Calibration
from cg_data.detect.references import References, references_of
from cg_data.detect.spec import DetectorSpec
from cg_data.detect.thresholds import TargetSettings, ThresholdTarget, WorkingPoint
from cg_data.records import Event, Label
from cg_data.vocabulary import EPILEPTIFORM, N_CHANNELS, SEGMENT_SAMPLES, LabelKind, Waveform
from cg_train.detector import calibrated, spec_of
from tests.detectors_small import SIGNAL, page_of, recipe_of
from tests.records_small import event

SPINDLE = Waveform.SLEEP_SPINDLE
SEARCHED = Label(kind=LabelKind.SEARCHED, name=SPINDLE, onset_s=0.0, duration_s=10.0)
MARK = Label(kind=LabelKind.WAVEFORM, name=SPINDLE, onset_s=2.0, duration_s=1.0, channel="C3")
RIGHT = event(SPINDLE, "C3", 2.0, 1.0, 0.6)
WRONG = event(SPINDLE, "C4", 6.0, 1.0, 0.4)


def known(*labels: Label) -> References:
    return references_of(page_of(np.zeros((N_CHANNELS, SEGMENT_SAMPLES)), labels), min_box_s=0.15)


LOOKED, MARKED_ALONE = known(MARK, SEARCHED), known(MARK)


def chosen(
    found: Sequence[Sequence[Event]], references: Sequence[References], subjects: str, **targets: ThresholdTarget
) -> tuple[DetectorSpec, dict[Waveform, WorkingPoint]]:
    recipe = recipe_of(SIGNAL, targets=TargetSettings.model_validate({"waveforms": targets}))
    return calibrated(spec_of(recipe), recipe, found, references, list(subjects))


def test_a_waveform_that_nobody_looked_for_keeps_its_score_and_meets_no_target() -> None:
    generous = ThresholdTarget(measure="false_per_minute", bound=100)
    spec, points = chosen([[RIGHT]] * 40, [MARKED_ALONE] * 40, "a" * 40, sleep_spindle=generous, k_complex=generous)
    assert spec.calibrations[SPINDLE] == Calibration()
    assert not any(point.met for point in points.values())


def test_subjects_in_whom_a_waveform_was_not_looked_for_count_for_nothing() -> None:
    recall = ThresholdTarget(measure="recall", bound=0.9)
    alone = chosen([[RIGHT, WRONG]] * 4, [LOOKED] * 4, "aabb", sleep_spindle=recall)
    beside = chosen([[RIGHT, WRONG], [RIGHT]] * 4, [LOOKED, MARKED_ALONE] * 4, "acacbcbc", sleep_spindle=recall)
    assert beside == alone
    assert (alone[1][SPINDLE].threshold, alone[1][SPINDLE].recall, alone[1][SPINDLE].met) == (0.6, 1.0, True)
    assert (alone[0].calibrations[SPINDLE].events, alone[0].calibrations[SPINDLE].hits) == (8, 4)


def test_minutes_are_those_in_which_a_waveform_was_looked_for_and_what_is_false_on_two_channels_at_once_is_one_false_alarm() -> None:
    page = [event(SPINDLE, "C3", 2.0, 1.0, 0.3), WRONG, event(SPINDLE, "Cz", 6.2, 1.0, 0.4)]
    precision = ThresholdTarget(measure="precision", bound=0.3)
    _, points = chosen([page] * 6 + [[]] * 6, [LOOKED] * 6 + [MARKED_ALONE] * 6, "ababab" * 2, sleep_spindle=precision)
    assert points[SPINDLE].false_per_minute == pytest.approx(6.0)  # twelve wrong events on six pages of ten seconds that were looked at


def test_what_lies_over_a_reference_on_another_channel_is_no_false_alarm() -> None:
    precision = ThresholdTarget(measure="precision", bound=0.2)
    for onset_s, expected in ((2.5, 0.0), (4.0, 6.0)):
        page = [event(SPINDLE, "C3", 2.0, 1.0, 0.3), event(SPINDLE, "Cz", onset_s, 0.4, 0.5)]
        _, points = chosen([page] * 6, [LOOKED] * 6, "ababab", sleep_spindle=precision)
        assert points[SPINDLE].false_per_minute == pytest.approx(expected)
        assert points[SPINDLE].precision == pytest.approx(0.5)


def test_a_spike_over_a_complex_is_wrong_but_no_false_alarm() -> None:
    looked = [dataclasses.replace(SEARCHED, name=w) for w in EPILEPTIFORM]
    page = known(
        *looked, dataclasses.replace(MARK, name=Waveform.SPIKE_AND_SLOW_WAVE), dataclasses.replace(MARK, name=Waveform.SPIKE, onset_s=5.0)
    )
    found = [event(Waveform.SPIKE, "C3", 5.0, 1.0, 0.3), event(Waveform.SPIKE, "C3", 2.0, 0.2, 0.5)]
    _, points = chosen([found] * 6, [page] * 6, "ababab", spike=ThresholdTarget(measure="precision", bound=0.2))
    assert (points[Waveform.SPIKE].false_per_minute, points[Waveform.SPIKE].precision) == (0.0, 0.5)
