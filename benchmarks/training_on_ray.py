"""What Ray Train, Ray Data and the reading of shards cost a training step, and how long a killed worker is missed.

    python benchmarks/training_on_ray.py RUN [--rounds 60] [--turn 2] [--global-batch 4] [--widen 6] [--without-kill]

RUN is a finished run folder of the preset tiny; stage 2 is trained on its samples by two CPU workers, from a new model of its tokenizer
that is wider than the tiny one, so that a sample is more work to learn than to make, as it is for the real ones. Two plain processes take
the steps with all batches in memory, and two with batches made as they go, from shards; Ray Train does as the latter, and hands the
figures to MLflow; where there are two cores more, Ray Data makes its batches on those. On two cores whoever makes batches takes the cores
that train.

All of them are started, and then take turns of a few steps, in an order that turns round; those whose turn it is not are stopped, with
all that belongs to them (SIGSTOP). So what the machine does at an hour falls on all alike. The first step of a turn does not count: in it
processes catch up with what their timers have missed. An overhead is the median over rounds of the ratio of a turn to that of another way
in the same round, with its 95 % interval (order statistics); a turn in which the machine was away for a while has no weight in it. The
ratio of all turns together is told beside it. At last a worker is killed half-way of a training.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import torch.multiprocessing as mp
from scipy import stats

from cg_data.progress import silent
from cg_train.batches import BatchMaker, SampleStore, prefetched
from cg_train.plan import make_plan
from cg_train.step import engine_config, make_engine, train_steps
from cg_train.tracking import TrackingSettings, metrics_journal
from cluster.config import ClusterSettings, RunConfig, read_preset, resolve_config

WORKERS, UNSTEADY = 2, 5
KEEP_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
"""For the processes of every way: glibc keeps what a step frees. Else each step takes and gives back some 60,000 pages of memory, and the
time for that, up to a tenth of the step, differs more from run to run than what is measured."""


def widened(run: str, config: RunConfig, factor: int, folder: str) -> RunConfig:
    """With an untrained model of RUN's tokenizer, `factor` times as wide as the tiny one, which is written into `folder`."""
    from transformers import AutoTokenizer

    from cg_train.model.build import build_tiny
    from cg_train.model.export import export_folder

    tiny = config.train.tiny
    wide = {name: getattr(tiny, name) * factor for name in type(tiny).model_fields if name.endswith(("hidden", "heads", "intermediate"))}
    tiny = tiny.model_copy(update=wide)
    model, processor = build_tiny(tiny, AutoTokenizer.from_pretrained(f"{run}/models/base"), config.data.page)
    export_folder(model, processor, folder, page=config.data.page, about={"trained": "nothing yet"})
    return config.model_copy(update={"train": config.train.model_copy(update={"tiny": tiny, "source": folder})})


def config_of(steps: int, global_batch: int, *, checkpoint_every: int) -> RunConfig:
    sets = {
        "steps": steps,
        "global_batch": global_batch,
        "batching.micro_batch": 1,
        "checkpoint_every": checkpoint_every,
        "validation": "null",  # the plain ways have none
    }
    return resolve_config(
        read_preset("tiny"), [f"train.compute.workers={WORKERS}", *(f"train.stage2.{name}={value}" for name, value in sets.items())]
    )


def plain_worker(rank: int, port: int, run: str, config: RunConfig, folder: Path, in_memory: bool) -> None:
    """Worker `rank` of a group without Ray; the first one journals its steps."""
    from cg_train.model.learner import load_learner

    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": WORKERS}
    os.environ |= {name: str(value) for name, value in names.items()}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORKERS)
    recipe, page, store = config.train.stage2, config.data.page, SampleStore([f"{run}/samples/synthetic"])
    learner = load_learner(config.train.source, recipe=recipe, settings=config.train, page=page, annotations_uri="", about={}, device="cpu")
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
    journal = metrics_journal(folder / "stage2", 0)
    for report in train_steps(engine, batches, declared=None):
        if rank == 0:
            journal.append({"step": report.step, "loss": report.loss, "seconds": report.seconds, "data_wait_s": report.data_wait_s})
    torch.distributed.destroy_process_group()


def plain(run: str, config: RunConfig, folder: Path, *, in_memory: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(plain_worker, (port, run, config, folder, in_memory), nprocs=WORKERS)


def on_ray(run: str, config: RunConfig, folder: Path, *, feed_actors: int = 0) -> None:
    """On a Ray of its own, with `feed_actors` for each worker."""
    from cg_train.job import Stage, train_stages
    from cluster.session import ray_session

    compute = config.train.compute.model_copy(update={"feed_actors": feed_actors})
    settings = config.train.model_copy(update={"compute": compute})

    stage = Stage(
        name="stage2",
        identity="0" * 16,
        recipe=config.train.stage2,
        model_from=config.train.source,
        out_folder=str(folder / "model"),
        about={},
        progress=silent,
    )
    tracking = TrackingSettings(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts_uri=(folder / "artifacts").as_uri())
    where = {"samples_uris": [f"{run}/samples/synthetic"], "annotations_uri": "", "tiny_folder": f"{run}/models/init"}
    with ray_session(ClusterSettings(local_cpus=int(WORKERS * compute.cpus_of_worker), object_store_mib=256), verbose=False):
        list(train_stages([stage], settings=settings, page=config.data.page, storage_folder=str(folder), tracking=tracking, **where))


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


class Way:
    """One way to train, in a process of its own that is stopped, with all that it started, when it is not its turn."""

    def __init__(self, name: str, train: Callable[..., None], *args: Any, folder: Path) -> None:
        self.name, self.journal = name, metrics_journal(folder / "stage2", 0)
        self._path = folder / "stage2" / "metrics-rank0.jsonl"
        self._process = mp.get_context("spawn").Process(target=train, args=(*args, folder))
        self.turns_s: list[float] = []
        self.spent_s: Counter[str] = Counter()

    def begin(self) -> None:
        """Take the steps before the first turn."""
        self._process.start()
        self._take(UNSTEADY)
        self._signal(signal.SIGSTOP)

    def turn(self, steps: int) -> None:
        self._signal(signal.SIGCONT)
        self._take(1)
        before, began = self._used(), time.perf_counter()
        self._take(steps)
        self.turns_s.append(time.perf_counter() - began)
        self._signal(signal.SIGSTOP)
        for (pid, name), seconds in self._used().items():
            self.spent_s[name] += seconds - before.get((pid, name), 0.0)

    def end(self) -> None:
        if self._process.is_alive():
            self._signal(signal.SIGKILL)
            self._process.join()

    def _take(self, steps: int) -> None:
        """Wait until the journal has so many lines more; its size is cheap to look at."""
        for _ in range(steps):
            size = self._size()
            while self._size() == size:
                if self._process.exitcode is not None:
                    raise SystemExit(f"{self.name}: ended too early, with exit code {self._process.exitcode}")
                time.sleep(0.004)

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0

    def _all(self) -> list[psutil.Process]:
        own = psutil.Process(self._process.pid)
        return [own, *own.children(recursive=True)]

    def _signal(self, number: signal.Signals) -> None:
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _used(self) -> dict[tuple[int, str], float]:
        """CPU seconds of each process so far."""
        used = {}
        for process in self._all():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid, "driver" if process.pid == self._process.pid else _name(process.cmdline())] = times.user + times.system
        return used

    def told(self, turn: int) -> str:
        """Median step, share of it spent in waiting for data, and who used how much of the processors."""
        waited_s = statistics.median(line["data_wait_s"] for line in self.journal.read()[UNSTEADY:])
        step_s, steps = statistics.median(self.turns_s) / turn, turn * len(self.turns_s)
        used = ", ".join(f"{name} {1e3 * spent / steps:.0f}" for name, spent in self.spent_s.most_common() if spent / steps > 1e-3)
        return f"{step_s:.3f} s a step, waiting for data {waited_s / step_s:.2%}; CPU ms a step: {used}"


def _name(command: list[str]) -> str:
    """Ray's workers by their class, the others by their program."""
    title = " ".join(command).strip()
    if title.startswith("ray::"):
        return title.removeprefix("ray::").split("(")[0].split(".")[0].split()[0]
    return next((Path(part).name for part in command if part.endswith(("gcs_server", "raylet", ".py"))), title[:20])


def overhead(these: Way, those: Way) -> str:
    """By how much a step of `these` is longer than one of `those`, round by round."""
    ratios = np.array(these.turns_s) / np.array(those.turns_s) - 1
    low, high = stats.quantile_test(ratios, p=0.5).confidence_interval(0.95)
    return f"{np.median(ratios):+.2%} ({low:+.2%} to {high:+.2%}; all together {sum(these.turns_s) / sum(those.turns_s) - 1:+.2%})"


def in_turns(run: str, config: RunConfig, place: Path, rounds: int, turn: int) -> None:
    ways = [
        Way("plain, in memory", functools.partial(plain, in_memory=True), run, config, folder=place / "memory"),
        Way("plain, from shards", functools.partial(plain, in_memory=False), run, config, folder=place / "shards"),
        Way("Ray Train", on_ray, run, config, folder=place / "train"),
    ]
    if len(os.sched_getaffinity(0)) >= 2 * WORKERS:
        ways.append(Way("Ray Train and Data", functools.partial(on_ray, feed_actors=1), run, config, folder=place / "data"))
    try:
        for way in ways:
            way.begin()
        for number in range(rounds):
            for way in ways[:: 1 if number % 2 == 0 else -1]:
                way.turn(turn)
    finally:
        for way in ways:
            way.end()
    losses = [[line["loss"] for line in way.journal.read()[: UNSTEADY + rounds * (1 + turn)]] for way in ways]
    for way in ways:
        sys.stdout.write(f"{way.name}: {way.told(turn)}\n")
    sys.stdout.write(f"losses {'equal' if all(one == losses[0] for one in losses) else 'DIFFER'}\n")
    for i, way in enumerate(ways):
        for bare in ways[: min(i, 2)]:
            sys.stdout.write(f"{way.name} over {bare.name}: {overhead(way, bare)}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--turn", type=int, default=2, help="steps of a turn that count")
    parser.add_argument("--global-batch", type=int, default=4)
    parser.add_argument("--widen", type=int, default=6, help="the model, by this factor")
    parser.add_argument("--without-kill", action="store_true")
    options = parser.parse_args()
    os.environ |= KEEP_MEMORY
    run, steps = str(Path(options.run).absolute()), UNSTEADY + options.rounds * (1 + options.turn) + 2
    with tempfile.TemporaryDirectory() as place:
        config = widened(run, config_of(steps, options.global_batch, checkpoint_every=steps), options.widen, f"{place}/wide")
        in_turns(run, config, Path(place), options.rounds, options.turn)
        if options.without_kill:
            return
        short = config_of(24, options.global_batch, checkpoint_every=10)
        train = short.train.model_copy(update={"source": config.train.source, "tiny": config.train.tiny})
        killer = Killer(Path(place, "killed"), 12)
        killer.start()
        on_ray(run, short.model_copy(update={"train": train}), Path(place, "killed"))
        killer.join(1)
    for what, seconds in killer.after_s.items():
        sys.stdout.write(f"{seconds:6.1f} s after the kill: {what}\n")


if __name__ == "__main__":
    main()
