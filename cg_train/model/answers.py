"""The loss of answers without the logits of all tokens.

A page is 760 tokens and an answer some dozens; logits of Qwen's 152,000 words for every token would take more memory than a layer of the
network. Only the tokens that carry a loss are read, and those in pieces whose logits are not kept.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cg_data.errors import ConfigError
from cg_train.model.encode import IGNORED

CHUNKS = 8
"""Pieces of a micro-batch, always as many: with ZeRO stage 3 every use of the output layer is a collective of all workers."""
AnswerLoss = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
"""Output layer, hidden states `(answer tokens, hidden)` and their targets int64 `(answer tokens,)` to the summed cross-entropy."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    loss: torch.Tensor


class AnswerReader(torch.nn.Module):
    """A Qwen2.5-VL (perhaps with adapters around it) whose loss is that of its own `forward`, computed by `loss`."""

    def __init__(self, model: Any, loss: AnswerLoss) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, *, labels: torch.Tensor, num_items_in_batch: torch.Tensor, **inputs: torch.Tensor) -> Answered:
        plain = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        hidden = plain.model(**inputs).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        told = targets != IGNORED
        return Answered(loss=self._loss(plain.lm_head, hidden[told], targets[told]) / num_items_in_batch)


def answer_loss(kind: Literal["chunked", "liger"]) -> AnswerLoss:
    """Raises:
    ConfigError: Liger Kernel is asked for and not installed.
    """
    if kind == "chunked":
        return _chunked_loss
    if importlib.util.find_spec("liger_kernel") is None:
        raise ConfigError("train.loss liger: liger_kernel is not installed. Install it (pip install liger-kernel), or use chunked.")
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    fused = LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORED, reduction="sum")
    return functools.partial(_liger_loss, fused)


def _chunked_loss(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    pieces = zip(hidden.tensor_split(CHUNKS), targets.tensor_split(CHUNKS), strict=True)
    return torch.stack([checkpoint(_piece_loss, head, *piece, use_reentrant=False) for piece in pieces]).sum()


def _piece_loss(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(head(hidden).float(), targets, reduction="sum")


def _liger_loss(fused: Any, head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training"."""
    return fused(head.weight, hidden, targets)
