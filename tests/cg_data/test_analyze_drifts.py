"""Respiration and sweat as they look behind the high-pass of 0.5 Hz, and the slow waves that are neither."""

from __future__ import annotations

import numpy as np
import pytest

from cg_data.analyze.drifts import BREATH_FIT, SWEAT_MIN_UV
from cg_data.vocabulary import FindingKind, LabelKind
from tests.cg_data.planted_signals import Course, band_noise, bump, filtered, findings, labelled, planted
from tests.signals_small import TIME_S, pink_uv

MINUTE_S = np.arange(12000) / 200
BACK = {"T5": 1.0, "O1": 0.8, "P3": 0.5}
FRONT = {"Fp1": 1.0, "F7": 0.9, "F3": 0.5, "Fp2": 0.9, "F8": 0.8, "F4": 0.5}
BASE = pink_uv(rms_uv=5.0, exponent=1.0)


def breathing(hz: float, swing_uv: float) -> Course:
    return filtered(swing_uv / 2 * np.sin(2 * np.pi * hz * MINUTE_S))


def swaying(swing_uv: float, seed: int = 3) -> Course:
    course = band_noise(0.1, 0.5, 1.0, seed, samples=12000)
    return filtered(course * swing_uv / np.ptp(course))


@pytest.mark.parametrize(("hz", "swing_uv"), [(0.25, 3000.0), (0.3, 1000.0), (0.4, 300.0)])
def test_breathing_that_the_filter_leaves_is_found_on_the_electrodes_that_it_moves(hz: float, swing_uv: float) -> None:
    (found,) = findings(planted(BASE, (BACK, breathing(hz, swing_uv))), FindingKind.RESPIRATION)
    assert {"T5", "O1"} <= set(found.channels)
    assert found.value >= found.threshold == BREATH_FIT


def test_breathing_that_the_filter_takes_out_is_not_claimed() -> None:
    assert np.ptp(breathing(0.2, 200.0)) < 10.0
    assert findings(planted(BASE, (BACK, breathing(0.2, 200.0))), FindingKind.RESPIRATION) == []


def test_one_electrode_alone_does_not_breathe() -> None:
    assert findings(planted(BASE, ({"T5": 1.0}, breathing(0.3, 1000.0))), FindingKind.RESPIRATION) == []


def test_drifts_of_the_front_are_sweat_and_never_breathing() -> None:
    pages = [planted(BASE, (FRONT, swaying(2000.0, seed))) for seed in range(12)]
    sweat = [f for page in pages for f in findings(page, FindingKind.SWEAT)]
    assert len(sweat) >= 9
    assert all({"Fp1", "F7"} <= set(f.channels) and f.value >= f.threshold == SWEAT_MIN_UV for f in sweat)
    assert not any(findings(page, FindingKind.RESPIRATION) for page in pages)


def test_slow_waves_of_deep_sleep_are_not_sweat() -> None:
    wave = band_noise(0.5, 0.8, 60.0)
    eeg_uv = planted(BASE, (FRONT, wave))
    assert findings(eeg_uv, FindingKind.SWEAT, (labelled(LabelKind.STAGE, "n3"),)) == []
    delta = planted(BASE, (FRONT, band_noise(0.5, 3.0, 60.0)))
    assert findings(delta, FindingKind.SWEAT) == []


def test_rolling_eyes_are_not_sweat() -> None:
    eyes = {"F7": 1.0, "F8": -1.0, "Fp1": 0.3, "Fp2": -0.3, "T3": 0.3, "T4": -0.3}
    assert findings(planted(BASE, (eyes, 80 * np.sin(2 * np.pi * 0.4 * TIME_S))), FindingKind.SWEAT) == []


def test_one_recovery_from_a_jump_is_neither_sweat_nor_breathing() -> None:
    after_s = np.maximum(TIME_S - 1.0, 0)
    wave = 400 * after_s * np.exp(-after_s / 0.6)
    eeg_uv = planted(BASE, (FRONT, wave))
    assert findings(eeg_uv, FindingKind.SWEAT) == []
    assert findings(eeg_uv, FindingKind.RESPIRATION) == []


def test_blinks_and_rhythmic_delta_are_neither() -> None:
    blinks = sum((bump(t, 0.1, 200.0) for t in (1.5, 4.0, 6.2, 8.8)), np.zeros(2000))
    for course in (blinks, 60 * np.sin(2 * np.pi * 2 * TIME_S), 60 * np.sin(2 * np.pi * 1.0 * TIME_S)):
        eeg_uv = planted(BASE, (FRONT, course))
        assert findings(eeg_uv, FindingKind.SWEAT) == []
        assert findings(eeg_uv, FindingKind.RESPIRATION) == []
