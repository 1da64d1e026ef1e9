"""A Qwen2.5-VL small enough for tests, and what plain transformers makes of the same pages and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers.utils import logging

from cg_data.instruct.prompt import SYSTEM_PROMPT
from cg_data.page import render_batch
from cg_data.records import Message, Sample
from cg_data.settings import PageSettings
from cg_train.model.build import build_tiny, train_tokenizer
from cg_train.model.encode import Batch, training_batch
from cg_train.model.load import LoadedModel, load_model
from cg_train.recipe import PictureSettings, TinyModel
from tests.cg_train.train_small import KINDS, make_sample

logging.disable_progress_bar()

PAGE = PageSettings(pixels_per_row=4, pixels_per_second=14, microvolts_per_row=8.0)
"""140 x 84 pixels: five by three visual tokens, more than one window of the vision tower, not square."""
TOKENS = 15
PICTURES = PictureSettings(max_pixels=TOKENS * 28 * 28)

SIZES = TinyModel(
    vision_depth=2,
    vision_hidden=32,
    vision_heads=2,
    vision_intermediate=48,
    text_layers=2,
    text_hidden=64,
    text_heads=2,
    text_kv_heads=1,
    text_intermediate=64,
    vocabulary=330,
    initializer_range=0.2,
)

SAMPLES: tuple[Sample, ...] = tuple(make_sample(number, kind) for number in (0, 8, 16, 4) for kind in KINDS)


def texts() -> list[str]:
    return [message.content for sample in SAMPLES for message in sample.messages]


def build() -> tuple[Any, Any]:
    """The model, ready to answer, and its processor."""
    model, processor = build_tiny(SIZES, train_tokenizer(texts(), SIZES.vocabulary), PAGE)
    return model.eval(), processor


def load(folder: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
    return load_model(folder, dtype=dtype, attention="sdpa", device="cpu")


def batch_of(samples: Sequence[Sample], processor: Any) -> Batch:
    return training_batch(samples, [sample.eeg_uv for sample in samples], processor=processor, page=PAGE, pictures=PICTURES, max_tokens=256)


def teach(model: Any, processor: Any, steps: int) -> None:
    """Learn the samples by heart, so that answers hang on the page, differ in length and come to an end."""
    batch = batch_of(SAMPLES, processor)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(steps):
        model(**batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    model.eval()


def turns(*contents: str, first: str = "user") -> list[Message]:
    """A dialogue whose roles take turns."""
    other = {"user": "assistant", "assistant": "user"}
    start = [Message(role="system", content=contents[0])] if first == "system" else []
    role = "user" if start else first
    for content in contents[len(start) :]:
        start.append(Message(role=role, content=content))
        role = other[role]
    return start


def pages_of(eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return render_batch(eeg_uv, mask, PAGE)


def by_processor(
    processor: Any,
    dialogues: Sequence[Sequence[Message]],
    pages: npt.NDArray[np.uint8],
    *,
    with_answer: bool,
    padding_side: str = "left",
    **template: Any,
) -> Mapping[str, Any]:
    """What the processor of transformers makes of dialogues and their pages, shown to it as colour pictures."""
    conversations = [_with_picture(dialogue, Image.fromarray(page).convert("RGB")) for dialogue, page in zip(dialogues, pages, strict=True)]
    inputs: Mapping[str, Any] = processor.apply_chat_template(
        conversations,
        tokenize=True,
        return_dict=True,
        add_generation_prompt=not with_answer,
        processor_kwargs={"return_tensors": "pt", "padding": True, "padding_side": padding_side},
        **template,
    )
    return inputs


def _with_picture(dialogue: Sequence[Message], picture: Image.Image) -> list[dict[str, Any]]:
    own_system = dialogue[0].role == "system"
    system, spoken = (dialogue[0].content, dialogue[1:]) if own_system else (SYSTEM_PROMPT, dialogue)
    asked = [{"type": "image", "image": picture}, {"type": "text", "text": spoken[0].content}]
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": asked},
        *({"role": turn.role, "content": turn.content} for turn in spoken[1:]),
    ]
