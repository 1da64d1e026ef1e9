"""The filter equals the classical chain of resampling and forward-backward filters, at every rate and length."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import torch

import cg_data.signal
from cg_data.signal import clean, clean_blocks, filter_blocks, find_mains_hz


def eeg_like(sfreq_hz: float, duration_s: float, rms_uv: float = 25.0) -> npt.NDArray[np.float32]:
    """Three channels of noise with a 1/f amplitude spectrum from 0.1 Hz up to where an amplifier's own filter ends, and an offset."""
    rng = np.random.default_rng(5)
    n = round(sfreq_hz * duration_s)
    hz = np.fft.rfftfreq(n, 1 / sfreq_hz)
    spectrum = (rng.normal(size=(3, len(hz))) + 1j * rng.normal(size=(3, len(hz)))) / np.maximum(hz, 0.1)
    spectrum[:, hz > 0.45 * sfreq_hz] = 0
    signal = np.fft.irfft(spectrum, n, axis=1)
    return (signal / signal.std(axis=1, keepdims=True) * rms_uv + 40).astype(np.float32)


def oracle(eeg_uv: npt.NDArray[np.float32], sfreq_hz: float, mains_hz: float | None) -> npt.NDArray[np.float64]:
    ratio = 200 / Fraction(str(sfreq_hz))
    x = eeg_uv.astype(np.float64)
    if ratio != 1:
        faster = max(ratio.numerator, ratio.denominator)
        # Five times the taps of scipy's default: below 200 Hz the skirt at the recorded Nyquist frequency would lie within the band.
        low_pass = scipy.signal.firwin(100 * faster + 1, 1 / faster, window=("kaiser", 8.0))
        x = scipy.signal.resample_poly(x, ratio.numerator, ratio.denominator, axis=1, padtype="line", window=low_pass)
    x = scipy.signal.sosfiltfilt(scipy.signal.butter(2, 0.5, "highpass", fs=200, output="sos"), x, axis=1)
    x = scipy.signal.sosfiltfilt(scipy.signal.butter(4, 70, "lowpass", fs=200, output="sos"), x, axis=1)
    if mains_hz:
        x = scipy.signal.sosfiltfilt(scipy.signal.tf2sos(*scipy.signal.iirnotch(mains_hz, 25, fs=200)), x, axis=1)
    return x


@pytest.mark.parametrize("sfreq_hz", [128, 160, 173.61, 200, 250, 256, 400, 500, 512, 1000])
@pytest.mark.parametrize("mains_hz", [None, 50.0])
def test_it_equals_resampling_and_forward_backward_filtering(sfreq_hz: float, mains_hz: float | None) -> None:
    eeg_uv = eeg_like(sfreq_hz, 150)
    ours, theirs = clean(eeg_uv, sfreq_hz, mains_hz), oracle(eeg_uv, sfreq_hz, mains_hz)
    assert abs(theirs.shape[1] - ours.shape[1]) <= 1
    assert ours.shape == (3, round(eeg_uv.shape[1] * 200 / sfreq_hz))
    inside = slice(2000, 28000)
    difference = ours[:, inside] - theirs[:, inside]
    assert np.abs(difference).max() < 0.01
    assert difference.std() < 0.002


@pytest.mark.parametrize("sfreq_hz", [100.0, 128.0, 160.0, 173.61, 199.8, 255.98, 2048.0])
def test_a_sine_keeps_its_frequency_amplitude_and_phase_at_any_rate(sfreq_hz: float) -> None:
    t_in = np.arange(round(130 * sfreq_hz)) / sfreq_hz
    out = clean(np.sin(2 * np.pi * 10 * t_in)[None].astype(np.float32) * 50, sfreq_hz, None)[0]
    t_out = np.arange(len(out)) / 200
    assert len(out) == round(len(t_in) * 200 / sfreq_hz)
    inside = (t_out > 5) & (t_out < 125)
    assert np.abs(out - 50 * np.sin(2 * np.pi * 10 * t_out))[inside].max() < 0.02


def test_it_takes_out_drift_and_mains_and_keeps_alpha() -> None:
    t = np.arange(256 * 60) / 256
    drift, mains, alpha = 300 * np.sin(2 * np.pi * 0.05 * t), 80 * np.sin(2 * np.pi * 50 * t), 30 * np.sin(2 * np.pi * 10 * t)
    out = clean((drift + mains + alpha)[None].astype(np.float32), 256, 50.0)[0, 1000:-1000]
    assert out.std() == pytest.approx(30 / np.sqrt(2), rel=0.01)


@pytest.mark.parametrize("duration_s", [1.0, 10.0, 19.5, 61.0, 70.0])
def test_short_recordings_have_ends_without_transients(duration_s: float) -> None:
    n = round(256 * duration_s)
    out = clean(np.full((2, n), 4000.0, np.float32) + np.sin(np.arange(n) / 256 * 2 * np.pi * 8).astype(np.float32) * 20, 256, None)
    assert out.shape == (2, round(n * 200 / 256))
    assert np.abs(out).max() < 30


def test_a_block_alone_equals_the_same_block_of_the_whole() -> None:
    eeg_uv = eeg_like(256, 200)
    whole = clean(eeg_uv, 256, None)
    (second,) = clean_blocks(lambda start, stop: eeg_uv[:, start:stop], eeg_uv.shape[1], 256, None, range(1, 2))
    np.testing.assert_array_equal(second, whole[:, 12000:24000])


@pytest.mark.parametrize("sfreq_hz", [256, 173.61])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_many_blocks_at_once_are_equal_to_the_bit_with_one_after_the_other(
    sfreq_hz: float, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA device gets batches; here the CPU works on the same ones."""
    eeg_uv = eeg_like(sfreq_hz, 300)[:channels]
    alone = clean(eeg_uv, sfreq_hz, 50.0)
    asked: list[int] = []

    def batched(padded: npt.NDArray[np.float32], *rest: Any) -> npt.NDArray[np.float32]:
        asked.append(len(padded))
        return filter_blocks(padded, *rest[:-1], "cpu")

    monkeypatch.setattr(cg_data.signal, "filter_blocks", batched)
    blocks = clean_blocks(lambda start, stop: eeg_uv[:, start:stop], eeg_uv.shape[1], sfreq_hz, 50.0, range(5), "cuda")
    np.testing.assert_array_equal(np.concatenate(list(blocks), axis=1), alone)
    assert asked == [5]


@pytest.mark.parametrize("sfreq_hz", [256, 173.61])
def test_the_numbers_do_not_depend_on_the_number_of_threads(sfreq_hz: float) -> None:
    eeg_uv, threads, made = eeg_like(sfreq_hz, 70), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            made.append(clean(eeg_uv, sfreq_hz, 50.0))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(made[1], made[0])
    np.testing.assert_array_equal(made[2], made[0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("sfreq_hz", [256, 173.61])
def test_cuda_gives_the_same_signal(sfreq_hz: float) -> None:
    eeg_uv = eeg_like(sfreq_hz, 300)
    read = lambda start, stop: eeg_uv[:, start:stop]  # noqa: E731
    on_gpu = np.concatenate(list(clean_blocks(read, eeg_uv.shape[1], sfreq_hz, 50.0, range(5), "cuda")), axis=1)
    np.testing.assert_allclose(on_gpu, clean(eeg_uv, sfreq_hz, 50.0), atol=0.01)


@pytest.mark.parametrize(("line_hz", "found"), [(50, 50.0), (60, 60.0), (None, None)])
def test_mains_is_found_where_one_channel_has_it(line_hz: int | None, found: float | None) -> None:
    eeg_uv = eeg_like(250, 60)
    if line_hz:
        eeg_uv[1] += 2 * np.sin(2 * np.pi * line_hz * np.arange(eeg_uv.shape[1]) / 250).astype(np.float32)
    assert find_mains_hz(eeg_uv, 250) == found


def test_mains_beyond_the_recorded_band_is_not_looked_for() -> None:
    assert find_mains_hz(eeg_like(100, 30), 100) is None
