"""What Ray Train and the reading of shards cost a training step, and how long a killed worker is missed.

    python benchmarks/training_on_ray.py RUN [--steps 40] [--global-batch 32] [--rounds 2]

RUN is a finished run folder of the preset tiny; stage 2 is trained on its samples, from its model `base`, by two CPU workers. Two
plain processes take the steps with all batches in memory, and with batches made as they go, from shards; Ray Train does as the latter,
journals, and hands the figures to MLflow. They take turns, and the median of the steps after the first five counts. On CPUs the making of
batches takes the cores that train. At last a worker is killed half-way.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.multiprocessing as mp

from cg_data.progress import silent
from cg_train.batches import BatchMaker, SampleStore, prefetched
from cg_train.plan import make_plan
from cg_train.step import engine_config, make_engine, train_steps
from cg_train.tracking import TrackingSettings, metrics_journal
from cluster.config import ClusterSettings, RunConfig, read_preset, resolve_config

WORKERS, UNSTEADY = 2, 5


def config_of(steps: int, global_batch: int) -> RunConfig:
    sets = {"steps": steps, "global_batch": global_batch, "batching.micro_batch": global_batch // WORKERS // 2, "checkpoint_every": 10}
    return resolve_config(
        read_preset("tiny"), [f"train.compute.workers={WORKERS}", *(f"train.stage2.{name}={value}" for name, value in sets.items())]
    )


def plain_worker(rank: int, port: int, run: str, config: RunConfig, told: str, in_memory: bool) -> None:
    """Worker `rank` of a group without Ray; writes the seconds of its steps."""
    from cg_train.model.learner import load_learner

    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORKERS}
    os.environ |= {name: str(value) for name, value in names.items()}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORKERS)
    recipe, page, store = config.train.stage2, config.data.page, SampleStore([f"{run}/samples/synthetic"])
    learner = load_learner(
        f"{run}/models/base", recipe=recipe, settings=config.train, page=page, annotations_uri="", about={}, device="cpu"
    )
    plan = make_plan(store.index, recipe)
    make = BatchMaker(
        store=store,
        plan=plan,
        rank=rank,
        workers=WORKERS,
        batching=recipe.batching,
        lengths=None,
        seed=recipe.seed,
        gain_log2=recipe.gain_log2,
        collate=learner.collate,
    )
    steps = range(plan.steps)
    made = [make(step) for step in steps] if in_memory else []
    batches = (lambda batch=batch: batch for batch in made) if in_memory else prefetched(make, steps)
    engine = make_engine(learner.network, recipe, engine_config(recipe, config.train, WORKERS), steps=plan.steps, gpu=False)
    reports = list(train_steps(engine, batches, declared=None))
    if rank == 0:
        Path(told).write_text(json.dumps([{"loss": report.loss, "seconds": report.seconds} for report in reports]))
    torch.distributed.destroy_process_group()


def plain(run: str, config: RunConfig, *, in_memory: bool) -> list[dict[str, Any]]:
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        mp.spawn(plain_worker, (port, run, config, f"{folder}/steps.json", in_memory), nprocs=WORKERS)
        lines: list[dict[str, Any]] = json.loads(Path(folder, "steps.json").read_text())
    return lines


def on_ray(run: str, config: RunConfig, folder: Path) -> list[dict[str, Any]]:
    """Ray is there already."""
    from cg_train.job import Stage, train_stages

    stage = Stage(
        name="stage2",
        identity="0" * 16,
        recipe=config.train.stage2,
        model_from=f"{run}/models/base",
        out_folder=str(folder / "model"),
        about={},
        progress=silent,
    )
    tracking = TrackingSettings(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts_uri=(folder / "artifacts").as_uri())
    where = {"samples_uris": [f"{run}/samples/synthetic"], "annotations_uri": "", "tiny_folder": f"{run}/models/init"}
    list(train_stages([stage], settings=config.train, page=config.data.page, storage_folder=str(folder), tracking=tracking, **where))
    return metrics_journal(folder / "stage2", 0).read()


def workers_now() -> set[int]:
    """Of Ray's processes below this one those that train."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if "TrainWorker" in " ".join(process.cmdline()):
                found.add(process.pid)
        except psutil.Error:
            continue
    return found


class Killer(threading.Thread):
    """Kills a worker at a step, and notes when the group was new, when it had loaded its checkpoint and when a step was taken again."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(daemon=True)
        self._journal, self._step = metrics_journal(folder / "stage2", 0), step
        self.after_s: dict[str, float] = {}

    def run(self) -> None:
        while len(self._journal.read()) < self._step:
            time.sleep(0.02)
        old, killed = workers_now(), time.perf_counter()
        os.kill(min(old), signal.SIGKILL)
        self._note("the other worker is gone", killed, lambda: not workers_now() & old)
        self._note("new workers are there", killed, lambda: len(workers_now() - old) == WORKERS)
        done = len(self._journal.read())
        self._note("the checkpoint is loaded", killed, lambda: len(self._journal.read()) < done)
        loaded = len(self._journal.read())
        self._note("a step is taken", killed, lambda: len(self._journal.read()) > loaded)
        self._note("the step of the kill is taken again", killed, lambda: len(self._journal.read()) > done)

    def _note(self, what: str, killed: float, there: Any) -> None:
        while not there():
            time.sleep(0.02)
        self.after_s[what] = time.perf_counter() - killed


def median_s(lines: list[dict[str, Any]]) -> float:
    return statistics.median(line["seconds"] for line in lines[UNSTEADY:])


def compared(memory: list[dict[str, Any]], shards: list[dict[str, Any]], ray: list[dict[str, Any]]) -> str:
    steady = ray[UNSTEADY:]
    waited = sum(line["data_wait_s"] for line in steady) / sum(line["seconds"] for line in steady)
    losses = [[line["loss"] for line in lines] for lines in (memory, shards, ray)]
    same = "equal" if losses[0] == losses[1] == losses[2] else "DIFFER"
    plain_s = f"plain {median_s(memory):.3f} s a step in memory, {median_s(shards):.3f} s from shards"
    return f"{plain_s}; Ray {median_s(ray):.3f} s, waiting for data {waited:.2%}; losses {same}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--global-batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    run, config = str(Path(options.run).absolute()), config_of(options.steps, options.global_batch)
    from cluster.session import ray_session

    memory, shards, ray = [], [], []
    with tempfile.TemporaryDirectory() as place:
        for turn in range(options.rounds):
            memory.append(plain(run, config, in_memory=True))
            shards.append(plain(run, config, in_memory=False))
            with ray_session(ClusterSettings(local_cpus=WORKERS, object_store_mib=128), verbose=False):
                ray.append(on_ray(run, config, Path(place, f"{turn}")))
            sys.stdout.write(f"round {turn + 1}: {compared(memory[-1], shards[-1], ray[-1])}\n")
        for name, bare in (("in memory", memory), ("from shards", shards)):
            over = min(map(median_s, ray)) / min(map(median_s, bare)) - 1
            sys.stdout.write(f"Ray Train over plain processes with batches {name}, best medians: {over:+.1%}\n")
        killer = Killer(Path(place, "killed"), options.steps // 2)
        killer.start()
        with ray_session(ClusterSettings(local_cpus=WORKERS, object_store_mib=128), verbose=False):
            on_ray(run, config, Path(place, "killed"))
        killer.join(1)
    for what, seconds in killer.after_s.items():
        sys.stdout.write(f"{seconds:6.1f} s after the kill: {what}\n")


if __name__ == "__main__":
    main()
