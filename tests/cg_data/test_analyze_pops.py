"""Electrode pops: one electrode jumps and decays, alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cg_data.analyze.pops import POP_MIN_UV
from cg_data.vocabulary import FindingKind
from tests.cg_data.planted_signals import Course, band_noise, bump, filtered, findings, planted, real_pages
from tests.signals_small import TIME_S, pink_uv


def pop(height_uv: float, decay_s: float, at_s: float = 4.0) -> Course:
    after_s = np.arange(12000) / 200 - 50 - at_s
    return filtered(np.where(after_s >= 0, height_uv * np.exp(-np.maximum(after_s, 0) / decay_s), 0.0))


@pytest.mark.parametrize("decay_s", [0.2, 0.5])
@pytest.mark.parametrize("height_uv", [-150.0, 150.0, 400.0])
@pytest.mark.parametrize("name", ["Fp1", "T4", "Pz"])
def test_a_pop_is_found_on_its_electrode_at_its_time(name: str, height_uv: float, decay_s: float) -> None:
    (found,) = findings(planted(pink_uv(rms_uv=8.0), ({name: 1.0}, pop(height_uv, decay_s))), FindingKind.ELECTRODE_POP)
    assert found.channels == (name,)
    assert found.onset_s == pytest.approx(4.0, abs=0.05)
    assert found.value == pytest.approx(abs(height_uv), rel=0.25)
    assert found.threshold == POP_MIN_UV


def test_two_pops_of_one_electrode_are_one_finding_from_the_first_to_the_last() -> None:
    wave = pop(200.0, 0.3, at_s=2.0) + pop(200.0, 0.3, at_s=6.0)
    (found,) = findings(planted(pink_uv(rms_uv=8.0), ({"C3": 1.0}, wave)), FindingKind.ELECTRODE_POP)
    assert found.onset_s == pytest.approx(2.0, abs=0.05)
    assert found.onset_s + found.duration_s == pytest.approx(6.5, abs=0.05)


def test_a_jump_that_a_neighbour_shares_is_no_pop() -> None:
    assert findings(planted(pink_uv(rms_uv=8.0), ({"C3": 1.0, "P3": 0.4}, pop(200.0, 0.3))), FindingKind.ELECTRODE_POP) == []


@pytest.mark.parametrize("width_s", [0.02, 0.05])
@pytest.mark.parametrize("field", [{"T3": 1.0}, {"T3": 1.0, "F7": 0.3, "T5": 0.3, "C3": 0.3}])
def test_a_spike_or_sharp_wave_is_no_pop_even_on_one_electrode(width_s: float, field: dict[str, float]) -> None:
    wave = bump(4.0, width_s, -150.0) + bump(4.25, 0.12, 40.0)
    assert findings(planted(pink_uv(rms_uv=8.0), (field, wave)), FindingKind.ELECTRODE_POP) == []


def test_muscle_and_mains_are_no_pops() -> None:
    for course in (band_noise(25, 70, 60.0), 100 * np.sin(2 * np.pi * 50 * TIME_S)):
        assert findings(planted(pink_uv(), ({"T3": 1.0}, course)), FindingKind.ELECTRODE_POP) == []


def test_a_blink_is_no_pop() -> None:
    eyes = {"Fp1": 1.0, "Fp2": 0.95, "F3": 0.3, "F4": 0.3, "F7": 0.3, "F8": 0.3}
    assert findings(planted(pink_uv(), (eyes, bump(4.0, 0.1, 250.0))), FindingKind.ELECTRODE_POP) == []


def test_a_real_pop_is_found_and_real_discharges_are_none(real_eeg: Path) -> None:
    rest = real_pages(real_eeg / "eegmat_subject02_rest.edf")
    (found,) = findings(rest[13].eeg_uv, FindingKind.ELECTRODE_POP)
    assert (found.channels, round(found.onset_s)) == (("O2",), 3)
    for name in ("iiic_GPD_sample1", "iiic_LPD_sample1", "iiic_SZ_sample1"):
        for page in real_pages(real_eeg / f"{name}.edf"):
            assert findings(page.eeg_uv, FindingKind.ELECTRODE_POP) == []
