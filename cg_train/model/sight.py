"""Teaching a vision tower to see: every visual token is to name the findings that lie in its part of the page.

A large Qwen2.5-VL brings a tower that was trained before it met language. The tiny one has none, and answers of a few words about a whole
page say too little to train it: which of the page's tokens showed the blink would be left to chance. The annotation says where.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from cg_data.errors import ConfigError
from cg_data.page import page_shape, render_batch, row_centre_px
from cg_data.records import Annotation, Sample
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNEL_INDEX, FINDING_OF_WAVEFORM, FindingKind, Split
from cg_train.model.encode import TOKEN_PX, Batch, page_to_patches

KINDS: tuple[FindingKind, ...] = tuple(FindingKind)
_COLUMN = {kind: i for i, kind in enumerate(KINDS)}
_TOKEN_SHARE = 0.25
_EVENT_SHARE = 0.5
"""A token shows what fills a quarter of its width, or what lies in it by half or more."""
_MOST_WEIGHT = 20.0


def token_findings(annotation: Annotation, page: PageSettings) -> npt.NDArray[np.float32]:
    """Which findings lie where: 1 where a token's electrodes and time hold a finding of the kind, else 0.

    Kinds that rest on events are placed by their events, the others by what the analyser measured.

    Returns:
        float32 `(token rows, token columns, kinds)`, kinds in the order of `KINDS`.
    """
    height, width = page_shape(page)
    shown = np.zeros((height // TOKEN_PX, width // TOKEN_PX, len(KINDS)), dtype=np.float32)
    per_s = page.pixels_per_second / TOKEN_PX
    by_events = {FINDING_OF_WAVEFORM[event.waveform] for event in annotation.events}
    places: list[tuple[FindingKind, tuple[str, ...], float, float]] = [
        (FINDING_OF_WAVEFORM[e.waveform], (e.channel,), e.onset_s, e.duration_s) for e in annotation.events
    ]
    places += [(f.kind, f.channels, f.onset_s, f.duration_s) for f in annotation.findings if f.kind not in by_events]
    for kind, channels, onset_s, duration_s in places:
        columns = _columns(onset_s * per_s, (onset_s + duration_s) * per_s, shown.shape[1])
        for channel in channels:
            row = int(row_centre_px(page, CHANNEL_INDEX[channel])) // TOKEN_PX
            shown[row, columns, _COLUMN[kind]] = 1.0
    return shown


def _columns(start: float, stop: float, count: int) -> list[int]:
    """Token columns that show what lasts from `start` to `stop`, both in tokens."""
    needed = min(_TOKEN_SHARE, _EVENT_SHARE * (stop - start))
    return [c for c in range(int(start), min(count, int(np.ceil(stop)))) if min(stop, c + 1) - max(start, c) >= needed]


def positive_weights(annotations: Iterable[Annotation], page: PageSettings) -> torch.Tensor:
    """What a missed finding costs beside a false one, for each kind: root of absent over present among training pages' tokens.

    Findings are rare among tokens, some a hundred times rarer than others. The whole ratio would make the rarest drown the rest.

    Returns:
        float32 `(kinds,)` from 1 to `_MOST_WEIGHT`.
    """
    shares = [token_findings(a, page).mean(axis=(0, 1)) for a in annotations if a.split == Split.TRAIN]
    share = np.maximum(np.mean(shares, axis=0), 1e-6)
    return torch.from_numpy(np.clip(np.sqrt((1.0 - share) / share), 1.0, _MOST_WEIGHT).astype(np.float32))


class FindingsReader(torch.nn.Module):
    """A Qwen2.5-VL whose tower reads pages token by token through a linear head, which is thrown away afterwards.

    It takes what `sight_batch` makes. The loss is binary cross-entropy, summed and divided by `num_items_in_batch`; `weights` `(kinds,)`
    are those of `positive_weights`.
    """

    def __init__(self, model: Any, weights: torch.Tensor, seed: int) -> None:
        super().__init__()
        self.model = model
        self._weights = weights.to(model.device)
        hidden = model.config.text_config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.norm = torch.nn.RMSNorm(hidden)
            self.head = torch.nn.Linear(hidden, len(KINDS))
        torch.nn.init.constant_(self.head.bias, -4.0)  # rare from the start
        self.norm.to(model.device, model.dtype)
        self.head.to(model.device, model.dtype)

    def forward(
        self, *, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor
    ) -> Sighted:
        seen = self.model.model.visual(pixel_values.to(self.model.dtype), grid_thw=image_grid_thw).pooler_output
        logits = self.head(self.norm(seen)).float()
        loss = functional.binary_cross_entropy_with_logits(logits, labels.reshape(logits.shape), pos_weight=self._weights, reduction="sum")
        return Sighted(loss=loss / num_items_in_batch, logits=logits)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sighted:
    """`logits` are float32 `(visual tokens of all pages, kinds)`. Without slots, see `cg_train.model.answers.Answered`."""

    loss: torch.Tensor
    logits: torch.Tensor


def sight_batch(
    samples: Sequence[Sample], signals: Sequence[npt.NDArray[np.float32]], *, annotations: Mapping[str, Annotation], page: PageSettings
) -> Batch:
    """The pages of samples, with their (perhaps scaled) signals in microvolts `(19, 2000)`, and what each visual token is to name.

    Returns:
        pixel_values, image_grid_thw, and labels float32 `(n, visual tokens, kinds)`.

    Raises:
        ConfigError: a sample's segment has no annotation.
    """
    targets = [token_findings(_of(sample, annotations), page).reshape(-1, len(KINDS)) for sample in samples]
    pages = render_batch(np.stack(signals), np.stack([sample.mask for sample in samples]), page)
    pixel_values, image_grid_thw = page_to_patches(pages)
    return {"pixel_values": pixel_values, "image_grid_thw": image_grid_thw, "labels": torch.from_numpy(np.stack(targets))}


def sight_targets(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """How many answers a batch asks of the tower: one per visual token and kind."""
    return torch.tensor(inputs["labels"].numel(), device=inputs["labels"].device)


def _of(sample: Sample, annotations: Mapping[str, Annotation]) -> Annotation:
    if sample.segment_id not in annotations:
        raise ConfigError(f"segment {sample.segment_id} of sample {sample.sample_id} has no annotation. Make the annotations step again.")
    return annotations[sample.segment_id]
