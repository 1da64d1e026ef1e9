"""The loss of answers without the logits of all tokens.

A page is 760 tokens and an answer some dozens; logits of Qwen's 152,000 words for every token would take more memory than a layer of the
network. Only the tokens that carry a loss are read, and those in pieces whose logits are not kept.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any, Literal

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cg_data.errors import ConfigError
from cg_train.memory import PIECES
from cg_train.model.encode import IGNORED


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answered:
    """Without slots: ZeRO stage 3 looks for tensors in `vars` of what a network returns."""

    loss: torch.Tensor


class AnswerReader(torch.nn.Module):
    """A Qwen2.5-VL (perhaps with adapters around it) whose loss is that of its own `forward`, computed by `loss`."""

    def __init__(self, model: Any, loss: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self._loss = loss

    def forward(self, *, labels: torch.Tensor, num_items_in_batch: torch.Tensor, **inputs: torch.Tensor) -> Answered:
        plain = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        hidden = plain.model(**inputs).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        told = targets != IGNORED
        return Answered(loss=self._loss(plain.lm_head, hidden[told], targets[told]) / num_items_in_batch)


def answer_loss(kind: Literal["chunked", "liger"]) -> torch.nn.Module:
    """A module from the output layer, hidden states `(answer tokens, hidden)` and targets int64 `(answer tokens,)` to the summed
    cross-entropy.

    It is a module, and takes the layer's weights within, for ZeRO stage 3: that gathers the weights which a module uses, once for its
    forward and once for its backward pass.

    Raises:
        ConfigError: Liger Kernel is asked for and not installed.
    """
    if kind == "chunked":
        return _ChunkedLoss()
    if importlib.util.find_spec("liger_kernel") is None:
        raise ConfigError("train.loss liger: liger_kernel is not installed. Install it (pip install liger-kernel), or use chunked.")
    return _LigerLoss()


class _ChunkedLoss(torch.nn.Module):
    def forward(self, head: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        weight = head.weight
        pieces = zip(hidden.tensor_split(PIECES), targets.tensor_split(PIECES), strict=True)
        return torch.stack([checkpoint(_piece_loss, weight, *piece, use_reentrant=False) for piece in pieces]).sum()


def _piece_loss(weight: torch.Tensor, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(functional.linear(hidden, weight).float(), targets, reduction="sum")


class _LigerLoss(torch.nn.Module):
    """Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training"."""

    def __init__(self) -> None:
        super().__init__()
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        self._fused = LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORED, reduction="sum")

    def forward(self, head: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return self._fused(head.weight, hidden, targets)
