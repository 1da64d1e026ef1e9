"""The model of a stage with what belongs to it: which parameters learn, how samples become its inputs, how it is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from cg_data.records import Sample
from cg_data.settings import PageSettings
from cg_train.model.encode import Batch, training_batch
from cg_train.model.export import export_folder
from cg_train.model.load import load_model, set_trainable
from cg_train.recipe import StageRecipe


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Learner:
    """`model` is a `Qwen2_5_VLForConditionalGeneration`, wrapped by peft where there are adapters; `declared` names what learns."""

    model: Any
    processor: Any
    declared: frozenset[str]
    page: PageSettings
    max_tokens: int
    about: Mapping[str, Any]

    def collate(self, samples: Sequence[Sample], signals: Sequence[npt.NDArray[np.float32]]) -> Batch:
        """Samples with their (perhaps scaled) signals, microvolts `(19, 2000)` each, as one batch with labels."""
        return training_batch(samples, signals, tokenizer=self.processor.tokenizer, page=self.page, max_tokens=self.max_tokens)

    def export(self, folder: str) -> None:
        """Write the model as a Hugging Face folder; adapters are merged for good.

        Raises:
            StorageError: see `export_folder`.
        """
        self.model.config.text_config.use_cache = True
        export_folder(self.model, self.processor, folder, page=self.page, about=self.about)


def load_learner(
    source: str,
    *,
    recipe: StageRecipe,
    precision: Literal["float32", "bfloat16"],
    attention: Literal["sdpa", "flash_attention_2", "eager"],
    gradient_checkpointing: bool,
    page: PageSettings,
    about: Mapping[str, Any],
    device: str,
) -> Learner:
    """The model at `source`, ready to learn by `recipe`.

    Raises:
        UserError: see `load_model` and `set_trainable`.
    """
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    loaded = load_model(source, dtype=dtype, attention=attention, device=device)
    loaded.model.config.text_config.use_cache = False  # of keys and values, which training has no use for
    if gradient_checkpointing:
        loaded.model.gradient_checkpointing_enable({"use_reentrant": False})
    model, declared = set_trainable(loaded.model, recipe.trainable, recipe.lora, seed=recipe.seed)
    return Learner(
        model=model.train(),
        processor=loaded.processor,
        declared=frozenset(declared),
        page=page,
        max_tokens=recipe.max_tokens,
        about=about,
    )
