from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from cg_data.errors import ConfigError
from cg_data.records import Sample
from cg_train.memory import PIECES
from cg_train.model import answers
from cg_train.model.answers import AnswerReader, answer_loss
from cg_train.model.load import set_trainable
from cg_train.recipe import LoraSettings
from cg_train.step import answer_targets
from tests.cg_train.model_small import SAMPLES, batch_of, build


def _learnt(network: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss, and the gradient of every parameter that learns, by its name in the model."""
    loss = network(**batch, num_items_in_batch=answer_targets(batch)).loss
    loss.backward()
    plain = {name.removeprefix("model.model.").removeprefix("model."): p.grad for name, p in network.named_parameters()}
    return loss.detach(), {name: gradient for name, gradient in plain.items() if gradient is not None}


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=4)], ids=["whole", "adapters"])
@pytest.mark.parametrize("samples", [SAMPLES[1:2], SAMPLES[:5]], ids=["few words", "more"])
def test_the_loss_of_answers_in_pieces_is_the_models_own_and_so_are_its_gradients(
    lora: LoraSettings | None, samples: Sequence[Sample]
) -> None:
    built, processor = build()
    model, _ = set_trainable(built.train(), ("language", "projector"), lora)
    batch = batch_of(samples, processor)
    assert (answer_targets(batch) < PIECES) == (len(samples) == 1)  # also with more pieces than tokens
    loss, gradients = _learnt(copy.deepcopy(model), batch)
    pieces, by_pieces = _learnt(AnswerReader(model, answer_loss("chunked")), batch)
    torch.testing.assert_close(pieces, loss)
    assert len(gradients) == len(by_pieces) > 4
    for (name, gradient), other in zip(gradients.items(), by_pieces.values(), strict=True):
        torch.testing.assert_close(other, gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_logits_of_all_tokens_are_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = build()
    batch = batch_of(SAMPLES, processor)
    rows: list[int] = []
    plain = answers.functional.cross_entropy

    def watched(logits: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        rows.append(len(logits))
        return plain(logits, *rest, **options)

    monkeypatch.setattr(answers.functional, "cross_entropy", watched)
    model.lm_head.register_forward_hook(lambda *_: pytest.fail("the output layer is read as a whole"))
    AnswerReader(model.train(), answer_loss("chunked"))(**batch, num_items_in_batch=answer_targets(batch))
    assert sum(rows) == int(answer_targets(batch)) < batch["input_ids"].numel()
    assert len(rows) == PIECES
    assert max(rows) <= -(-sum(rows) // PIECES)


@pytest.mark.skipif(importlib.util.find_spec("liger_kernel") is not None, reason="Liger Kernel is installed here")
def test_liger_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigError, match=r"train\.loss liger: liger_kernel is not installed\. .* use chunked"):
        answer_loss("liger")
