"""The road: every step of a configuration, in order."""

from __future__ import annotations

from collections.abc import Iterable

from cg_data.errors import ConfigError
from cg_data.instruct.general import GENERAL
from cluster.config import RunConfig
from cluster.pipeline import Step
from cluster.steps_data import EDF, SYNTHETIC, corpus_step, data_steps, general_step
from cluster.steps_eval import bench_step, champion_step, report_step
from cluster.steps_serve import service_step
from cluster.steps_train import detector_step, stage_steps


def road_of(config: RunConfig) -> list[Step]:
    """All steps that `config` asks for. Models are always trained on the embedded corpus, whose truth is known."""
    segments, annotations, samples = data_steps(SYNTHETIC)
    users = data_steps(EDF) if config.edf else []
    return [
        corpus_step(),
        segments,
        *users[:1],
        detector_step(),
        annotations,
        samples,
        *users[1:],
        *([general_step()] if config.data.general else []),
        *stage_steps(config),
        bench_step(),
        champion_step(),
        report_step(EDF if config.edf else SYNTHETIC),
        service_step(EDF if config.edf else SYNTHETIC),
    ]


def select(road: list[Step], names: list[str], config: RunConfig, finished: Iterable[str]) -> list[Step]:
    """The steps of the road that a command means: all for none, ``data`` for the data steps that can run with what is finished.

    Raises:
        ConfigError: the configuration has no such step.
    """
    if not names:
        return road
    if names == ["data"]:
        return _runnable([step for step in road if step.name.endswith(("corpus", "segments", "annotations", "samples", GENERAL))], finished)
    chosen = [step for step in road if step.name in names]
    if not chosen:
        raise ConfigError(f"preset {config.preset}: its configuration has no step {names[0]}.")
    return chosen


def _runnable(steps: list[Step], finished: Iterable[str]) -> list[Step]:
    """Those of `steps` whose needs are finished or come before them here."""
    there, chosen = set(finished), []
    for step in steps:
        if there.issuperset(step.needs):
            there.add(step.name)
            chosen.append(step)
    return chosen
