"""The model of a stage with what belongs to it: which parameters learn, how samples become its inputs, how it is written."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from cg_data.errors import ConfigError
from cg_data.settings import PageSettings
from cg_data.shards import read_annotations
from cg_train.batches import Collate
from cg_train.hardware import c_compiler
from cg_train.model.answers import AnswerReader, answer_loss
from cg_train.model.encode import Batch, training_batch
from cg_train.model.export import export_folder
from cg_train.model.load import load_model, set_trainable
from cg_train.model.pack import Positions, packed_batch
from cg_train.model.sight import FindingsReader, positive_weights, sight_batch, sight_targets
from cg_train.recipe import PackedBatches, StageRecipe, TrainSettings, checkpointed
from cg_train.step import Targets, answer_targets


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Learner:
    """`model` is a `Qwen2_5_VLForConditionalGeneration`, wrapped by peft where there are adapters, and `network` what is trained: the model
    itself, or the head through which its tower learns to see. `declared` names the parameters of `network` that learn, `collate` makes its
    inputs and `targets` counts what they ask.
    """

    model: Any
    network: Any
    processor: Any
    declared: frozenset[str]
    collate: Collate
    targets: Targets
    page: PageSettings
    about: Mapping[str, Any]

    def export(self, folder: str) -> None:
        """Write the model as a Hugging Face folder; adapters are merged for good.

        Raises:
            StorageError: see `export_folder`.
        """
        self.model.config.text_config.use_cache = True
        export_folder(self.model, self.processor, folder, page=self.page, about=self.about)


def learning(model: Any, recipe: StageRecipe, settings: TrainSettings) -> tuple[Any, torch.nn.Module]:
    """`model` set up to learn dialogues by `recipe`, wrapped by peft where there are adapters, and the network that gives its loss.

    Raises:
        ConfigError: see `set_trainable` and `cg_train.model.answers.answer_loss`.
    """
    model.config.text_config.use_cache = False  # of keys and values, which training has no use for
    again = checkpointed(recipe, settings.checkpointing)
    for tower, layers in {"vision": model.model.visual.blocks, "language": model.model.language_model.layers}.items():
        broken = tower == "vision" and settings.attention in ("sdpa", "eager")  # these go through the windows of a page one by one
        _set_forward(layers, again=tower in again, compiled=settings.compile and not broken)
    model, _ = set_trainable(model, recipe.trainable, recipe.lora, seed=recipe.seed)
    return model, model if settings.loss == "full" else AnswerReader(model, answer_loss(settings.loss))


def _set_forward(layers: Sequence[Any], *, again: bool, compiled: bool) -> None:
    """Let layers of one kind be computed `again` in the backward pass instead of kept (Chen et al. 2016), and `compiled`: all by one graph,
    in which norms, rotations and activations are fused and any length is welcome.

    What is compiled is a layer without the checkpointing of transformers, in which a graph would break.
    """
    forward = torch.compile(inspect.unwrap(type(layers[0]).forward), dynamic=True) if compiled else None
    for layer in layers:
        if forward is not None:
            layer.forward = functools.partial(forward, layer)
        if again:
            layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def load_learner(
    source: str,
    *,
    recipe: StageRecipe,
    settings: TrainSettings,
    page: PageSettings,
    annotations_uri: str,
    about: Mapping[str, Any],
    device: str,
) -> Learner:
    """The model at `source`, ready to learn by `recipe`; `annotations_uri` is read for the objective "sight" alone.

    Raises:
        UserError: see `load_model`, `set_trainable` and `cg_train.model.answers.answer_loss`; or there is nothing that compiles.
    """
    if settings.compile and c_compiler() is None:
        raise ConfigError("train.compile: no C compiler here, and torch.compile needs one. Install gcc on every node, or set it to false.")
    dtype = torch.float32 if settings.precision == "float32" else torch.bfloat16
    loaded = load_model(source, dtype=dtype, attention=settings.attention, device=device)
    together: Callable[..., Batch] = training_batch
    if isinstance(recipe.batching, PackedBatches):
        together = functools.partial(packed_batch, positions_of=Positions(loaded.model.config).get_rope_index)
    model, network = learning(loaded.model, recipe, settings)
    targets: Targets = answer_targets
    collate: Collate = functools.partial(
        together, processor=loaded.processor, page=page, pictures=settings.pictures, max_tokens=recipe.max_tokens
    )
    if recipe.objective == "sight":
        annotations = {annotation.segment_id: annotation for annotation in read_annotations(annotations_uri)}
        network = FindingsReader(model, positive_weights(annotations.values(), page), recipe.seed)
        targets = sight_targets
        collate = functools.partial(sight_batch, annotations=annotations, page=page)
    return Learner(
        model=model,
        network=network.train(),
        processor=loaded.processor,
        declared=frozenset(name for name, parameter in network.named_parameters() if parameter.requires_grad),
        collate=collate,
        targets=targets,
        page=page,
        about=about,
    )
