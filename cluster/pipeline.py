"""The order of the steps, and the runner that does what is missing, once, and writes down what was made."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
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
    """What a step is given; `identity` is its fingerprint."""

    config: RunConfig
    folder: RunFolder
    progress: Progress
    step: str
    identity: str

    @property
    def about(self) -> dict[str, str]:
        """Provenance that products carry."""
        return {"step": self.step, "fingerprint": self.identity, "preset": self.config.preset}


Run = Callable[[Sequence[Work]], Iterator[StepResult]]
"""What steps do: given the work of one step or of several in a row, it yields their results one by one."""


def alone(work: Callable[[Work], StepResult]) -> Run:
    """What a step does that shares nothing with its neighbours."""

    def run(works: Sequence[Work]) -> Iterator[StepResult]:
        for one in works:
            yield work(one)

    return run


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step of the road.

    `settings` picks from the configuration whatever decides the step's products; with the fingerprints of `needs` it is the identity of
    the work. `inputs` says what lies outside the run folder (files that a user may add to): a finished step whose inputs have changed
    is done again on top of what it has. Steps in a row with the same `run` are done by one call of it. `owns` are the places in the run
    folder that the step writes; they are cleared when they hold other work's remains, and kept when the same work was interrupted or has
    new inputs, so that it can go on.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    settings: Callable[[RunConfig], Any]
    owns: tuple[str, ...]
    run: Run
    uses_ray: bool = True
    inputs: Callable[[RunConfig], str] = lambda _: ""


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
    inputs = {step.name: step.inputs(config) for step in wanted}
    stale = {name for name, mark in inputs.items() if name in finished and finished[name].inputs != mark}
    folder.store_config(config)
    with ExitStack() as stack:
        opened = False
        for run, group in itertools.groupby(wanted, key=lambda step: step.run):
            missing = []
            for step in group:
                if step.name in finished and step.name not in stale:
                    display.skipped(step.title, finished[step.name])
                else:
                    missing.append(step)
            if not opened and any(step.uses_ray for step in missing):
                stack.enter_context(session())
                opened = True
            for step in missing:
                _prepare(step, marks[step.name], folder, stale)
            finished |= _do(run, missing, marks, inputs, config, folder, display)
    return [finished[step.name] for step in road if step.name in finished]


def _check_needs(wanted: list[Step], finished: dict[str, FinishedStep]) -> None:
    coming = set(finished)
    for step in wanted:
        missing = [need for need in step.needs if need not in coming]
        if missing:
            command = COMMANDS.get(missing[0].rsplit("-", 1)[-1], missing[0])
            raise ConfigError(f"{step.name} builds on {', '.join(missing)}, which is not there yet. Run {command} first, or `cg run`.")
        coming.add(step.name)


COMMANDS = {
    "corpus": "`cg data corpus`",
    "segments": "`cg data segments`",
    "detector": "`cg train detector`",
    "annotations": "`cg data annotate`",
    "samples": "`cg data instruct`",
    "general": "`cg data general`",
    "sight": "`cg train sight`",
    "base": "`cg train base`",
    "stage1": "`cg train stage1`",
    "stage2": "`cg train stage2`",
    "bench": "`cg eval`",
    "champion": "`cg eval`",
}


def _do(
    run: Run,
    steps: Sequence[Step],
    marks: dict[str, str],
    inputs: dict[str, str],
    config: RunConfig,
    folder: RunFolder,
    display: Display,
) -> dict[str, FinishedStep]:
    """Do `steps` by one call of `run`, and write down each when it is done."""
    shown = _Shown()
    results = run([Work(config=config, folder=folder, progress=shown, step=step.name, identity=marks[step.name]) for step in steps])
    finished = {}
    for step in steps:
        start = time.monotonic()
        with display.step(step.title) as shown.report:
            result = next(results)
        done = FinishedStep(
            name=step.name,
            fingerprint=marks[step.name],
            inputs=inputs[step.name],
            seconds=round(time.monotonic() - start, 1),
            result=result,
        )
        folder.record(done)
        storage.delete(folder.at(".started", step.name))
        display.done(step.title, done)
        finished[step.name] = done
    return finished


class _Shown:
    """Hands progress to the step that is on display."""

    report: Progress

    def __call__(self, done: float, total: float, note: str = "") -> None:
        self.report(done, total, note)


def _prepare(step: Step, mark: str, folder: RunFolder, stale: Collection[str]) -> None:
    """Clear what other work left in this step's places; keep what the same work left, finished with fewer inputs or interrupted."""
    started = folder.at(".started", step.name)
    same = step.name in stale or (storage.exists(started) and storage.read_bytes(started).decode() == mark)
    if not same:
        for place in step.owns:
            storage.delete(folder.at(place))
    storage.write_bytes(started, mark.encode())
