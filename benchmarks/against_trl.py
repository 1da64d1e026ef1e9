"""Samples a second of a stage of ours and of TRL's SFTTrainer, from the same tiny model, samples and one CPU process each.

    pip install trl                                     # of no version in particular, and not of our lock
    python benchmarks/against_trl.py RUN [--samples 192] [--rounds 2]

RUN is a finished run folder of the preset tiny; the samples are those of its stage 2, the model is its `base`. TRL gets what its
documentation asks for: conversations with PNG files, batches of four, no packing (it has none for pictures). Ours reads shards, draws
pages when they are needed, packs, and reads the logits of answers alone. Both step with AdamW, ours in DeepSpeed's engine as always (ZeRO
stage 2), TRL with and without it. They take turns; the first two optimiser steps do not count.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cg_data.records import Sample
from cg_train.batches import SampleStore
from cg_train.plan import make_plan
from cg_train.step import import_deepspeed
from cluster.config import RunConfig, read_preset, resolve_config

BATCH, GLOBAL_BATCH, UNSTEADY = 4, 16, 2
TRL, TRL_DEEPSPEED = "TRL", "TRL, DeepSpeed"


def config_of(samples: int, way: str) -> RunConfig:
    """Ours as presets for GPUs set it, and `padded` as TRL does it."""
    batching = f"{{kind: padded, micro_batch: {BATCH}}}" if way == "padded" else "{kind: packed, tokens: 2048, images: 16}"
    sets = {"stage2.steps": samples // GLOBAL_BATCH + UNSTEADY, "stage2.global_batch": GLOBAL_BATCH, "stage2.batching": batching}
    if way == "packed":
        packed = "{kind: packed, tokens: 2048, images: 16}"
        sets |= {"attention": "varlen", "loss": "chunked", "base.batching": packed, "stage1.batching": packed}
    return resolve_config(read_preset("tiny"), [f"train.{name}={value}" for name, value in sets.items()])


def ours(run: str, config: RunConfig) -> float:
    """Samples a second of `cg_train.stage.run_stage`, its reading of shards included."""
    from cg_train.checkpoint import Keeper
    from cg_train.stage import StageJob, open_store, run_stage
    from cg_train.tracking import metrics_journal

    with tempfile.TemporaryDirectory() as folder:
        job = StageJob(
            name="stage2",
            identity="0" * 16,
            recipe=config.train.stage2.model_copy(update={"checkpoint_every": 10**6}),
            settings=config.train,
            page=config.data.page,
            samples_uris=(f"{run}/samples/synthetic",),
            annotations_uri="",
            model_from=f"{run}/models/base",
            out_folder=f"{folder}/model",
            work_folder=f"{folder}/work",
            about={},
        )
        run_stage(job, open_store(job), rank=0, workers=1, keeper=Keeper(resume_from=(), keep=lambda kept, step: None))
        lines = metrics_journal(Path(job.work_folder), 0).read()[UNSTEADY:]
    return sum(line["samples"] for line in lines) / sum(line["seconds"] for line in lines)


ZERO = {
    "zero_optimization": {"stage": 2},
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,  # it would have to be compiled
}
"""DeepSpeed for TRL, as transformers documents it."""


def theirs(run: str, config: RunConfig, *, deepspeed: bool) -> float:
    """Samples a second of `SFTTrainer.train`, from the end of its second optimiser step on."""
    if deepspeed:
        import_deepspeed(gpu=False)
    from datasets import Dataset, Image, List
    from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    begun: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            begun.append(time.perf_counter())

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(f"{run}/models/base", dtype=torch.float32, attn_implementation="sdpa")
    for parameter in model.model.visual.parameters():
        parameter.requires_grad_(False)
    for parameter in model.model.visual.merger.parameters():
        parameter.requires_grad_(True)
    with tempfile.TemporaryDirectory() as folder:
        rows = [conversation(sample, config, Path(folder, f"{n}.png")) for n, sample in enumerate(planned(run, config))]
        data = Dataset.from_list(rows).cast_column("images", List(Image()))
        recipe = config.train.stage2
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=GLOBAL_BATCH // BATCH,
            max_steps=recipe.steps,
            learning_rate=recipe.learning_rate,
            max_length=None,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_steps=1000,
            dataloader_num_workers=0,
            disable_tqdm=True,
            deepspeed=ZERO if deepspeed else None,
        )
        processor = AutoProcessor.from_pretrained(f"{run}/models/base")
        SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=processor, callbacks=[Clock()]).train()
    return GLOBAL_BATCH * (len(begun) - UNSTEADY) / (begun[-1] - begun[UNSTEADY - 1])


def planned(run: str, config: RunConfig) -> list[Sample]:
    """The samples of our plan, in its order."""
    store = SampleStore([f"{run}/samples/synthetic"])
    return [store.sample(int(row)) for row in make_plan(store.index, config.train.stage2).rows.ravel()]


def conversation(sample: Sample, config: RunConfig, file: Path) -> dict[str, Any]:
    """A row of a conversational vision dataset as TRL documents it; the page is written as a PNG file."""
    import cv2

    from cg_data.instruct.prompt import SYSTEM_PROMPT
    from cg_data.page import render

    cv2.imwrite(str(file), render(sample.eeg_uv, sample.mask, config.data.page))
    turns = [{"role": "system", "content": SYSTEM_PROMPT}, *(dataclasses.asdict(message) for message in sample.messages)]
    return {"images": [str(file)], "messages": turns}


def measured(way: str, run: str, samples: int) -> float:
    os.environ["OMP_NUM_THREADS"] = "1"  # accelerate would take two
    torch.set_num_threads(1)
    config = config_of(samples, way)
    if way == TRL:
        return theirs(run, config, deepspeed=False)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29591"}
    if way == TRL_DEEPSPEED:
        return theirs(run, config, deepspeed=True)
    return ours(run, config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    run = str(Path(options.run).absolute())
    if options.way is not None:
        sys.stdout.write(f"\n{json.dumps(measured(options.way, run, options.samples))}\n")
        return
    ways = [TRL, TRL_DEEPSPEED, "padded", "packed"]
    best = dict.fromkeys(ways, 0.0)
    for _ in range(options.rounds):
        for way in ways:
            done = subprocess.run([sys.executable, *sys.argv, "--way", way], stdout=subprocess.PIPE, text=True, check=True)
            best[way] = max(best[way], float(json.loads(done.stdout.splitlines()[-1])))
    for way, rate in best.items():
        sys.stdout.write(f"{way:20s} {rate:8.2f} samples/s {rate / best[TRL]:6.2f} times TRL\n")


if __name__ == "__main__":
    main()
