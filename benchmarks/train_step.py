"""Speed and memory of a training step on one GPU: Qwen2.5-VL with random weights (speed does not hang on them), one lever after the other.

    python benchmarks/train_step.py [--model 3b|7b] [--stage 1|2] [--lora 16] [--samples 32] [--tokens 8192] [--rows 1,3] [--plain]

A sample is a page of 1120 x 532 pixels (760 visual tokens) with a text of 300 tokens in the mean, half of them an answer. Every row takes
the same samples through one optimiser step, several times, with what the rows above it have and one lever more. Memory is the most that is
allocated on the way to the gradients, and in the update of the weights; "planned" is what `cg train plan` would foretell. MFU and HFU are
those that training reports (`cg_train.flops`). `--plain` steps without DeepSpeed, as happens where that is not installed: then torch and
transformers are all that is needed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers import Qwen2_5_VLForConditionalGeneration

from cg_data.page import page_shape
from cg_data.settings import PageSettings
from cg_data.vocabulary import SampleKind
from cg_train.batches import StepBatch, finished
from cg_train.flops import Meter
from cg_train.hardware import Gpus, peak_flops
from cg_train.memory import Longest, memory_of
from cg_train.model.encode import IGNORED, Batch, Encoded, Patches, collate, image_tokens, in_order, page_to_patches
from cg_train.model.learner import learning
from cg_train.model.pack import pack
from cg_train.model.shape import config_of, shape_of
from cg_train.model.varlen import use_varlen
from cg_train.packs import SampleLengths, shares
from cg_train.recipe import Batching, ComputeSettings, LoraSettings, PackedBatches, PaddedBatches, StageRecipe, TrainSettings
from cg_train.step import StepReport, engine_config, make_engine, train_steps

SOURCES = {"3b": "Qwen/Qwen2.5-VL-3B-Instruct", "7b": "Qwen/Qwen2.5-VL-7B-Instruct", "tiny": "tiny"}
PAGES = {
    "large": PageSettings(pixels_per_row=28, pixels_per_second=112, microvolts_per_row=100.0, subcolumns=4, multiple_of=28),
    "tiny": PageSettings(pixels_per_row=7, pixels_per_second=28, multiple_of=28),
}
TEXT_TOKENS = 300
Sight = dict[int, Patches]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A way to take a step: its name, its batches and what differs in the settings."""

    name: str
    batching: Batching
    changes: Mapping[str, Any]


def rows_of(tokens: int, gpu: bool) -> list[Row]:
    """Each with what those above have; a lever that does not fit in memory or is not installed says so in its line."""
    padded, packed = PaddedBatches(micro_batch=max(1, tokens // 2048)), PackedBatches(tokens=tokens, images=tokens // 512)
    again = {"checkpointing": ("language",), "loss": "full", "attention": "sdpa", "zero_stage": 2}
    levers: list[tuple[str, Batching, dict[str, Any]]] = [
        ("padded", padded, again),
        ("padded, samples of near length together", padded.model_copy(update={"by_length": True}), {}),
        ("packed", packed, {}),
        ("attention within samples", packed, {"attention": "varlen"}),
        ("loss of answers alone, in pieces", packed, {"loss": "chunked"}),
    ]
    if gpu:
        levers += [
            ("loss by Liger instead", packed, {"loss": "liger"}),
            ("chunked again, layers compiled", packed, {"loss": "chunked", "compile": True}),
            ("gradients sent once a step (ZeRO stage 1)", packed, {"zero_stage": 1}),
            ("layers kept, not computed again", packed, {"checkpointing": ()}),
        ]
    rows, changes = [], {}
    for name, batching, change in levers:
        changes = changes | change
        rows.append(Row(name=name, batching=batching, changes=changes))
    return rows


def samples_of(count: int, page: PageSettings, config: Any) -> tuple[list[Encoded], Sight]:
    """Dialogues of random words about a page, of 300 +- 150 words, the second half of them an answer."""
    rng = np.random.default_rng(0)
    visual, vocabulary = image_tokens(page), min(config.text_config.vocab_size, 150_000)
    words = np.clip(np.rint(rng.normal(TEXT_TOKENS, TEXT_TOKENS / 2, count)), 40, 2 * TEXT_TOKENS).astype(int)
    encoded, seen = [], {}
    for place, length in enumerate(words):
        text = rng.integers(10, vocabulary, length)
        ids = np.concatenate([text[:20], np.full(visual, config.image_token_id), text[20:]]).astype(np.int64)
        asked = np.arange(len(ids)) < len(ids) - length // 2
        types = (ids == config.image_token_id).astype(np.int64)
        encoded.append(Encoded(input_ids=ids, labels=np.where(asked, IGNORED, ids), mm_token_type_ids=types))
        seen[place] = page_to_patches(rng.integers(0, 256, (1, *page_shape(page)), dtype=np.uint8))
    return encoded, seen


def step_batch(model: Any, encoded: list[Encoded], seen: Sight, batching: Batching) -> StepBatch:
    lengths = SampleLengths(
        tokens=np.array([len(one.input_ids) for one in encoded], dtype=np.int32), images=np.ones(len(encoded), dtype=np.int32)
    )
    micro: list[Batch] = []
    for rows in shares(np.arange(len(encoded)), lengths, batching=batching, workers=1)[0]:
        chosen, sight = [encoded[row] for row in rows], {place: seen[row] for place, row in enumerate(rows)}
        packed = isinstance(batching, PackedBatches)
        made = pack(chosen, sight, model.get_rope_index) if packed else collate(chosen, in_order(sight), pad_id=0)
        micro.append(made)
    batch = StepBatch(step=0, sample_ids=tuple(map(str, range(len(encoded)))), micro_batches=tuple(micro))
    return finished(batch, dtype=model.dtype, gpu=model.device.type == "cuda")


class PlainEngine:
    """What `train_steps` asks of DeepSpeed's engine, for one process: weights in bfloat16, AdamW on a copy in float32."""

    def __init__(self, module: torch.nn.Module, recipe: StageRecipe) -> None:
        self.module, self._recipe, self._norm = module, recipe, 0.0
        self._trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.device = self._trained[0].device
        self._copies = [parameter.detach().float().clone() for parameter in self._trained]
        self._optimizer = torch.optim.AdamW(self._copies, lr=recipe.learning_rate, fused=True)

    def __call__(self, **inputs: torch.Tensor) -> Any:
        return self.module(**inputs)

    def set_gradient_accumulation_boundary(self, last: bool) -> None:
        pass

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        self._norm = float(torch.nn.utils.get_total_norm(gradients))
        torch.nn.utils.clip_grads_with_norm_(self._trained, self._recipe.gradient_clip, torch.tensor(self._norm))
        for parameter, copy in zip(self._trained, self._copies, strict=True):
            copy.grad, parameter.grad = None if parameter.grad is None else parameter.grad.float(), None
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_copy_(self._trained, self._copies)

    def get_lr(self) -> list[float]:
        return [self._recipe.learning_rate]

    def get_global_grad_norm(self) -> float:
        return self._norm

    def train_batch_size(self) -> int:
        return self._recipe.global_batch


def measured(row: Row, options: argparse.Namespace, device: str) -> str:
    """One line of the table."""
    recipe = recipe_of(row, options)
    settings = settings_of(row, recipe, options, device)
    config = config_of(settings)
    if options.model == "tiny":  # its vocabulary ends before Qwen's control tokens
        config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id = range(1, 5)
    shape = shape_of(config, recipe)
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa", dtype=dtype_of(settings))
    if settings.attention == "varlen":
        use_varlen(model)
    encoded, seen = samples_of(options.samples, PAGES["tiny" if options.model == "tiny" else "large"], config)
    batch = step_batch(model.model, encoded, seen, row.batching)
    _, network = learning(model, recipe, settings)
    engine = (
        PlainEngine(network.train(), recipe)
        if options.plain
        else make_engine(network.train(), recipe, engine_config(recipe, settings, 1), steps=1000, gpu=device == "cuda")
    )
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    meter = Meter(shape=shape, recipe=recipe, settings=settings, peak_flops=peak_flops(name, settings.precision))
    peaks = peaks_gb(engine) if device == "cuda" else []
    reports = list(train_steps(engine, repeated(batch, options.steps + 1), declared=None, meter=meter))[1:]
    if options.profile:
        with torch.profiler.profile() as profiler:
            list(train_steps(engine, repeated(batch, 1), declared=None))
        by = "self_cuda_time_total" if device == "cuda" else "self_cpu_time_total"
        Path(options.profile, f"row{options.row}.txt").write_text(profiler.key_averages().table(sort_by=by, row_limit=60))
    longest = max(encoded, key=lambda one: len(one.input_ids))
    most = Longest(
        tokens=len(longest.input_ids), patches=4 * int(longest.mm_token_type_ids.sum()), targets=int((longest.labels != IGNORED).sum())
    )
    if device == "cpu":
        return line(row, reports, [])
    gpus = Gpus(count=1, memory_bytes=float(torch.cuda.get_device_properties(0).total_memory), name=name)
    planned = memory_of(shape, recipe, settings, most, gpus)
    held = planned.states + planned.buckets
    pairs = zip(peaks[-1], (held + planned.activations + planned.logits, held + planned.step), strict=True)
    return line(row, reports, [f"{found:.1f} | {told / 1e9:.1f} ({told / 1e9 / found - 1:+.0%})" for found, told in pairs])


def peaks_gb(engine: Any) -> list[tuple[float, float]]:
    """The most that is allocated before each update of the weights, and in it; grows as the engine goes."""
    step, noted = engine.step, []

    def noting() -> None:
        before = _peak_gb()
        step()
        noted.append((before, _peak_gb()))

    engine.step = noting
    return noted


def _peak_gb() -> float:
    """Since it was asked last."""
    most = torch.cuda.max_memory_allocated() / 1e9
    torch.cuda.reset_peak_memory_stats()
    return most


def recipe_of(row: Row, options: argparse.Namespace) -> StageRecipe:
    return StageRecipe(
        mixture={SampleKind.CAPTION: 1.0},
        steps=1000,
        global_batch=options.samples,
        batching=row.batching,
        trainable=("projector",) if options.stage == 1 else ("projector", "language"),
        lora=LoraSettings(rank=options.lora, alpha=2 * options.lora) if options.lora else None,
    )


def settings_of(row: Row, recipe: StageRecipe, options: argparse.Namespace, device: str) -> TrainSettings:
    return TrainSettings(
        source=SOURCES[options.model],
        precision="bfloat16" if device == "cuda" else "float32",
        compute=ComputeSettings(gpu=device == "cuda"),
        stage1=recipe,
        stage2=recipe,
        **row.changes,
    )


def dtype_of(settings: TrainSettings) -> torch.dtype:
    return torch.bfloat16 if settings.precision == "bfloat16" else torch.float32


def repeated(batch: StepBatch, times: int) -> Iterator[Any]:
    for step in range(times):
        yield lambda step=step: dataclasses.replace(batch, step=step)


def line(row: Row, reports: list[StepReport], memory: list[str]) -> str:
    best = min(reports, key=lambda report: report.seconds)
    cells = [f"{best.samples / best.seconds:.2f}", f"{best.tokens_per_s:.0f}", f"{reports[-1].loss:.3f}"]
    if memory:
        cells += ["" if share is None else f"{share:.1%}" for share in (best.mfu, best.hfu)] + memory
    return " | ".join(["", row.name, *cells, ""]).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=tuple(SOURCES), default="3b")
    parser.add_argument("--stage", type=int, choices=(1, 2), default=2)
    parser.add_argument("--lora", type=int, default=0, help="rank of adapters on the language model")
    parser.add_argument("--samples", type=int, default=32, help="of an optimiser step; a multiple of four")
    parser.add_argument("--tokens", type=int, default=8192, help="of a pack")
    parser.add_argument("--steps", type=int, default=3, help="measured after one that is not; the best counts")
    parser.add_argument("--rows", default="", help="numbers of rows, from 1; all by default")
    parser.add_argument("--profile", help="folder for the operations of a further step of each row, by time")
    parser.add_argument("--plain", action="store_true", help="without DeepSpeed")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.plain |= importlib.util.find_spec("deepspeed") is None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = rows_of(options.tokens, device == "cuda")
    if options.row is None:
        table(rows, options, device)
    else:
        one_row(rows[options.row - 1], options, device)


def one_row(row: Row, options: argparse.Namespace, device: str) -> None:
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "meeting").as_uri()
        dist.init_process_group("nccl" if device == "cuda" else "gloo", init_method=meeting, rank=0, world_size=1)
        try:
            sys.stdout.write(measured(row, options, device) + "\n")
        finally:
            dist.destroy_process_group()


def table(rows: list[Row], options: argparse.Namespace, device: str) -> None:
    """Each row in a process of its own, so that none finds memory that another left behind."""
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    engine = "plain torch" if options.plain else "DeepSpeed"
    sys.stdout.write(f"\n{where}, torch {torch.__version__}, {options.model}, stage {options.stage}, lora {options.lora}, {engine}\n\n")
    of_gpu = ["MFU", "HFU", "backward GB", "planned", "update GB", "planned"]
    names = ["lever", "samples/s", "tokens/s", "loss", *(of_gpu if device == "cuda" else [])]
    sys.stdout.write(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n")
    for number in [int(number) for number in options.rows.split(",") if number] or range(1, len(rows) + 1):
        done = subprocess.run([sys.executable, *sys.argv, "--row", str(number)], capture_output=True, text=True, check=False)
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        last = (done.stdout.strip().splitlines() or [""])[-1]
        sys.stdout.write((last if done.returncode == 0 else f"| {rows[number - 1].name} | {why[:110]} |") + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
