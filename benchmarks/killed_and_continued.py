"""Kills `cg run` with SIGKILL once in every step, starts it again each time, and compares what it leaves with an undisturbed run.

    python benchmarks/killed_and_continued.py FOLDER

The road is the whole one of the preset tiny, with less data and fewer steps. FOLDER gets `undisturbed/` and `killed/`. Exit code 1 where
the products differ.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from mlflow import MlflowClient

from cluster.config import read_preset, resolve_config
from cluster.pipeline import Step
from cluster.road import road_of

SMALL = [
    "data.synthetic.subjects=10",
    "data.synthetic.minutes_per_subject=1",
    "train.detector.epochs=3",
    *(f"train.{stage}.steps=8" for stage in ("sight", "base", "stage1", "stage2")),
    *(f"train.{stage}.checkpoint_every=2" for stage in ("sight", "base", "stage1", "stage2")),
    "evaluate.description_segments=2",
    "evaluate.max_new_tokens=16",
    "evaluate.resamples=200",
]
SEED = 1
_OF_THIS_RUN = ("run.json", ".lock", "mlflow.db", "mlartifacts", "train", "report.html", "recordings")
"""What holds times, places, run identifiers or Ray's own bookkeeping. run.json, journals, MLflow and the register of recordings (which
knows files by place and time) are compared by what they say."""


def start(folder: Path) -> subprocess.Popen[str]:
    sets = [word for value in SMALL for word in ("--set", value)]
    command = [str(Path(sys.executable).with_name("cg")), "run", "--preset", "tiny", "--run", str(folder), *sets]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(folder: Path) -> float:
    """Run to the end; seconds that all steps took."""
    process = start(folder)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"cg run ended with {process.returncode}:\n{said}")
    return sum(step["seconds"] for step in steps_of(folder))


def steps_of(folder: Path) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads((folder / "run.json").read_text())["steps"]
    return steps


def kill_in(step: Step, after_s: float, folder: Path) -> str:
    """Start the run and kill it so long after `step` began; what was finished by then."""
    process = start(folder)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"{step.title} ..."):
            threading.Timer(after_s, process.kill).start()
    process.wait()
    return steps_of(folder)[-1]["name"] if (folder / "run.json").exists() else "nothing"


def products(folder: Path) -> dict[str, str]:
    """Hash of every file that a run leaves, by its place, but for `_OF_THIS_RUN`."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    named = {str(path.relative_to(folder)): path for path in files}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in named.items() if not name.startswith(_OF_THIS_RUN)}


def said_in_run_json(folder: Path) -> list[dict[str, Any]]:
    """Steps without their times and without the run folder's own name."""
    return [{k: str(v).replace(str(folder), "") for k, v in step.items() if k != "seconds"} for step in steps_of(folder)]


def journals(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Lines of every journal of training (figures of every step, samples consumed at every step) without their times."""
    return {
        str(path.relative_to(folder)): [_of_the_work(json.loads(line)) for line in path.read_text().splitlines()]
        for path in sorted((folder / "train").glob("*/*.jsonl"))
    }


def registered(folder: Path) -> list[str]:
    """What was found in each recording, whatever the keys of their files."""
    rows = [row for path in (folder / "recordings").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return sorted(str({name: value for name, value in row.items() if name != "key"}) for row in rows)


def tracked(folder: Path) -> dict[str, Any]:
    """What MLflow holds of each run: its state, parameters and figures."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    said = [
        (
            str(run.info.run_name),
            run.info.status,
            {k: v.replace(str(folder), "") for k, v in run.data.params.items()},
            _figures(client, run),
        )
        for run in runs
    ]
    return {f"{name} {number}": rest for number, (name, *rest) in enumerate(sorted(said, key=str))}


def _figures(client: MlflowClient, run: Any) -> dict[str, list[tuple[int, float]]]:
    keys = sorted(_of_the_work(run.data.metrics))
    return {key: sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)) for key in keys}


def _of_the_work(figures: dict[str, Any]) -> dict[str, Any]:
    """Without what the machine decides: times, memory, what else it did."""
    by_machine = ("seconds", "time_ms", "memory_bytes")
    return {
        key: value for key, value in figures.items() if key not in by_machine and not key.endswith("_s") and not key.startswith("system/")
    }


def differences(undisturbed: Path, killed: Path) -> list[str]:
    found = ["run.json"] * (said_in_run_json(undisturbed) != said_in_run_json(killed))
    found += ["recordings"] * (registered(undisturbed) != registered(killed))
    for look in (products, journals, tracked):
        ours, theirs = look(undisturbed), look(killed)
        found += [f"{look.__name__}: {name}" for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    return found


def main(folder: Path) -> int:
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    say = sys.stdout.write
    say(f"undisturbed: {finish(undisturbed):.0f} s\n")
    seconds = {step["name"]: step["seconds"] for step in steps_of(undisturbed)}
    chance = random.Random(SEED)
    for step in road_of(resolve_config(read_preset("tiny"), SMALL)):
        after_s = seconds[step.name] * chance.uniform(0.1, 0.9)
        say(f"killed {after_s:.1f} s after the start of {step.name}; finished before: {kill_in(step, after_s, killed)}\n")
        sys.stdout.flush()
    finish(killed)
    found = differences(undisturbed, killed)
    say(f"{len(products(undisturbed))} files compared. " + ("They are equal.\n" if not found else f"Different: {', '.join(found)}\n"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
