"""What a stage will take before it starts: samples, tokens, steps, memory on each GPU and hours."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.instruct.prompt import SYSTEM_PROMPT
from cg_data.records import Sample
from cg_data.settings import PageSettings
from cg_train.batches import SampleStore
from cg_train.flops import Flops, Load, flops_of
from cg_train.hardware import Gpus, peak_flops
from cg_train.memory import Longest, Need
from cg_train.model.encode import IGNORED, MERGE, encode_dialogue, image_tokens, picture_tokens
from cg_train.model.shape import config_of, shape_of
from cg_train.packs import check_batching
from cg_train.plan import make_plan
from cg_train.recipe import PaddedBatches, PictureSettings, StageRecipe, TrainSettings

CHARACTERS_PER_TOKEN = 3.0
"""Of clinical English in Qwen's vocabulary, on the safe side, where its tokenizer cannot be had."""
TOKENS_OF_A_TURN = 5
"""What the chat format puts around a turn."""
_ASSUMED_TEXT, _ASSUMED_TARGETS = (200.0, 400, 640), (90.0, 400)
"""Tokens of text and of answers: mean, (95th percentile,) longest; where there are no samples yet."""
_PAPER_SAMPLES = {"stage1": 1_958_000, "stage2": 294_000}
"""CerebraGloss, ICLR 2026: 1.4 M EEG and 558 K general pairs; 100 K + 94 K + 50 K + 50 K."""
_LOOKED_AT = 64
"""Samples of each kind that are measured."""
UTILISATION = 0.35
"""Share of a GPU's peak that is assumed to be reached (HFU): 0.3 to 0.5 is usual for dense models (Korthikanti et al. 2022, table 5)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """Tokens of samples: means, 95th percentile, and what the longest and the mean sample ask of a model. `said` tells where from."""

    image_mean: float
    text_mean: float
    tokens_p95: float
    targets_mean: float
    longest: Longest
    load: Load
    said: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """`flops` is of one optimiser step over all GPUs, `hours` None where the GPU's peak is not known, `validation_share` how much of them
    goes into validation; `accumulated` are the micro-batches of a step on each, on the mean where samples are packed."""

    need: Need
    lengths: Lengths
    samples: int
    steps: int
    workers: int
    accumulated: int
    flops: Flops
    hours: float | None
    validation_share: float
    said: str

    @property
    def tokens_per_step(self) -> float:
        return self.lengths.load.tokens * self.need.recipe.global_batch


def forecast(
    name: str,
    recipe: StageRecipe,
    settings: TrainSettings,
    *,
    page: PageSettings,
    store: SampleStore | None,
    tokenizer: Any | None,
    gpus: Gpus,
    utilisation: float = UTILISATION,
) -> Forecast:
    """What the stage `name` will take on `gpus`.

    Args:
        store: the samples, where there are any yet.
        tokenizer: the model's, where it can be had.
        utilisation: share of the GPUs' peak that is reached, recomputation included.

    Raises:
        ConfigError: a model whose sizes are not known, or a recipe that cannot be followed.
    """
    check_batching(recipe, gpus.count)
    shape = shape_of(config_of(settings), recipe)
    if store is None:
        lengths, steps, said = _assumed_lengths(page), *_assumed_steps(name, recipe)
    else:
        steps, said = make_plan(store.index, recipe).steps, f"{store.index.num_rows:,} training samples in the run folder"
        lengths = measured_lengths(store, recipe, page=page, pictures=settings.pictures, tokenizer=tokenizer)
    flops = flops_of(shape, lengths.load, recipe, settings).times(recipe.global_batch)
    trained, validated = steps * flops.hardware, _looked_at(recipe, steps) / recipe.global_batch * flops.forward
    peak = peak_flops(gpus.name, settings.precision)
    return Forecast(
        need=Need(name=name, recipe=recipe, shape=shape, longest=lengths.longest),
        lengths=lengths,
        samples=steps * recipe.global_batch,
        steps=steps,
        workers=gpus.count,
        accumulated=_accumulated(recipe, lengths.load.tokens, gpus.count),
        flops=flops,
        hours=None if peak is None else (trained + validated) / (peak * utilisation * gpus.count) / 3600,
        validation_share=validated / (trained + validated),
        said=said,
    )


def _looked_at(recipe: StageRecipe, steps: int) -> int:
    """Samples that validation passes in all its looks, if the validation split has as many as it asks for."""
    settings = recipe.validation
    return 0 if settings is None else settings.samples * math.ceil(steps / settings.every)


def _accumulated(recipe: StageRecipe, mean_tokens: float, workers: int) -> int:
    """Micro-batches of a step on each GPU; those of packs by the mean sample, with a page or picture each."""
    batching = recipe.batching
    if isinstance(batching, PaddedBatches):
        return recipe.global_batch // (batching.micro_batch * workers)
    packs = recipe.global_batch * max(mean_tokens / batching.tokens, 1 / batching.images)
    return math.ceil(packs / workers)


def _assumed_steps(name: str, recipe: StageRecipe) -> tuple[int, str]:
    if recipe.steps is not None:
        return recipe.steps, "steps as set"
    samples = _PAPER_SAMPLES.get(name, _PAPER_SAMPLES["stage2"])
    assert recipe.epochs is not None
    return max(1, round(recipe.epochs * samples / recipe.global_batch)), f"as many samples as the paper has ({samples:,})"


def _assumed_lengths(page: PageSettings) -> Lengths:
    image = image_tokens(page)
    mean, p95, most = _ASSUMED_TEXT
    patches = image * MERGE**2
    return Lengths(
        image_mean=image,
        text_mean=mean,
        tokens_p95=image + p95,
        targets_mean=_ASSUMED_TARGETS[0],
        longest=Longest(tokens=image + most, patches=patches, targets=_ASSUMED_TARGETS[1]),
        load=Load(
            tokens=image + mean,
            tokens_squared=(image + mean) ** 2,
            patches=patches,
            patches_squared=float(patches**2),
            targets=_ASSUMED_TARGETS[0],
        ),
        said=f"texts of {mean:.0f} tokens (95 % below {p95}, longest {most}), answers of {_ASSUMED_TARGETS[0]:.0f}: no samples yet",
    )


def measured_lengths(
    store: SampleStore, recipe: StageRecipe, *, page: PageSettings, pictures: PictureSettings, tokenizer: Any | None
) -> Lengths:
    """Lengths of up to 64 samples of each kind of the mixture, spread evenly over the store and weighted as the mixture has them."""
    kinds = np.asarray(store.index.column("kind").to_pylist(), dtype=np.str_)
    rows, weights = [], []
    for kind, weight in recipe.mixture.items():
        found = np.flatnonzero(kinds == kind.value)
        chosen = found[np.linspace(0, len(found) - 1, min(len(found), _LOOKED_AT)).astype(int)] if weight > 0 and len(found) else found[:0]
        rows += [_length(store.sample(int(row)), page, pictures, tokenizer) for row in chosen]
        weights += [weight / len(chosen)] * len(chosen)
    table, share = np.array(rows, dtype=np.float64), np.array(weights) / sum(weights)
    tokens, patches, targets = table[:, 0] + table[:, 1], table[:, 0] * MERGE**2, table[:, 2]
    how = "counted by the model's tokenizer" if tokenizer is not None else f"{CHARACTERS_PER_TOKEN:g} characters to a token"
    return Lengths(
        image_mean=float(share @ table[:, 0]),
        text_mean=float(share @ table[:, 1]),
        tokens_p95=_quantile(tokens, share, 0.95),
        targets_mean=float(share @ targets),
        longest=Longest(tokens=int(tokens.max()), patches=int(patches.max()), targets=int(targets.max())),
        load=Load(
            tokens=float(share @ tokens),
            tokens_squared=float(share @ tokens**2),
            patches=float(share @ patches),
            patches_squared=float(share @ patches**2),
            targets=float(share @ targets),
        ),
        said=f"lengths of {len(rows)} samples, {how}",
    )


def _length(sample: Sample, page: PageSettings, pictures: PictureSettings, tokenizer: Any | None) -> tuple[int, int, int]:
    """Visual tokens, other tokens, and those with a loss."""
    image = image_tokens(page) if sample.has_page else 0
    if sample.picture is not None:
        image = picture_tokens(sample.picture, pictures)
    if tokenizer is not None:
        coded = encode_dialogue(tokenizer, sample.messages, image, with_answer=True)
        return image, len(coded.input_ids) - image, int((coded.labels != IGNORED).sum())
    answers = sum(_text_tokens(turn.content) for turn in sample.messages if turn.role == "assistant")
    asked = sum(_text_tokens(turn.content) for turn in sample.messages if turn.role != "assistant")
    system = 0 if sample.messages[0].role == "system" else _text_tokens(SYSTEM_PROMPT)
    return image, asked + answers + system + (2 if image else 0), answers


def _text_tokens(text: str) -> int:
    return round(len(text) / CHARACTERS_PER_TOKEN) + TOKENS_OF_A_TURN


def _quantile(values: npt.NDArray[np.float64], share: npt.NDArray[np.float64], part: float) -> float:
    """The smallest value below or at which `part` of the weight lies."""
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(share[order]), part - 1e-9).clip(max=len(values) - 1)])


def tokenizer_of(place: str) -> Any | None:
    """The tokenizer of a model folder, or of a model in the hub's local cache; None where it is not there."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place, local_files_only=True)
    except (OSError, ValueError):
        return None


def stage_recipes(settings: TrainSettings, names: tuple[str, ...]) -> dict[str, StageRecipe]:
    """Those of the stages `names` that `settings` has."""
    found = {name: getattr(settings, name) for name in names}
    return {name: recipe for name, recipe in found.items() if recipe is not None}


STAGES_IN_ORDER: tuple[str, ...] = ("sight", "base", "stage1", "stage2")
