"""Attention within the samples of a pack and the windows of a page, each by itself: no mask, and no work for pairs that do not see each
other.

On CUDA it is the variable-length flash attention that torch itself holds (Dao 2023); transformers would reach it through a package that is
built for few versions of torch. On a CPU each sample and window goes through torch's scaled dot product by itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from cg_train.packs import packed_lengths

_NAME, _OF_TOWER = "varlen", "flash_varlen"
"""By "flash" the tower of Qwen2.5-VL knows that it may give all its windows at once."""
_ROWS_OF_PACK = 4
"""Of the positions of a pack (`cg_train.model.pack`)."""


def use_varlen(model: Any) -> None:
    """Let a `Qwen2_5_VLForConditionalGeneration` attend so. It then takes packs (`cg_train.model.pack`), and refuses padded batches."""
    for name in (_NAME, _OF_TOWER):
        AttentionInterface.register(name, varlen_attention)
        AttentionMaskInterface.register(name, _unmasked)
    model.set_attn_implementation(_NAME)
    model.model.visual.config._attn_implementation = _OF_TOWER  # transformers would look for a package of that name
    model.model.language_model.register_forward_pre_hook(_with_extents, with_kwargs=True)


def varlen_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    max_length_q: int,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers. The tower gives the ends of its windows, `_with_extents` those of samples.

    Args:
        query: `(1, heads, length, width)`, on CUDA bfloat16 or float16; `key` and `value` may have fewer heads (Ainslie et al. 2023).
        cu_seq_lens_q: where samples or windows begin and the last one ends, int32 `(samples + 1,)`.
        max_length_q: the length of the longest.

    Returns:
        `(1, length, heads, width)`.
    """
    shared = query.shape[1] // key.shape[1]
    rows = query[0], key[0].repeat_interleave(shared, 0), value[0].repeat_interleave(shared, 0)
    q, k, v = (row.transpose(0, 1) for row in rows)
    attend = _on_cuda if query.is_cuda else _on_cpu
    return attend(q, k, v, cu_seq_lens_q, max_length_q, scaling, module.is_causal if is_causal is None else is_causal)[None], None


def _on_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, longest: int, scaling: float, causal: bool
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    window = (-1, 0 if causal else -1)
    out = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, window_size=window)
    assert isinstance(out, torch.Tensor)
    return out


def _on_cpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, longest: int, scaling: float, causal: bool
) -> torch.Tensor:
    q, k, v = heads = [row.transpose(0, 1) for row in (query, key, value)]
    if torch.compiler.is_compiling():  # a graph cannot hang on the number of samples: a mask then
        place = torch.arange(len(query))
        sample = torch.bucketize(place, ends, right=True)
        seen = (sample[:, None] == sample) & ((place[:, None] >= place) | (not causal))
        return scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scaling).transpose(0, 1)
    parts = zip(*(torch.split(row, ends.diff().tolist(), dim=1) for row in heads), strict=True)
    return torch.cat([scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scaling) for q, k, v in parts], dim=1).transpose(0, 1)


def _with_extents(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Tell all layers of one forward pass where samples begin; the GPU is asked once.

    Raises:
        ValueError: it is no pack, as of a padded batch, whose mask this attention cannot keep.
    """
    positions = kwargs.get("position_ids")
    if kwargs.get("attention_mask") is not None or positions is None or positions.shape[0] != _ROWS_OF_PACK:
        raise ValueError("attention varlen takes packs, not padded batches")
    ends, longest = extents(positions[0])
    return args, kwargs | {"cu_seq_lens_q": ends, "max_length_q": longest}


def extents(position_ids: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Where samples begin and the last one ends, int32 `(samples + 1,)`, and the length of the longest, from positions `(1, length)` that
    begin at zero with each sample."""
    lengths = packed_lengths(position_ids)
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32), int(lengths.max())


def _unmasked(*_: Any, **__: Any) -> None:
    """No mask of transformers."""
