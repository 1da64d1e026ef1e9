"""Detectors of both kinds, small enough for the tests of several packages, and pages to teach them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from cg_data.detect.network import build_network
from cg_data.detect.signal_network import SignalNetwork
from cg_data.detect.spec import DetectorSpec, NetworkSettings, PageNetworkSettings, SignalNetworkSettings
from cg_data.records import Label, Segment
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNEL_INDEX, N_CHANNELS, SEGMENT_SAMPLES, WAVEFORMS, LabelKind, Split, Waveform
from cg_train.recipe import DetectorRecipe

SIGNAL = SignalNetworkSettings(width=8, depth=1)
PAGE = PageNetworkSettings(
    width_multiple=0.0625,
    max_channels=256,
    distance_bins=4,
    page=PageSettings(pixels_per_row=8, pixels_per_second=32, subcolumns=1, multiple_of=32),
)
NETWORKS: dict[str, NetworkSettings] = {"signal": SIGNAL, "page": PAGE}
"""One of each kind, for tests of what both promise."""

ONLY_SPINDLES: dict[Waveform, float] = {waveform: 0.5 for waveform in WAVEFORMS if waveform is not Waveform.SLEEP_SPINDLE}
"""Thresholds. An untrained detector sees everything everywhere: one waveform of nine is enough to go on with."""


def spec_of(network: NetworkSettings = SIGNAL, thresholds: dict[Waveform, float] | None = None) -> DetectorSpec:
    return DetectorSpec(network=network, min_box_s=0.15, nms_iou=0.5, score_floor=0.03, thresholds=thresholds or {})


def untrained(network: NetworkSettings = SIGNAL) -> torch.nn.Module:
    """Scores that differ from place to place and hang on the page: enough to test all but its judgement."""
    torch.manual_seed(1)
    built = build_network(network).train()
    for part in built.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    pages = built.prepare(*noise_pages(2, seed=0), "cpu")
    with torch.no_grad():
        if isinstance(built, SignalNetwork):
            built(*pages)
            _spread_signal_logits(built.eval(), pages)
        else:
            built.raw(*pages)
            _spread_page_logits(built)
    return built.eval()


def _spread_signal_logits(built: SignalNetwork, pages: tuple[torch.Tensor, ...]) -> None:
    """To a mean of -6 and a deviation of one for each class."""
    heads = [head.out for head in (built.fine_head, built.coarse_head)]
    for head in heads:
        head.weight[2:].normal_()
    logits = built(*pages)[1]
    deviation, mean = torch.std_mean(logits, dim=(0, 1))
    for head in heads:
        head.weight[2:] /= deviation[:, None, None, None]
        head.bias[2:] = (head.bias[2:] - mean) / deviation - 6.0


def _spread_page_logits(built: torch.nn.Module) -> None:
    head = built.yolo.model[-1]
    for branch in [*head.cv3, *getattr(head, "one2one_cv3", [])]:
        branch[-1].weight.normal_(0, 0.2)
        branch[-1].bias.fill_(-5.0)


def noise_pages(count: int, seed: int = 1) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Signals `(n, 19, 2000)` and masks `(n, 19)` with every electrode."""
    rng = np.random.default_rng(seed)
    eeg_uv = (30 * rng.standard_normal((count, N_CHANNELS, SEGMENT_SAMPLES))).astype(np.float32)
    return eeg_uv, np.ones((count, N_CHANNELS), dtype=np.bool_)


def recipe_of(network: NetworkSettings, **changes: object) -> DetectorRecipe:
    return DetectorRecipe(network=network, **{"epochs": 2, "batch": 4, **changes})


def everything_searched() -> list[Label]:
    return [Label(kind=LabelKind.SEARCHED, name=w, onset_s=0.0, duration_s=10.0) for w in WAVEFORMS]


def planted_page(number: int, split: Split = Split.TRAIN) -> Segment:
    """Noise with one blink of 0.4 s on Fp1 and Fp2 and one burst of 40 Hz on T3; all is marked."""
    rng = np.random.default_rng((99, number))
    eeg_uv = rng.normal(0, 5, (N_CHANNELS, SEGMENT_SAMPLES))
    blink_s, burst_s = rng.uniform(0, 9), rng.uniform(0, 8)
    t = np.arange(SEGMENT_SAMPLES) / 200
    eeg_uv[:2] += np.where((t >= blink_s) & (t < blink_s + 0.4), 120 * np.sin(np.pi * (t - blink_s) / 0.4), 0)
    eeg_uv[CHANNEL_INDEX["T3"]] += np.where((t >= burst_s) & (t < burst_s + 2), 40 * np.sin(2 * np.pi * 40 * t), 0)
    found = [("Fp1", Waveform.POSITIVE_SHARP_TRANSIENT, blink_s, 0.4), ("Fp2", Waveform.POSITIVE_SHARP_TRANSIENT, blink_s, 0.4)]
    found.append(("T3", Waveform.HIGH_FREQUENCY_NOISE, burst_s, 2.0))
    marks = [Label(kind=LabelKind.WAVEFORM, name=w, onset_s=o, duration_s=d, channel=c) for c, w, o, d in found]
    return page_of(eeg_uv, [*marks, *everything_searched()], number=number, split=split)


def page_of(
    eeg_uv: npt.NDArray[np.float64], labels: Sequence[Label], *, number: int = 0, split: Split = Split.TRAIN, corpus: str = "synthetic"
) -> Segment:
    return Segment(
        segment_id=f"page-{number:04d}",
        recording_id="recording",
        sha256="0" * 64,
        corpus=corpus,
        subject=f"subject-{number % 4}",
        split=split,
        start_s=0.0,
        montage="average",
        sfreq_recorded_hz=200.0,
        filter_version="1",
        flags=(),
        mask=np.ones(N_CHANNELS, dtype=np.bool_),
        eeg_steps=np.round(eeg_uv * 10).astype(np.int16),
        labels=tuple(labels),
    )
