"""A tiny Qwen2.5-VL from nothing: the architecture of the large ones, built from configuration, with a tokenizer of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from cg_data.errors import ConfigError
from cg_data.instruct.prompt import SYSTEM_PROMPT
from cg_data.settings import PageSettings
from cg_train.model.encode import END_OF_TURN, IMAGE, PAD, TOKEN_PX, TURN, VIDEO, VISION_END, VISION_START, image_tokens
from cg_train.recipe import TinyModel

SPECIAL_TOKENS = (
    PAD, TURN, END_OF_TURN, "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>",
    VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO,
)  # fmt: skip
"""Control tokens of Qwen2.5-VL."""

CHAT_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of Qwen/Qwen2.5-VL (Apache-2.0)."""


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Qwen2Tokenizer:
    """Byte-pair encoding (Sennrich et al. 2016) learnt from `texts`, with Qwen's way of splitting words and its control tokens.

    The system prompt and the names of the roles count as often as there are texts, for they stand before each. The order of the texts
    does not matter; every text can be encoded and decoded again, learnt or not.

    Args:
        vocabulary: number of tokens, the 256 bytes and the control tokens included; fewer if the texts do not give as many.

    Raises:
        ConfigError: `vocabulary` leaves no room to learn.
    """
    if vocabulary <= 256 + len(SPECIAL_TOKENS):
        raise ConfigError(f"train.tiny.vocabulary: {vocabulary} tokens are too few. Give more than {256 + len(SPECIAL_TOKENS)}.")
    counted = list(texts)
    counted += [f"system\n{SYSTEM_PROMPT}", "user\n", "assistant\n"] * len(counted)
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    learner.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS),
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(counted, trainer)
    return _qwen_tokenizer(learner)


def _qwen_tokenizer(learner: Tokenizer) -> Qwen2Tokenizer:
    learnt = json.loads(learner.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(pair) for pair in learnt["merges"]],
        unk_token=None,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS),
        padding_side="left",
    )


def build_tiny(settings: TinyModel, tokenizer: Qwen2Tokenizer, page: PageSettings) -> tuple[Any, Any]:
    """An untrained model and its processor; equal settings give equal weights.

    Returns:
        `Qwen2_5_VLForConditionalGeneration` in float32 and `Qwen2_5_VLProcessor`.

    Raises:
        ConfigError: sizes that do not fit together.
    """
    image_tokens(page)
    _check_heads(settings)
    config = Qwen2_5_VLConfig(
        text_config=_text_config(settings, tokenizer),
        vision_config=vision_sizes(settings),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO),
        vision_start_token_id=tokenizer.convert_tokens_to_ids(VISION_START),
        vision_end_token_id=tokenizer.convert_tokens_to_ids(VISION_END),
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.pad_token_id
    return model, _processor(tokenizer)


def _check_heads(settings: TinyModel) -> None:
    for name, hidden, heads in (
        ("text", settings.text_hidden, settings.text_heads),
        ("vision", settings.vision_hidden, settings.vision_heads),
    ):
        if hidden % (4 * heads):
            raise ConfigError(f"train.tiny: {name}_hidden {hidden} must be a multiple of 4 x {name}_heads = {4 * heads}.")
    if settings.text_heads % settings.text_kv_heads:
        raise ConfigError(f"train.tiny: text_heads {settings.text_heads} must be a multiple of text_kv_heads {settings.text_kv_heads}.")


def _text_config(settings: TinyModel, tokenizer: Qwen2Tokenizer) -> dict[str, Any]:
    return {
        **text_sizes(settings),
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def text_sizes(settings: TinyModel) -> dict[str, Any]:
    """The language model's part of the configuration, but for what the tokenizer says."""
    pairs = settings.text_hidden // settings.text_heads // 2
    in_time = pairs // 4
    in_height = (pairs - in_time) // 2
    return {
        "hidden_size": settings.text_hidden,
        "intermediate_size": settings.text_intermediate,
        "num_hidden_layers": settings.text_layers,
        "num_attention_heads": settings.text_heads,
        "num_key_value_heads": settings.text_kv_heads,
        "initializer_range": settings.initializer_range,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [in_time, in_height, pairs - in_time - in_height],
        },
    }


def vision_sizes(settings: TinyModel) -> dict[str, Any]:
    """Windows of Qwen's size, and the last block sees the whole page (the default would put that block beyond this depth)."""
    return {
        "depth": settings.vision_depth,
        "hidden_size": settings.vision_hidden,
        "num_heads": settings.vision_heads,
        "intermediate_size": settings.vision_intermediate,
        "out_hidden_size": settings.text_hidden,
        "window_size": 112,
        "fullatt_block_indexes": [settings.vision_depth - 1],
        "initializer_range": settings.initializer_range,
    }


def _processor(tokenizer: Qwen2Tokenizer) -> Any:
    """Pictures between 4 and 16,384 visual tokens keep their size (the bounds of Qwen/Qwen2.5-VL)."""
    size = {"shortest_edge": 4 * TOKEN_PX**2, "longest_edge": 16384 * TOKEN_PX**2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
