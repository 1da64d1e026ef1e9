"""Sizes of a Qwen2.5-VL and how many of its parameters learn, taken from the model itself, which is built without memory (meta device)."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from cg_data.errors import ConfigError, StorageError
from cg_train.model.build import text_sizes, vision_sizes
from cg_train.model.load import module_of, set_trainable
from cg_train.recipe import LoraSettings, Module, StageRecipe, TrainSettings
from cg_train.step import PERSISTENT_ELEMENTS

_VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "fullatt_block_indexes": [7, 15, 23, 31],
    "window_size": 112,
}  # fmt: skip
_KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "text_config": {
            "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
            "num_key_value_heads": 2, "vocab_size": 151936,
        },
        "vision_config": {**_VISION, "out_hidden_size": 2048},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "text_config": {
            "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
            "num_key_value_heads": 4, "vocab_size": 152064,
        },
        "vision_config": {**_VISION, "out_hidden_size": 3584},
        "tie_word_embeddings": False,
    },
}  # fmt: skip
"""Sizes in the config.json of these models on the Hugging Face hub; Bai et al. 2025, "Qwen2.5-VL Technical Report", table 1."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tower:
    """`layers` equal layers of width `hidden`, whose MLP has width `intermediate` and whose keys have `key_value` values."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of a model in one stage. `whole` and `learning` count parameters of each module (adapters count as language); `matrices` are
    the weights that every token (patch, in the vision tower) is multiplied with, without the output layer and the adapters.

    `full_layers` of the vision tower attend to the whole picture, the others to windows of `window` patches. `adapters` counts the
    parameters of low-rank adapters, `rank` is theirs; 0 without. `largest` is the largest single parameter, `persistent` counts those so
    small that ZeRO stage 3 does not scatter them.
    """

    text: Tower
    vision: Tower
    full_layers: int
    window: int
    vocabulary: int
    whole: Mapping[Module, int]
    learning: Mapping[Module, int]
    matrices: Mapping[Module, int]
    largest: int
    persistent: int
    adapters: int
    rank: int

    @property
    def parameters(self) -> int:
        return sum(self.whole.values())

    @property
    def trained(self) -> int:
        return sum(self.learning.values())


def config_of(settings: TrainSettings) -> Any:
    """The `Qwen2_5_VLConfig` of the model that the stages start from, without its weights and without a network.

    Raises:
        ConfigError: a name on the hub that is neither known here nor in the local cache.
        StorageError: a folder whose config.json cannot be read.
    """
    if settings.source == "tiny":
        tiny = settings.tiny
        text = text_sizes(tiny) | {"vocab_size": tiny.vocabulary}
        return Qwen2_5_VLConfig(text_config=text, vision_config=vision_sizes(tiny), tie_word_embeddings=True)
    if settings.source in _KNOWN and not Path(settings.source).exists():
        return Qwen2_5_VLConfig(**_KNOWN[settings.source])
    try:
        config = AutoConfig.from_pretrained(settings.source, local_files_only=True)
    except (OSError, ValueError) as error:
        if Path(settings.source).exists():
            raise StorageError(f"train.source {settings.source}: its config.json cannot be read.") from error
        raise ConfigError(
            f"train.source {settings.source}: its sizes are not known here. Give a local folder, or one of {', '.join(_KNOWN)}."
        ) from error
    if config.model_type != "qwen2_5_vl":
        raise ConfigError(f"train.source {settings.source}: this is a {config.model_type} model. Give a Qwen2.5-VL.")
    return config


def shape_of(config: Any, recipe: StageRecipe) -> Shape:
    """Sizes of the model of `config` while it learns by `recipe`.

    Raises:
        ConfigError: see `set_trainable`.
    """
    lora = None if recipe.lora is None else recipe.lora.model_dump_json()
    return _shape(json.dumps(config.to_dict(), default=str, sort_keys=True), recipe.trainable, lora)


@functools.lru_cache(maxsize=16)
def _shape(config_json: str, modules: tuple[Module, ...], lora_json: str | None) -> Shape:
    config = Qwen2_5_VLConfig(**json.loads(config_json))
    lora = None if lora_json is None else LoraSettings.model_validate_json(lora_json)
    with torch.device("meta"):
        model: Any = Qwen2_5_VLForConditionalGeneration._from_config(config)
        model.tie_weights()
        model, _ = set_trainable(model, modules, lora)
    text, vision = config.text_config, config.vision_config
    named = list(model.named_parameters())
    adapters = sum(p.numel() for name, p in named if "lora_" in name)
    return Shape(
        text=Tower(
            layers=text.num_hidden_layers,
            hidden=text.hidden_size,
            intermediate=text.intermediate_size,
            heads=text.num_attention_heads,
            key_value=text.hidden_size // text.num_attention_heads * text.num_key_value_heads,
        ),
        vision=Tower(
            layers=vision.depth,
            hidden=vision.hidden_size,
            intermediate=vision.intermediate_size,
            heads=vision.num_heads,
            key_value=vision.hidden_size,
        ),
        full_layers=len(vision.fullatt_block_indexes),
        window=(vision.window_size // vision.patch_size) ** 2,
        vocabulary=text.vocab_size,
        whole=_counts(named),
        learning=_counts([(name, p) for name, p in named if p.requires_grad]),
        matrices=_counts([(name, p) for name, p in named if _is_matrix(name, p)]),
        largest=max(p.numel() for _, p in named),
        persistent=sum(p.numel() for _, p in named if p.numel() < PERSISTENT_ELEMENTS),
        adapters=adapters,
        rank=0 if lora is None else lora.rank,
    )


def _counts(named: list[tuple[str, torch.nn.Parameter]]) -> dict[Module, int]:
    counts: dict[Module, int] = {"vision": 0, "projector": 0, "language": 0}
    for name, parameter in named:
        counts[module_of(name)] += parameter.numel()
    return counts


def _is_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Not of the matrices: the embedding, which is looked up; the output layer and adapters, which are counted apart; the frozen copy
    that peft keeps of a projector that learns."""
    apart = ("embed_tokens", "lm_head", "lora_", "original_module")
    return parameter.dim() > 1 and not any(part in name for part in apart)
