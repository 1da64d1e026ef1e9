"""Signals that tests of several modules build by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cg_data.records import Label, Segment
from cg_data.vocabulary import CHANNEL_INDEX, SFREQ_HZ, UV_PER_STEP, Split

TIME_S = np.arange(2000) / SFREQ_HZ


def pink_uv(seed: int = 0, exponent: float = 1.5, rms_uv: float = 12.0) -> npt.NDArray[np.float32]:
    """1/f noise shared in part between channels, `(19, 2000)`."""
    rng = np.random.default_rng(seed)
    freqs_hz = np.fft.rfftfreq(2000, 1 / SFREQ_HZ)
    freqs_hz[0] = 1
    shape = np.where(freqs_hz < 0.5, 0, freqs_hz ** (-exponent / 2))
    waves = np.fft.irfft(shape * (rng.normal(size=(20, 1001)) + 1j * rng.normal(size=(20, 1001))), axis=1)
    mixed = waves[:19] * 0.6 + waves[19] * 0.8
    return (mixed / mixed.std() * rms_uv).astype(np.float32)


def segment_of(eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_] | None = None, labels: tuple[Label, ...] = ()) -> Segment:
    return Segment(
        segment_id="s0",
        recording_id="r0",
        sha256="0",
        corpus="test",
        subject="p0",
        split=Split.TRAIN,
        start_s=0.0,
        montage="average",
        sfreq_recorded_hz=200.0,
        filter_version="f",
        flags=(),
        mask=np.ones(19, dtype=np.bool_) if mask is None else mask,
        eeg_steps=np.clip(np.rint(eeg_uv / UV_PER_STEP), -32767, 32767).astype(np.int16),
        labels=labels,
    )


def rows(*names: str) -> list[int]:
    return [CHANNEL_INDEX[name] for name in names]
