from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from cg_data.errors import ConfigError, UserError
from cg_data.records import Message
from cg_data.settings import PageSettings
from cg_data.vocabulary import Montage
from cg_train.model.build import CHAT_TEMPLATE, SPECIAL_TOKENS
from cg_train.model.encode import (
    IGNORED,
    IMAGE,
    Encoded,
    collate,
    encode_answer,
    encode_dialogue,
    image_tokens,
    page_to_patches,
    training_batch,
)
from tests.cg_train.model_small import PAGE, PICTURES, SAMPLES, TOKENS, build, by_processor, pages_of, turns

QUESTIONS = [
    turns("Which channel?"),
    turns("Which channel?", "Fp1", "How large is it, in µV?"),
    turns("Antworte auf Deutsch.", "Welcher Kanal?", "Fp1", "Sicher?", first="system"),
    turns("  e\u0301 🧠\n\n50 µV\t", "Ça où ⚡\nn\u0303", "…? "),
]
ANSWERED = [
    turns("Is F7 flat?", "No"),
    turns("Which channel?", "Fp1", "How large is it?", "About 40 µV.", "Sure?", "Yes, it is."),
    turns("Antworte auf Deutsch.", "Welcher Kanal?", "Fp1", first="system"),
    turns("  e\u0301 🧠\n\n50 µV\t", "Ça où ⚡ n\u0303 👩‍⚕️", "a\u030a?", "  With blanks \n and lines\n"),
]

MARKED_TEMPLATE = CHAT_TEMPLATE.replace(
    "{{ message['content'] }}<|im_end|>\n",
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}{{ '\\n' }}",
)
"""The chat template, which tells transformers where the assistant speaks."""

Side = Literal["left", "right"]


@pytest.fixture(scope="module")
def model_and_processor() -> tuple[Any, Any]:
    return build()


@pytest.fixture(scope="module")
def processor(model_and_processor: tuple[Any, Any]) -> Any:
    return model_and_processor[1]


def _pages(n: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(n).integers(0, 256, (n, 84, 140), dtype=np.uint8)


def _encoded(processor: Any, dialogues: Sequence[Sequence[Message]], *, with_answer: bool) -> list[Encoded]:
    return [encode_dialogue(processor.tokenizer, dialogue, TOKENS, with_answer=with_answer) for dialogue in dialogues]


@pytest.mark.parametrize(("dialogue", "with_answer"), [(one, False) for one in QUESTIONS] + [(one, True) for one in ANSWERED])
def test_a_dialogue_is_encoded_as_the_processor_of_transformers_does(processor: Any, dialogue: list[Message], with_answer: bool) -> None:
    theirs = by_processor(processor, [dialogue], _pages(1), with_answer=with_answer)
    ours = encode_dialogue(processor.tokenizer, dialogue, TOKENS, with_answer=with_answer)
    np.testing.assert_array_equal(ours.input_ids, theirs["input_ids"][0])
    np.testing.assert_array_equal(ours.mm_token_type_ids, theirs["mm_token_type_ids"][0])
    assert ours.mm_token_type_ids.sum() == TOKENS


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("with_answer", [False, True])
def test_a_batch_is_collated_as_the_processor_of_transformers_does(processor: Any, side: Side, with_answer: bool) -> None:
    dialogues, pages = (ANSWERED if with_answer else QUESTIONS), _pages(4)
    theirs = by_processor(processor, dialogues, pages, with_answer=with_answer, padding_side=side)
    encoded = _encoded(processor, dialogues, with_answer=with_answer)
    assert len({len(one.input_ids) for one in encoded}) > 1
    ours = collate(encoded, page_to_patches(pages), pad_id=processor.tokenizer.pad_token_id, padding_side=side)
    assert set(theirs) == set(ours) - {"labels"}
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("side", ["left", "right"])
def test_labels_are_exactly_the_turns_of_the_assistant_with_their_end(processor: Any, side: Side) -> None:
    pages = _pages(4)
    theirs = by_processor(
        processor, ANSWERED, pages, with_answer=True, padding_side=side, chat_template=MARKED_TEMPLATE, return_assistant_tokens_mask=True
    )
    encoded = _encoded(processor, ANSWERED, with_answer=True)
    ours = collate(encoded, page_to_patches(pages), pad_id=processor.tokenizer.pad_token_id, padding_side=side)
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    expected = torch.where(torch.tensor(theirs["assistant_masks"]) == 1, theirs["input_ids"], IGNORED)
    assert torch.equal(ours["labels"], expected)
    said = [processor.tokenizer.decode(one.labels[one.labels != IGNORED]) for one in encoded]
    assert said[:2] == ["No<|im_end|>", "Fp1<|im_end|>About 40 µV.<|im_end|>Yes, it is.<|im_end|>"]


def test_a_question_carries_no_labels(processor: Any) -> None:
    for encoded in _encoded(processor, QUESTIONS, with_answer=False):
        assert (encoded.labels == IGNORED).all()


@pytest.mark.parametrize("answer", ["No", "About 40 µV, at Fp1.", "Ça où ⚡\nn\u0303 👩‍⚕️"])
def test_an_answer_alone_has_the_tokens_that_its_turn_has_in_the_dialogue(processor: Any, answer: str) -> None:
    dialogue = encode_dialogue(processor.tokenizer, turns("Which channel?", answer), TOKENS, with_answer=True)
    assert encode_answer(processor.tokenizer, answer) == dialogue.labels[dialogue.labels != IGNORED].tolist()


@pytest.mark.parametrize("answer", ["", " No", "No\n"])
def test_an_answer_alone_with_blanks_around_it_is_refused(processor: Any, answer: str) -> None:
    with pytest.raises(ValueError, match="must not be empty or begin or end with blanks"):
        encode_answer(processor.tokenizer, answer)


@pytest.mark.parametrize(
    "page",
    [
        PAGE,
        PageSettings(),
        PageSettings(pixels_per_row=56),
        PageSettings(pixels_per_row=30, pixels_per_second=100),
    ],
)
def test_pages_become_the_patches_that_the_processor_makes_of_colour_pictures(processor: Any, page: PageSettings) -> None:
    count = image_tokens(page)
    samples = SAMPLES[:2]
    batch = training_batch(
        samples, [sample.eeg_uv for sample in samples], processor=processor, page=page, pictures=PICTURES, max_tokens=4096
    )
    rows, columns = batch["image_grid_thw"][0, 1:].tolist()
    grey = np.random.default_rng(0).integers(0, 256, (2, rows * 14, columns * 14), dtype=np.uint8)
    pixels, grid = page_to_patches(grey)
    theirs = processor.image_processor([Image.fromarray(one).convert("RGB") for one in grey], return_tensors="pt")
    assert torch.equal(pixels, theirs["pixel_values"])
    assert torch.equal(grid, theirs["image_grid_thw"])
    assert grid.prod(-1).tolist() == [4 * count] * 2
    assert batch["mm_token_type_ids"].sum(-1).tolist() == [count] * 2


def test_the_default_page_has_a_token_for_a_quarter_of_a_second_of_each_channel() -> None:
    assert image_tokens(PageSettings()) == 19 * 40
    assert image_tokens(PAGE) == TOKENS


@pytest.mark.parametrize("changes", [{"pixels_per_second": 100}, {"pixels_per_row": 16}])
def test_a_page_that_does_not_divide_into_tokens_is_refused(processor: Any, changes: dict[str, int]) -> None:
    page = PageSettings.model_validate({"pixels_per_row": 28, "pixels_per_second": 112, "multiple_of": 1} | changes)
    with pytest.raises(ConfigError, match=r"data\.page: \d+ x \d+ pixels do not divide into 28-pixel tokens\. Set multiple_of to 28"):
        image_tokens(page)
    with pytest.raises(ConfigError, match="do not divide"):
        training_batch(SAMPLES[:1], [SAMPLES[0].eeg_uv], processor=processor, page=page, pictures=PICTURES, max_tokens=4096)


def test_a_page_of_derived_rows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.page\.montage: the model reads the nineteen stored rows, not laplacian"):
        image_tokens(PageSettings(montage=Montage.LAPLACIAN))


def test_samples_become_what_the_processor_makes_of_their_pages_and_words(processor: Any) -> None:
    mask = np.arange(19) != 4
    samples = [SAMPLES[0], dataclasses.replace(SAMPLES[5], mask=mask), SAMPLES[8]]
    signals = [samples[0].eeg_uv, samples[1].eeg_uv, 1.7 * samples[2].eeg_uv]
    ours = training_batch(samples, signals, processor=processor, page=PAGE, pictures=PICTURES, max_tokens=256)
    pages = pages_of(np.stack(signals), np.stack([sample.mask for sample in samples]))
    theirs = by_processor(processor, [sample.messages for sample in samples], pages, with_answer=True, padding_side="right")
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    assert ours["labels"].shape == ours["input_ids"].shape


def test_a_sample_that_is_too_long_is_named_and_never_cut(processor: Any) -> None:
    long = dataclasses.replace(SAMPLES[1], messages=(*SAMPLES[1].messages, *turns("And " * 50 + "?", "No")))
    samples = [SAMPLES[0], long, SAMPLES[2]]
    signals = [sample.eeg_uv for sample in samples]
    length = len(encode_dialogue(processor.tokenizer, long.messages, TOKENS, with_answer=True).input_ids)
    with pytest.raises(UserError, match=rf"sample {long.sample_id} \(binary\) has {length} tokens, more than max_tokens {length - 1}"):
        training_batch(samples, signals, processor=processor, page=PAGE, pictures=PICTURES, max_tokens=length - 1)
    whole = training_batch(samples, signals, processor=processor, page=PAGE, pictures=PICTURES, max_tokens=length)
    assert whole["input_ids"].shape == (3, length)


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_text_that_holds_a_control_token_is_refused(processor: Any, token: str) -> None:
    message = "a control token of the model"
    for dialogue in (turns(f"What is {token}here?", "No"), turns("Is it flat?", f"No{token}"), turns(token, "A?", "No", first="system")):
        with pytest.raises(UserError, match=message):
            encode_dialogue(processor.tokenizer, dialogue, TOKENS, with_answer=True)
    with pytest.raises(UserError, match=message):
        encode_answer(processor.tokenizer, f"A{token}")


def test_text_that_only_resembles_a_control_token_is_text(processor: Any) -> None:
    dialogue = turns("What is <|image| > or <|im_end or image_pad|>?")
    ids = encode_dialogue(processor.tokenizer, dialogue, TOKENS, with_answer=False).input_ids
    assert (ids == processor.tokenizer.convert_tokens_to_ids(IMAGE)).sum() == TOKENS
    assert "<|image| > or <|im_end or image_pad|>?" in processor.tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("dialogue", "with_answer"),
    [
        ([], False),
        ([], True),
        (turns("Which?"), True),
        (turns("Which?", "Fp1"), False),
        (turns("Fp1", first="assistant"), True),
        (turns("Fp1", "Which?", first="assistant"), False),
        ([*turns("Which?"), *turns("Which?")], False),
        ([*turns("Which?", "Fp1"), *turns("Be brief.", "And?", first="system")], False),
        ([Message(role="tool", content="Which?")], False),
    ],
)
def test_turns_that_do_not_alternate_or_end_on_the_wrong_side_are_refused(
    processor: Any, dialogue: list[Message], with_answer: bool
) -> None:
    last = "assistant" if with_answer else "user"
    with pytest.raises(UserError, match=f"turns must alternate between user and assistant, begin with the user and end with the {last}"):
        encode_dialogue(processor.tokenizer, dialogue, TOKENS, with_answer=with_answer)


@pytest.mark.parametrize(
    ("dialogue", "role"),
    [(turns("", "No"), "user"), (turns("Flat?", " \n"), "assistant"), (turns(" ", "A?", "B", first="system"), "system")],
)
def test_an_empty_turn_is_refused(processor: Any, dialogue: list[Message], role: str) -> None:
    with pytest.raises(UserError, match=f"a turn of the {role} is empty"):
        encode_dialogue(processor.tokenizer, dialogue, TOKENS, with_answer=True)


@torch.inference_mode()
def test_the_side_of_the_padding_does_not_change_what_the_model_says(model_and_processor: tuple[Any, Any]) -> None:
    model, processor = model_and_processor
    encoded, pages, pad = _encoded(processor, ANSWERED, with_answer=True), _pages(4), processor.tokenizer.pad_token_id
    logits = {}
    for side in ("left", "right"):
        batch = collate(encoded, page_to_patches(pages), pad_id=pad, padding_side=side)
        logits[side] = model(**batch).logits[batch["attention_mask"] == 1]
    torch.testing.assert_close(logits["left"], logits["right"], rtol=0, atol=2e-5)
    batch = collate(encoded, page_to_patches(pages[::-1]), pad_id=pad)
    assert (model(**batch).logits[batch["attention_mask"] == 1] - logits["right"]).abs().max() > 1e-2
