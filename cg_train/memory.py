"""Memory that a training step takes on each GPU, by formula, before anything starts; what fits, and what to change where it does not.

States: Rajbhandari et al. 2020, "ZeRO", section 3 and figure 1, as DeepSpeed 0.19 holds them, which
`tests/cg_train/test_memory.py` measures. Of P parameters of b bytes, T of which are trained by W workers:

    ZeRO stage      0        1          2          3
    weights         b P      b P        b P        b P / W
    gradients       b T      b T        b T / W    b T / W
    float32 copy    4 T      4 T / W    4 T / W    4 T / W       (none at stage 0 where the weights are float32)
    AdamW moments   8 T      8 T / W    8 T / W    8 T / W

Activations: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", section 4, counted anew for the
layers of Qwen2.5-VL as transformers writes them (RMSNorm in float32, gated MLP, keys and values repeated for every head of the query).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cg_data.errors import ConfigError
from cg_train.hardware import Gpus
from cg_train.recipe import Batching, OffloadSettings, PackedBatches, PaddedBatches, StageRecipe, TrainSettings, checkpointed
from cg_train.step import BUCKET_ELEMENTS, LIVE_ELEMENTS, PREFETCH_ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cg_train.model.shape import Shape, Tower

CONTEXT_BYTES = 1.2e9
"""CUDA context, cuBLAS workspace and NCCL's buffers: half a gigabyte to one and a half, by GPU and number of nodes."""
FRAGMENTED = 0.06
"""Share of a GPU's memory that the allocator cannot hand out."""
PIECES = 8
"""In which the chunked loss (`cg_train.model.answers`) cuts a micro-batch; Liger's are of a like size."""
PATCH_VALUES = 3 * 2 * 14 * 14
"""Colours, frames and pixels of one patch."""
_DEFAULT_BUCKET_ELEMENTS = 5 * 10**8
"""What DeepSpeed collects at ZeRO stage 0, whatever is set."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Longest:
    """The longest sample to be reckoned with: its tokens, its patches (four to a visual token), its tokens with a loss."""

    tokens: int
    patches: int
    targets: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fullest:
    """The most that a micro-batch can hold; `row` are the tokens that attention has before it at once."""

    tokens: int
    patches: int
    targets: int
    row: int


def fullest(batching: Batching, longest: Longest) -> Fullest:
    """A micro-batch of none but `longest`, or a full pack, all of whose text may be answers."""
    if isinstance(batching, PaddedBatches):
        n = batching.micro_batch
        return Fullest(tokens=n * longest.tokens, patches=n * longest.patches, targets=n * longest.targets, row=longest.tokens)
    tokens = batching.tokens
    return Fullest(tokens=tokens, patches=min(batching.images * longest.patches, 4 * tokens), targets=tokens, row=tokens)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes on each GPU; those of the states lie there throughout, those after them in the backward pass, `step` in the optimiser's turn.

    `loading` is what the model takes before it is scattered, and `host` what each worker takes on the CPU's side.
    """

    weights: float
    gradients: float
    master: float
    moments: float
    activations: float
    logits: float
    buckets: float
    step: float
    reserve: float
    loading: float
    host: float

    @property
    def states(self) -> float:
        return self.weights + self.gradients + self.master + self.moments

    @property
    def peak(self) -> float:
        """The most at any moment: backward pass, optimiser step, or loading."""
        return max(self.states + max(self.activations + self.logits, self.step) + self.buckets, self.loading) + self.reserve


def memory_of(shape: Shape, recipe: StageRecipe, settings: TrainSettings, longest: Longest, gpus: Gpus) -> Memory:
    """Memory of a stage on `gpus` in its fullest micro-batch."""
    width, most = _width(settings), fullest(recipe.batching, longest)
    states, on_host = _states(shape, settings, gpus.count)
    parts = 1 if settings.zero_stage == 0 else gpus.count
    # Gradients put in a row, and that in float32 for a fused AdamW where it is not so already; stage 3 goes through the parameters in
    # groups of `sub_group_size`.
    copies = 4.0 if settings.precision == "float32" else width + 4.0
    stepped = min(shape.trained / parts, LIVE_ELEMENTS if settings.zero_stage == 3 else shape.trained)
    return Memory(
        **states,
        activations=kept_bytes(shape, recipe, settings, most) + _working_bytes(shape, recipe, settings, most),
        logits=_logits(shape, recipe, settings, most),
        buckets=_buckets(shape, settings),
        step=copies * stepped if settings.offload.optimizer == "gpu" else 0.0,
        reserve=CONTEXT_BYTES + FRAGMENTED * gpus.memory_bytes,
        loading=float(width * shape.parameters),
        host=on_host,
    )


def _width(settings: TrainSettings) -> int:
    return 2 if settings.precision == "bfloat16" else 4


def _states(shape: Shape, settings: TrainSettings, workers: int) -> tuple[dict[str, float], float]:
    """The four parts of the table above on the GPU, and what of them lies on the host."""
    width, stage = _width(settings), settings.zero_stage
    scattered = shape.trained / workers
    kept = scattered if stage else float(shape.trained)
    weights = width * (shape.persistent + (shape.parameters - shape.persistent) / workers if stage == 3 else float(shape.parameters))
    gradients = width * (scattered if stage >= 2 else float(shape.trained))
    master = 0.0 if stage == 0 and settings.precision == "float32" else 4.0 * kept
    states, host = {"weights": weights, "gradients": gradients, "master": master, "moments": 8.0 * kept}, 0.0
    if settings.offload.optimizer != "gpu":
        # On the host the gradients are float32 for the optimiser beside what comes from the GPU.
        host += gradients + 16.0 * kept if settings.offload.optimizer == "cpu" else gradients
        states |= {"gradients": 0.0, "master": 0.0, "moments": 0.0}
    if settings.offload.parameters != "gpu":
        host += weights if settings.offload.parameters == "cpu" else 0.0
        states["weights"] = float(width * shape.persistent)
    return states, host


def _buckets(shape: Shape, settings: TrainSettings) -> float:
    width = _width(settings)
    if settings.zero_stage == 0:
        return float(width * min(shape.trained, _DEFAULT_BUCKET_ELEMENTS))
    if settings.zero_stage < 3:
        return float(width * BUCKET_ELEMENTS)
    gathered = min(shape.parameters, LIVE_ELEMENTS) + PREFETCH_ELEMENTS
    return float(width * (gathered + BUCKET_ELEMENTS + shape.largest))  # the largest gradient stands whole before it is scattered


def kept_bytes(shape: Shape, recipe: StageRecipe, settings: TrainSettings, most: Fullest) -> float:
    """What a micro-batch keeps between its forward and its backward pass, logits aside."""
    again, width = checkpointed(recipe, settings.checkpointing), _width(settings)
    patches, tokens = most.patches, most.tokens
    total = 0.0
    if "vision" in recipe.trainable:
        layer = _vision_layer(shape, settings)
        total += patches * shape.vision.layers * (width * shape.vision.hidden if "vision" in again else layer)
        total += patches * width * PATCH_VALUES
    if "projector" in recipe.trainable:
        normed = 4.0 if "vision" in recipe.trainable else 0.0
        total += patches * shape.vision.hidden * (normed + 4.0 * width)  # norm, both layers' inputs, and before the activation
    if recipe.objective == "dialogue":
        layer = _text_layer(shape, recipe, settings, most)
        total += tokens * shape.text.layers * (width * shape.text.hidden if "language" in again else layer)
        total += tokens * shape.text.hidden * (4.0 + (width if _learns(recipe) else 0.0))  # the last norm
    return total


def _working_bytes(shape: Shape, recipe: StageRecipe, settings: TrainSettings, most: Fullest) -> float:
    """What one layer works with at a time: all that it keeps where it is computed again, and as much again for gradients in the MLP."""
    width, patches = _width(settings), most.patches
    tower = patches * width * (6.0 * shape.vision.hidden + 3.0 * shape.vision.intermediate)
    pixels = patches * PATCH_VALUES * width
    if recipe.objective == "sight":
        return pixels + tower + patches * _vision_layer(shape, settings)
    layer = _text_layer(shape, recipe, settings, most) + width * (4.0 * shape.text.hidden + 3.0 * shape.text.intermediate)
    return pixels + max(tower, most.tokens * layer)


def _learns(recipe: StageRecipe) -> bool:
    """Whether the language model's own weights learn."""
    return "language" in recipe.trainable and recipe.lora is None


def _vision_layer(shape: Shape, settings: TrainSettings) -> float:
    compiled = settings.compile and settings.attention not in ("sdpa", "eager")
    return _layer_bytes(shape.vision, _width(settings), learns=True, inputs=True, rank=0, pairs=0.0, compiled=compiled)


def _text_layer(shape: Shape, recipe: StageRecipe, settings: TrainSettings, most: Fullest) -> float:
    width = _width(settings)
    # The mask lies there once for all heads; eager attention keeps scores and weights of every head.
    mask = width * most.row if settings.attention == "sdpa" else 0.0
    pairs = most.row * shape.text.heads * (4.0 + 2.0 * width) if settings.attention == "eager" else mask
    inputs = _learns(recipe) or shape.rank > 0 or settings.zero_stage == 3  # whose own linear layer keeps its input, learning or not
    return _layer_bytes(shape.text, width, learns=_learns(recipe), inputs=inputs, rank=shape.rank, pairs=pairs, compiled=settings.compile)


def _layer_bytes(tower: Tower, width: int, *, learns: bool, inputs: bool, rank: int, pairs: float, compiled: bool) -> float:
    """What one layer keeps of one token.

    The input of each norm in float32; queries, keys, values and the outcome of attention; the gate before and after its activation and
    what it is multiplied with. With `inputs` those of queries, keys and values, of the MLP and of its last projection (the outcome's
    projection has the outcome); with `learns` what the norms' weights scale. `pairs` is that of the scores.
    What is `compiled` computes norms and activations again from their inputs, and keeps those, what attention has and gives, the gate and
    what it is multiplied with; their product too where a weight learns from it.
    """
    if compiled:
        return width * (7.0 * tower.hidden + (3.0 if inputs else 2.0) * tower.intermediate + 7.0 * rank) + 4.0 * tower.heads + pairs
    norms = 2.0 * 4.0 * tower.hidden
    attention = 4.0 * width * tower.hidden + 4.0 * tower.heads
    mlp = 3.0 * width * tower.intermediate
    of_weights = width * (2.0 * tower.hidden + tower.intermediate) if inputs else 0.0
    if learns:
        of_weights += 2.0 * width * tower.hidden
    return norms + attention + mlp + of_weights + 7.0 * width * rank + pairs


def _logits(shape: Shape, recipe: StageRecipe, settings: TrainSettings, most: Fullest) -> float:
    """Logits as they come, in float32, and their probabilities (or gradients, as many)."""
    if recipe.objective == "sight":
        return 0.0
    width = _width(settings)
    each = shape.vocabulary * (width + 8.0)
    if settings.loss == "full":
        return most.tokens * each
    head = 2.0 * width * shape.vocabulary * shape.text.hidden if shape.learning["language"] > shape.adapters else 0.0
    return most.targets / PIECES * each + head  # a piece's gradient of the output layer, and the sum so far


def fits(memory: Memory, gpus: Gpus, *, share: float = 1.0) -> bool:
    """Whether the peak lies within `share` of a GPU's memory."""
    return memory.peak <= share * gpus.memory_bytes


_CHOICES: tuple[tuple[int, OffloadSettings, bool], ...] = (
    (2, OffloadSettings(), False),
    (2, OffloadSettings(), True),
    (3, OffloadSettings(), True),
    (2, OffloadSettings(optimizer="cpu"), True),
    (3, OffloadSettings(optimizer="cpu"), True),
    (3, OffloadSettings(optimizer="cpu", parameters="cpu"), True),
)
"""ZeRO stage, offload and checkpointing from the fastest to the thriftiest."""
MOST_MICRO_BATCH = 16
MOST_PACK_TOKENS = 8192
"""Of a pack that is recommended: it keeps a GPU busy, and without padding larger ones save little."""
RECOMMENDED_SHARE = 0.92
"""Of a GPU's memory: formulas of activations are right to about a tenth. What is refused is refused at the whole."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """A stage by its field in `TrainSettings`, with what decides its memory."""

    name: str
    recipe: StageRecipe
    shape: Shape
    longest: Longest

    def memory(self, settings: TrainSettings, gpus: Gpus) -> Memory:
        return memory_of(self.shape, self.recipe, settings, self.longest, gpus)


def recommend(needs: Sequence[Need], settings: TrainSettings, gpus: Gpus) -> tuple[list[Need], TrainSettings] | None:
    """The first of `_CHOICES` with which all stages fit, each with the largest micro-batch or pack that does; None where none is.

    What is faster comes first: keeping activations costs nothing, computing them again a third, scattered weights are sent for every
    micro-batch, and an optimiser on the CPU waits for the bus. The choice is one for all stages, whose settings are shared.
    """
    for stage, offload, again in _CHOICES:
        loss = "chunked" if settings.loss == "liger" and stage == 3 else settings.loss
        towers = ("language",) if again else ()
        layers = settings.compile and stage < 3
        changes = {"zero_stage": stage, "offload": offload, "checkpointing": towers, "loss": loss, "compile": layers}
        chosen = settings.model_copy(update=changes)
        sized = [_largest(need, chosen, gpus) for need in needs]
        found = [need for need in sized if need is not None]
        if len(found) == len(needs):
            return found, chosen
    return None


def _largest(need: Need, settings: TrainSettings, gpus: Gpus) -> Need | None:
    for batching in _sizes(need.recipe, gpus.count):
        sized = dataclasses.replace(need, recipe=need.recipe.model_copy(update={"batching": batching}))
        if fits(sized.memory(settings, gpus), gpus, share=RECOMMENDED_SHARE):
            return sized
    return None


def _sizes(recipe: StageRecipe, workers: int) -> Iterator[Batching]:
    """Micro-batches that share the global batch, or packs of whole longest samples with as many images to a token, largest first."""
    per_worker, rest = divmod(recipe.global_batch, workers)
    now = recipe.batching
    if rest:
        return
    if isinstance(now, PackedBatches):
        for samples in range(max(1, MOST_PACK_TOKENS // recipe.max_tokens), 0, -1):
            tokens = samples * recipe.max_tokens
            yield PackedBatches(tokens=tokens, images=max(1, round(now.images * tokens / now.tokens)))
        return
    for size in range(min(MOST_MICRO_BATCH, per_worker), 0, -1):
        if per_worker % size == 0:
            yield now.model_copy(update={"micro_batch": size})


def overrides(needs: Sequence[Need], settings: TrainSettings, workers: int) -> str:
    """The options that set what `recommend` has chosen."""
    said: dict[str, object] = {
        "compute.workers": workers,
        "zero_stage": settings.zero_stage,
        "checkpointing": f"[{','.join(settings.checkpointing)}]",
        "offload.optimizer": settings.offload.optimizer,
        "offload.parameters": settings.offload.parameters,
        "loss": settings.loss,
        "compile": str(settings.compile).lower(),
    }
    for need in needs:
        sizes = need.recipe.batching.model_dump(exclude={"kind", "by_length"})
        said |= {f"{need.name}.batching.{field}": size for field, size in sizes.items()}
    return " ".join(f"--set train.{key}={value}" for key, value in said.items())


def check_fit(needs: Sequence[Need], settings: TrainSettings, gpus: Gpus) -> None:
    """Raises:
    ConfigError: a stage does not fit; says what to change.
    """
    for need in needs:
        memory = need.memory(settings, gpus)
        if not fits(memory, gpus):
            better = recommend(needs, settings, gpus)
            raise ConfigError(
                f"train.{need.name}: about {memory.peak / 1e9:.0f} GB on each GPU (states {memory.states / 1e9:.0f}, activations "
                f"{memory.activations / 1e9:.0f}, logits {memory.logits / 1e9:.0f}), and {gpus.name} has {gpus.memory_bytes / 1e9:.0f} GB. "
                + (
                    f"What fits: {overrides(*better, gpus.count)}"
                    if better
                    else f"No setting fits: give more or larger GPUs (train.compute.workers, now {gpus.count}), or adapters (lora)."
                )
            )
