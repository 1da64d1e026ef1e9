"""Packs against the same samples by themselves: what stands in one row does not see what stands before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from cg_data.errors import UserError
from cg_data.records import Sample
from cg_train.flops import load_of_batch
from cg_train.model.answers import AnswerReader, answer_loss
from cg_train.model.encode import IGNORED, Batch, training_batch
from cg_train.model.pack import Positions, packed_batch
from cg_train.recipe import PictureSettings
from cg_train.step import answer_targets
from tests.cg_train.general_small import DOT, DRAWING, LARGE, PHOTO, WORDS, general
from tests.cg_train.model_small import PAGE, SAMPLES, build

PICTURES = PictureSettings(max_pixels=200 * 28 * 28)
"""LARGE is 189 visual tokens, a dozen times a page of these tests."""
MIXED = (SAMPLES[0], WORDS, LARGE, SAMPLES[4], general(9, None), DRAWING, DOT, SAMPLES[8], PHOTO)


@pytest.fixture(scope="module")
def model_and_processor() -> tuple[Any, Any]:
    model, processor = build()
    model.config.text_config.use_cache = False
    return model, processor


@pytest.fixture(params=["sdpa", "eager"])
def attending(request: pytest.FixtureRequest, model_and_processor: tuple[Any, Any]) -> Iterator[tuple[Any, Any]]:
    model, processor = model_and_processor
    model.set_attn_implementation(request.param)
    yield model, processor
    model.set_attn_implementation("sdpa")
    model.zero_grad(set_to_none=True)


def pack_of(samples: Sequence[Sample], model: Any, processor: Any, max_tokens: int = 400) -> Batch:
    return _made(packed_batch, samples, processor, max_tokens, positions_of=Positions(model.config).get_rope_index)


def padded_of(samples: Sequence[Sample], processor: Any) -> Batch:
    return _made(training_batch, samples, processor, 400)


def _made(make: Any, samples: Sequence[Sample], processor: Any, max_tokens: int, **more: Any) -> Batch:
    signals = [sample.eeg_uv for sample in samples]
    return make(samples, signals, processor=processor, page=PAGE, pictures=PICTURES, max_tokens=max_tokens, **more)


def lengths(pack: Batch) -> list[int]:
    starts = torch.nonzero(pack["position_ids"][0, 0] == 0).flatten().tolist()
    return [b - a for a, b in zip(starts, [*starts[1:], pack["input_ids"].shape[1]], strict=True)]


def test_logits_of_a_pack_are_those_of_each_sample_by_itself(attending: tuple[Any, Any]) -> None:
    model, processor = attending
    pack = pack_of(MIXED, model, processor)
    assert int(pack["image_grid_thw"].prod(1).max()) // 4 == 189
    with torch.no_grad():
        logits = model(**pack).logits[0]
        for sample, part in zip(MIXED, logits.split(lengths(pack)), strict=True):
            alone = padded_of([sample], processor)
            expected = model(**alone).logits[0, : len(part)]  # words alone have a blank token behind them there
            torch.testing.assert_close(part, expected, rtol=0, atol=1e-5)


def test_three_rows_of_positions_would_let_samples_see_each_other(model_and_processor: tuple[Any, Any]) -> None:
    """What the test above guards against, for nothing else would tell."""
    model, processor = model_and_processor
    pack = pack_of(MIXED, model, processor)
    with torch.no_grad():
        exact, leaking = model(**pack).logits, model(**pack | {"position_ids": pack["position_ids"][1:]}).logits
    assert (exact - leaking).abs().max() > 0.01


@pytest.mark.parametrize("loss", ["full", "chunked"])
def test_loss_and_gradients_of_packs_are_those_of_the_padded_batch(attending: tuple[Any, Any], loss: str) -> None:
    model, processor = attending
    network = model if loss == "full" else AnswerReader(model, answer_loss("chunked"))
    padded = padded_of(MIXED, processor)
    share = answer_targets(padded)
    packs = [pack_of(MIXED[:4], model, processor), pack_of(MIXED[4:], model, processor)]
    assert sum(answer_targets(pack) for pack in packs) == share
    expected_loss, expected = _gradients(network, [padded], share)
    found_loss, found = _gradients(network, packs, share)
    assert found_loss == pytest.approx(expected_loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    assert max(gradient.abs().max() for gradient in expected.values()) > 1e-2


def _gradients(network: Any, micro: list[Batch], share: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
    network.zero_grad(set_to_none=True)
    total = 0.0
    for inputs in micro:
        loss = network(**inputs, num_items_in_batch=share).loss
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_labels_are_the_assistants_turns_alone(model_and_processor: tuple[Any, Any]) -> None:
    model, processor = model_and_processor
    pack = pack_of(MIXED, model, processor)
    for sample, ids, labels in zip(MIXED, *(pack[name][0].split(lengths(pack)) for name in ("input_ids", "labels")), strict=True):
        told = labels[labels != IGNORED]
        assert torch.equal(told, ids[labels != IGNORED])
        answers = [message.content for message in sample.messages if message.role == "assistant"]
        assert processor.tokenizer.decode(told) == "".join(f"{answer}<|im_end|>" for answer in answers)
        assert labels[0] == IGNORED


def test_a_pack_of_words_alone_reaches_the_tower_with_gradients_of_zero(model_and_processor: tuple[Any, Any]) -> None:
    model, processor = model_and_processor
    pack = pack_of([WORDS, general(9, None)], model, processor)
    assert lengths(pack)[-1] == 1
    assert pack["labels"][0, -1] == IGNORED
    _, gradients = _gradients(model, [pack], answer_targets(pack))
    tower = {name: gradient for name, gradient in gradients.items() if ".visual." in name}
    assert set(tower) == {name for name, _ in model.named_parameters() if ".visual." in name}
    assert not any(gradient.any() for gradient in tower.values())
    assert any(gradient.any() for gradient in gradients.values())


def test_a_sample_is_never_cut_but_refused_by_name(model_and_processor: tuple[Any, Any]) -> None:
    with pytest.raises(UserError, match=rf"sample {LARGE.sample_id} \(general\) has \d+ tokens, more than max_tokens 150"):
        pack_of(MIXED, *model_and_processor, max_tokens=150)


def test_operations_of_a_pack_are_those_of_its_samples(model_and_processor: tuple[Any, Any]) -> None:
    model, processor = model_and_processor
    assert load_of_batch(pack_of(MIXED, model, processor)) == load_of_batch(padded_of(MIXED, processor))
