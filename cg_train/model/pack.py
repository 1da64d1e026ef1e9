"""Samples one behind the other in a single row that see only themselves: a batch without padding.

Attention is kept within each sample by the positions alone: row 0 of `position_ids` `(4, 1, length)` starts at zero for each. Of that row
flash attention takes the lengths for its variable-length kernel, and eager attention a block-diagonal mask. For sdpa transformers would
make such a mask too, and all tokens' scores with all others be computed to be masked; `attend_apart` has it attend to one sample at a time.
Rows 1 to 3 are the multimodal rotary positions (Wang et al. 2024, Qwen2-VL), which must be those of each sample by itself. An attention
mask, three rows of positions or a cache would let samples see each other, and nothing would say so; `tests/cg_train/test_model_pack.py`
holds packs against samples by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from cg_data.records import Sample
from cg_data.settings import PageSettings
from cg_train.model.encode import IGNORED, Batch, Encoded, Patches, encode_samples, in_order, unseen_picture
from cg_train.packs import packed_lengths
from cg_train.recipe import PictureSettings

PositionsOf = Callable[..., tuple[torch.Tensor, torch.Tensor]]
"""`Qwen2_5_VLModel.get_rope_index`."""


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
    """Samples with their (perhaps scaled) signals, microvolts `(19, 2000)` each, as one row with labels.

    Returns:
        `input_ids` and `labels` int64 `(1, length)`, `position_ids` int64 `(4, 1, length)`, `pixel_values`, `image_grid_thw`. The model
        must not use a cache (`cg_train.model.learner` sets that).

    Raises:
        UserError: see `encode_samples`.
    """
    encoded, seen = encode_samples(samples, signals, processor=processor, page=page, pictures=pictures, max_tokens=max_tokens)
    if not seen:
        blank, seen[len(encoded)] = unseen_picture(processor.tokenizer)
        encoded.append(blank)
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


_APART = "sdpa_apart"


def attend_apart(model: Any) -> None:
    """Have the language model of a `Qwen2_5_VLForConditionalGeneration` that attends by sdpa read packs, and packs alone."""
    AttentionInterface.register(_APART, _attend_apart)
    model.set_attn_implementation({"text_config": _APART})


def _attend_apart(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: None,
    *,
    position_ids: torch.Tensor,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each sample; `query` `(1, heads, length, width)` gives `(1, length, heads, width)`."""
    lengths = packed_lengths(position_ids).tolist()
    samples = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    attended = [sdpa_attention_forward(module, *sample, None, is_causal=True, **settings)[0] for sample in samples]
    return torch.cat(attended, dim=1), None
