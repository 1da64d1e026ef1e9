"""The run folder: what is in it, which steps are finished, and that one command at a time works on it."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cg_data import storage
from cg_data.errors import ConfigError, StorageError
from cg_data.records import content_id
from cluster.config import RunConfig, to_yaml

FORMAT = "cerebragloss-run-2"
"""Goes up when an older run folder can no longer be gone on with."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """What a step made: counts for the closing table, one key figure in words, and its products by name (paths inside the run folder)."""

    counts: dict[str, int]
    figure: str
    products: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FinishedStep:
    """A step that is done: the identity of its work, and of what it was given from outside the run folder."""

    name: str
    fingerprint: str
    inputs: str
    seconds: float
    result: StepResult


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """Places inside the run folder, all as URIs."""

    uri: str

    def at(self, *parts: str) -> str:
        return storage.join(self.uri, *parts)

    @property
    def path(self) -> Path:
        return storage.local_path(self.uri)

    def stored_config(self) -> dict[str, Any] | None:
        """The configuration of an earlier command on this folder, as a tree."""
        import yaml

        where = self.at("config.yaml")
        return yaml.safe_load(storage.read_bytes(where)) if storage.exists(where) else None

    def store_config(self, config: RunConfig) -> None:
        storage.write_bytes(self.at("config.yaml"), to_yaml(config).encode())

    def finished(self) -> dict[str, FinishedStep]:
        """Finished steps in the order in which they were finished.

        Raises:
            ConfigError: another version of the project made the folder.
        """
        if not storage.exists(self.at("run.json")):
            return {}
        run = storage.read_json(self.at("run.json"))
        if run["format"] != FORMAT:
            raise ConfigError(
                f"{self.uri}: made by another version ({run['format']}, this one writes {FORMAT}). Choose a new --run folder."
            )
        steps = run["steps"]
        return {s["name"]: FinishedStep(**{**s, "result": StepResult(**s["result"])}) for s in steps}

    def record(self, step: FinishedStep) -> None:
        """Add a finished step to run.json."""
        steps = {**self.finished(), step.name: step}
        products = {k: v for s in steps.values() for k, v in s.result.products.items()}
        storage.write_json(
            self.at("run.json"),
            {
                "format": FORMAT,
                "config": "config.yaml",
                "products": products,
                "steps": [dataclasses.asdict(s) for s in steps.values()],
            },
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one command; the lock goes with the process, also when it is killed.

        Raises:
            StorageError: another command is at work in the folder, or it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise storage.storage_error(self.uri, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                f"{self.uri}: another cg command is working in this run folder. Wait for it, or choose another --run."
            ) from None
        try:
            yield
        finally:
            os.close(handle)


def fingerprint(name: str, settings: Any, needs: list[str]) -> str:
    """Identity of a step's work: its settings and the identity of all that it builds on."""
    return content_id(name, settings, needs)


def check_unchanged(step: FinishedStep, expected: str, folder: RunFolder) -> None:
    """Refuse to mix products of two configurations in one folder.

    Raises:
        ConfigError: the finished step was made with other settings.
    """
    if step.fingerprint != expected:
        raise ConfigError(
            f"{folder.uri}: the finished step {step.name} was made with other settings, or by another version, than asked for now "
            f"(its own are in {folder.at('config.yaml')}). Give the same settings, or a new --run folder."
        )


def check_space(folder: RunFolder, need_bytes: int) -> None:
    """Refuse to start where the products cannot fit.

    Raises:
        StorageError: less free space than `need_bytes`.
    """
    free = shutil.disk_usage(folder.path).free
    if free < need_bytes:
        raise StorageError(
            f"{folder.uri}: {free / 2**20:.0f} MiB free, but this run needs about {need_bytes / 2**20:.0f} MiB. "
            "Free some space or choose another --run folder."
        )
