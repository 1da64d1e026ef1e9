"""The training steps: detector, base, stage 1, stage 2."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from cg_data import storage
from cg_data.vocabulary import Split
from cg_train.recipe import StageRecipe
from cg_train.tracking import TrackingSettings, ensure_database
from cluster.config import RunConfig
from cluster.pipeline import Step, Work
from cluster.runfolder import StepResult
from cluster.steps_data import SYNTHETIC

TITLES = {"base": "Base of the tiny model", "stage1": "Stage 1: concept alignment", "stage2": "Stage 2: instruction tuning"}


def detector_step() -> Step:
    return Step(
        name="detector",
        title="Detector",
        needs=("segments",),
        settings=lambda config: config.train.detector.model_dump(mode="json"),
        owns=("detector", "train/detector"),
        run=_detector,
    )


def base_step() -> Step:
    return Step(
        name="base",
        title=TITLES["base"],
        needs=("samples",),
        settings=partial(_stage_settings, name="base"),
        owns=("models/init", "models/base", "train/base"),
        run=partial(_stage, name="base"),
    )


def stage_step(name: str, after: str) -> Step:
    return Step(
        name=name,
        title=TITLES[name],
        needs=tuple(dict.fromkeys((after, "samples"))),
        settings=partial(_stage_settings, name=name),
        owns=(f"models/{name}", f"train/{name}"),
        run=partial(_stage, name=name),
    )


def _stage_settings(config: RunConfig, name: str) -> dict[str, Any]:
    shared = config.train.model_dump(mode="json", exclude={"detector", "base", "stage1", "stage2"})
    return {**shared, "recipe": _recipe(config, name).model_dump(mode="json"), "page": config.data.page.model_dump()}


def _recipe(config: RunConfig, name: str) -> StageRecipe:
    recipe: StageRecipe = getattr(config.train, name)
    return recipe


def tracking_of(work: Work) -> TrackingSettings:
    """Where MLflow keeps runs: as configured, else SQLite in the run folder. The store is made here, once, in the driver."""
    target = TrackingSettings(
        uri=work.config.tracking.uri or f"sqlite:///{(work.folder.path / 'mlflow.db').absolute()}",
        artifacts_uri=(work.folder.path / "mlartifacts").absolute().as_uri(),
        experiment=work.config.tracking.experiment,
    )
    ensure_database(target)
    return target


def _detector(work: Work) -> StepResult:
    from cg_train.job import train_detector

    metrics = train_detector(
        recipe=work.config.train.detector,
        segments_uri=work.folder.at("segments", SYNTHETIC),
        out_folder=work.folder.at("detector"),
        storage_folder=work.folder.at("train"),
        tracking=tracking_of(work),
        progress=work.progress,
    )
    return StepResult(
        counts={"pages": metrics["train_segments"]},
        figure=f"mAP@0.5 {metrics['map50']:.2f} on validation subjects",
        products={"detector": "detector"},
    )


def _stage(work: Work, name: str) -> StepResult:
    from cg_train.job import train_stage

    recipe = _recipe(work.config, name)
    metrics = train_stage(
        name=name,
        recipe=recipe,
        settings=work.config.train,
        page=work.config.data.page,
        samples_uri=work.folder.at("samples", SYNTHETIC),
        model_from=_start_of(work, name),
        out_folder=work.folder.at("models", name),
        storage_folder=work.folder.at("train"),
        tracking=tracking_of(work),
        about=work.about,
        progress=work.progress,
    )
    return StepResult(
        counts={"steps": metrics["steps"], "samples": metrics["samples"]},
        figure=f"loss {metrics['first_loss']:.2f} to {metrics['last_loss']:.2f}",
        products={f"model_{name}": f"models/{name}"},
    )


def _start_of(work: Work, name: str) -> str:
    """The folder or hub id that a stage starts from."""
    train = work.config.train
    if name == "base":
        return _init_tiny(work)
    if name == "stage2":
        return work.folder.at("models", "stage1")
    return work.folder.at("models", "base") if train.base is not None else train.source


def _init_tiny(work: Work) -> str:
    """Write the untrained tiny model with a tokenizer trained on the training samples' text."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # DeepSpeed, which transformers imports, would say that it looked for a GPU
    from cg_train.model.build import build_tiny, train_tokenizer
    from cg_train.model.export import export_folder

    place = work.folder.at("models", "init")
    if storage.exists(place):
        return place
    train = work.config.train
    tokenizer = train_tokenizer(_texts(work.folder.at("samples", SYNTHETIC)), train.tiny.vocabulary)
    model, processor = build_tiny(train.tiny, tokenizer, work.config.data.page)
    export_folder(model, processor, place, page=work.config.data.page, about={**work.about, "trained": "nothing yet"})
    return place


def _texts(samples_uri: str) -> list[str]:
    """Message texts of the training samples."""
    table = storage.read_table(samples_uri, columns=["split", "messages"])
    rows = zip(table["split"].to_pylist(), table["messages"].to_pylist(), strict=True)
    return [message["content"] for split, messages in rows if split == Split.TRAIN for message in messages]
