"""Eye movements on the signal: the field of the eyes and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cg_data.analyze.annotate import annotate, annotate_truth
from cg_data.analyze.eyes import BLINK_MIN_UV, GAZE_MIN_UV
from cg_data.records import Label
from cg_data.vocabulary import FindingKind, LabelKind, Waveform
from tests.cg_data.planted_signals import Course, band_noise, bump, findings, planted, real_pages
from tests.records_small import event
from tests.signals_small import TIME_S, pink_uv, segment_of

EYELIDS = {"Fp1": 1.0, "Fp2": 0.95, "F7": 0.3, "F8": 0.3, "F3": 0.35, "F4": 0.35, "Fz": 0.3}
GAZE = {"F7": -0.5, "F8": 0.5, "Fp1": -0.15, "Fp2": 0.15, "F3": -0.12, "F4": 0.12, "T3": -0.15, "T4": 0.15}


def saccade(height_uv: float, rise_s: float = 0.05) -> Course:
    return np.interp(TIME_S - 4.0, [0.0, rise_s, 1.0, 1.0 + rise_s], [0.0, height_uv, height_uv, 0.0])


@pytest.mark.parametrize("height_uv", [120.0, 200.0, 400.0])
def test_blinks_are_found_at_the_frontal_poles_from_first_to_last(height_uv: float) -> None:
    wave = bump(3.0, 0.1, height_uv) + bump(7.0, 0.1, height_uv)
    (found,) = findings(planted(pink_uv(), (EYELIDS, wave)), FindingKind.BLINK)
    assert found.channels == ("Fp1", "Fp2")
    assert (found.onset_s, found.onset_s + found.duration_s) == (pytest.approx(2.8, abs=0.1), pytest.approx(7.2, abs=0.1))
    assert found.value >= found.threshold == BLINK_MIN_UV


@pytest.mark.parametrize("step_uv", [-300.0, 160.0, 300.0])
def test_a_saccade_is_a_lateral_eye_movement(step_uv: float) -> None:
    (found,) = findings(planted(pink_uv(rms_uv=8.0), (GAZE, saccade(step_uv))), FindingKind.LATERAL_EYE_MOVEMENT)
    assert found.channels == ("F7", "F8")
    assert found.onset_s == pytest.approx(3.8, abs=0.15)
    assert found.value >= found.threshold == GAZE_MIN_UV


@pytest.mark.parametrize(
    ("field", "course"),
    [
        (EYELIDS, bump(4.0, 0.1, -250.0)),  # negative: no upward roll
        ({"Fp1": 1.0, "F7": 0.3, "F3": 0.3}, bump(4.0, 0.1, 250.0)),  # one side
        ({"Fp1": 1.0, "Fp2": 1.0, "F3": 0.9, "F4": 0.9, "Fz": 1.0, "Cz": 0.7}, bump(4.0, 0.1, 250.0)),  # does not fall off
        (EYELIDS, bump(4.0, 0.02, 250.0)),  # as short as a spike
        (EYELIDS, bump(4.0, 0.6, 250.0)),  # as long as a slow wave
    ],
)
def test_other_frontal_waves_are_no_blinks(field: dict[str, float], course: Course) -> None:
    assert findings(planted(pink_uv(), (field, course)), FindingKind.BLINK) == []


def test_one_wave_that_looks_like_a_blink_among_discharges_as_high_is_none() -> None:
    others = sum((bump(t, 0.1, 250.0) for t in (1.0, 2.5, 5.5, 7.0, 8.5)), np.zeros(2000))
    frontal = {"Fp1": 1.0, "Fp2": 1.0, "F3": 0.9, "F4": 0.9, "Fz": 1.0, "F7": 0.8, "F8": 0.8, "Cz": 0.4}
    alone = planted(pink_uv(), (EYELIDS, bump(4.0, 0.1, 250.0)))
    assert len(findings(alone, FindingKind.BLINK)) == 1
    assert findings(planted(alone, (frontal, others)), FindingKind.BLINK) == []


def test_slow_rolling_eyes_and_one_sided_temporal_slowing_are_no_saccades() -> None:
    roll = planted(pink_uv(), (GAZE, 150 * np.sin(2 * np.pi * 0.5 * TIME_S)))
    slow = planted(pink_uv(), ({"F8": 1.0, "T4": 0.8}, band_noise(1, 3, 60.0)))
    for eeg_uv in (roll, slow):
        assert findings(eeg_uv, FindingKind.LATERAL_EYE_MOVEMENT) == []


def test_where_the_detector_or_a_reader_speaks_of_eye_movements_the_signal_is_not_asked() -> None:
    eeg_uv = planted(pink_uv(), (EYELIDS, bump(3.0, 0.1, 250.0) + bump(7.0, 0.1, 250.0)))
    seen = (event(Waveform.POSITIVE_SHARP_TRANSIENT, "Fp1", 2.9, 0.3, 0.95),)
    (found,) = (f for f in annotate(segment_of(eeg_uv), seen, detector_version="d1").findings if f.kind == FindingKind.BLINK)
    assert (found.unit, found.onset_s) == ("probability", 2.9)
    mark = Label(kind=LabelKind.WAVEFORM, name="spike", onset_s=3.1, duration_s=0.06, channel="T3")
    assert FindingKind.BLINK not in {f.kind for f in annotate_truth(segment_of(eeg_uv, labels=(mark,))).findings}


def test_real_blinks_are_found_and_real_discharges_are_none(real_eeg: Path) -> None:
    kinds = [FindingKind.BLINK, FindingKind.LATERAL_EYE_MOVEMENT]
    open_eyes = real_pages(real_eeg / "eegmmi_s001r01_eyes_open.edf")
    assert sum(bool(findings(page.eeg_uv, FindingKind.BLINK)) for page in open_eyes) >= 5
    for name in ("iiic_GPD_sample1", "iiic_GRDA_sample1", "iiic_SZ_sample1", "eegmat_subject00_rest"):
        for page in real_pages(real_eeg / f"{name}.edf"):
            assert not any(findings(page.eeg_uv, kind) for kind in kinds)
