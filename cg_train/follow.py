"""MLflow follows the journals: what is in them and not there is filled in, now by a thread of the driver or later by a command, once.

Each training declares itself in its folder of journals. Whoever fills in asks MLflow which steps it holds of a figure and hands on what
comes after. A batch that arrived although its answer did not is sent again, and MLflow knows its figures by step, value and time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cg_data import storage
from cg_data.errors import StorageError
from cg_train.tracking import Journal, TrackingSettings, client_of, ensure_database, flattened, now_ms, quiet

_LOG = logging.getLogger(__name__)
_NOTE = "tracked.json"
_FOLLOWED = ("metrics-rank0.jsonl", "figures.jsonl", "system-*.jsonl")
"""Journals that MLflow gets. No two of them share the name of a figure."""
_KEY = "cerebragloss.key"
"""Tag by which a declared training is found in MLflow."""
_NO_FIGURES = {"step", "time_ms"}
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _PARAM_LENGTH = 1000, 100, 6000
"""The most that a tracking server takes."""
_BOUNDS = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""MLflow's own answer to a server that hangs is to try for a quarter of an hour."""
POLL_S, _LONGEST_PAUSE_S = 5.0, 60.0
PATIENCE_S = 15.0
"""How long the end of a training waits for MLflow: for one request that nobody answers, and a little more."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackedRun:
    """A training as it declares itself; `status` is one of MLflow's.

    `params` say what it is, `tags` what it was made with and from, `config` is the whole configuration, `artifacts` a folder to be kept.
    """

    key: str
    name: str
    started_ms: int
    status: str
    ended_ms: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    config: Mapping[str, Any]
    artifacts: str | None


@contextlib.contextmanager
def tracked(
    folder: Path, *, name: str, params: Mapping[str, Any], tags: Mapping[str, Any], config: Mapping[str, Any], artifacts: str | None = None
) -> Iterator[None]:
    """Declare what trains while the context lasts, with its journals in `folder`, and how it ended; touches nothing but that folder.

    A training that is continued is the same run. `params` and `tags` may be trees.

    Raises:
        StorageError: no space, no permission.
    """
    note = folder / _NOTE
    before = _read(note) if note.exists() else None
    run = TrackedRun(
        key=before.key if before else uuid.uuid4().hex,
        name=name,
        started_ms=before.started_ms if before else now_ms(),
        status="RUNNING",
        ended_ms=None,
        params={key: str(value)[:_PARAM_LENGTH] for key, value in flattened(params).items()},
        tags={key: str(value)[:_PARAM_LENGTH] for key, value in flattened(tags).items()},
        config=config,
        artifacts=artifacts,
    )
    _write(note, run)
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    finally:
        _write(note, dataclasses.replace(run, status=status, ended_ms=now_ms()))


def _read(note: Path) -> TrackedRun:
    return TrackedRun(**storage.read_json(str(note)))


def _write(note: Path, run: TrackedRun) -> None:
    storage.write_json(str(note), dataclasses.asdict(run))


def run_ids_of(client: Any, experiment_id: str, folder: Path) -> list[str]:
    """The id of the MLflow run of the training that declared itself in `folder`; none where it did not, or MLflow has not heard yet."""
    note = folder / _NOTE
    return [run.info.run_id for run in _runs_of(client, experiment_id, _read(note))][:1] if note.exists() else []


def _runs_of(client: Any, experiment_id: str, run: TrackedRun) -> list[Any]:
    return sorted(client.search_runs([experiment_id], f"tags.`{_KEY}` = '{run.key}'"), key=lambda one: one.info.run_id)


class Filler:
    """Fills MLflow from all declared trainings below `root`. What MLflow holds is asked once: after a failure, take a new one."""

    def __init__(self, tracking: TrackingSettings, root: Path) -> None:
        self._tracking, self._root = tracking, root
        self._client: Any = None
        self._experiment_id = ""
        self._mirrors: dict[str, _Mirror] = {}

    def fill(self) -> dict[str, int]:
        """How many figures were missing and are there now, by the name of the training."""
        if self._client is None:
            self._experiment_id = ensure_database(self._tracking)
            self._client = client_of(self._tracking)
        filled = {}
        for note in sorted(self._root.glob(f"*/{_NOTE}")):
            run = _read(note)
            if run.key not in self._mirrors:
                self._mirrors[run.key] = _Mirror(self._client, self._experiment_id, run)
            filled[run.name] = self._mirrors[run.key].fill(run, note.parent)
        return filled


class _Mirror:
    """One training and the MLflow run that is to become equal to it."""

    def __init__(self, client: Any, experiment_id: str, run: TrackedRun) -> None:
        self._client = client
        found = _runs_of(client, experiment_id, run)
        for doubled in found[1:]:  # made by a request whose answer did not come
            client.delete_run(doubled.info.run_id)
        self._held = (
            client.get_run(found[0].info.run_id)
            if found
            else client.create_run(experiment_id, start_time=run.started_ms, run_name=run.name, tags={_KEY: run.key})
        )
        self._id = self._held.info.run_id
        self._status = self._held.info.status
        self._steps = {metric.key: metric.step for metric in self._held.to_proto().data.metrics}
        self._read: dict[Path, int] = {}
        self._described: TrackedRun | None = None

    def fill(self, run: TrackedRun, folder: Path) -> int:
        """Figures first: what else there is to say needs a store of files, which may fail by itself."""
        description = dataclasses.replace(run, status="", ended_ms=None)
        if description != self._described:
            self._describe(run)
        paths = [path for pattern in _FOLLOWED for path in sorted(folder.glob(pattern))]
        filled = sum(self._follow(path) for path in paths)
        if description != self._described:
            self._client.log_dict(self._id, dict(run.config), "config.json")
            self._described = description
        if run.status != self._status:
            self._end(run)
        return filled

    def _describe(self, run: TrackedRun) -> None:
        """Parameters stay what they were when the training began, as MLflow wants it; tags are of the last continuation."""
        from mlflow.entities import Param, RunTag

        params = [Param(key, value) for key, value in run.params.items() if key not in self._held.data.params]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(self._id, params=params[start : start + _PARAMS_AT_ONCE])
        self._client.log_batch(self._id, tags=[RunTag(key, value) for key, value in run.tags.items()])

    def _follow(self, path: Path) -> int:
        """Hand on the numbers of new lines that MLflow does not hold of that step or a later one."""
        from mlflow.entities import Metric

        lines = Journal(path).read_after(self._read.get(path, -1))
        missing = [
            Metric(name, float(value), line["time_ms"], line["step"])
            for line in lines
            for name, value in line.items()
            if name not in _NO_FIGURES and _is_number(value) and line["step"] > self._steps.get(name, -1)
        ]
        for start in range(0, len(missing), _METRICS_AT_ONCE):
            self._client.log_batch(self._id, metrics=missing[start : start + _METRICS_AT_ONCE])
        self._steps |= {metric.key: metric.step for metric in missing}
        if lines:
            self._read[path] = lines[-1]["step"]
        return len(missing)

    def _end(self, run: TrackedRun) -> None:
        if run.status == "RUNNING":
            self._client.update_run(self._id, status=run.status)
        else:
            if run.artifacts is not None and Path(run.artifacts).exists():
                self._client.log_artifacts(self._id, run.artifacts, Path(run.artifacts).name)
            self._client.set_terminated(self._id, run.status, run.ended_ms)
        self._status = run.status


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """MLflow gives up early on a server that does not answer; a user's own bounds stand."""
    mine = {name: value for name, value in _BOUNDS.items() if name not in os.environ}
    os.environ |= mine
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)


def fill_now(tracking: TrackingSettings, root: Path) -> dict[str, int]:
    """Fill in all that MLflow lacks of the trainings below `root`; figures written, by the name of the training.

    Raises:
        StorageError: MLflow cannot be written.
    """
    with _bounded(), answering(tracking):
        return Filler(tracking, root).fill()


@contextlib.contextmanager
def answering(tracking: TrackingSettings) -> Iterator[None]:
    """For work that cannot do without MLflow.

    Raises:
        StorageError: MLflow failed.
    """
    quiet()
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise StorageError(
            f"MLflow at {tracking.uri} cannot be used ({_reason(error)}). Start it or set tracking.uri, then run the same command again."
        ) from error


def _reason(error: BaseException) -> str:
    """The innermost cause in one line: what is wrapped around it holds whole SQL statements."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


class Following:
    """A thread that fills MLflow while trainings below `root` go on. Whatever MLflow does wrong is logged once each time that it begins.

    Leaving waits `PATIENCE_S` at most; what is missing then is filled in by the next one on this folder or by `fill_now`.
    """

    def __init__(self, tracking: TrackingSettings, root: Path) -> None:
        self._tracking, self._root = tracking, root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="MLflow", daemon=True)
        self._bounds = _bounded()
        self._failing = False

    def __enter__(self) -> None:
        self._bounds.__enter__()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        self._bounds.__exit__(None, None, None)
        if self._thread.is_alive():
            self._warn("it does not answer")

    def _follow(self) -> None:
        filler, pause_s = Filler(self._tracking, self._root), POLL_S
        while True:
            last = self._stop.is_set()
            try:
                filler.fill()
                self._failing, pause_s = False, POLL_S
            except Exception as error:  # noqa: BLE001 - whatever fails in the tracking store, training must not
                self._warn(_reason(error))
                filler, pause_s = Filler(self._tracking, self._root), min(2 * pause_s, _LONGEST_PAUSE_S)
            if last:
                return
            self._stop.wait(pause_s)

    def _warn(self, reason: str) -> None:
        if not self._failing:
            _LOG.warning(
                "MLflow at %s cannot be written (%s): training goes on without it, and what it misses is filled in when it is back, "
                "at the latest by `cg train track` on this run folder.",
                self._tracking.uri,
                reason,
            )
        self._failing = True
