"""Dialogues as token ids and pages as patches: what Qwen2.5-VL's processor would make of them, without pictures in between.

`tests/cg_train/test_model_encode.py` holds both against the processor of transformers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import ImageOps
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from cg_data.errors import ConfigError, UserError
from cg_data.instruct.general import open_picture
from cg_data.instruct.prompt import SYSTEM_PROMPT
from cg_data.page import page_shape, render_batch
from cg_data.records import Message, Sample
from cg_data.settings import PageSettings
from cg_train.model.pixels import FRAMES, IMAGE_MEAN, PATCH_PX, to_values
from cg_train.packs import too_long
from cg_train.recipe import PictureSettings

MERGE = 2
"""Patches per side of a visual token of Qwen2.5-VL."""
TOKEN_PX = PATCH_PX * MERGE

TURN, END_OF_TURN, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
VISION_START, IMAGE, VIDEO, VISION_END = "<|vision_start|>", "<|image_pad|>", "<|video_pad|>", "<|vision_end|>"
IGNORED = -100
"""Label of a token that carries no loss."""

Batch = dict[str, torch.Tensor]
Patches = tuple[torch.Tensor, torch.Tensor]
"""`pixel_values` and `image_grid_thw` of one picture or of several."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """A dialogue in tokens, int64 `(length,)` each. `mm_token_type_ids` is 1 on visual tokens, else 0.

    Without `mm_token_type_ids` the model silently falls back to one-dimensional positions. The last `unseen` tokens are not attended to.
    """

    input_ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    mm_token_type_ids: npt.NDArray[np.int64]
    unseen: int = 0


def image_tokens(page: PageSettings) -> int:
    """Visual tokens of one page.

    Raises:
        ConfigError: the page does not divide into visual tokens, or its rows are derived ones.
    """
    if page.montage is not None:
        raise ConfigError(f"data.page.montage: the model reads the nineteen stored rows, not {page.montage}. Take it out.")
    height, width = page_shape(page)
    if height % TOKEN_PX or width % TOKEN_PX:
        raise ConfigError(
            f"data.page: {width} x {height} pixels do not divide into {TOKEN_PX}-pixel tokens. Set multiple_of to {TOKEN_PX}."
        )
    return (height // TOKEN_PX) * (width // TOKEN_PX)


def picture_tokens(data: bytes, settings: PictureSettings) -> int:
    """Visual tokens of a JPEG or PNG, by its size alone; one that lies on its side (Exif) has as many.

    Raises:
        OSError, ValueError, SyntaxError: see `open_picture`; or it is more than 200 times as long as it is wide.
    """
    with open_picture(data) as picture:
        width, height = picture.size
    tall, wide = smart_resize(height, width, TOKEN_PX, settings.min_pixels, settings.max_pixels)
    return (tall // TOKEN_PX) * (wide // TOKEN_PX)


def page_to_patches(pages: npt.NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey pages `(n, height, width)` as `pixel_values` and `image_grid_thw`.

    Returns:
        float32 `(n * patches, 1176)`, normalised, patches in the order of the visual tokens that they merge into; int64 `(n, 3)`.
    """
    n, height, width = pages.shape
    rows, columns = height // PATCH_PX, width // PATCH_PX
    cut = pages.reshape(n, rows // MERGE, MERGE, PATCH_PX, columns // MERGE, MERGE, PATCH_PX)
    grey = np.ascontiguousarray(cut.transpose(0, 1, 4, 2, 5, 3, 6)).reshape(-1, 1, PATCH_PX * PATCH_PX)
    return to_values(torch.from_numpy(grey)), torch.tensor([[1, rows, columns]] * n)


def encode_dialogue(tokenizer: Any, messages: Sequence[Message], image_tokens: int, *, with_answer: bool) -> Encoded:
    """A dialogue as the model reads it: the system prompt unless it brings its own, the picture at the start of the first user turn.

    Args:
        image_tokens: visual tokens of the page or picture; 0 where there is none.
        with_answer: True for training: the dialogue ends with the assistant, whose turns (with their end of turn) are the labels.
            False for a question: it ends with the user, the header of the assistant's turn follows, and nothing is a label.

    Raises:
        UserError: roles that do not alternate, an empty turn, or a turn that holds a control token of the model.
    """
    text, answers = _chat(_turns(tokenizer, messages, with_answer), with_answer, pictured=image_tokens > 0)
    coded = tokenizer(text, return_offsets_mapping=True)
    ids = np.array(coded["input_ids"], dtype=np.int64)
    starts = np.array(coded["offset_mapping"], dtype=np.int64)[:, 0]
    learnt = np.zeros(len(ids), dtype=np.bool_)
    for start, stop in answers:
        learnt |= (starts >= start) & (starts < stop)
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    repeats = np.where(ids == image, image_tokens, 1)
    ids = np.repeat(ids, repeats)
    return Encoded(
        input_ids=ids,
        labels=np.where(np.repeat(learnt, repeats), ids, IGNORED),
        mm_token_type_ids=(ids == image).astype(np.int64),
    )


def dialogue_text(tokenizer: Any, messages: Sequence[Message], *, pictured: bool) -> str:
    """What `encode_dialogue` takes apart into tokens for training; each picture is one token in it.

    Raises:
        UserError: see `encode_dialogue`.
    """
    return _chat(_turns(tokenizer, messages, with_answer=True), with_answer=True, pictured=pictured)[0]


def encode_answer(tokenizer: Any, answer: str) -> list[int]:
    """An assistant's turn after its header, end of turn included, as the labels of `encode_dialogue` have it.

    Raises:
        ValueError: an empty answer or one with blanks around it, which would merge with what stands beside it.
    """
    if not answer or answer != answer.strip():
        raise ValueError(f"an answer must not be empty or begin or end with blanks: {answer!r}")
    _refuse_control_tokens(tokenizer, answer)
    ids: list[int] = tokenizer(answer + END_OF_TURN)["input_ids"]
    return ids


def _turns(tokenizer: Any, messages: Sequence[Message], with_answer: bool) -> list[Message]:
    own_system = bool(messages) and messages[0].role == "system"
    turns = [*messages] if own_system else [Message(role="system", content=SYSTEM_PROMPT), *messages]
    expected = ["system", *("assistant" if i % 2 else "user" for i in range(len(turns) - 1))]
    last = "assistant" if with_answer else "user"
    if [turn.role for turn in turns] != expected or turns[-1].role != last:
        raise UserError(f"messages: turns must alternate between user and assistant, begin with the user and end with the {last}.")
    for turn in turns:
        if not turn.content.strip():
            raise UserError(f"messages: a turn of the {turn.role} is empty. Leave it out or fill it.")
        _refuse_control_tokens(tokenizer, turn.content)
    return turns


def _refuse_control_tokens(tokenizer: Any, text: str) -> None:
    held = [token for token in tokenizer.all_special_tokens if token in text] if "<|" in text else []
    if held:
        raise UserError(f"messages: the text holds {held[0]}, a control token of the model. Take it out.")


def _chat(turns: Sequence[Message], with_answer: bool, *, pictured: bool) -> tuple[str, list[tuple[int, int]]]:
    """The turns in Qwen's chat format, and where in it the assistant speaks: (start, stop) in characters, end of turn included."""
    text, answers, unseen = "", [], pictured
    for turn in turns:
        text += f"{TURN}{turn.role}\n"
        if turn.role == "user" and unseen:
            text, unseen = text + VISION_START + IMAGE + VISION_END, False
        start = len(text)
        text += turn.content + END_OF_TURN
        if turn.role == "assistant" and with_answer:
            answers.append((start, len(text)))
        text += "\n"
    return (text if with_answer else f"{text}{TURN}assistant\n"), answers


def pad_ids(encoded: Sequence[Encoded], pad_id: int, padding_side: Literal["left", "right"]) -> Batch:
    """The dialogues as int64 `(n, longest)` tensors: input_ids, attention_mask, labels, mm_token_type_ids."""
    shape = (len(encoded), max(len(e.input_ids) for e in encoded))
    fill = {"input_ids": pad_id, "attention_mask": 0, "labels": IGNORED, "mm_token_type_ids": 0}
    padded = {name: np.full(shape, value, dtype=np.int64) for name, value in fill.items()}
    for row, one in enumerate(encoded):
        length = len(one.input_ids)
        place = slice(shape[1] - length, None) if padding_side == "left" else slice(length)
        padded["attention_mask"][row, place] = np.arange(length) < length - one.unseen
        for name in ("input_ids", "labels", "mm_token_type_ids"):
            padded[name][row, place] = getattr(one, name)
    return {name: torch.from_numpy(values) for name, values in padded.items()}


def collate(encoded: Sequence[Encoded], patches: Patches, *, pad_id: int, padding_side: Literal["left", "right"] = "right") -> Batch:
    """All inputs of the model for dialogues and the pictures that their visual tokens stand for, in order."""
    pixel_values, image_grid_thw = patches
    return pad_ids(encoded, pad_id, padding_side) | {"pixel_values": pixel_values, "image_grid_thw": image_grid_thw}


def training_batch(
    samples: Sequence[Sample],
    signals: Sequence[npt.NDArray[np.float32]],
    *,
    processor: Any,
    page: PageSettings,
    pictures: PictureSettings,
    max_tokens: int,
) -> Batch:
    """Samples with their (perhaps scaled) signals, microvolts `(19, 2000)` each, as one padded batch with labels.

    Raises:
        UserError: see `encode_samples`.
    """
    encoded, seen = encode_samples(samples, signals, processor=processor, page=page, pictures=pictures, max_tokens=max_tokens)
    tokenizer = processor.tokenizer
    if not seen:
        blank, seen[0] = unseen_picture(tokenizer)
        encoded[0] = _with_unseen(encoded[0], blank)
    return collate(encoded, in_order(seen), pad_id=tokenizer.pad_token_id)


def encode_samples(
    samples: Sequence[Sample],
    signals: Sequence[npt.NDArray[np.float32]],
    *,
    processor: Any,
    page: PageSettings,
    pictures: PictureSettings,
    max_tokens: int,
) -> tuple[list[Encoded], dict[int, Patches]]:
    """Dialogues with labels, and the page or picture of each by its place; a sample may also be about neither.

    Raises:
        UserError: a sample is longer than `max_tokens`; nothing is ever cut off. Or its picture cannot be read.
    """
    seen = _pages_seen(samples, signals, page)
    for place, sample in enumerate(samples):
        if sample.picture is not None:
            seen[place] = picture_to_patches(sample, processor.image_processor, pictures)
    counts = [int(seen[place][1].prod()) // MERGE**2 if place in seen else 0 for place in range(len(samples))]
    encoded = [encode_dialogue(processor.tokenizer, s.messages, count, with_answer=True) for s, count in zip(samples, counts, strict=True)]
    for sample, one in zip(samples, encoded, strict=True):
        if len(one.input_ids) > max_tokens:
            raise too_long(sample.sample_id, sample.kind, len(one.input_ids), max_tokens)
    return encoded, seen


def in_order(seen: Mapping[int, Patches]) -> Patches:
    """The patches of all pages and pictures, by their places."""
    ordered = [seen[place] for place in sorted(seen)]
    return torch.cat([values for values, _ in ordered]), torch.cat([grid for _, grid in ordered])


def _pages_seen(samples: Sequence[Sample], signals: Sequence[npt.NDArray[np.float32]], page: PageSettings) -> dict[int, Patches]:
    """The patches of each sample's page by its place in the batch; those without a page have none."""
    places = [place for place, sample in enumerate(samples) if sample.has_page]
    if not places:
        return {}
    image_tokens(page)
    pages = render_batch(np.stack([signals[place] for place in places]), np.stack([samples[place].mask for place in places]), page)
    values, grids = page_to_patches(pages)
    return dict(zip(places, zip(values.chunk(len(places)), torch.split(grids, 1), strict=True), strict=True))


def picture_to_patches(sample: Sample, image_processor: Any, settings: PictureSettings) -> Patches:
    """The picture of `sample`, upright and in colour, scaled by the model's own image processor.

    Returns:
        pixel_values float32 `(patches, 1176)` and image_grid_thw int64 `(1, 3)`.

    Raises:
        UserError: the bytes are no picture that can be read.
    """
    assert sample.picture is not None
    try:
        with open_picture(sample.picture) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
        size = {"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels}
        made = image_processor(images=[picture], size=size, return_tensors="pt")
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"sample {sample.sample_id}: its picture cannot be read ({error}). Make the general samples again.") from error
    return made["pixel_values"], made["image_grid_thw"]


def unseen_picture(tokenizer: Any) -> tuple[Encoded, Patches]:
    """One blank visual token, which nothing attends to, for a batch of text alone.

    The tower and the projector then take part in every batch with gradients of zero: without, a projector that learns alone would have no
    gradient to start from, and workers that scatter parameters or gradients (ZeRO stages 2 and 3) would wait for each other for ever.
    """
    blank = Encoded(
        input_ids=np.array([tokenizer.convert_tokens_to_ids(IMAGE)], dtype=np.int64),
        labels=np.array([IGNORED], dtype=np.int64),
        mm_token_type_ids=np.array([1], dtype=np.int64),
        unseen=1,
    )
    return blank, (torch.zeros(MERGE**2, len(IMAGE_MEAN) * FRAMES * PATCH_PX**2), torch.tensor([[1, MERGE, MERGE]]))


def _with_unseen(encoded: Encoded, blank: Encoded) -> Encoded:
    names = ("input_ids", "labels", "mm_token_type_ids")
    return Encoded(**{name: np.append(getattr(encoded, name), getattr(blank, name)) for name in names}, unseen=blank.unseen)
