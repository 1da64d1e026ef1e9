"""ECG artefact: found where a heart beats far from the head, and nowhere else that something sharp recurs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cg_data.analyze.heartbeat import BEAT_MIN_UV
from cg_data.analyze.layout import SPHERE_XYZ
from cg_data.vocabulary import CHANNELS, FindingKind
from tests.cg_data.planted_signals import Course, band_noise, bump, findings, planted, real_pages
from tests.signals_small import TIME_S, pink_uv

ACROSS = dict(zip(CHANNELS, SPHERE_XYZ[:, 0] / np.abs(SPHERE_XYZ[:, 0]).max(), strict=True))
"""A plane over the head from left to right."""
QRS = ((-0.025, 0.010, -0.15), (0.0, 0.012, 1.0), (0.025, 0.012, -0.3))


def beats(per_min: float, height_uv: float, varied: float = 0.03) -> Course:
    intervals_s = 60 / per_min * (1 + np.random.default_rng(1).normal(0, varied, 40))
    at_s = 0.2 + np.cumsum(intervals_s)
    return sum((bump(t + delay, width, height_uv * share) for t in at_s for delay, width, share in QRS), np.zeros(2000))


@pytest.mark.parametrize("per_min", [48, 72, 100, 130])
def test_a_heart_is_found_on_both_sides_of_the_head_with_its_height(per_min: float) -> None:
    (found,) = findings(planted(pink_uv(rms_uv=6.0), (ACROSS, beats(per_min, 40.0))), FindingKind.ECG)
    assert {"T3", "T4"} <= set(found.channels)
    assert "Cz" not in found.channels
    assert found.value == pytest.approx(52, rel=0.3)  # R against S
    assert found.threshold == BEAT_MIN_UV


def test_beats_below_the_eeg_are_not_claimed() -> None:
    assert findings(planted(pink_uv(rms_uv=12.0), (ACROSS, beats(72, 3.0))), FindingKind.ECG) == []


@pytest.mark.parametrize("per_min", [30, 180])
def test_rates_that_no_resting_heart_has_are_not_a_heart(per_min: float) -> None:
    assert findings(planted(pink_uv(rms_uv=6.0), (ACROSS, beats(per_min, 40.0))), FindingKind.ECG) == []


def test_irregular_sharp_waves_are_not_a_heart() -> None:
    assert findings(planted(pink_uv(rms_uv=6.0), (ACROSS, beats(72, 40.0, varied=0.35))), FindingKind.ECG) == []


@pytest.mark.parametrize("focus", [{"T3": 1.0, "F7": 0.5, "C3": 0.4, "T5": 0.4}, {"Fz": 1.0, "F3": 0.7, "F4": 0.7, "Cz": 0.6}])
@pytest.mark.parametrize("hz", [1.0, 1.5, 2.2])
def test_periodic_spikes_and_waves_of_the_cortex_are_not_a_heart(focus: dict[str, float], hz: float) -> None:
    train = sum((bump(t, 0.02, -80.0) + bump(t + 0.18, 0.1, 60.0) for t in np.arange(0.3, 10, 1 / hz)), np.zeros(2000))
    assert findings(planted(pink_uv(rms_uv=6.0), (focus, train)), FindingKind.ECG) == []


def test_spindles_and_alpha_are_not_a_heart() -> None:
    spindles = sum((bump(t, 0.4, 40.0) * np.sin(2 * np.pi * 13 * TIME_S) for t in (1.0, 4.0, 7.5)), np.zeros(2000))
    alpha = band_noise(9, 11, 30.0)
    back = {"O1": 1.0, "O2": 1.0, "P3": 0.6, "P4": 0.6, "Pz": 0.6}
    for seed in range(4):
        base = pink_uv(seed, rms_uv=6.0)
        assert findings(planted(base, ({"Cz": 1.0, "C3": 0.7, "C4": 0.7, "Fz": 0.7}, spindles)), FindingKind.ECG) == []
        assert findings(planted(base, (back, alpha)), FindingKind.ECG) == []


def test_real_periodic_and_ictal_discharges_are_not_a_heart(real_eeg: Path) -> None:
    for name in ("iiic_GPD_sample1", "iiic_LPD_sample1", "iiic_SZ_sample1"):
        for page in real_pages(real_eeg / f"{name}.edf"):
            assert findings(page.eeg_uv, FindingKind.ECG) == []
