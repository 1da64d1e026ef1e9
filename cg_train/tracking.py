"""What a run leaves behind: a journal of every worker on disk, and MLflow, which follows it.

The journals are the source of truth. Workers never talk to MLflow: `cg_train.follow` reads the journals in the driver and fills in what is
missing there, so a tracking server that is slow or gone costs training nothing, and a database file has one writer.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cg_data import storage

CHAMPION = "champion"
"""Alias of the model version that the service loads."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackingSettings:
    """Where MLflow keeps its records: `uri` of the store (``sqlite:////abs/mlflow.db`` or a server), `artifacts_uri` of the files.

    `config` is the whole resolved configuration, kept beside each run; `system_every_s` is how often a node's CPU, memory, network and
    GPUs are looked at, None for never.
    """

    uri: str
    artifacts_uri: str
    experiment: str = "cerebragloss"
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    system_every_s: float | None = None


class Journal:
    """A file of one JSON object per line, each with its step; a line is on disk before the next step begins."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, line: Mapping[str, Any]) -> None:
        """Raises:
        StorageError: no space, no permission.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise storage.storage_error(str(self._path), error) from error

    def cut(self, last_step: int) -> None:
        """Drop what lies after `last_step`, and a line that was cut short: training goes on from there and writes it again."""
        if self._path.exists():
            kept = [json.dumps(line) + "\n" for line in self.read() if line["step"] <= last_step]
            storage.write_bytes(str(self._path), "".join(kept).encode())

    def read(self) -> list[dict[str, Any]]:
        """All complete lines; none of a journal that is not there."""
        return self._from_end(lambda lines: False)

    def last(self) -> dict[str, Any] | None:
        """The newest complete line, if there is one."""
        lines = self._from_end(bool)
        return lines[-1] if lines else None

    def read_after(self, step: int) -> list[dict[str, Any]]:
        """Complete lines of later steps."""
        lines = self._from_end(lambda lines: bool(lines) and lines[0]["step"] <= step)
        return [line for line in lines if line["step"] > step]

    def _from_end(self, enough: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Complete lines from the end back to where they are enough: it costs what is new, and no offset is wrong after a cut."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            size, block = stream.seek(0, os.SEEK_END), 1 << 16
            while True:
                start = max(0, size - block)
                stream.seek(start)
                whole = stream.read(size - start).rpartition(b"\n")[0].splitlines()
                lines = [json.loads(line) for line in whole[1 if start else 0 :]]
                if not start or enough(lines):
                    return lines
                block *= 4


def metrics_journal(folder: Path, rank: int) -> Journal:
    """Figures of every step as worker `rank` saw them."""
    return Journal(folder / f"metrics-rank{rank}.jsonl")


def figures_journal(folder: Path) -> Journal:
    """Final figures of a training, as one line of step 0."""
    return Journal(folder / "figures.jsonl")


def system_journal(folder: Path, node: str) -> Journal:
    """What the machine `node` was doing, under the names of MLflow's system metrics."""
    return Journal(folder / f"system-{node}.jsonl")


def now_ms() -> int:
    """Milliseconds since 1970, as lines that MLflow gets carry them (`time_ms`): it knows a figure that it has already by them."""
    return time.time_ns() // 10**6


def progress_journal(folder: Path) -> Journal:
    """How far worker 0 is, where its figures come less often than its steps."""
    return Journal(folder / "progress-rank0.jsonl")


def ledger(folder: Path, rank: int) -> Journal:
    """Ids of the samples that worker `rank` consumed, step by step."""
    return Journal(folder / f"ledger-rank{rank}.jsonl")


def journals_from(folder: Path, rank: int) -> list[Journal]:
    """Figures and ledgers that are there of worker `rank` and of those after it."""
    found = [path for kind in ("metrics", "ledger") for path in sorted(folder.glob(f"{kind}-rank*.jsonl"))]
    return [Journal(path) for path in found if int(path.stem.rpartition("rank")[2]) >= rank]


def quiet() -> None:
    """Keep MLflow from calling home and from talking; call before it is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # what fails is raised as well, and told once
    logging.getLogger("alembic").setLevel(logging.WARNING)


def ensure_database(tracking: TrackingSettings) -> str:
    """Create the store and the experiment if need be; returns the experiment's id."""
    client = client_of(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    return str(client.create_experiment(tracking.experiment, artifact_location=tracking.artifacts_uri))


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings as one level of dotted names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flattened(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def register_champion(
    tracking: TrackingSettings, *, name: str, folder: Path, fingerprint: str, metrics: Mapping[str, float], config: Mapping[str, Any]
) -> str:
    """Make the Hugging Face folder the champion: artifacts under a run, a model version of them, and the alias `CHAMPION` on it.

    A champion that already has this `fingerprint` (the caller's content hash of the model) is kept, so a repeated call changes nothing.

    Returns:
        The version number.
    """
    experiment_id = ensure_database(tracking)
    client = client_of(tracking)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    held = client.get_registered_model(name).aliases.get(CHAMPION)
    if held is not None and client.get_model_version(name, held).tags.get("fingerprint") == fingerprint:
        return str(held)
    run = client.create_run(experiment_id, run_name=CHAMPION)
    client.log_artifacts(run.info.run_id, str(folder), "model")
    client.log_dict(run.info.run_id, dict(config), "config.json")
    for key, value in metrics.items():
        client.log_metric(run.info.run_id, key, value)
    client.set_terminated(run.info.run_id, "FINISHED")
    source = f"{run.info.artifact_uri}/model"
    version = client.create_model_version(name, source=source, run_id=run.info.run_id, tags={"fingerprint": fingerprint}).version
    client.set_registered_model_alias(name, CHAMPION, version)
    return str(version)


def champion_folder(tracking: TrackingSettings, *, name: str) -> Path:
    """The local folder of the champion's artifacts."""
    quiet()
    import mlflow

    mlflow.set_tracking_uri(tracking.uri)
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}@{CHAMPION}"))


def client_of(tracking: TrackingSettings) -> Any:
    """MLflow's client; importing it takes seconds."""
    quiet()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking.uri, registry_uri=tracking.uri)
