"""The one place where a model is read from disk or from the hub, and where it is decided which of its parameters learn."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from transformers import AutoConfig, AutoProcessor, Qwen2_5_VLForConditionalGeneration

from cg_data import storage
from cg_data.errors import ConfigError, StorageError
from cg_data.settings import PageSettings, Settings
from cg_train.model.encode import IMAGE, MERGE
from cg_train.model.pixels import FRAMES, IMAGE_MEAN, IMAGE_STD, PATCH_PX
from cg_train.model.varlen import use_varlen
from cg_train.recipe import Attention, LoraSettings, Module

ABOUT_FILE = "cerebragloss.json"
"""What an exported folder says of itself beside what transformers reads."""


class ModelAbout(Settings):
    """Page and prompt that a model was trained with. `version` names its weights, `provenance` is what the training said of itself."""

    page: PageSettings
    prompt_version: str
    version: str
    provenance: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """`model` is a `Qwen2_5_VLForConditionalGeneration`, `processor` its `Qwen2_5_VLProcessor`; `about` is None for models of others."""

    model: Any
    processor: Any
    about: ModelAbout | None

    @property
    def tokenizer(self) -> Any:
        return self.processor.tokenizer

    @property
    def page(self) -> PageSettings | None:
        """The page that the model was trained with, if it is one of ours."""
        return None if self.about is None else self.about.page


def load_model(source: str, *, dtype: torch.dtype | Literal["auto"], attention: Attention, device: str) -> LoadedModel:
    """Load a Qwen2.5-VL with all its weights, none missing and none left over; only safetensors are read.

    Args:
        source: a folder (path or file://), or the id of a model on the Hugging Face hub such as Qwen/Qwen2.5-VL-3B-Instruct.
        dtype: of the weights in memory; "auto" keeps what is stored.
        attention: attention implementation of transformers, or "varlen" (`cg_train.model.varlen`).
        device: for example "cpu" or "cuda".

    Raises:
        StorageError: there is no such model, it cannot be had, or its weights do not fit its configuration.
        ConfigError: it is no Qwen2.5-VL, or `attention` is not installed.
    """
    place = _place_of(source)
    try:
        config = AutoConfig.from_pretrained(place)
        if config.model_type != "qwen2_5_vl":
            raise ConfigError(f"{source}: this is a {config.model_type} model. Give a Qwen2.5-VL.")
        processor = AutoProcessor.from_pretrained(place)
        model, found = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            place,
            dtype=dtype,
            attn_implementation="sdpa" if attention == "varlen" else attention,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported, and refused by name below
        )
    except ImportError as error:
        raise ConfigError(f"train.attention {attention}: not installed here ({_first_line(error)}). Use sdpa.") from error
    except (OSError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise StorageError(f"{source}: this model cannot be loaded ({_first_line(error)}).") from error
    if attention == "varlen":
        use_varlen(model)
    _check_keys(source, found)
    _check_tokens(source, processor, config)
    _check_pictures(source, processor)
    return LoadedModel(model=model if device == "cpu" else model.to(device), processor=processor, about=read_about(place))


def _place_of(source: str) -> str:
    """The folder of `source`, checked, or `source` itself where it is a name on the hub."""
    path = storage.local_path(source)
    looks_like_id = "://" not in source and source.count("/") == 1 and not source.startswith((".", "/", "~"))
    if not path.exists() and looks_like_id:
        return source
    if not (path / "config.json").is_file():
        raise StorageError(
            f"{source}: no model in this folder (config.json is missing). Give the folder that training exported, or a hub id."
        )
    if not any(path.glob("*.safetensors")):
        raise StorageError(
            f"{source}: no safetensors in this folder; pickled weights are not read, for they can run code. Convert them first."
        )
    return str(path)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _check_keys(source: str, found: dict[str, Collection[Any]]) -> None:
    for fault in ("missing", "unexpected", "mismatched"):
        keys = sorted(key if isinstance(key, str) else key[0] for key in found[f"{fault}_keys"])
        if keys:
            names = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise StorageError(
                f"{source}: {fault} weights: {names}. The folder is incomplete or of another model; export or download it again."
            )


def _check_tokens(source: str, processor: Any, config: Any) -> None:
    """Without its files a tokenizer comes up empty rather than fail.

    Raises:
        StorageError: the tokenizer does not know the model's visual token.
    """
    if processor.tokenizer.convert_tokens_to_ids(IMAGE) != config.image_token_id:
        raise StorageError(f"{source}: its tokenizer is not the model's (tokenizer.json). The folder is incomplete; export it again.")


def _check_pictures(source: str, processor: Any) -> None:
    """Raises:
    ConfigError: the model's image processor treats pixels in another way than `cg_train.model.encode`.
    """
    image = processor.image_processor
    theirs = (image.patch_size, image.merge_size, image.temporal_patch_size, tuple(image.image_mean), tuple(image.image_std))
    if theirs != (PATCH_PX, MERGE, FRAMES, IMAGE_MEAN, IMAGE_STD):
        raise ConfigError(
            f"{source}: its image processor is not that of Qwen2.5-VL (patches, mean or deviation differ). Give a Qwen2.5-VL."
        )


def read_about(folder: str) -> ModelAbout | None:
    """What an exported folder says of itself; None where it is not one of ours.

    Raises:
        StorageError: it says nothing that can be understood.
    """
    path = Path(folder) / ABOUT_FILE
    try:
        return ModelAbout.model_validate(storage.read_json(str(path))) if path.is_file() else None
    except ValueError as error:
        raise StorageError(f"{path}: this file is damaged or of another version ({_first_line(error)}). Export the model again.") from error


def weights_version(folder: Path) -> str:
    """The first twelve hexadecimal digits of the SHA-256 of the weights' files, in order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:12]


LORA_TARGETS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)$"
"""The language model's projections by full name: bare names would also match the MLP of the vision tower."""


def module_of(parameter: str) -> Module:
    """To which of the three modules a parameter belongs, by its name in `named_parameters` (with or without adapters around it)."""
    if "visual.merger." in parameter:
        return "projector"
    return "vision" if ".visual." in parameter else "language"


def set_trainable(model: Any, modules: Sequence[Module], lora: LoraSettings | None, *, seed: int = 0) -> tuple[Any, list[str]]:
    """Freeze all but `modules`. With `lora` the language model learns through low-rank adapters (Hu et al. 2021), the others as they are.

    Args:
        seed: of the adapters' first weights.

    Returns:
        The model (wrapped by peft where there are adapters) and the names of its parameters that learn.

    Raises:
        ConfigError: adapters without a language model that learns.
    """
    if lora is not None:
        if "language" not in modules:
            raise ConfigError(
                'lora: adapters sit in the language model, which is not trainable. Add "language" to trainable, or set lora to null.'
            )
        model = _with_adapters(model, lora, seed, projector="projector" in modules)
    for name, parameter in model.named_parameters():
        if lora is None or module_of(name) == "vision":
            parameter.requires_grad_(module_of(name) in modules)
    return model, [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _with_adapters(model: Any, lora: LoraSettings, seed: int, *, projector: bool) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=LORA_TARGETS,
        modules_to_save=["merger"] if projector else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)
