"""The order of the steps, and the runner that does what is missing, once, and writes down what was made."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from cg_data import storage
from cg_data.errors import ConfigError
from cg_data.progress import Progress
from cluster.config import RunConfig
from cluster.display import Display
from cluster.runfolder import FinishedStep, RunFolder, StepResult, check_unchanged, fingerprint


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a step is given."""

    config: RunConfig
    folder: RunFolder
    progress: Progress
    about: dict[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step of the road.

    `settings` picks from the configuration whatever decides the step's products; with the fingerprints of `needs` it is the identity of
    the work. `owns` are the places in the run folder that the step writes; they are cleared when they hold other work's remains, and kept
    when the same work was interrupted, so that it can go on.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    settings: Callable[[RunConfig], Any]
    owns: tuple[str, ...]
    run: Callable[[Work], StepResult]
    uses_ray: bool = True


def fingerprints(steps: list[Step], config: RunConfig) -> dict[str, str]:
    """Identity of each step's work under `config`."""
    marks: dict[str, str] = {}
    for step in steps:
        marks[step.name] = fingerprint(step.name, step.settings(config), [marks[need] for need in step.needs])
    return marks


def run_steps(
    wanted: list[Step],
    *,
    road: list[Step],
    config: RunConfig,
    folder: RunFolder,
    display: Display,
    session: Callable[[], Any],
) -> list[FinishedStep]:
    """Do what of `wanted` is not finished yet, in the order of `road`; the Ray session is opened when the first step needs it.

    Raises:
        ConfigError: a step that `wanted` builds on is missing, or finished steps were made with other settings.
    """
    marks = fingerprints(road, config)
    finished = folder.finished()
    for name, earlier in finished.items():
        if name in marks:
            check_unchanged(earlier, marks[name], folder)
    _check_needs(wanted, finished)
    folder.store_config(config)
    with ExitStack() as stack:
        opened = False
        for step in wanted:
            if step.name in finished:
                display.skipped(step.title, finished[step.name])
                continue
            if step.uses_ray and not opened:
                stack.enter_context(session())
                opened = True
            finished[step.name] = _do(step, marks, config, folder, display)
    return [finished[step.name] for step in road if step.name in finished]


def _check_needs(wanted: list[Step], finished: dict[str, FinishedStep]) -> None:
    coming = set(finished)
    for step in wanted:
        missing = [need for need in step.needs if need not in coming]
        if missing:
            command = COMMANDS.get(missing[0], missing[0])
            raise ConfigError(f"{step.name} builds on {', '.join(missing)}, which is not there yet. Run {command} first, or `cg run`.")
        coming.add(step.name)


COMMANDS = {
    "corpus": "`cg data corpus`",
    "segments": "`cg data segments`",
    "detector": "`cg train detector`",
    "annotations": "`cg data annotate`",
    "samples": "`cg data instruct`",
    "edf-segments": "`cg data segments`",
    "edf-annotations": "`cg data annotate`",
    "edf-samples": "`cg data instruct`",
    "base": "`cg train base`",
    "stage1": "`cg train stage1`",
    "stage2": "`cg train stage2`",
    "bench": "`cg eval`",
    "champion": "`cg eval`",
}


def _do(step: Step, marks: dict[str, str], config: RunConfig, folder: RunFolder, display: Display) -> FinishedStep:
    _clear_remains(step, marks[step.name], folder)
    start = time.monotonic()
    with display.step(step.title) as progress:
        about = {"step": step.name, "fingerprint": marks[step.name], "preset": config.preset}
        result = step.run(Work(config=config, folder=folder, progress=progress, about=about))
    done = FinishedStep(name=step.name, fingerprint=marks[step.name], seconds=round(time.monotonic() - start, 1), result=result)
    folder.record(done)
    storage.delete(folder.at(".started", step.name))
    display.done(step.title, done)
    return done


def _clear_remains(step: Step, mark: str, folder: RunFolder) -> None:
    """Clear what other work left in this step's places; keep what the same work left when it was interrupted."""
    started = folder.at(".started", step.name)
    if not storage.exists(started) or storage.read_bytes(started).decode() != mark:
        for place in step.owns:
            storage.delete(folder.at(place))
        storage.write_bytes(started, mark.encode())
