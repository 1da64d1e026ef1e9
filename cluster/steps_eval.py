"""The bench, the champion and the report."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import Any

from cg_data import storage
from cluster.config import to_yaml
from cluster.doctor import PACKAGES
from cluster.pipeline import Step, Work, alone
from cluster.runfolder import StepResult
from cluster.steps_data import SYNTHETIC
from cluster.steps_train import tracking_of

CHAMPION = "champion"
_PRODUCTS = ("items.parquet", "answers.parquet", "events.parquet", "metrics.json", "noise.json")
"""What the bench writes below ``bench/``, beside which an evaluation of detectors may lie."""


def bench_step() -> Step:
    return Step(
        name="bench",
        title="Bench on held-out subjects",
        needs=("stage2", "annotations"),
        settings=lambda config: [config.evaluate.model_dump(), config.data.instruct.seed],
        owns=tuple(f"bench/{name}" for name in _PRODUCTS),
        run=alone(_bench),
    )


def champion_step() -> Step:
    return Step(
        name="champion",
        title="Champion in the model registry",
        needs=("bench",),
        settings=lambda config: config.tracking.model_name,
        owns=(),
        run=alone(_champion),
        uses_ray=False,
    )


def report_step(corpus: str) -> Step:
    """The report; with a user's recordings it is written anew, with theirs in it."""
    extra = () if corpus == SYNTHETIC else (f"{corpus}-samples",)
    return Step(
        name="report" if corpus == SYNTHETIC else f"{corpus}-report",
        title="Report",
        needs=(CHAMPION, *extra),
        settings=lambda _: None,
        owns=(),
        run=alone(partial(_report, corpus=corpus)),
        uses_ray=False,
    )


def _bench(work: Work) -> StepResult:
    from cg_eval.job import annotation_noise, run_bench
    from cg_train.detector_card import write_card

    segments, annotations = work.folder.at("segments", SYNTHETIC), work.folder.at("annotations", SYNTHETIC)
    metrics = run_bench(
        segments_uri=segments,
        samples_uri=work.folder.at("samples", SYNTHETIC),
        model_folder=work.folder.at("models", "stage2"),
        detector_folder=work.folder.at("detector"),
        out_uri=work.folder.at("bench"),
        settings=work.config.evaluate,
        instruct=work.config.data.instruct,
        progress=work.progress,
    )
    storage.write_json(work.folder.at("bench", "noise.json"), annotation_noise(annotations, segments))
    write_card(work.folder.at("detector"), metrics["detector"], "test subjects, whom no training saw")
    counts = {"questions": metrics["asked"], "pages": metrics["segments"], "subjects": metrics["subjects"]}
    return StepResult(counts=counts, figure=figure_of(metrics), products={"bench": "bench"})


def figure_of(metrics: dict[str, Any]) -> str:
    """The stated figures of a bench in one line, each with its 95 % interval beside its baseline."""
    parts = [f"mAP@0.5 {_with_interval(metrics['detector']['map50'], 2)}"]
    for score in metrics["scores"]:
        if score["stated"]:
            parts.append(f"{_SHORT[score['kind']]} {_with_interval(score['accuracy'], 2)} against {score['baseline']:.2f}")
    return ", ".join(parts)


_SHORT = {"binary": "yes/no", "open": "open", "mcq": "choice"}


def _with_interval(figure: dict[str, Any], digits: int) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.{digits}f}"
    return f"{figure['value']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"


def _champion(work: Work) -> StepResult:
    from cg_train.follow import answering
    from cg_train.tracking import register_champion

    metrics, tracking = storage.read_json(work.folder.at("bench", "metrics.json")), tracking_of(work.config, work.folder)
    with answering(tracking):
        number = register_champion(
            tracking,
            name=work.config.tracking.model_name,
            folder=work.folder.path / "models" / "stage2",
            fingerprint=work.identity,
            metrics=stated_metrics(metrics),
            config=work.config.model_dump(mode="json"),
        )
    name = f"models:/{work.config.tracking.model_name}@{CHAMPION}"
    return StepResult(counts={"version": int(number)}, figure=name, products={"mlflow": "mlflow.db"})


def stated_metrics(metrics: dict[str, Any]) -> dict[str, float]:
    """The bench's accuracies and the detector's mAP under names that MLflow shows."""
    flat = {f"{score['kind']}.{score['column']}": score["accuracy"]["value"] for score in metrics["scores"]}
    return {**flat, "detector.map50": metrics["detector"]["map50"]["value"]}


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
