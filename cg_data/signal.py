"""The one filter: 0.5-70 Hz band-pass, optional mains notch and resampling to 200 Hz as a single zero-phase multiplication of spectra.

The response is that of Butterworth filters and a notch designed at 200 Hz and run forwards and backwards, hence their squared magnitude
(`scipy.signal.sosfiltfilt` after `resample_poly` agrees). It is the same for every recorded rate; cropping or extending the spectrum
resamples. A run is worked in blocks of 60 s with 10 s of context on either side (overlap-save), and a block depends on nothing but its
own samples and context: whatever part of a run is asked for, the same numbers come out. The same code runs on the CPU and on CUDA. Ends
are continued by odd reflection.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy.signal

from cg_data.vocabulary import SFREQ_HZ

FILTER_VERSION = "zero-phase-1"
"""Changes whenever the same recording would give other numbers."""
BAND_HZ = (0.5, 70.0)
BLOCK_S = 60
_MARGIN_S = 10
_SPAN_S = BLOCK_S + 2 * _MARGIN_S
_LONGEST_SPAN_S = 180
_BLOCKS_AT_ONCE = 32
"""On a CUDA device: 32 blocks of nineteen channels are about 50 MB of spectra at 256 Hz."""
_HIGHPASS_ORDER = 2
_LOWPASS_ORDER = 4
_NOTCH_Q = 25.0
_MAINS_HZ = (50.0, 60.0)
_MAINS_RATIO = 8.0

Float32 = npt.NDArray[np.float32]
ReadSamples = Callable[[int, int], Float32]
"""Samples `start` to `stop` of a run, float32 `(channels, stop - start)` in microvolts."""


def clean(eeg_uv: Float32, sfreq_hz: float, mains_hz: float | None) -> Float32:
    """Filter and resample one contiguous run: `(channels, samples)` at `sfreq_hz` to `(channels, samples)` at 200 Hz, in microvolts."""
    n_samples = eeg_uv.shape[1]
    n_out = round(n_samples * SFREQ_HZ / sfreq_hz)
    blocks = range(-(-n_out // (BLOCK_S * SFREQ_HZ)))
    parts = clean_blocks(lambda start, stop: eeg_uv[:, start:stop], n_samples, sfreq_hz, mains_hz, blocks)
    return np.concatenate([np.empty((len(eeg_uv), 0), np.float32), *parts], axis=1)[:, :n_out]


def clean_blocks(
    read: ReadSamples, n_samples: int, sfreq_hz: float, mains_hz: float | None, blocks: range, device: str = "cpu"
) -> Iterator[Float32]:
    """Filtered blocks of a run of `n_samples`: block k holds 200-Hz samples 12000 k to 12000 (k + 1), continued beyond the run's end.

    `device` is torch's name of where the spectra are multiplied. A CUDA device gets many blocks at once, the CPU one at a time. `read` is
    called once for each block, in their order.
    """
    span_s = _span_s(sfreq_hz)
    at_once = 1 if device == "cpu" else _BLOCKS_AT_ONCE
    for start in range(0, len(blocks), at_once):
        exact = [(block * BLOCK_S - _MARGIN_S) * sfreq_hz for block in blocks[start : start + at_once]]
        firsts = [round(first) for first in exact]
        padded = [_with_context(read, n_samples, first, round(span_s * sfreq_hz), round(_MARGIN_S * sfreq_hz)) for first in firsts]
        late_s = [(wanted - first) / sfreq_hz for wanted, first in zip(exact, firsts, strict=True)]
        yield from filter_blocks(np.stack(padded), span_s, late_s, mains_hz, device)


def find_mains_hz(eeg_uv: Float32, sfreq_hz: float) -> float | None:
    """50 or 60 where some channel of `(channels, samples)` has a line there, eight times above its surroundings; else None.

    The line is the highest of Welch's spectrum (Hann, 4 s) within 0.5 Hz; its surroundings are the median from 2 to 5 Hz away.
    """
    n_window = min(eeg_uv.shape[1], round(4 * sfreq_hz))
    hz, power = scipy.signal.welch(eeg_uv.astype(np.float64), fs=sfreq_hz, nperseg=n_window, axis=1)
    best_hz, best = None, _MAINS_RATIO
    for mains_hz in _MAINS_HZ:
        distance_hz = np.abs(hz - mains_hz)
        around = (distance_hz >= 2) & (distance_hz <= 5)
        if mains_hz + 5 > sfreq_hz / 2:
            continue
        line = power[:, distance_hz <= 0.5].max(axis=1)
        ratio = float((line / np.maximum(np.median(power[:, around], axis=1), 1e-12)).max())
        if ratio > best:
            best_hz, best = mains_hz, ratio
    return best_hz


def _span_s(sfreq_hz: float) -> int:
    """Seconds of a block with its context: at least 80, more where a rate such as 173.61 Hz needs it to fill whole samples."""
    return min(
        range(_SPAN_S, _LONGEST_SPAN_S + 1), key=lambda span_s: (round(abs(span_s * sfreq_hz - round(span_s * sfreq_hz)), 3), span_s)
    )


def _with_context(read: ReadSamples, n_samples: int, first: int, length: int, margin: int) -> Float32:
    """Samples `first` to `first + length` of a run, its ends continued by odd reflection for `margin` samples, then held."""
    start, stop = max(first, 0), min(first + length, n_samples)
    inside = read(start, stop)
    left, right = start - first, first + length - stop
    mirrored_left, mirrored_right = min(left, margin, stop - start - 1), min(right, margin, stop - start - 1)
    mirrored = np.pad(inside, ((0, 0), (mirrored_left, mirrored_right)), mode="reflect", reflect_type="odd")
    return np.pad(mirrored, ((0, 0), (left - mirrored_left, right - mirrored_right)), mode="edge")


def filter_blocks(padded: Float32, span_s: int, late_s: Sequence[float], mains_hz: float | None, device: str = "cpu") -> Float32:
    """One multiplication of spectra for many blocks.

    Args:
        padded: `(blocks, channels, samples)`, each block with its context, `span_s` seconds at the recorded rate.
        span_s: length of a block with its context, in seconds.
        late_s: for each block, how much later than its first sample it is to begin, in seconds (under one sample).
        mains_hz: centre of the notch, or None.
        device: torch's name of where the work is done.

    Returns:
        float32 `(blocks, channels, 12000)` at 200 Hz, without the context.
    """
    # On the CPU rounding follows the number of transforms given to the FFT at once: one block at a time keeps a block's numbers its own.
    at_once = 1 if device == "cpu" else len(padded)
    batches = [slice(start, start + at_once) for start in range(0, len(padded), at_once)]
    return np.concatenate([_filter(padded[batch], span_s, late_s[batch], mains_hz, device) for batch in batches])


def _filter(padded: Float32, span_s: int, late_s: Sequence[float], mains_hz: float | None, device: str) -> Float32:
    import torch  # takes seconds, and who only counts segments needs none of it

    n_in, n_out = padded.shape[2], span_s * SFREQ_HZ
    levelled = padded - padded.mean(axis=2, keepdims=True)
    # The Nyquist bin of either rate carries no phase: it is left out.
    bins = min((n_in + 1) // 2, n_out // 2)
    spectrum = torch.fft.rfft(torch.from_numpy(levelled).to(device))[..., :bins]
    if any(late_s):
        angle = 2 * np.pi * np.arange(bins) / span_s * np.array(late_s)[:, None, None]
        cos, sin = (torch.from_numpy(f(angle).astype(np.float32)).to(device) for f in (np.cos, np.sin))
        # In real numbers, for the rounding of torch's complex product follows the number of threads.
        spectrum = torch.complex(spectrum.real * cos - spectrum.imag * sin, spectrum.real * sin + spectrum.imag * cos)
    gain = response(mains_hz, span_s)[:bins] * np.float32(n_out / n_in)
    out = torch.zeros(*padded.shape[:2], n_out // 2 + 1, dtype=torch.complex64, device=device)
    out[..., :bins] = spectrum * torch.from_numpy(gain).to(device)
    kept = slice(_MARGIN_S * SFREQ_HZ, (_MARGIN_S + BLOCK_S) * SFREQ_HZ)
    filtered: Float32 = torch.fft.irfft(out, n=n_out)[..., kept].cpu().numpy()
    return filtered


@functools.lru_cache(maxsize=8)
def response(mains_hz: float | None, span_s: int) -> Float32:
    """Gain of each frequency bin, `1 / span_s` Hz apart from 0 to 100 Hz: squared magnitudes, so zero phase."""
    hz = np.arange(span_s * SFREQ_HZ // 2 + 1) / span_s
    sections = [
        scipy.signal.butter(_HIGHPASS_ORDER, BAND_HZ[0], "highpass", fs=SFREQ_HZ, output="sos"),
        scipy.signal.butter(_LOWPASS_ORDER, BAND_HZ[1], "lowpass", fs=SFREQ_HZ, output="sos"),
    ]
    if mains_hz is not None:
        sections.append(scipy.signal.tf2sos(*scipy.signal.iirnotch(mains_hz, _NOTCH_Q, fs=SFREQ_HZ)))
    _, gain = scipy.signal.sosfreqz(np.concatenate(sections), worN=hz, fs=SFREQ_HZ)
    return (np.abs(gain) ** 2).astype(np.float32)
