"""The aperiodic fit and the peaks above it, held against specparam (Donoghue et al. 2020)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from specparam import SpectralModel

from cg_data.analyze.background import aperiodic_ratio, fitted_bins, mean_power, peak_of, spectrum_of
from cg_data.analyze.layout import REGION_INDEX
from cg_data.vocabulary import Region
from tests.cg_data.planted_signals import band_noise, planted, real_pages
from tests.signals_small import pink_uv

HZ = np.arange(0, 100.5, 0.5)
FIT_HZ = np.arange(1, 30, 0.5)
ALPHA_HZ = (5.0, 14.0)


def posterior_power(eeg_uv: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return mean_power(spectrum_of(eeg_uv), REGION_INDEX[Region.POSTERIOR])


def exponent(power: npt.NDArray[np.float64]) -> float:
    trend = power[2:60] / aperiodic_ratio(power)
    return -float(np.polyfit(np.log10(FIT_HZ), np.log10(trend), 1)[0])


def specparam_fit(power: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Exponent, and frequency and height (log10) of the highest peak in `ALPHA_HZ`."""
    model = SpectralModel(peak_width_limits=(1, 8), max_n_peaks=6, min_peak_height=0.1, verbose=False)
    model.fit(HZ, power, [1, 29.5])
    peaks = np.atleast_2d(model.get_params("peak"))
    peaks = peaks[(peaks[:, 0] >= ALPHA_HZ[0]) & (peaks[:, 0] < ALPHA_HZ[1])]
    hz, height = peaks[peaks[:, 1].argmax()][:2] if len(peaks) else (np.nan, np.nan)
    return float(model.get_params("aperiodic", "exponent")), float(hz), float(height)


@pytest.mark.parametrize("true", [1.0, 1.5, 2.0])
def test_the_exponent_of_noise_is_as_near_the_truth_as_specparam_comes(true: float) -> None:
    pages = [posterior_power(pink_uv(seed, exponent=true)) for seed in range(12)]
    ours = np.array([exponent(power) for power in pages]) - true
    theirs = np.array([specparam_fit(power)[0] for power in pages]) - true
    assert np.abs(ours - theirs).max() <= 0.25
    assert np.sqrt((ours**2).mean()) <= np.sqrt((theirs**2).mean()) + 0.02


@pytest.mark.parametrize("hz", [6.0, 8.5, 10.0, 12.0])
def test_the_exponent_is_not_moved_by_a_rhythm(hz: float) -> None:
    back = {"O1": 1.0, "O2": 0.9, "P3": 0.9, "P4": 0.8, "Pz": 0.8}
    alone = posterior_power(planted(pink_uv(4)))
    both = posterior_power(planted(pink_uv(4), (back, band_noise(hz - 0.75, hz + 0.75, 15.0))))
    assert exponent(both) == pytest.approx(exponent(alone), abs=0.3)
    assert peak_of(aperiodic_ratio(both), fitted_bins(*ALPHA_HZ))[0] == pytest.approx(hz, abs=0.75)


@pytest.mark.parametrize("name", ["eegmmi_s001r02_eyes_closed", "microstates_rest"])
def test_real_alpha_peaks_lie_where_specparam_finds_them_and_are_as_high(real_eeg: Path, name: str) -> None:
    for page in real_pages(real_eeg / f"{name}.edf"):
        power = posterior_power(page.eeg_uv)
        hz, ratio = peak_of(aperiodic_ratio(power), fitted_bins(*ALPHA_HZ))
        _, their_hz, their_height = specparam_fit(power)
        assert hz == pytest.approx(their_hz, abs=0.5)
        assert np.log10(ratio) == pytest.approx(their_height, abs=0.25)
