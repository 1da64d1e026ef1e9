"""What a run leaves behind: a journal of every worker on disk, and MLflow, which follows it.

The journals are the source of truth. Workers never talk to MLflow: the driver reads the journal of worker 0 and hands its figures on, so a
tracking server that is slow or gone costs training nothing, and a database file has one writer.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cg_data import storage

_LOG = logging.getLogger(__name__)
CHAMPION = "champion"
"""Alias of the model version that the service loads."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackingSettings:
    """Where MLflow keeps its records: `uri` of the store (``sqlite:////abs/mlflow.db`` or a server), `artifacts_uri` of the files."""

    uri: str
    artifacts_uri: str
    experiment: str = "cerebragloss"


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
        return self.read_from(0)[0]

    def read_from(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Complete lines from byte `offset` on, and the offset after them; from the start if the file has become shorter."""
        if not self._path.exists():
            return [], 0
        with self._path.open("rb") as stream:
            start = offset if offset <= stream.seek(0, os.SEEK_END) else 0
            stream.seek(start)
            whole, newline, _ = stream.read().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()], start + len(whole) + len(newline)


def metrics_journal(folder: Path, rank: int) -> Journal:
    """Figures of every step as worker `rank` saw them."""
    return Journal(folder / f"metrics-rank{rank}.jsonl")


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
    """Create the store and the experiment if need be, once, before several processes would; returns the experiment's id."""
    client = _client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    return str(client.create_experiment(tracking.experiment, artifact_location=tracking.artifacts_uri))


class Tracker:
    """One MLflow run that follows a training. Whatever MLflow does wrong is logged once, and training goes on without it.

    The run's id is kept in `folder`, so a training that is continued goes on in the same run.
    """

    def __init__(self, tracking: TrackingSettings, *, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        self._tracking, self._folder, self._name, self._config = tracking, folder, name, config
        self._client: Any = None
        self._run_id = ""
        self._logged = 0
        self._alive = True

    def log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Log the numbers of journal lines, each at its step; steps that are there already are passed over."""
        self._attempt(lambda: self._log(lines))

    def keep(self, figures: Mapping[str, float], folder: Path) -> None:
        """Log final figures, and the files of `folder` as artefacts."""
        self._attempt(lambda: self._keep(figures, folder))

    def finish(self, status: str) -> None:
        """`status` is ``FINISHED`` or ``FAILED``."""
        self._attempt(lambda: self._open().set_terminated(self._run_id, status))

    def _attempt(self, work: Callable[[], None]) -> None:
        if not self._alive:
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever fails in the tracking store, training must not
            self._alive = False
            reason: BaseException = error
            while reason.__cause__ is not None:  # what is wrapped around it holds whole SQL statements
                reason = reason.__cause__
            _LOG.warning("MLflow at %s failed, training goes on without it: %s", self._tracking.uri, reason)

    def _open(self) -> Any:
        if self._client is None:
            experiment_id = ensure_database(self._tracking)
            client = _client(self._tracking)
            note = self._folder / "tracking.json"
            if note.exists():
                self._run_id = storage.read_json(str(note))["run_id"]
                keys = client.get_run(self._run_id).data.metrics
                steps = [metric.step for key in keys for metric in client.get_metric_history(self._run_id, key)]
                self._logged = max(steps, default=0)
            else:
                self._run_id = client.create_run(experiment_id, run_name=self._name).info.run_id
                storage.write_json(str(note), {"run_id": self._run_id})
                self._describe(client)
            self._client = client
        return self._client

    def _describe(self, client: Any) -> None:
        from mlflow.entities import Param

        params = [Param(key, str(value)[:6000]) for key, value in flattened(self._config).items()]
        client.log_batch(self._run_id, params=params)
        client.log_dict(self._run_id, dict(self._config), "config.json")

    def _log(self, lines: Sequence[Mapping[str, Any]]) -> None:
        client = self._open()
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        fresh = [line for line in lines if line["step"] > self._logged]
        metrics = [Metric(key, float(v), now_ms, line["step"]) for line in fresh for key, v in line.items() if key != "step" and _number(v)]
        for start in range(0, len(metrics), 1000):  # the most that a tracking server takes at once
            client.log_batch(self._run_id, metrics=metrics[start : start + 1000])
        self._logged = max((line["step"] for line in fresh), default=self._logged)

    def _keep(self, figures: Mapping[str, float], folder: Path) -> None:
        client = self._open()
        for name, value in figures.items():
            client.log_metric(self._run_id, name, value)
        client.log_artifacts(self._run_id, str(folder), folder.name)


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
    client = _client(tracking)
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


def _client(tracking: TrackingSettings) -> Any:
    quiet()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking.uri, registry_uri=tracking.uri)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
