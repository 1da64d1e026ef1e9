"""Floating-point operations of a training step by formula, and how much of a GPU they use.

Every weight of a matrix costs a token one multiplication and one addition in the forward pass, as many again for the gradient of its
input, and as many again for its own (Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022, "PaLM", appendix B: 6 N + 12 L H Q T where all
learn). A frozen module saves the last third; what no gradient flows through saves both. Scores of attention are counted whole, without the
half that causality would save, as appendix B counts them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cg_train.packs import packed_lengths
from cg_train.recipe import StageRecipe, TrainSettings, checkpointed
from cg_train.step import answer_targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from cg_train.model.shape import Shape, Tower


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What samples ask of a model in sum: tokens, squares of their numbers in each sample, patches, squares of their numbers in each
    picture, and tokens with a loss."""

    tokens: float
    tokens_squared: float
    patches: float
    patches_squared: float
    targets: float

    def times(self, factor: float) -> Load:
        return Load(**{name: value * factor for name, value in dataclasses.asdict(self).items()})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Flops:
    """Operations of forward and backward pass. `model` is what the mathematics needs (for MFU), `hardware` counts as well what is
    computed again to save memory (for HFU; Korthikanti et al. 2022, section 6.3); `forward` are those of the forward pass alone."""

    forward: float
    model: float
    hardware: float

    def times(self, factor: float) -> Flops:
        return Flops(forward=self.forward * factor, model=self.model * factor, hardware=self.hardware * factor)


def flops_of(shape: Shape, load: Load, recipe: StageRecipe, settings: TrainSettings) -> Flops:
    """Operations of one pass forward and backward over what `load` sums up."""
    parts = _sight_parts(shape, load, recipe, settings)
    if recipe.objective == "dialogue":
        parts += _language_parts(shape, load, recipe, settings)
    model = sum(operations * passes for operations, passes, _ in parts)
    again = sum(operations for operations, _, again in parts if again)
    return Flops(forward=sum(operations for operations, _, _ in parts), model=model, hardware=model + again)


_Part = tuple[float, int, bool]
"""Operations of a forward pass, how many times as many are needed in all, whether the forward pass is done again."""


def _sight_parts(shape: Shape, load: Load, recipe: StageRecipe, settings: TrainSettings) -> list[_Part]:
    again = "vision" in checkpointed(recipe, settings.checkpointing)
    seen, projected = "vision" in recipe.trainable, "projector" in recipe.trainable
    windows = _scores(load.patches * shape.window, shape.vision, shape.vision.layers - shape.full_layers)
    return [
        (2.0 * shape.matrices["vision"] * load.patches, _passes(flows=seen, learns=seen), again),
        (windows + _scores(load.patches_squared, shape.vision, shape.full_layers), 3 if seen else 1, again),
        (2.0 * shape.matrices["projector"] * load.patches / 4, _passes(flows=seen or projected, learns=projected), False),
    ]


def _language_parts(shape: Shape, load: Load, recipe: StageRecipe, settings: TrainSettings) -> list[_Part]:
    again = "language" in checkpointed(recipe, settings.checkpointing)
    passes = _passes(flows=True, learns="language" in recipe.trainable and recipe.lora is None)
    read = load.tokens if settings.loss == "full" else load.targets
    return [
        (2.0 * shape.matrices["language"] * load.tokens, passes, again),
        (_scores(load.tokens_squared, shape.text, shape.text.layers) + 2.0 * shape.adapters * load.tokens, 3, again),
        (2.0 * shape.text.hidden * shape.vocabulary * read, passes, settings.loss == "chunked"),
    ]


def _passes(*, flows: bool, learns: bool) -> int:
    return 1 + int(flows) + int(learns)


def _scores(squared: float, tower: Tower, layers: int) -> float:
    """Queries by keys, and weights by values: two products of width `hidden` for every pair of tokens."""
    return 4.0 * layers * tower.hidden * squared


def load_of_batch(inputs: Mapping[str, torch.Tensor]) -> Load:
    """What the inputs of one micro-batch ask; padding is not counted.

    Args:
        inputs: of `cg_train.model.encode.training_batch` or `cg_train.model.pack.packed_batch`, on the CPU.
    """
    lengths = (inputs["attention_mask"].sum(1) if "attention_mask" in inputs else packed_lengths(inputs["position_ids"][0])).double()
    patches = inputs["image_grid_thw"].prod(1).double()
    return Load(
        tokens=float(lengths.sum()),
        tokens_squared=float((lengths**2).sum()),
        patches=float(patches.sum()),
        patches_squared=float((patches**2).sum()),
        targets=float(answer_targets(inputs)),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meter:
    """Counts tokens and operations of micro-batches; `peak_flops` is what one GPU can do in a second, None where it is not known."""

    shape: Shape
    recipe: StageRecipe
    settings: TrainSettings
    peak_flops: float | None

    def read(self, micro: tuple[Mapping[str, torch.Tensor], ...]) -> tuple[float, float, float]:
        """Tokens, model and hardware operations of one worker's micro-batches."""
        loads = [load_of_batch(inputs) for inputs in micro]
        flops = [flops_of(self.shape, load, self.recipe, self.settings) for load in loads]
        return sum(one.tokens for one in loads), sum(one.model for one in flops), sum(one.hardware for one in flops)
