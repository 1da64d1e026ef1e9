"""Optimiser steps with DeepSpeed, without Ray: the same code runs in one process, under torchrun and inside Ray Train.

The loss is the mean over the targets (label tokens) of the whole global batch, so that neither the number of workers nor the cut into
micro-batches weighs one more than another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import sys
import time
import unittest.mock
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from cg_data.errors import ConfigError, UserError
from cg_train.batches import StepBatch, to_device
from cg_train.recipe import StageRecipe, TrainSettings

if TYPE_CHECKING:
    import torch

    from cg_train.flops import Meter

_T = TypeVar("_T")
Targets = Callable[[Mapping[str, "torch.Tensor"]], "torch.Tensor"]
"""How many targets carry a loss in the inputs of one micro-batch, as a tensor."""
_IGNORED = -100
"""Label of a token that carries no loss (the convention of torch's cross-entropy)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """One optimiser step. `step` counts from 1; `samples` and `tokens` (targets with a loss) are of the whole global batch.

    On GPUs `tokens_per_s` counts all tokens but padding over all workers, and `mfu` and `hfu` are the share of the GPUs' peak that the
    operations of `cg_train.flops.Flops` are, where that peak is known. `memory_bytes` is of this worker: the most that was allocated on its
    GPU since it began; on CPU what the process holds.
    """

    step: int
    loss: float
    lr: float
    grad_norm: float
    samples: int
    tokens: int
    seconds: float
    data_wait_s: float
    memory_bytes: int
    sample_ids: tuple[str, ...]
    tokens_per_s: float | None = None
    mfu: float | None = None
    hfu: float | None = None


def import_deepspeed(*, gpu: bool) -> Any:
    """DeepSpeed, without its compiler on CPU and without what it would import for features that are not used here.

    Its autotuner imports MLflow if it is there, and its Muon optimiser decorates functions with `torch.compile`, which loads the whole
    compiler: together several times the time of DeepSpeed itself, in every worker. On CPU it would also build a shared-memory collective
    with g++ at the first engine; gloo serves as well.
    """
    if not gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
    with _hidden("mlflow"):
        import deepspeed
        from deepspeed.runtime import compiler
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    if not gpu:
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    with unittest.mock.patch.object(compiler, "compile", return_value=lambda function: function):
        import deepspeed.runtime.zero.muon.muon_optimizer
    return deepspeed


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let imports of the module `name` fail, unless it is imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


BUCKET_ELEMENTS = 2 * 10**8
"""Gradients that ZeRO collects before it sends them."""
PREFETCH_ELEMENTS = 5 * 10**7
"""Parameters that ZeRO stage 3 fetches ahead."""
LIVE_ELEMENTS = 10**9
"""Parameters that ZeRO stage 3 may hold together on a GPU."""
PERSISTENT_ELEMENTS = 10**5
"""Smaller parameters are not scattered by ZeRO stage 3."""


def engine_config(recipe: StageRecipe, settings: TrainSettings, workers: int, *, universal: bool = False) -> dict[str, Any]:
    """The DeepSpeed configuration of a stage (https://www.deepspeed.ai/docs/config-json); `universal`: to load such a checkpoint.

    DeepSpeed is told of one forward pass per step, so that it divides by no number of them: how many there are differs from step to step
    where samples are packed, and `_one_step` says which is the last.
    """
    return {
        "train_batch_size": recipe.global_batch,
        "train_micro_batch_size_per_gpu": recipe.global_batch // workers,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.gradient_clip,
        "bf16": {"enabled": settings.precision == "bfloat16"},
        "zero_optimization": _zero_config(settings),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its own optimiser for the CPU would have to be compiled
        "checkpoint": {"use_node_local_storage": True, "load_universal": universal},
        "steps_per_print": sys.maxsize,
    }


def _zero_config(settings: TrainSettings) -> dict[str, Any]:
    """Sizes are stated, for `cg_train.memory` counts on them."""
    zero: dict[str, Any] = {
        "stage": settings.zero_stage,
        "reduce_bucket_size": BUCKET_ELEMENTS,
        "allgather_bucket_size": BUCKET_ELEMENTS,
        "overlap_comm": settings.zero_stage == 3,
        "stage3_prefetch_bucket_size": PREFETCH_ELEMENTS,
        "stage3_max_live_parameters": LIVE_ELEMENTS,
        "stage3_param_persistence_threshold": PERSISTENT_ELEMENTS,
        "stage3_gather_16bit_weights_on_model_save": True,
    }
    for name, place in (("offload_optimizer", settings.offload.optimizer), ("offload_param", settings.offload.parameters)):
        if place != "gpu":
            zero[name] = {"device": place, "pin_memory": settings.compute.gpu}
        if place == "nvme":
            zero[name]["nvme_path"] = settings.offload.nvme_folder
    return zero


def learning_rate_factor(step: int, *, steps: int, warmup_fraction: float) -> float:
    """Share of the peak learning rate at `step` (from 0): linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2017)."""
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def make_engine(model: torch.nn.Module, recipe: StageRecipe, config: dict[str, Any], *, steps: int, gpu: bool) -> Any:
    """A DeepSpeed engine around `model` that trains the parameters which require gradients, with AdamW (Loshchilov & Hutter 2019).

    Raises:
        ConfigError: something is to wait on NVMe, and DeepSpeed cannot read and write it here.
    """
    import torch

    deepspeed = import_deepspeed(gpu=gpu)
    offloads = [config["zero_optimization"].get(name) for name in ("offload_optimizer", "offload_param")]
    if any(o and o["device"] == "nvme" for o in offloads) and not deepspeed.ops.__compatible_ops__["async_io"]:
        raise ConfigError("train.offload nvme: DeepSpeed's async_io cannot be built here (it needs libaio). Install libaio, or use cpu.")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = gpu or offloads[0] is not None or None  # one pass over the memory instead of ten, and no temporary copies
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=fused)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, steps=steps, warmup_fraction=recipe.warmup_fraction)
    )
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, lr_scheduler=schedule, config=config)
    return engine


def together(work: Callable[[], _T], device: Any) -> _T:
    """Do `work` on all workers; a `UserError` on one is raised on all, so that none waits for another for ever.

    Raises:
        UserError: of the first worker, by rank, that met one.
    """
    import torch
    import torch.distributed as dist

    result: _T | None = None
    failure: UserError | None = None
    try:
        result = work()
    except UserError as error:
        failure = error
    failures = torch.tensor([0 if failure is None else 1], device=device)
    dist.all_reduce(failures)
    if failures.item():
        met: list[UserError | None] = [None] * dist.get_world_size()
        dist.all_gather_object(met, failure)
        raise next(error for error in met if error is not None)
    return result  # type: ignore[return-value]


def answer_targets(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Label tokens of dialogues. Position 0 predicts nothing: the label shift of a causal model drops it."""
    return (inputs["labels"][:, 1:] != _IGNORED).sum()


def train_steps(
    engine: Any,
    batches: Iterable[Callable[[], StepBatch]],
    *,
    declared: frozenset[str] | None,
    targets: Targets = answer_targets,
    meter: Meter | None = None,
) -> Iterator[StepReport]:
    """Take one optimiser step per batch and report it.

    Args:
        engine: from `make_engine`.
        batches: for each step a function that waits for its batch (`cg_train.batches.prefetched`).
        targets: counts what the loss of a micro-batch is to be averaged over.
        meter: counts tokens and operations, for `tokens_per_s`, `mfu` and `hfu`.
        declared: names of the parameters that must receive gradients at the first step, all of them and no others; None trusts.

    Raises:
        ConfigError: other parameters receive gradients than those declared, or the loss is no longer finite.
        UserError: a sample cannot be made into a batch.
    """
    gate = None if declared is None else _GradientGate(engine.module, declared)
    for fetch in batches:
        started = time.perf_counter()
        batch = together(fetch, engine.device)
        waited = time.perf_counter() - started
        lr = float(engine.get_lr()[0])
        loss, tokens = _one_step(engine, batch, targets)
        if not math.isfinite(loss):
            raise ConfigError(f"the loss is {loss} at step {batch.step + 1}: training diverged. Lower learning_rate.")
        if gate is not None:
            together(gate.check, engine.device)
            gate = None
        seconds = time.perf_counter() - started
        speed = {} if meter is None else _speed(meter, batch, seconds, engine.device)
        yield StepReport(
            step=batch.step + 1,
            loss=loss,
            lr=lr,
            grad_norm=float(engine.get_global_grad_norm() or 0.0),
            samples=engine.train_batch_size(),
            tokens=tokens,
            seconds=seconds,
            data_wait_s=waited,
            memory_bytes=_memory_bytes(engine.device),
            sample_ids=batch.sample_ids,
            **speed,
        )


def _memory_bytes(device: Any) -> int:
    import psutil
    import torch

    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def _speed(meter: Meter, batch: StepBatch, seconds: float, device: Any) -> dict[str, float | None]:
    import torch
    import torch.distributed as dist

    counted = torch.tensor(meter.read(batch.micro_batches), dtype=torch.float64, device=device)
    dist.all_reduce(counted)
    tokens, model, hardware = counted.tolist()
    able = None if meter.peak_flops is None else meter.peak_flops * dist.get_world_size() * seconds
    return {
        "tokens_per_s": tokens / seconds,
        "mfu": None if able is None else model / able,
        "hfu": None if able is None else hardware / able,
    }


def _one_step(engine: Any, batch: StepBatch, targets: Targets) -> tuple[float, int]:
    """Forward, backward and update; returns the loss and the number of targets of the global batch."""
    import torch
    import torch.distributed as dist

    tokens = torch.stack([targets(inputs) for inputs in batch.micro_batches]).sum().to(engine.device)
    dist.all_reduce(tokens)
    # DeepSpeed averages gradients over workers and adds up those of micro-batches; dividing by this makes that the mean over all targets.
    share = tokens / dist.get_world_size()
    total = torch.zeros((), device=engine.device, dtype=torch.float64)
    for number, inputs in enumerate(batch.micro_batches, start=1):
        engine.set_gradient_accumulation_boundary(number == len(batch.micro_batches))
        loss = engine(**to_device(inputs, engine.device), num_items_in_batch=share).loss
        engine.backward(loss)
        total += loss.detach().double() / dist.get_world_size()
    engine.step()
    dist.all_reduce(total)
    return float(total), int(tokens)


class _GradientGate:
    """Watches one step and compares the parameters that receive gradients with those declared."""

    def __init__(self, model: torch.nn.Module, declared: frozenset[str]) -> None:
        self._declared = declared
        self._seen: set[str] = set()
        self._hooks = [
            parameter.register_hook(lambda _gradient, name=name: self._seen.add(name))  # type: ignore[no-untyped-call]
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]

    def check(self) -> None:
        for hook in self._hooks:
            hook.remove()
        missing, extra = sorted(self._declared - self._seen), sorted(self._seen - self._declared)
        if missing:
            raise ConfigError(f"trainable: {len(missing)} declared parameters got no gradient, the first is {missing[0]}.")
        if extra:
            raise ConfigError(f"trainable: {len(extra)} parameters that were not declared got gradients, the first is {extra[0]}.")
