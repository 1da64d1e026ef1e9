"""What Ray Train, Ray Data and the reading of shards cost a training step, and how long a killed worker is missed.

    python benchmarks/training_on_ray.py RUN [--steps 24] [--global-batch 8] [--widen 4] [--rounds 5] [--without-kill]

RUN is a finished run folder of the preset tiny; stage 2 is trained on its samples by two CPU workers, from a new model of its tokenizer
that is wider than the tiny one, so that a sample is more work to learn than to make, as it is for the real ones. Two plain processes take
the steps with all batches in memory, and with batches made as they go, from shards; Ray Train does as the latter, journals, and hands the
figures to MLflow; where there are two cores more, Ray Data makes its batches on those. They take turns, in an order that turns round, and
of each the median of the steps after the first five counts. On two cores whoever makes batches takes the cores that train.

Overheads are means over rounds of the ratio to the plain steps of the same round, with a 95 % interval (Student) of that mean; CPU seconds
of the processes beside the workers need no idle machine. At last a worker is killed half-way. A round takes about four minutes.
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
Lines = list[dict[str, Any]]


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
    lines = []
    for report in train_steps(engine, batches, declared=None):
        lines.append({"loss": report.loss, "seconds": report.seconds, "data_wait_s": report.data_wait_s})
    if rank == 0:
        Path(told).write_text(json.dumps(lines))
    torch.distributed.destroy_process_group()


def plain(run: str, config: RunConfig, *, in_memory: bool) -> Lines:
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        mp.spawn(plain_worker, (port, run, config, f"{folder}/steps.json", in_memory), nprocs=WORKERS)
        lines: Lines = json.loads(Path(folder, "steps.json").read_text())
    return lines


def on_ray(run: str, config: RunConfig, folder: Path, *, feed_actors: int = 0) -> Lines:
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


class Beside(threading.Thread):
    """CPU seconds of a training's processes from the first steady step to the last but one, by what they are."""

    def __init__(self, folder: Path, steps: int) -> None:
        super().__init__(daemon=True)
        self._journal, self._bounds = metrics_journal(folder / "stage2", 0), (UNSTEADY, steps - 1)
        self.spent_s: Counter[str] = Counter()
        self.steps = 0

    def run(self) -> None:
        first, before = self._at(self._bounds[0])
        last, after = self._at(self._bounds[1])
        self.steps = last - first
        for (pid, name), seconds in after.items():
            self.spent_s[name] += seconds - before.get((pid, name), 0.0)

    def _at(self, step: int) -> tuple[int, dict[tuple[int, str], float]]:
        while (now := len(self._journal.read())) < step:
            time.sleep(0.5)
        own, used = psutil.Process(), {}
        for process in [own, *own.children(recursive=True)]:
            try:
                name = "driver" if process == own else _name(process.cmdline())
                times = process.cpu_times()
            except psutil.Error:
                continue
            used[process.pid, name] = times.user + times.system
        return now, used

    def told(self) -> str:
        mine = {name: f"{1e3 * seconds / self.steps:.0f}" for name, seconds in self.spent_s.most_common() if seconds / self.steps > 1e-3}
        beside = sum(seconds for name, seconds in self.spent_s.items() if name not in ("RayTrainWorker", "MapWorker"))
        return f"CPU ms a step beside workers and actors {1e3 * beside / self.steps:.0f}; " + ", ".join(
            f"{n} {ms}" for n, ms in mine.items()
        )


def _name(command: list[str]) -> str:
    """Ray's workers by their class, the others by their program."""
    title = " ".join(command).strip()
    if title.startswith("ray::"):
        return title.removeprefix("ray::").split("(")[0].split(".")[0].split()[0]
    return next((Path(part).name for part in command if part.endswith(("gcs_server", "raylet", ".py"))), title[:20])


def median_s(lines: Lines) -> float:
    return statistics.median(line["seconds"] for line in lines[UNSTEADY:])


def waited(lines: Lines) -> float:
    """Share of the time in which worker 0 waited for data."""
    steady = lines[UNSTEADY:]
    return sum(line["data_wait_s"] for line in steady) / sum(line["seconds"] for line in steady)


def overhead(these: list[Lines], those: list[Lines]) -> str:
    """By how much a step of `these` is longer than one of `those`, round by round."""
    ratios = np.array([median_s(a) / median_s(b) - 1 for a, b in zip(these, those, strict=True)])
    apart = stats.t.ppf(0.975, len(ratios) - 1) * ratios.std(ddof=1) / len(ratios) ** 0.5 if len(ratios) > 1 else float("nan")
    return f"{ratios.mean():+.1%} +- {apart:.1%} (rounds {', '.join(f'{ratio:+.1%}' for ratio in ratios)})"


def in_turns(run: str, config: RunConfig, place: Path, rounds: int) -> dict[str, list[Lines]]:
    """Of each way to train the steps of every round."""
    steps = config.train.stage2.steps or 0

    def ray(turn: int, feed_actors: int) -> Lines:
        folder = place / f"{turn}-{feed_actors}"
        beside = Beside(folder, steps)
        beside.start()
        lines = on_ray(run, config, folder, feed_actors=feed_actors)
        beside.join()
        sys.stdout.write(f"  {beside.told()}\n")
        return lines

    ways: dict[str, Callable[[int], Lines]] = {
        "plain, in memory": lambda turn: plain(run, config, in_memory=True),
        "plain, from shards": lambda turn: plain(run, config, in_memory=False),
        "Ray Train": lambda turn: ray(turn, 0),
    }
    if len(os.sched_getaffinity(0)) >= 2 * WORKERS:
        ways["Ray Train and Data"] = lambda turn: ray(turn, 1)
    done: dict[str, list[Lines]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in [*ways][:: 1 if turn % 2 == 0 else -1]:
            lines = ways[name](turn)
            done[name].append(lines)
            sys.stdout.write(f"round {turn + 1}, {name}: {median_s(lines):.3f} s a step, waiting for data {waited(lines):.2%}\n")
            sys.stdout.flush()
        losses = [[line["loss"] for line in lines[turn]] for lines in done.values()]
        sys.stdout.write(f"round {turn + 1}: losses {'equal' if all(one == losses[0] for one in losses) else 'DIFFER'}\n")
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--global-batch", type=int, default=8)
    parser.add_argument("--widen", type=int, default=4, help="the model, by this factor")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-kill", action="store_true")
    options = parser.parse_args()
    run, config = str(Path(options.run).absolute()), config_of(options.steps, options.global_batch)
    with tempfile.TemporaryDirectory() as place:
        config = widened(run, config, options.widen, f"{place}/wide")
        done = in_turns(run, config, Path(place), options.rounds)
        for name in done:
            for bare in ("plain, in memory", "plain, from shards"):
                if name != bare:
                    sys.stdout.write(f"{name} over {bare}: {overhead(done[name], done[bare])}\n")
        if options.without_kill:
            return
        killer = Killer(Path(place, "killed"), options.steps // 2)
        killer.start()
        on_ray(run, config, Path(place, "killed"))
        killer.join(1)
    for what, seconds in killer.after_s.items():
        sys.stdout.write(f"{seconds:6.1f} s after the kill: {what}\n")


if __name__ == "__main__":
    main()
