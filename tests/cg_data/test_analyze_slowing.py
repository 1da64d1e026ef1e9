"""Slowing: found awake where it is, diffuse or in part, and never said of sleep, discharges, eyes or deep slow waves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cg_data.analyze.slowing import SLOW_POSTERIOR_HZ, SLOW_RATIO, SLOW_RATIO_UNLABELLED
from cg_data.records import Event, Label
from cg_data.vocabulary import CHANNELS, FindingKind, LabelKind, Waveform
from tests.cg_data.planted_signals import Uv, band_noise, bump, findings, labelled, planted, real_pages
from tests.records_small import event
from tests.signals_small import TIME_S, pink_uv

WAKE = (labelled(LabelKind.STAGE, "wake"),)
SPINDLES = tuple(event(Waveform.SLEEP_SPINDLE, name, 2.0, 0.8) for name in ("C3", "Cz"))


def slowed(names: tuple[str, ...], rms_uv: float) -> Uv:
    """Waking noise, and on some electrodes irregular waves of 2.5 to 6 Hz, each electrode its own."""
    base = planted(pink_uv(rms_uv=5.0, exponent=1.0), ({"O1": 1.0, "O2": 1.0, "P3": 0.7, "P4": 0.7}, band_noise(9, 11, 6.0)))
    return planted(base, *(({name: 1.0}, band_noise(2.5, 6, rms_uv, CHANNELS.index(name))) for name in names))


def slowing(eeg_uv: Uv, labels: tuple[Label, ...] = (), events: tuple[Event, ...] = ()) -> list[tuple[str, ...]]:
    return [f.channels for f in findings(eeg_uv, FindingKind.SLOWING, labels, events)]


@pytest.mark.parametrize(("labels", "least"), [(WAKE, SLOW_RATIO), ((), SLOW_RATIO_UNLABELLED)])
def test_slow_waves_all_over_the_head_are_diffuse_slowing_with_its_evidence(labels: tuple[Label, ...], least: float) -> None:
    (found,) = findings(slowed(CHANNELS, 25.0), FindingKind.SLOWING, labels)
    assert len(found.channels) >= 15
    assert found.value >= found.threshold == least


def test_slow_waves_of_one_part_are_slowing_there() -> None:
    (channels,) = slowing(slowed(("T3", "T5"), 30.0), WAKE)
    assert set(channels) == {"T3", "T5"}


def test_one_slow_electrode_is_not_slowing() -> None:
    assert slowing(slowed(("T3",), 30.0), WAKE) == []


def test_a_waking_page_is_not_slowed() -> None:
    assert slowing(slowed((), 0.0), WAKE) == []
    assert slowing(slowed((), 0.0)) == []


def test_a_posterior_rhythm_below_eight_hertz_awake_is_slowing() -> None:
    phase = 2 * np.pi * 6.8 * TIME_S + np.cumsum(np.random.default_rng(0).normal(size=2000)) * 0.03
    back = {"O1": 1.0, "O2": 1.0, "P3": 0.7, "P4": 0.7, "Pz": 0.7}
    (found,) = findings(planted(pink_uv(rms_uv=4.0), (back, 30 * np.sin(phase))), FindingKind.SLOWING, WAKE)
    assert found.value == pytest.approx(6.8, abs=0.3)
    assert (found.threshold, found.unit) == (SLOW_POSTERIOR_HZ, "Hz posterior rhythm")


@pytest.mark.parametrize("stage", ["n1", "n2", "n3", "rem"])
def test_sleep_is_never_slowed(stage: str) -> None:
    assert slowing(slowed(CHANNELS, 25.0), (labelled(LabelKind.STAGE, stage),)) == []


def test_spindles_on_a_page_without_a_stage_mean_sleep_and_a_label_of_wakefulness_stands_above_them() -> None:
    assert slowing(slowed(CHANNELS, 25.0), (), SPINDLES) == []
    assert len(slowing(slowed(CHANNELS, 25.0), WAKE, SPINDLES)) == 1


def test_mild_slowness_is_slowing_only_where_a_label_says_awake() -> None:
    mild = planted(slowed(CHANNELS, 12.0), *(({name: 1.0}, band_noise(8, 20, 3.8, 50 + i)) for i, name in enumerate(CHANNELS)))
    assert len(slowing(mild, WAKE)) == 1
    assert slowing(mild) == []


def test_waves_as_high_as_those_of_deep_sleep_are_judged_only_awake() -> None:
    deep = planted(slowed(CHANNELS, 25.0), ({"Fp1": 1.0, "Fp2": 1.0, "F3": 1.0, "F4": 1.0, "Fz": 1.0}, band_noise(0.5, 2, 60.0)))
    assert slowing(deep) == []
    assert len(slowing(deep, WAKE)) == 1


def test_the_slow_waves_of_a_seizure_or_of_discharges_are_not_slowing() -> None:
    eeg_uv = slowed(CHANNELS, 25.0)
    assert slowing(eeg_uv, (*WAKE, labelled(LabelKind.SEIZURE, "seizure"))) == []
    train = tuple(event(Waveform.SPIKE_AND_SLOW_WAVE, name, t, 0.35) for t in np.arange(0.5, 9.5, 0.4) for name in ("F3", "Fz"))
    assert slowing(eeg_uv, WAKE, train) == []


def spiking(onsets_s: list[float], base: Uv) -> tuple[Uv, tuple[Event, ...]]:
    """Sharp waves of 0.12 s, 150 uV negative at O1 and less at P3, with their slow waves, and the marks of the sharp ones alone."""
    course = sum((bump(t + 0.06, 0.04, -150.0) + bump(t + 0.3, 0.12, 50.0) for t in onsets_s), np.zeros(2000))
    marks = tuple(event(Waveform.SHARP_WAVE, name, t, 0.12) for t in onsets_s for name in ("P3", "O1"))
    return planted(base, ({"O1": 1.0, "P3": 0.8}, course)), marks


def test_sharp_waves_in_most_of_the_spectral_windows_neither_slow_their_electrodes_nor_lower_the_other_side() -> None:
    eeg_uv, marks = spiking([0.9, 2.4, 3.7, 5.1, 6.2, 7.3, 8.9], slowed((), 0.0))
    assert slowing(eeg_uv, WAKE) == [("P3", "O1")]
    assert len(findings(eeg_uv, FindingKind.ASYMMETRY, WAKE)) == 1
    assert slowing(eeg_uv, WAKE, marks) == []
    assert findings(eeg_uv, FindingKind.ASYMMETRY, WAKE, marks) == []


def test_a_few_sharp_waves_do_not_hide_the_slowing_beneath_them() -> None:
    beneath = planted(slowed((), 0.0), ({"P3": 1.0, "O1": 1.0}, band_noise(2.5, 6, 25.0)))
    eeg_uv, marks = spiking([2.4, 6.4], beneath)
    (channels,) = slowing(eeg_uv, WAKE, marks)
    assert set(channels) == {"P3", "O1"}


def test_eye_movements_do_not_slow_the_front() -> None:
    eyes = {"Fp1": 1.0, "Fp2": 1.0, "F7": 0.4, "F8": 0.4, "F3": 0.4, "F4": 0.4, "Fz": 0.4}
    at_s = np.arange(0.5, 9.7, 0.7)
    blinking = planted(slowed((), 0.0), (eyes, sum((bump(t, 0.1, 150.0) for t in at_s), np.zeros(2000))))
    blinks = tuple(event(Waveform.POSITIVE_SHARP_TRANSIENT, name, t - 0.15, 0.3) for t in at_s for name in ("Fp1", "Fp2"))
    assert slowing(blinking, WAKE, blinks) == []


def test_healthy_rest_is_never_slowed_and_an_encephalopathy_always(real_eeg: Path) -> None:
    for name, share in (("eegmat_subject00_rest", 0), ("eegmmi_s001r01_eyes_open", 0), ("iiic_LRDA_sample1", 1)):
        pages = real_pages(real_eeg / f"{name}.edf")
        assert sum(len(slowing(page.eeg_uv)) for page in pages) == share * len(pages)
