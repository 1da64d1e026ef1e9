"""Attention within samples of a pack, and within windows of a page, by the variable-length flash attention that torch itself holds.

Its time grows with the squares of the samples' lengths, not with that of the whole pack, and no mask is made. transformers reaches flash
attention through a package that is built for few versions of torch; what this module registers needs CUDA and torch alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary
from transformers import AttentionInterface, AttentionMaskInterface

VARLEN = "flash_varlen"
"""Name of this attention. It holds "flash", by which the tower of Qwen2.5-VL knows that it may give all windows at once."""

_Extents = tuple[torch.Tensor, int]
_extents_of: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""By the positions that all layers of one forward pass share, so that the GPU is asked once."""


def register_varlen() -> str:
    """Make transformers know `VARLEN`, and give back its name."""
    AttentionInterface.register(VARLEN, varlen_attention)
    AttentionMaskInterface.register(VARLEN, _unmasked)
    return VARLEN


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
        query: bfloat16 or float16 `(1, heads, length, width)`; `key` and `value` may have fewer heads (Ainslie et al. 2023).

    Returns:
        `(1, length, heads, width)`.
    """
    from torch.nn.attention.varlen import varlen_attn

    if cu_seq_lens_q is None or max_length_q is None:
        assert position_ids is not None
        cu_seq_lens_q, max_length_q = extents(position_ids)
    rows = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    out = varlen_attn(
        *rows,
        cu_seq_lens_q,
        cu_seq_lens_q,
        max_length_q,
        max_length_q,
        scale=scaling,
        window_size=(-1, 0 if (module.is_causal if is_causal is None else is_causal) else -1),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out[None], None


def extents(position_ids: torch.Tensor) -> _Extents:
    """Where samples begin and the last one ends, int32 `(samples + 1,)`, and the length of the longest, from positions `(1, length)` that
    begin at zero with each sample."""
    known: _Extents | None = _extents_of.get(position_ids)
    if known is None:
        starts = torch.nonzero(position_ids[0] == 0)[:, 0]
        ends = torch.cat([starts, starts.new_tensor([position_ids.shape[1]])])
        known = ends.to(torch.int32), int(ends.diff().max())
        _extents_of[position_ids] = known
    return known


def _unmasked(*_: Any, attention_mask: torch.Tensor | None = None, **__: Any) -> None:
    """
    Raises:
        ValueError: a mask of padding is given, which this attention cannot keep.
    """
    if attention_mask is not None:
        raise ValueError(f"attention {VARLEN} takes packs, not padded batches")
