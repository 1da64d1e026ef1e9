"""Ablations of a run: what each changes, where it lies, and what of the run it can take as it is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from cg_data import storage
from cg_data.errors import ConfigError
from cg_data.settings import Settings
from cluster.config import RunConfig, nearest, read_preset, resolve_config
from cluster.pipeline import Step, fingerprints
from cluster.road import road_of
from cluster.runfolder import RunFolder

BASE = "base"
"""The run itself among its ablations."""
ERROR = "error.txt"
"""In the folder of a trial that failed: a line that says why, and all that was raised."""
_LAST = "bench"


class Ablation(Settings):
    """One change of a run's training and of nothing else, so that all learn from the same data and are asked the same questions."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$", description="of its folder and its row in the table")
    about: str = Field(min_length=1, description="what it changes, in words")
    preset: str = Field(default="", description="take the training settings of this preset, but not its detector and compute")
    sets: tuple[str, ...] = Field(default=(), description="then set these, written as for --set")

    @field_validator("name")
    @classmethod
    def _is_not_the_run(cls, name: str) -> str:
        if name == BASE:
            raise ValueError(f"{BASE} is the run itself. Choose another name")
        return name

    @field_validator("sets")
    @classmethod
    def _sets_training_alone(cls, sets: tuple[str, ...]) -> tuple[str, ...]:
        for text in sets:
            if not text.startswith("train.") or text.startswith("train.detector"):
                raise ValueError(f"{text} changes more than the training of the model. Ablations set keys of train, but the detector's")
        return sets

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.preset and not self.sets:
            raise ValueError(f"{self.name} changes nothing. Give preset or sets")
        return self

    def applied(self, config: RunConfig) -> RunConfig:
        """`config` with this change.

        Raises:
            ConfigError: the change is not one of this configuration.
        """
        tree = config.model_dump(mode="json")
        if self.preset:
            tree["train"] = {**read_preset(self.preset)["train"], **{name: tree["train"][name] for name in ("detector", "compute")}}
        try:
            return resolve_config(tree, list(self.sets))
        except ConfigError as error:
            raise ConfigError(f"ablation {self.name}: {error}") from None


class Sweep(Settings):
    """Ablations that are compared with a run and with each other."""

    ablations: tuple[Ablation, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [one.name for one in self.ablations]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two ablations are named {twice[0]}. Rename one")
        return self

    def only(self, names: Sequence[str]) -> tuple[Ablation, ...]:
        """The ablations of `names`, all for none, in the order of the sweep.

        Raises:
            ConfigError: there is no such ablation.
        """
        known = [one.name for one in self.ablations]
        for name in names:
            if name not in known:
                raise ConfigError(f"--only: no ablation is named {name!r}{nearest(name, known)} There are {', '.join(known)}.")
        return tuple(one for one in self.ablations if not names or one.name in names)


def sweep_names() -> list[str]:
    return sorted(Path(p.name).stem for p in resources.files("cluster").joinpath("sweeps").iterdir() if p.name.endswith(".yaml"))


def read_sweep(name: str) -> Sweep:
    """The sweep `name` of this project, or the YAML file of that path.

    Raises:
        ConfigError: there is none, or it is not a sweep.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ConfigError(f"--sweep {name}: no such file.")
        text = Path(name).read_text()
    elif name in sweep_names():
        text = resources.files("cluster").joinpath("sweeps", f"{name}.yaml").read_text()
    else:
        raise ConfigError(f"unknown sweep {name!r}{nearest(name, sweep_names())} Known sweeps: {', '.join(sweep_names())}.")
    try:
        return Sweep.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML ({' '.join(str(error).split())}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{name}: {where or 'sweep'}: {first['msg'].removeprefix('Value error, ')}.") from None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """An ablation with its configuration and its run folder; `base` is the folder of the run that it is an ablation of."""

    name: str
    about: str
    sets: tuple[str, ...]
    config: RunConfig
    folder: RunFolder
    base: RunFolder

    def steps(self) -> list[Step]:
        """The steps from the data to the bench."""
        road = road_of(self.config)
        return road[: [step.name for step in road].index(_LAST) + 1]

    def is_done(self) -> bool:
        """Whether the bench of this very trial is finished."""
        done = self.folder.finished().get(_LAST)
        return done is not None and done.fingerprint == fingerprints(road_of(self.config), self.config)[_LAST]

    def failure(self) -> str:
        """Why its last try failed; empty where it did not."""
        told = self.folder.at(ERROR)
        return storage.read_bytes(told).decode().partition("\n")[0] if storage.exists(told) else ""


def trial_of(ablation: Ablation, config: RunConfig, base: RunFolder, tracking_uri: str) -> Trial:
    """The trial of `ablation` below the run folder `base`; it is followed in the run's MLflow.

    Raises:
        ConfigError: the change is not one of this configuration.
    """
    changed = ablation.applied(config)
    tracking = changed.tracking.model_copy(update={"uri": tracking_uri})
    return Trial(
        name=ablation.name,
        about=ablation.about,
        sets=(*((f"preset={ablation.preset}",) if ablation.preset else ()), *ablation.sets),
        config=changed.model_copy(update={"tracking": tracking}),
        folder=RunFolder(uri=base.at("sweep", ablation.name)),
        base=base,
    )


def share(trial: Trial) -> None:
    """Let the trial's folder refer to what the run has finished of the same work: data and detector always, stages that are alike too.

    Places are symbolic links, so that the folder is a run folder like any other, and nothing is copied.
    """
    for link in _links(trial.folder.path):  # of an earlier sweep, which may have shared more; a step clears its places before it begins
        link.unlink()
    marks, finished = fingerprints(road_of(trial.config), trial.config), trial.base.finished()
    for step in trial.steps():
        done = finished.get(step.name)
        if done is not None and done.fingerprint == marks[step.name]:
            for place in step.owns:
                _link(trial.folder.path / place, trial.base.path / place)
            trial.folder.record(done)


def _links(folder: Path) -> list[Path]:
    """Symbolic links in a folder, without following any."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        found += [Path(parent, name) for name in (*folders, *files) if Path(parent, name).is_symlink()]
    return found


def _link(link: Path, target: Path) -> None:
    if target.exists():
        storage.delete(str(link))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(target.absolute(), link.parent.absolute()))


def resources_of(config: RunConfig) -> dict[str, float]:
    """What the worker group of a configuration's stages takes, as Ray counts it."""
    compute = config.train.compute
    return {"CPU": compute.workers * compute.cpus_of_worker, "GPU": float(compute.workers * compute.gpu)}


def at_once(trials: Sequence[Trial], offered: dict[str, Any]) -> int:
    """How many trials can train side by side, each with the most that any of them takes; at least one."""
    fits = [
        offered.get(name, 0.0) // amount
        for name in ("CPU", "GPU")
        if (amount := max((resources_of(trial.config)[name] for trial in trials), default=0.0)) > 0
    ]
    return max(1, int(min(fits, default=1)))
