"""Typed recipes of everything that is trained: the detector, the tiny model's sight and base, stage 1 and stage 2."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cg_data.detect.spec import NetworkSettings, SignalNetworkSettings
from cg_data.detect.thresholds import TargetSettings
from cg_data.settings import Settings
from cg_data.vocabulary import SampleKind

Module = Literal["vision", "projector", "language"]
Tower = Literal["vision", "language"]
"""What is made of equal layers, which can be computed again instead of being kept."""
Attention = Literal["sdpa", "varlen", "flash_attention_2", "eager"]
Place = Literal["gpu", "cpu", "nvme"]


class ComputeSettings(Settings):
    """What Ray Train gives to each worker."""

    workers: int = Field(default=1, ge=1)
    least_workers: int | None = Field(
        default=None,
        ge=1,
        description="stages go on with so many or more when nodes are lost, and with `workers` when they are back; none: with all. "
        "Every number between must share the global batch in whole micro-batches",
    )
    gpu: bool = False
    cpus_per_worker: float = Field(default=1.0, gt=0)
    threads_per_worker: int = Field(default=1, ge=1, description="intra-op threads of torch; one keeps CPU runs bit-repeatable")
    feed_actors: int = Field(
        default=0, ge=0, description="Ray Data actors of one CPU each that make the batches of each worker of a stage; none: a thread of it"
    )
    max_failures: int = Field(default=2, ge=0, description="restarts of the worker group after a lost worker")

    @model_validator(mode="after")
    def _least_is_no_more(self) -> Self:
        if self.least_workers is not None and self.least_workers > self.workers:
            raise ValueError(f"least_workers {self.least_workers} is more than workers {self.workers}")
        return self

    @property
    def sizes(self) -> range:
        """Numbers of workers that a group may have."""
        return range(self.least_workers or self.workers, self.workers + 1)

    @property
    def cpus_of_worker(self) -> float:
        """What each worker takes, with those who make its batches."""
        return self.cpus_per_worker + self.feed_actors


class AugmentSettings(Settings):
    """How training pages are changed at random, as signal (`cg_train.augment`)."""

    gain_log2: float = Field(default=0.5, ge=0, description="signals are scaled by 2^U(-g, g)")
    rereference: float = Field(default=0.3, ge=0, le=1, description="share of pages against another reference")
    noise_uv: float = Field(
        default=1.0, ge=0, description="root mean square of added white noise: U(0, n) for a page, U(0.5, 1.5) of it each electrode"
    )
    channel_loss: float = Field(default=0.02, ge=0, le=1, description="share of electrodes that are masked")
    few_channels: float = Field(default=0.1, ge=0, le=1, description="share of pages of which at most six electrodes are left")
    shift: float = Field(default=0.5, ge=0, le=1, description="share of pages that are turned in time")


class DetectorRecipe(Settings):
    """Training of a waveform detector."""

    network: NetworkSettings = SignalNetworkSettings()
    min_box_s: float = Field(default=0.15, ge=0, description="marks of spikes and sharp waves are widened to this")
    epochs: int = Field(default=8, ge=1)
    batch: int = Field(default=8, ge=1, description="pages per step over all workers")
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=5e-4, ge=0)
    warmup_fraction: float = Field(default=0.05, ge=0, le=1)
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    augment: AugmentSettings = AugmentSettings()
    score_floor: float = Field(default=0.03, gt=0, lt=1, description="events below this score are not stored")
    nms_iou: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="temporal overlap above which the weaker of two events of a class and row goes",
    )
    targets: TargetSettings = Field(default=TargetSettings(), description="what the working thresholds are chosen for")
    seed: int = Field(default=3, ge=0)
    compute: ComputeSettings = ComputeSettings()

    @model_validator(mode="after")
    def _is_of_one_size(self) -> Self:
        if self.compute.least_workers is not None:
            raise ValueError("compute.least_workers is for stages: the detector's training goes on with as many workers as it began with")
        return self

    @model_validator(mode="after")
    def _makes_its_own_batches(self) -> Self:
        if self.compute.feed_actors:
            raise ValueError("compute.feed_actors is for stages: the detector's workers make their own batches")
        return self


class TinyModel(Settings):
    """A Qwen2.5-VL of the real architecture built from configuration, with a tokenizer trained on the corpus text."""

    vision_depth: int = 2
    vision_hidden: int = 128
    vision_heads: int = 4
    vision_intermediate: int = 256
    text_layers: int = 2
    text_hidden: int = 128
    text_heads: int = 4
    text_kv_heads: int = 2
    text_intermediate: int = 384
    vocabulary: int = 1200
    initializer_range: float = 0.06
    seed: int = 5


class PictureSettings(Settings):
    """Size of the pictures of general samples, which are scaled to lie between these bounds (as Qwen2.5-VL's processor does)."""

    min_pixels: int = Field(default=4 * 28 * 28, ge=28 * 28)
    max_pixels: int = Field(default=768 * 28 * 28, ge=28 * 28, description="28 x 28 pixels are one visual token; 768 cost about a page")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_pixels > self.max_pixels:
            raise ValueError("min_pixels is above max_pixels")
        return self


class LoraSettings(Settings):
    """Low-rank adapters on the language model's projections (peft)."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class PaddedBatches(Settings):
    """Micro-batches of equally many samples, of which the shorter ones are padded."""

    kind: Literal["padded"] = "padded"
    micro_batch: int = Field(default=4, ge=1, description="samples per worker and forward pass")
    by_length: bool = Field(default=False, description="samples of near length share a micro-batch")


class PackedBatches(Settings):
    """Micro-batches of one row, in which samples of any length stand one behind the other and do not see each other (`cg_train.packs`)."""

    kind: Literal["packed"] = "packed"
    tokens: int = Field(default=4096, ge=64, description="most tokens per worker and forward pass")
    images: int = Field(default=8, ge=1, description="most pages and pictures per worker and forward pass")


Batching = Annotated[PaddedBatches | PackedBatches, Field(discriminator="kind")]


class ValidationSettings(Settings):
    """Looks at a fixed set of samples of the validation split, between optimiser steps (`cg_train.validation`)."""

    samples: int = Field(
        default=256, ge=1, description="chosen by the seed in the proportions of the mixture; fewer where a kind has fewer"
    )
    every: int = Field(ge=1, description="optimiser steps between looks")
    patience: int | None = Field(
        default=None, ge=1, description="the stage stops when the loss has not fallen in so many looks in a row; none: at its planned end"
    )
    tolerance: float = Field(
        default=0.01, ge=0, lt=1, description="share of the least loss so far by which a loss must be lower to have fallen"
    )


class StageRecipe(Settings):
    """One fine-tuning stage. "Stage" is the paper's; DeepSpeed's is `zero_stage`."""

    objective: Literal["dialogue", "sight"] = Field(
        default="dialogue",
        description="what is learnt: the assistant's turns, or (the tower of the tiny model) the findings under every visual token",
    )
    mixture: dict[SampleKind, float] = Field(description="relative share of each kind of sample")
    counts: dict[SampleKind, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="how many samples of a kind are used, chosen by the seed; all of a kind that is not named"
    )
    steps: int | None = Field(default=None, ge=1, description="optimiser steps; or give `epochs`")
    epochs: float | None = Field(default=None, gt=0, description="passes over the mixture, fractions allowed")
    global_batch: int = Field(default=256, ge=1)
    batching: Batching = Field(
        default=PaddedBatches(), description="how samples share forward passes, which weighs none of them differently"
    )
    learning_rate: float = Field(default=1e-5, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_fraction: float = Field(default=0.1, ge=0, le=1)
    gradient_clip: float = Field(default=1.0, gt=0)
    gain_log2: float = Field(default=0.0, ge=0, description="signals are scaled by 2^U(-g, g) before they are drawn")
    trainable: tuple[Module, ...]
    lora: LoraSettings | None = None
    max_tokens: int = Field(default=2048, ge=64, description="longer samples are refused by name, never truncated")
    checkpoint_every: int = Field(default=100, ge=1, description="optimiser steps between checkpoints")
    validation: ValidationSettings | None = None
    seed: int = 17

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs")
        return self

    @model_validator(mode="after")
    def _counted_kinds_are_mixed(self) -> Self:
        unused = sorted(kind.value for kind in self.counts if not self.mixture.get(kind))
        if unused:
            raise ValueError(f"counts names {unused[0]}, which has no weight in mixture. Give it one, or take it out of counts")
        return self

    @model_validator(mode="after")
    def _longest_fits_a_pack(self) -> Self:
        if isinstance(self.batching, PackedBatches) and self.max_tokens > self.batching.tokens:
            raise ValueError(
                f"max_tokens {self.max_tokens} is above batching.tokens {self.batching.tokens}: such a sample would fit into no pack. "
                "Raise batching.tokens or lower max_tokens"
            )
        return self

    @model_validator(mode="after")
    def _sight_has_no_words(self) -> Self:
        if self.objective == "sight" and ("language" in self.trainable or self.lora is not None):
            raise ValueError('with the objective "sight" only vision and projector can be trainable, without lora')
        if self.objective == "sight" and self.mixture.get(SampleKind.GENERAL, 0) > 0:
            raise ValueError('with the objective "sight" the mixture cannot hold general samples, which have no page')
        if self.objective == "sight" and self.needs_lengths:
            raise ValueError('with the objective "sight" all samples are of one length: set batching to {kind: padded} without by_length')
        return self

    @property
    def needs_lengths(self) -> bool:
        """True where lengths of samples decide which of them share a forward pass."""
        return isinstance(self.batching, PackedBatches) or self.batching.by_length


class OffloadSettings(Settings):
    """Where what an optimiser step needs waits for it (ZeRO-Offload, Ren et al. 2021; ZeRO-Infinity, Rajbhandari et al. 2021)."""

    optimizer: Place = Field(default="gpu", description="float32 weights and moments of AdamW, which then steps on the CPU")
    parameters: Place = Field(default="gpu", description="weights between their uses")
    nvme_folder: str = Field(default="", description="on a local disk of every node, for what waits on nvme")

    @property
    def places(self) -> tuple[Place, Place]:
        return self.optimizer, self.parameters


class TrainSettings(Settings):
    source: str = Field(default="tiny", description='"tiny", a local folder, or a Hugging Face id such as Qwen/Qwen2.5-VL-3B-Instruct')
    tiny: TinyModel = TinyModel()
    pictures: PictureSettings = PictureSettings()
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    attention: Attention = Field(
        default="sdpa",
        description="varlen: within the samples of packs, on CUDA by torch's own flash attention; the others are of transformers",
    )
    compile: bool = Field(
        default=False, description="layers compiled by torch.compile: those of the language model, with attention varlen the tower's too"
    )
    zero_stage: Literal[0, 1, 2, 3] = 2
    offload: OffloadSettings = OffloadSettings()
    checkpointing: tuple[Tower, ...] = Field(
        default=(), description="whose layers are computed again in the backward pass instead of kept, where gradients flow through them"
    )
    loss: Literal["full", "chunked", "liger"] = Field(
        default="full", description="full: logits of all tokens at once; chunked: of answers alone, in pieces; liger: fused by Liger Kernel"
    )
    compute: ComputeSettings = ComputeSettings()
    detector: DetectorRecipe = DetectorRecipe()
    sight: StageRecipe | None = None
    base: StageRecipe | None = None
    stage1: StageRecipe
    stage2: StageRecipe

    @model_validator(mode="after")
    def _offload_needs_parts(self) -> Self:
        if self.offload.optimizer != "gpu" and self.zero_stage < 2:
            raise ValueError(f"offload.optimizer {self.offload.optimizer} needs zero_stage 2 or 3")
        if "nvme" in self.offload.places and not self.offload.nvme_folder:
            raise ValueError("offload to nvme needs offload.nvme_folder")
        if (self.offload.parameters != "gpu" or "nvme" in self.offload.places) and self.zero_stage < 3:
            raise ValueError("offload.parameters, and offload to nvme, need zero_stage 3")
        return self

    @model_validator(mode="after")
    def _varlen_has_packs(self) -> Self:
        if self.attention == "varlen":
            read = [stage for stage in (self.base, self.stage1, self.stage2) if stage is not None]
            if any(not isinstance(stage.batching, PackedBatches) for stage in read):
                raise ValueError("attention varlen reads packs: set batching to {kind: packed} in base, stage1 and stage2, or use sdpa")
            if self.compute.gpu and self.precision != "bfloat16":
                raise ValueError("attention varlen needs precision bfloat16 on GPUs; or use sdpa")
        return self

    @model_validator(mode="after")
    def _whole_layers(self) -> Self:
        if self.compile and self.zero_stage == 3:
            raise ValueError("compile takes layers whole, which zero_stage 3 scatters; use zero_stage 1 or 2, or no compile")
        return self

    @model_validator(mode="after")
    def _whole_head(self) -> Self:
        if self.loss == "liger" and self.zero_stage == 3:
            raise ValueError("loss liger reads the weights of the output layer, which zero_stage 3 scatters; use chunked")
        return self


def checkpointed(recipe: StageRecipe, towers: tuple[Tower, ...]) -> tuple[Tower, ...]:
    """Those of `towers` through which gradients of a stage flow: only they would keep anything for a backward pass."""
    flow: dict[Tower, bool] = {"vision": "vision" in recipe.trainable, "language": recipe.objective == "dialogue"}
    return tuple(tower for tower in towers if flow[tower])


RECIPES = ("detector", "sight", "base", "stage1", "stage2")
"""Fields of `TrainSettings` that are recipes; the others are common to all stages."""
