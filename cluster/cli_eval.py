"""`cg eval`: the bench of the trained model, and the evaluation of waveform detectors."""

from __future__ import annotations

from typing import Annotated

import typer

from cg_data.corpora import CorpusName
from cg_data.vocabulary import Split
from cluster.display import Display
from cluster.options import Asked, Preset, Run, Sets, Verbose, execute, is_alone, load
from cluster.session import prepare_environment

eval_app = typer.Typer(help="Evaluation. Alone: ask the trained model about held-out subjects, score it, register the champion.")


@eval_app.callback()
def evaluate(context: typer.Context, run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    if is_alone(context):
        execute(["bench", "champion", "report"], Asked(run=run, preset=preset, sets=sets), verbose=verbose)


@eval_app.command("detector")
def evaluate_detector(
    run: Run = None,
    preset: Preset = None,
    detector: Annotated[
        list[str] | None,
        typer.Option("--detector", help="Detectors to compare, as NAME=FOLDER; default: the run's own. Repeatable.", show_default=False),
    ] = None,
    corpus: Annotated[str, typer.Option("--corpus", help="Name of the run's corpus whose pages are used.")] = CorpusName.SYNTHETIC,
    split: Annotated[Split, typer.Option("--split", help="Whose pages: test subjects were seen by no training.")] = Split.TEST,
    sets: Sets = None,
) -> None:
    """Say how well detectors find waveforms, with intervals over subjects; writes bench/detector (metrics.json, report.html, pictures)."""
    from cg_eval.detection.run import evaluate_detectors
    from cluster.detection_view import detectors_of, show
    from cluster.inspect_view import corpus_of

    config, folder = load(Asked(run=run, preset=preset, sets=sets))
    prepare_environment(config.cluster, verbose=False)
    detectors, display = detectors_of(detector or [], folder.at("detector")), Display()
    with display.step("Evaluating") as progress:
        metrics = evaluate_detectors(
            folder.at("segments", corpus_of(corpus)),
            detectors,
            split=split,
            out_uri=folder.at("bench", "detector"),
            settings=config.evaluate,
            progress=progress,
        )
    show(metrics, display.console)
    display.say(f"Figures, tables and pictures are in {folder.at('bench', 'detector', 'report.html')}.")
