"""The training steps: detector, the tiny model's sight and base, stage 1, stage 2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cg_data import storage
from cg_data.instruct.general import GENERAL
from cg_data.vocabulary import SampleKind
from cg_train.recipe import RECIPES, StageRecipe
from cg_train.tracking import TrackingSettings
from cluster.config import RunConfig
from cluster.pipeline import Step, Work, alone
from cluster.runfolder import RunFolder, StepResult
from cluster.steps_data import SYNTHETIC

TITLES = {
    "sight": "Sight of the tiny model",
    "base": "Base of the tiny model",
    "stage1": "Stage 1: concept alignment",
    "stage2": "Stage 2: instruction tuning",
}

_GROUP = {"workers", "least_workers", "cpus_per_worker", "feed_actors", "max_failures"}
"""Of `ComputeSettings`, what is about the group of workers and not about how one computes."""


def detector_step() -> Step:
    return Step(
        name="detector",
        title="Detector",
        needs=("segments",),
        settings=lambda config: config.train.detector.model_dump(mode="json"),
        owns=("detector", "train/detector"),
        run=alone(_detector),
    )


def stage_steps(config: RunConfig) -> list[Step]:
    """The stages that the model goes through, each from where the one before it ended."""
    names = _stage_names(config)
    return [
        Step(
            name=name,
            title=TITLES[name],
            needs=(*names[max(0, number - 1) : number], "samples", *_general_of(config, name)),
            settings=partial(_stage_settings, name=name),
            owns=(f"models/{name}", f"train/{name}", *(("models/init",) if name == names[0] else ())),
            run=_stages,
        )
        for number, name in enumerate(names)
    ]


def _general_of(config: RunConfig, name: str) -> tuple[str, ...]:
    """The step of the general samples, where the stage draws from them and they are to be had."""
    return (GENERAL,) if config.data.general and _recipe(config, name).mixture.get(SampleKind.GENERAL, 0) > 0 else ()


def _stage_names(config: RunConfig) -> list[str]:
    return [name for name in TITLES if getattr(config.train, name) is not None]


def _stage_settings(config: RunConfig, name: str) -> dict[str, Any]:
    """All that decides what is learnt. The number of workers does not, but for rounding: a stage goes on with another."""
    shared = config.train.model_dump(mode="json", exclude={**dict.fromkeys(RECIPES, True), "compute": _GROUP})
    return {**shared, "recipe": _recipe(config, name).model_dump(mode="json"), "page": config.data.page.model_dump()}


def _recipe(config: RunConfig, name: str) -> StageRecipe:
    recipe: StageRecipe = getattr(config.train, name)
    return recipe


def tracking_of(config: RunConfig, folder: RunFolder) -> TrackingSettings:
    """Where MLflow keeps runs: as configured, else SQLite in the run folder. Nothing is asked of it here."""
    return TrackingSettings(
        uri=config.tracking.uri or f"sqlite:///{(folder.path / 'mlflow.db').absolute()}",
        artifacts_uri=(folder.path / "mlartifacts").absolute().as_uri(),
        experiment=config.tracking.experiment,
        config=config.model_dump(mode="json"),
        system_every_s=config.tracking.system_every_s,
    )


def _detector(work: Work) -> StepResult:
    from cg_train.job import train_detector

    metrics = train_detector(
        recipe=work.config.train.detector,
        segments_uri=work.folder.at("segments", SYNTHETIC),
        out_folder=work.folder.at("detector"),
        storage_folder=work.folder.at("train"),
        tracking=tracking_of(work.config, work.folder),
        progress=work.progress,
    )
    return StepResult(
        counts={"pages": metrics["train_segments"]},
        figure=f"mAP@0.5 {metrics['map50']:.2f} on validation subjects",
        products={"detector": "detector"},
    )


def _stages(works: Sequence[Work]) -> Iterator[StepResult]:
    from cg_train.job import Stage, train_stages

    config, folder = works[0].config, works[0].folder
    stages = [
        Stage(
            name=work.step,
            identity=work.identity,
            recipe=_recipe(config, work.step),
            model_from=_start_of(work),
            out_folder=folder.at("models", work.step),
            about=work.about,
            progress=work.progress,
        )
        for work in works
    ]
    done = train_stages(
        stages,
        settings=config.train,
        page=config.data.page,
        samples_uris=[folder.at("samples", corpus) for corpus in (SYNTHETIC, *((GENERAL,) if config.data.general else ()))],
        annotations_uri=folder.at("annotations", SYNTHETIC),
        tiny_folder=_local(folder.at("models", "init")),
        storage_folder=folder.at("train"),
        tracking=tracking_of(config, folder),
    )
    for work, metrics in zip(works, done, strict=True):
        yield StepResult(
            counts={"steps": metrics["steps"], "samples": metrics["samples"]},
            figure=_figure(metrics),
            products={f"model_{work.step}": f"models/{work.step}"},
        )


def _figure(metrics: Mapping[str, Any]) -> str:
    told = f"loss {metrics['first_loss']:.2f} to {metrics['last_loss']:.2f}"
    if metrics["validation_losses"]:
        share = metrics["validation_s"] / (metrics["seconds"] + metrics["validation_s"])
        told += f", on validation {metrics['validation_losses'][0]:.2f} to {metrics['validation_losses'][-1]:.2f} ({share:.0%} of the time)"
    if metrics["steps"] < metrics["planned_steps"]:
        told += f"; stopped after {metrics['steps']} of {metrics['planned_steps']} steps, for the latter no longer fell"
    return told


def _start_of(work: Work) -> str:
    """The folder or hub id that a stage starts from."""
    train = work.config.train
    names = _stage_names(work.config)
    before = names.index(work.step) - 1
    if before >= 0:
        return _local(work.folder.at("models", names[before]))
    if train.source == "tiny":
        return _local(work.folder.at("models", "init"))
    return _local(train.source) if Path(train.source).exists() else train.source


def _local(uri: str) -> str:
    return str(storage.local_path(uri).absolute())
