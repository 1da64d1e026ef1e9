"""Samples one behind the other in a single row that see only themselves: a batch without padding.

Attention is kept within each sample by the positions alone. Where no attention mask is given and nothing is cached, transformers finds the
places at which row 0 of `position_ids` `(4, 1, length)` does not go up by one: sdpa and eager make a block-diagonal causal mask of them,
flash attention the lengths of its variable-length kernel. Rows 1 to 3 are the multimodal rotary positions (Wang et al. 2024, Qwen2-VL),
which must be those of each sample by itself. An attention mask, three rows of positions or a cache would let samples see each other, and
nothing would say so; `tests/cg_train/test_model_pack.py` holds packs against samples by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import Qwen2_5_VLModel

from cg_data.records import Sample
from cg_data.settings import PageSettings
from cg_train.model.encode import IGNORED, Batch, Encoded, Patches, encode_samples, in_order, unseen_picture
from cg_train.recipe import PictureSettings

PositionsOf = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""`Qwen2_5_VLModel.get_rope_index`."""


class Positions:
    """`get_rope_index` of a `Qwen2_5_VLModel` without the model: it needs the configuration alone, which can be sent to where batches are
    made."""

    get_rope_index = Qwen2_5_VLModel.get_rope_index
    get_vision_position_ids = Qwen2_5_VLModel.get_vision_position_ids

    def __init__(self, config: Any) -> None:
        self.config = config


def packed_batch(
    samples: Sequence[Sample],
    signals: Sequence[npt.NDArray[np.float32]],
    *,
    processor: Any,
    page: PageSettings,
    pictures: PictureSettings,
    max_tokens: int,
    positions_of: PositionsOf,
) -> Batch:
    """Samples with their (perhaps scaled) signals, microvolts `(19, 2000)` each, as one row with labels: see `pack`.

    Raises:
        UserError: see `encode_samples`.
    """
    encoded, seen = encode_samples(samples, signals, processor=processor, page=page, pictures=pictures, max_tokens=max_tokens)
    if not seen:
        blank, seen[len(encoded)] = unseen_picture(processor.tokenizer)
        encoded.append(blank)
    return pack(encoded, seen, positions_of)


def pack(encoded: Sequence[Encoded], seen: Mapping[int, Patches], positions_of: PositionsOf) -> Batch:
    """Dialogues and what is seen in each of them, by its place, one behind the other.

    Returns:
        `input_ids` and `labels` int64 `(1, length)`, `position_ids` int64 `(4, 1, length)`, `pixel_values`, `image_grid_thw`. The model
        must not use a cache (`cg_train.model.learner` sets that).
    """
    pixel_values, image_grid_thw = in_order(seen)
    return {
        "input_ids": torch.from_numpy(np.concatenate([one.input_ids for one in encoded]))[None],
        "labels": torch.from_numpy(np.concatenate([_unasked(one.labels) for one in encoded]))[None],
        "position_ids": torch.cat([_positions(one, seen.get(place), positions_of) for place, one in enumerate(encoded)], dim=2),
        "pixel_values": pixel_values,
        "image_grid_thw": image_grid_thw,
    }


def _unasked(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Without a label on the first token, which the sample before it would have to foretell."""
    return np.concatenate([np.full(1, IGNORED, dtype=np.int64), labels[1:]])


def _positions(encoded: Encoded, seen: Patches | None, positions_of: PositionsOf) -> torch.Tensor:
    """Row 0 counts from zero, rows 1 to 3 are time, height and width; int64 `(4, 1, length)`."""
    ids, types = torch.from_numpy(encoded.input_ids)[None], torch.from_numpy(encoded.mm_token_type_ids)[None]
    space, _ = positions_of(ids, mm_token_type_ids=types, image_grid_thw=None if seen is None else seen[1])
    return torch.cat([torch.arange(ids.shape[1])[None, None], space])
