"""The bench, the champion and the report."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any

from cg_data import storage
from cluster.config import RunConfig, to_yaml
from cluster.doctor import PACKAGES
from cluster.pipeline import Step, Work
from cluster.runfolder import StepResult
from cluster.steps_data import EDF, SYNTHETIC
from cluster.steps_train import tracking_of

CHAMPION = "champion"


def bench_step() -> Step:
    return Step(
        name="bench",
        title="Bench on held-out subjects",
        needs=("stage2", "annotations"),
        settings=lambda config: [config.evaluate.model_dump(), config.data.instruct.seed],
        owns=("bench",),
        run=_bench,
    )


def champion_step() -> Step:
    return Step(
        name="champion",
        title="Champion in the model registry",
        needs=("bench",),
        settings=lambda config: config.tracking.model_name,
        owns=(),
        run=_champion,
        uses_ray=False,
    )


def report_step(corpus: str) -> Step:
    """The report; with a user's recordings it is written anew, with theirs in it."""
    extra = ("edf-samples",) if corpus == EDF else ()
    return Step(
        name="report" if corpus == SYNTHETIC else f"{corpus}-report",
        title="Report",
        needs=(CHAMPION, *extra),
        settings=lambda _: None,
        owns=(),
        run=partial(_report, corpus=corpus),
        uses_ray=False,
    )


def _bench(work: Work) -> StepResult:
    from cg_eval.job import run_bench

    metrics = run_bench(
        segments_uri=work.folder.at("segments", SYNTHETIC),
        samples_uri=work.folder.at("samples", SYNTHETIC),
        annotations_uri=work.folder.at("annotations", SYNTHETIC),
        model_folder=work.folder.at("models", "stage2"),
        detector_folder=work.folder.at("detector"),
        out_uri=work.folder.at("bench"),
        settings=work.config.evaluate,
        instruct=work.config.data.instruct,
        progress=work.progress,
    )
    return StepResult(counts=_counts(metrics), figure=_figure(metrics), products={"bench": "bench"})


def _counts(metrics: dict[str, Any]) -> dict[str, int]:
    return {f"{kind}_items": int(row["items"]) for kind, row in metrics["kinds"].items()}


def _figure(metrics: dict[str, Any]) -> str:
    return str(metrics)


def _champion(work: Work) -> StepResult:
    from cg_train.tracking import register_champion

    metrics = storage.read_json(work.folder.at("bench", "metrics.json"))
    number = register_champion(
        tracking_of(work),
        name=work.config.tracking.model_name,
        folder=work.folder.at("models", "stage2"),
        metrics=flat_metrics(metrics),
    )
    name = f"models:/{work.config.tracking.model_name}@{CHAMPION}"
    return StepResult(counts={"version": int(number)}, figure=name, products={"mlflow": "mlflow.db"})


def flat_metrics(metrics: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers of a nested dictionary under dotted names, for MLflow."""
    flat: dict[str, float] = {}
    for key, value in metrics.items():
        if isinstance(value, dict):
            flat |= flat_metrics(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = float(value)
    return flat


def _report(work: Work, corpus: str) -> StepResult:
    from cg_eval.report import ReportFacts, StepFact, write_report

    noise = work.folder.at("bench", "noise.json")
    facts = ReportFacts(
        title=f"CerebraGloss, preset {work.config.preset}",
        preset=work.config.preset,
        corpora=[SYNTHETIC] if corpus == SYNTHETIC else [SYNTHETIC, corpus],
        steps=[
            StepFact(name=step.name, seconds=step.seconds, counts=step.result.counts, figure=step.result.figure)
            for step in work.folder.finished().values()
        ],
        noise=storage.read_json(noise) if storage.exists(noise) else None,
        versions={name: version(name) for name in ("cerebragloss", *PACKAGES)},
        config_yaml=to_yaml(work.config),
    )
    write_report(work.folder.uri, facts)
    return StepResult(counts={}, figure="report.html", products={"report": "report.html"})


def champion_folder(config: RunConfig, tracking: Any) -> str:
    """Local folder of the model that the alias `champion` names."""
    from cg_train.tracking import champion_folder as from_registry

    return from_registry(tracking, config.tracking.model_name)
