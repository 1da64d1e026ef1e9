"""Attention within the samples of a pack and the windows of a page, each by itself: no mask, and no work for pairs that do not see each
other.

On CUDA it is the variable-length flash attention that torch itself holds (Dao 2023); transformers would reach it through a package that is
built for few versions of torch. On a CPU each sample and window goes through torch's scaled dot product by itself.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface

from cg_train.packs import packed_lengths

_NAME, _OF_TOWER = "varlen", "flash_varlen"
"""By "flash" the tower of Qwen2.5-VL knows that it may give all its windows at once."""

_extents_of: MutableMapping[torch.Tensor, tuple[torch.Tensor, int]] = WeakIdKeyDictionary()
"""By the positions that all layers of one forward pass share, so that the GPU is asked once."""


def use_varlen(model: Any) -> None:
    """Let a `Qwen2_5_VLForConditionalGeneration` attend so. It then takes packs (`cg_train.model.pack`), and refuses padded batches."""
    for name in (_NAME, _OF_TOWER):
        AttentionInterface.register(name, varlen_attention)
        AttentionMaskInterface.register(name, _unmasked)
    model.set_attn_implementation(_NAME)
    model.model.visual.config._attn_implementation = _OF_TOWER  # transformers would look for a package of that name


@torch.compiler.disable
def varlen_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float,
    position_ids: torch.Tensor | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers. The tower gives the ends of its windows, a language layer the positions `(1, length)` of a
    pack (row 0 of `cg_train.model.pack`).

    Args:
        query: `(1, heads, length, width)`, on CUDA bfloat16 or float16; `key` and `value` may have fewer heads (Ainslie et al. 2023).

    Returns:
        `(1, length, heads, width)`.
    """
    if cu_seq_lens_q is None or max_length_q is None:
        assert position_ids is not None
        cu_seq_lens_q, max_length_q = extents(position_ids)
    shared = query.shape[1] // key.shape[1]
    rows = query[0], key[0].repeat_interleave(shared, 0), value[0].repeat_interleave(shared, 0)
    q, k, v = (row.transpose(0, 1) for row in rows)
    attend = _on_cuda if query.is_cuda else _one_by_one
    return attend(q, k, v, cu_seq_lens_q, max_length_q, scaling, module.is_causal if is_causal is None else is_causal)[None], None


def _on_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, longest: int, scaling: float, causal: bool
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    window = (-1, 0 if causal else -1)
    out = varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling, window_size=window)
    assert isinstance(out, torch.Tensor)
    return out


def _one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, ends: torch.Tensor, longest: int, scaling: float, causal: bool
) -> torch.Tensor:
    lengths = ends.diff().tolist()
    parts = zip(*(torch.split(row.transpose(0, 1), lengths, dim=1) for row in (query, key, value)), strict=True)
    return torch.cat([scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scaling) for q, k, v in parts], dim=1).transpose(0, 1)


def extents(position_ids: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Where samples begin and the last one ends, int32 `(samples + 1,)`, and the length of the longest, from positions `(1, length)` that
    begin at zero with each sample."""
    known = _extents_of.get(position_ids)
    if known is None:
        lengths = packed_lengths(position_ids)
        known = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32), int(lengths.max())
        _extents_of[position_ids] = known
    return known


def _unmasked(*_: Any, attention_mask: torch.Tensor | None = None, **__: Any) -> None:
    """
    Raises:
        ValueError: a mask of padding is given, which this attention cannot keep.
    """
    if attention_mask is not None:
        raise ValueError("attention varlen takes packs, not padded batches")
