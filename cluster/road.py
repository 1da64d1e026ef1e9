"""The road: every step of a configuration, in order."""

from __future__ import annotations

from collections.abc import Iterable

from cg_data.errors import ConfigError
from cg_data.instruct.general import GENERAL
from cluster.config import RunConfig
from cluster.pipeline import Step
from cluster.steps_data import SYNTHETIC, corpus_step, data_steps, general_step, shown_corpus
from cluster.steps_eval import bench_step, champion_step, report_step
from cluster.steps_serve import service_step
from cluster.steps_train import detector_step, stage_steps


def road_of(config: RunConfig) -> list[Step]:
    """All steps that `config` asks for. Models are always trained on the embedded corpus, whose truth is known."""
    segments, annotations, samples = data_steps(SYNTHETIC)
    users = [data_steps(corpus) for corpus in config.corpora]
    shown = shown_corpus(config)
    return [
        corpus_step(),
        segments,
        *(steps[0] for steps in users),
        detector_step(),
        annotations,
        samples,
        *(step for steps in users for step in steps[1:]),
        *([general_step()] if config.data.general else []),
        *stage_steps(config),
        bench_step(),
        champion_step(),
        report_step(shown),
        service_step(shown),
    ]


def select(road: list[Step], names: list[str], config: RunConfig, finished: Iterable[str]) -> list[Step]:
    """The steps of the road that a command means, of every corpus: all for none, ``data`` for the data steps that can run now.

    Raises:
        ConfigError: the configuration has no such step.
    """
    if not names:
        return road
    if names == ["data"]:
        return _runnable([step for step in road if step.name.endswith(("corpus", "segments", "annotations", "samples", GENERAL))], finished)
    chosen = [step for step in road if step.name.rsplit("-", 1)[-1] in names]
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
