"""Background and artefact analysers on constructed signals whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cg_data.analyze.annotate import annotate, has_finding
from cg_data.analyze.artefacts import artefacts_of
from cg_data.analyze.background import LOW_VOLTAGE_UV, aperiodic_ratio, spectrum_of
from cg_data.records import Annotation, Finding
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, SFREQ_HZ, Band, FindingKind, Region, Waveform
from tests.cg_data.planted_signals import real_pages
from tests.records_small import event
from tests.signals_small import TIME_S, pink_uv, rows, segment_of

POSTERIOR = ("P3", "Pz", "P4", "O1", "O2")


def measured(eeg_uv: npt.NDArray[np.float32]) -> Annotation:
    return annotate(segment_of(eeg_uv), (), detector_version="none")


def finding_of(annotation: Annotation, kind: FindingKind) -> Finding:
    (found,) = [f for f in annotation.findings if f.kind == kind]
    return found


def test_a_posterior_ten_hertz_sine_is_an_alpha_rhythm_of_its_frequency_and_amplitude() -> None:
    eeg_uv = pink_uv(rms_uv=2.0)
    eeg_uv[rows(*POSTERIOR)] += 40 * np.sin(2 * np.pi * 10.3 * TIME_S)
    annotation = measured(eeg_uv)
    assert has_finding(annotation, FindingKind.ALPHA_RHYTHM)
    (rhythm,) = [r for r in annotation.background if r.region == Region.POSTERIOR]
    assert rhythm.band == Band.ALPHA
    assert rhythm.dominant_hz == pytest.approx(10.3, abs=0.1)
    assert rhythm.amplitude_uv == pytest.approx(40, rel=0.15)


def test_ten_hertz_at_the_front_is_no_alpha_rhythm() -> None:
    eeg_uv = pink_uv()
    eeg_uv[rows("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8")] += 40 * np.sin(2 * np.pi * 10 * TIME_S)
    assert not has_finding(measured(eeg_uv), FindingKind.ALPHA_RHYTHM)


def test_coloured_noise_without_rhythm_yields_no_finding() -> None:
    found = [f.kind for seed in range(12) for f in measured(pink_uv(seed)).findings]
    assert found == []


def test_a_one_over_f_spectrum_is_flat_after_the_trend_is_removed() -> None:
    power = 1 / np.maximum(np.fft.rfftfreq(400, 1 / SFREQ_HZ), 0.1) ** 1.5
    assert np.allclose(aperiodic_ratio(power), 1.0, atol=1e-6)


@pytest.mark.parametrize(
    ("hz", "kind"), [(2.0, FindingKind.DELTA_ACTIVITY), (6.0, FindingKind.THETA_ACTIVITY), (20.0, FindingKind.BETA_ACTIVITY)]
)
def test_slow_and_fast_rhythms_are_named_by_their_band(hz: float, kind: FindingKind) -> None:
    eeg_uv = pink_uv()
    # A narrow-band rhythm, not a line: its phase wanders.
    phase = 2 * np.pi * hz * TIME_S + np.cumsum(np.random.default_rng(1).normal(size=2000)) * 0.05
    eeg_uv[rows("C3", "Cz", "C4")] += 25 * np.sin(phase)
    assert finding_of(measured(eeg_uv), kind).channels == ("C3", "Cz", "C4")


def test_a_steep_spectrum_counts_as_delta() -> None:
    bands = [r.band for r in measured(pink_uv(exponent=3.0)).background]
    assert set(bands) == {Band.DELTA}


def test_half_the_amplitude_on_one_side_is_an_asymmetry_of_that_side() -> None:
    eeg_uv = pink_uv(3)
    assert not has_finding(measured(eeg_uv), FindingKind.ASYMMETRY)
    eeg_uv[rows("T3", "T5")] *= 0.3
    found = finding_of(measured(eeg_uv), FindingKind.ASYMMETRY)
    assert found.channels == ("T3", "T5")
    assert found.value >= found.threshold


def test_the_difference_that_discharges_or_muscle_make_is_no_asymmetry() -> None:
    eeg_uv = pink_uv(3)
    eeg_uv[rows("T3", "T5")] *= 0.3
    train = tuple(event(Waveform.SPIKE_AND_SLOW_WAVE, name, t, 0.35) for t in np.arange(0.5, 9.5, 0.8) for name in ("T4", "T6"))
    noise = tuple(event(Waveform.HIGH_FREQUENCY_NOISE, name, 1.0, 6.0) for name in ("T4", "T6"))
    for events, said in (((), True), (train, False), (noise, False)):
        assert has_finding(annotate(segment_of(eeg_uv), events, detector_version="d1"), FindingKind.ASYMMETRY) is said


def test_low_voltage_needs_every_region_below_twenty_microvolts() -> None:
    eeg_uv = pink_uv(rms_uv=3.0)
    assert finding_of(measured(eeg_uv), FindingKind.LOW_VOLTAGE).value < LOW_VOLTAGE_UV
    eeg_uv[rows(*POSTERIOR)] *= 6
    assert not has_finding(measured(eeg_uv), FindingKind.LOW_VOLTAGE)


def test_a_flat_channel_is_found_where_and_when_it_is_flat() -> None:
    eeg_uv = pink_uv()
    eeg_uv[CHANNEL_INDEX["C4"], 600:1400] = np.linspace(4, 0, 800)
    found = finding_of(measured(eeg_uv), FindingKind.FLAT_CHANNEL)
    assert found.channels == ("C4",)
    assert found.onset_s == pytest.approx(3.0, abs=0.5)
    assert found.duration_s == pytest.approx(4.0, abs=0.5)


def test_one_flat_second_is_not_yet_a_flat_channel() -> None:
    eeg_uv = pink_uv()
    eeg_uv[CHANNEL_INDEX["C4"], 600:800] = 0
    assert not has_finding(measured(eeg_uv), FindingKind.FLAT_CHANNEL)


def test_a_missing_electrode_is_neither_flat_nor_measured() -> None:
    eeg_uv = pink_uv()
    mask = np.array([name not in POSTERIOR for name in CHANNELS])
    eeg_uv[~mask] = 0
    annotation = annotate(segment_of(eeg_uv, mask), (), detector_version="none")
    assert not has_finding(annotation, FindingKind.FLAT_CHANNEL)
    assert Region.POSTERIOR not in {r.region for r in annotation.background}


def test_a_burst_of_muscle_is_found_on_its_channel() -> None:
    eeg_uv = pink_uv()
    rng = np.random.default_rng(5)
    burst = np.fft.irfft(np.fft.rfft(rng.normal(size=400)) * (np.fft.rfftfreq(400, 1 / SFREQ_HZ) > 25), 400)
    eeg_uv[CHANNEL_INDEX["T3"], 800:1200] += (40 * burst / burst.std()).astype(np.float32)
    found = finding_of(measured(eeg_uv), FindingKind.MUSCLE)
    assert found.channels == ("T3",)
    assert 3.0 <= found.onset_s <= 4.5
    assert found.value > 25


def test_a_wild_channel_that_no_neighbour_follows_is_an_electrode_fault() -> None:
    eeg_uv = pink_uv()
    drift = np.cumsum(np.random.default_rng(6).normal(size=1000))
    eeg_uv[CHANNEL_INDEX["P3"], :1000] = 400 * (drift - drift.mean()) / drift.std()
    found = finding_of(measured(eeg_uv), FindingKind.ELECTRODE_FAULT)
    assert found.channels == ("P3",)
    assert found.onset_s + found.duration_s <= 6.0


def test_a_large_wave_with_a_field_is_no_electrode_fault() -> None:
    eeg_uv = pink_uv()
    wave = 300 * np.exp(-(((TIME_S - 5) / 0.2) ** 2))
    eeg_uv[rows("Fp1", "Fp2")] += wave.astype(np.float32)
    eeg_uv[rows("F3", "Fz", "F4")] += (0.3 * wave).astype(np.float32)
    assert not has_finding(measured(eeg_uv), FindingKind.ELECTRODE_FAULT)


def test_an_electrical_line_is_mains_and_neither_muscle_nor_beta() -> None:
    eeg_uv = pink_uv() + (60 * np.sin(2 * np.pi * 25 * TIME_S)).astype(np.float32)
    annotation = measured(eeg_uv)
    assert len(finding_of(annotation, FindingKind.MAINS).channels) == 19
    assert not has_finding(annotation, FindingKind.MUSCLE)
    assert not has_finding(annotation, FindingKind.BETA_ACTIVITY)


def test_faulty_channels_are_left_out_of_the_background() -> None:
    eeg_uv = pink_uv()
    eeg_uv[rows("C3")] = 0
    artefacts = artefacts_of("s0", eeg_uv, np.ones(19, dtype=np.bool_), spectrum_of(eeg_uv))
    assert [CHANNELS[i] for i in np.flatnonzero(artefacts.unusable)] == ["C3"]


def test_equal_input_gives_equal_annotations() -> None:
    eeg_uv = pink_uv(9)
    assert measured(eeg_uv) == measured(eeg_uv.copy())


@pytest.mark.parametrize(("name", "closed"), [("eegmmi_s001r02_eyes_closed.edf", True), ("eegmmi_s001r01_eyes_open.edf", False)])
def test_a_real_alpha_rhythm_is_there_with_eyes_closed_and_blocked_with_eyes_open(real_eeg: Path, name: str, closed: bool) -> None:
    pages = [annotate(page, (), detector_version="none") for page in real_pages(real_eeg / name)]
    with_alpha = sum(has_finding(page, FindingKind.ALPHA_RHYTHM) for page in pages)
    assert with_alpha == len(pages) if closed else with_alpha <= len(pages) / 3


@pytest.mark.parametrize("hz", [1.5, 2.2, 3.0, 4.0])
def test_a_train_of_spikes_and_waves_is_not_muscle(hz: float) -> None:
    eeg_uv = pink_uv(rms_uv=8.0)
    for at_s in np.arange(0.3, 9.8, 1 / hz):
        spike = -250 * np.exp(-(((TIME_S - at_s) / 0.012) ** 2)) + 120 * np.exp(-(((TIME_S - at_s - 0.5 / hz) / (0.15 / hz)) ** 2))
        eeg_uv[rows("Fp1", "Fp2", "F3", "Fz", "F4")] += spike.astype(np.float32)
    assert not has_finding(measured(eeg_uv), FindingKind.MUSCLE)


def test_the_harmonics_of_a_high_alpha_rhythm_are_not_muscle() -> None:
    eeg_uv = pink_uv()
    wave = 80 * np.sin(2 * np.pi * 10.4 * TIME_S) + 25 * np.sin(4 * np.pi * 10.4 * TIME_S)
    eeg_uv[rows("O1", "O2")] += wave.astype(np.float32)
    assert not has_finding(measured(eeg_uv), FindingKind.MUSCLE)


def test_a_burst_of_muscle_on_one_electrode_is_no_electrode_fault() -> None:
    rng = np.random.default_rng(8)
    for start in (500, 520, 540, 560, 580):
        eeg_uv = pink_uv()
        burst = np.fft.irfft(np.fft.rfft(rng.normal(size=600)) * (np.fft.rfftfreq(600, 1 / SFREQ_HZ) > 25), 600)
        eeg_uv[CHANNEL_INDEX["T4"], start : start + 600] += (60 * burst / burst.std()).astype(np.float32)
        found = measured(eeg_uv)
        assert has_finding(found, FindingKind.MUSCLE)
        assert not has_finding(found, FindingKind.ELECTRODE_FAULT)


def test_samples_at_the_end_of_the_range_are_clipping_where_and_when_they_are() -> None:
    eeg_uv = pink_uv()
    eeg_uv[CHANNEL_INDEX["F8"], 700:760] = 5000
    found = finding_of(measured(eeg_uv), FindingKind.CLIPPING)
    assert found.channels == ("F8",)
    assert (found.onset_s, found.duration_s) == (3.5, 0.3)
    assert found.value == found.threshold == pytest.approx(3276.7)


def test_a_high_wave_within_the_range_is_not_clipping() -> None:
    eeg_uv = pink_uv()
    eeg_uv[CHANNEL_INDEX["F8"]] += (3000 * np.exp(-(((TIME_S - 4) / 0.2) ** 2))).astype(np.float32)
    assert not has_finding(measured(eeg_uv), FindingKind.CLIPPING)


def test_every_finding_says_where_when_and_what_passed_which_threshold(real_eeg: Path) -> None:
    for name in ("epviz_demo", "iiic_SZ_sample1", "iiic_Other_sample1", "eegmat_subject02_rest", "eegmmi_s001r01_eyes_open"):
        for page in real_pages(real_eeg / f"{name}.edf"):
            for found in annotate(page, (), detector_version="none").findings:
                below = found.kind in (FindingKind.FLAT_CHANNEL, FindingKind.LOW_VOLTAGE) or found.unit == "Hz posterior rhythm"
                assert found.value <= found.threshold if below else found.value >= found.threshold
                assert found.channels
                assert set(found.channels) <= set(CHANNELS)
                assert found.unit
                assert 0 <= found.onset_s < found.onset_s + found.duration_s <= 10


def test_no_page_however_poor_raises_or_yields_a_finding_on_a_missing_electrode() -> None:
    rng = np.random.default_rng(0)
    ramp, click = np.linspace(-3000, 3000, 2000), 3000.0 * (np.arange(2000) == 1000)
    courses = (np.zeros(2000), ramp, click, 100 * np.sin(2 * np.pi * 50 * TIME_S), np.full(2000, 4000.0))
    pages = [pink_uv(), rng.normal(0, 1000, (19, 2000)).astype(np.float32), *(np.tile(c, (19, 1)).astype(np.float32) for c in courses)]
    for eeg_uv in pages:
        for n_recorded in (0, 1, 2, 3, 5, 10):
            mask = np.zeros(19, dtype=np.bool_)
            mask[rng.permutation(19)[:n_recorded]] = True
            events = tuple(event(w, CHANNELS[row], 9.85, 0.1) for w in Waveform for row in np.flatnonzero(mask))
            found = annotate(segment_of(eeg_uv * mask[:, None], mask), events, detector_version="d1").findings
            assert all(mask[CHANNEL_INDEX[name]] for f in found for name in f.channels)
            assert all(np.isfinite(f.value) for f in found)
