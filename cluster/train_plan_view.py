"""`cg train plan`: what every stage will take on given GPUs, by part, and what to set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cg_data.errors import ConfigError, StorageError
from cg_data.instruct.general import GENERAL
from cg_train.batches import SampleStore
from cg_train.forecast import STAGES_IN_ORDER, Forecast, forecast, stage_recipes, tokenizer_of
from cg_train.hardware import Gpus, gpu_of_memory, peak_flops
from cg_train.memory import CONTEXT_BYTES, FRAGMENTED, Memory, check_fit, fits, overrides, recommend
from cg_train.recipe import PackedBatches, TrainSettings
from cluster.config import ClusterSettings, RunConfig
from cluster.runfolder import RunFolder
from cluster.session import address_of, ray_session
from cluster.steps_data import SYNTHETIC

_MEMORY_GB = 80.0


def gpus_of(settings: ClusterSettings, *, count: int | None, memory_gb: float | None, name: str | None, verbose: bool) -> Gpus:
    """The GPUs to plan for: as given, else those of the cluster that is named, else this machine's.

    Raises:
        ConfigError: none given, and none here; or a kind whose speed is not known.
        ClusterError: the cluster does not answer, or has none.
    """
    if count is not None:
        size_gb = _MEMORY_GB if memory_gb is None else memory_gb
        kind = gpu_of_memory(size_gb) if name is None else name
        if peak_flops(kind, "bfloat16") is None:
            raise ConfigError(f"--gpu {kind}: its speed is not known here. Give for example A100, H100 or H200.")
        return Gpus(count=count, memory_bytes=size_gb * 1e9, name=kind)
    if memory_gb is not None or name is not None:
        raise ConfigError("--gpu-memory-gb and --gpu describe the GPUs of --gpus. Give --gpus too.")
    if address_of(settings):
        from cg_train.job import gpus_of_cluster

        with ray_session(settings, verbose=verbose):
            return gpus_of_cluster()
    import torch

    if not torch.cuda.is_available():
        raise ConfigError("no GPU here, and no cluster is named (RAY_ADDRESS). Give --gpus and --gpu-memory-gb.")
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    least = min(devices, key=lambda device: device.total_memory)
    return Gpus(count=len(devices), memory_bytes=least.total_memory, name=least.name)


def plan(config: RunConfig, folder: RunFolder, *, gpus: Gpus, utilisation: float, console: Console) -> list[Forecast]:
    """Predict every stage of `config` on `gpus` and print it.

    Raises:
        ConfigError: a stage does not fit (after the table is printed), or its recipe cannot be followed.
    """
    settings = config.train.model_copy(update={"compute": config.train.compute.model_copy(update={"workers": gpus.count})})
    store = _store(config, folder)
    init = Path(folder.path / "models" / "init")
    tokenizer = tokenizer_of(str(init) if settings.source == "tiny" else settings.source) if store is not None else None
    expected = [
        forecast(
            name,
            recipe,
            settings,
            page=config.data.page,
            store=store,
            tokenizer=tokenizer,
            gpus=gpus,
            utilisation=utilisation,
        )
        for name, recipe in stage_recipes(settings, STAGES_IN_ORDER).items()
    ]
    show(expected, settings, gpus, config.preset, console)
    for one in expected:
        console.print(f"Assumed for {one.need.name}: {one.said}; {one.lengths.said}.", soft_wrap=True)
    console.print(
        f"Assumed: {utilisation:.0%} of the peak of {gpus.name} is reached, recomputation included; {CONTEXT_BYTES / 1e9:g} GB for CUDA "
        f"and NCCL and {FRAGMENTED:.0%} of the memory lost to fragmentation; micro-batches of the longest samples. Not in the hours: "
        "reading, checkpoints, and waiting for the network or (offload) for the bus.",
        soft_wrap=True,
    )
    needs = [one.need for one in expected]
    best = recommend(needs, settings, gpus)
    if best is not None:
        console.print(f"Recommended: {overrides(*best, gpus.count)}", soft_wrap=True, highlight=False, markup=False)
    check_fit(needs, settings, gpus)
    return expected


def _store(config: RunConfig, folder: RunFolder) -> SampleStore | None:
    """The samples of the run folder; None where there are none yet."""
    with contextlib.suppress(StorageError):
        return SampleStore([folder.at("samples", corpus) for corpus in (SYNTHETIC, *((GENERAL,) if config.data.general else ()))])
    return None


def show(expected: Sequence[Forecast], settings: TrainSettings, gpus: Gpus, preset: str, console: Console) -> None:
    """One column for each stage."""
    memories = [one.need.memory(settings, gpus) for one in expected]
    again = " and ".join(settings.checkpointing) or "nothing"
    title = (
        f"Preset {preset} on {gpus.count} x {gpus.name}, {gpus.memory_bytes / 1e9:.0f} GB each: ZeRO stage {settings.zero_stage}, "
        f"optimiser on {settings.offload.optimizer}, computed again: {again}, loss {settings.loss}"
    )
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("")
    for one in expected:
        table.add_column(one.need.name, justify="right")
    for label, of_stage in _WORK:
        table.add_row(label, *[of_stage(one) for one in expected])
    table.add_section()
    for label, of_memory in _PARTS:
        table.add_row(label, *[f"{of_memory(memory) / 1e9:,.2f}" for memory in memories])
    table.add_row("[bold]peak on each GPU, GB", *[_peak(memory, gpus) for memory in memories])
    console.print(table)


def _peak(memory: Memory, gpus: Gpus) -> str:
    text = f"{memory.peak / 1e9:,.1f}"
    return f"[green]{text}, fits" if fits(memory, gpus) else f"[red]{text}, does not fit"


def _hours(one: Forecast) -> str:
    return "unknown" if one.hours is None else f"{one.hours:,.1f}" if one.hours >= 0.1 else f"{one.hours:.3f}"


def _batch(one: Forecast) -> str:
    batching, rest = one.need.recipe.batching, f"{one.accumulated} x {one.workers}"
    if isinstance(batching, PackedBatches):
        return f"{one.need.recipe.global_batch} in packs of {batching.tokens:,} tokens, about {rest}"
    return f"{one.need.recipe.global_batch} = {batching.micro_batch} x {rest}"


_WORK: tuple[tuple[str, Callable[[Forecast], str]], ...] = (
    ("parameters, of which learn", lambda f: f"{f.need.shape.parameters / 1e9:,.3f} B, {f.need.shape.trained / 1e9:,.3f} B"),
    ("samples, steps", lambda f: f"{f.samples:,}, {f.steps:,}"),
    ("batch = micro x accumulated x GPUs", _batch),
    ("tokens of a sample: image, text", lambda f: f"{f.lengths.image_mean:,.0f}, {f.lengths.text_mean:,.0f}"),
    ("tokens of a sample: mean, 95 %", lambda f: f"{f.lengths.load.tokens:,.0f}, {f.lengths.tokens_p95:,.0f}"),
    ("tokens of a step", lambda f: f"{f.tokens_per_step:,.0f}"),
    ("PFLOP of a step: model, hardware", lambda f: f"{f.flops.model / 1e15:,.3g}, {f.flops.hardware / 1e15:,.3g}"),
    ("hours, of them validation", lambda f: f"{_hours(f)}, {f.validation_share:.1%}"),
)
_PARTS: tuple[tuple[str, Callable[[Memory], float]], ...] = (
    ("GB on each GPU: weights", lambda m: m.weights),
    ("gradients", lambda m: m.gradients),
    ("float32 copy", lambda m: m.master),
    ("AdamW moments", lambda m: m.moments),
    ("activations", lambda m: m.activations),
    ("logits and cross-entropy", lambda m: m.logits),
    ("ZeRO buckets", lambda m: m.buckets),
    ("optimiser's turn (instead of activations)", lambda m: m.step),
    ("CUDA, NCCL and fragmentation", lambda m: m.reserve),
    ("GB on the host for each GPU", lambda m: m.host),
)
