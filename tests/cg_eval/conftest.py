"""Small believable pages and an interpreter that says what it is told to, so that no test here needs a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from cg_data.records import Label, Message, Segment, content_id
from cg_data.vocabulary import CHANNEL_INDEX, UV_PER_STEP, Eyes, LabelKind, Split, Stage, Waveform
from tests.detections_small import SEARCHED


def page_uv(seed: int) -> npt.NDArray[np.float32]:
    """Slow noise with posterior alpha, a frontal blink at 3 s, a central spindle at 6 s and a temporal spike at 8 s."""
    t = np.arange(2000) / 200
    rng = np.random.default_rng(seed)
    eeg = np.cumsum(rng.standard_normal((19, 2000)), axis=1)
    eeg -= np.stack([np.convolve(row, np.ones(200) / 200, mode="same") for row in eeg])
    for name in ("O1", "O2", "P3", "P4"):
        eeg[CHANNEL_INDEX[name]] += 25 * np.sin(2 * np.pi * 10 * t)
    for name in ("Fp1", "Fp2"):
        eeg[CHANNEL_INDEX[name]] += 95 * np.exp(-(((t - 3) / 0.12) ** 2))
    for name in ("C3", "Cz", "C4"):
        eeg[CHANNEL_INDEX[name]] += 30 * np.sin(2 * np.pi * 13 * t) * np.exp(-(((t - 6) / 0.4) ** 2))
    eeg[CHANNEL_INDEX["T3"]] += 40 * np.exp(-(((t - 8.15) / 0.1) ** 2)) - 110 * np.exp(-(((t - 8) / 0.025) ** 2))
    return eeg.astype(np.float32)


PLANTED: tuple[tuple[Waveform, str, float, float], ...] = (
    (Waveform.POSITIVE_SHARP_TRANSIENT, "Fp1", 2.72, 0.55),
    (Waveform.POSITIVE_SHARP_TRANSIENT, "Fp2", 2.72, 0.55),
    (Waveform.SLEEP_SPINDLE, "C3", 5.45, 1.1),
    (Waveform.SLEEP_SPINDLE, "C4", 5.45, 1.1),
    (Waveform.SPIKE, "T3", 7.95, 0.12),
)


def make_segment(number: int, *, subject: str, planted: Sequence[Waveform], split: Split = Split.TEST) -> Segment:
    waveforms = [
        Label(kind=LabelKind.WAVEFORM, name=w, onset_s=on, duration_s=length, channel=c) for w, c, on, length in PLANTED if w in planted
    ]
    states = [
        Label(kind=LabelKind.STAGE, name=Stage.WAKE, onset_s=0.0, duration_s=10.0),
        Label(kind=LabelKind.EYES, name=Eyes.CLOSED, onset_s=0.0, duration_s=10.0),
    ]
    return Segment(
        segment_id=content_id("segment", number),
        recording_id=content_id("recording", subject),
        sha256="0" * 64,
        corpus="synthetic",
        subject=subject,
        split=split,
        start_s=10.0 * number,
        montage="average",
        sfreq_recorded_hz=256.0,
        filter_version="filter-1",
        flags=(),
        mask=np.ones(19, dtype=np.bool_),
        eeg_steps=np.round(page_uv(number) / UV_PER_STEP).astype(np.int16),
        labels=(*waveforms, *states, *SEARCHED),
    )


@pytest.fixture(scope="session")
def segments() -> list[Segment]:
    """Forty held-out pages of five subjects; spindles on every second, spikes on every third, blinks on every fifth page."""
    every = {Waveform.SLEEP_SPINDLE: 2, Waveform.SPIKE: 3, Waveform.POSITIVE_SHARP_TRANSIENT: 5}
    return [make_segment(n, subject=f"subject-{n % 5}", planted=[w for w, k in every.items() if n % k == 0]) for n in range(40)]


@dataclasses.dataclass(frozen=True)
class Said:
    text: str
    probability: float = 0.8
    tokens: int = 3


@dataclasses.dataclass(frozen=True)
class Scored:
    log_probability: float
    tokens: int


class FakeInterpreter:
    """Answers by `reply(question)`; finds the option most likely that `prefer(question, options)` points at."""

    def __init__(self, reply: Callable[[str], str], prefer: Callable[[str, Sequence[str]], int]) -> None:
        self._reply, self._prefer = reply, prefer
        self.batches: list[int] = []
        self.prompts: list[str] = []

    def answer(
        self,
        eeg_uv: npt.NDArray[np.float32],
        mask: npt.NDArray[np.bool_],
        dialogues: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
    ) -> list[Said]:
        assert eeg_uv.shape == (len(dialogues), 19, 2000)
        assert mask.shape == (len(dialogues), 19)
        self.batches.append(len(dialogues))
        return [Said(self._reply(dialogue[-1].content)) for dialogue in dialogues]

    def option_scores(
        self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], messages: Sequence[Message], options: Sequence[str]
    ) -> list[Scored]:
        assert eeg_uv.shape == (19, 2000)
        assert mask.shape == (19,)
        question = messages[-1].content
        self.prompts.append(question)
        best = self._prefer(question, options)
        return [Scored(-0.1 if i == best else -5.0, len(option.split()) + 1) for i, option in enumerate(options)]


@pytest.fixture(scope="session")
def fake_interpreter() -> type[FakeInterpreter]:
    return FakeInterpreter
