"""`cg data`: the commands of the data steps, and those that look at data without making any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.config import read_preset, resolve_config
from cluster.display import Display
from cluster.options import Asked, Corpora, Edf, Preset, Run, Sets, Verbose, execute, load
from cluster.session import prepare_environment, ray_session

data_app = typer.Typer(help="Data steps: EDF files to segments, annotations and instruction samples. Alone: all that can run now.")


@data_app.callback()
def data_all(
    context: typer.Context,
    run: Run = None,
    preset: Preset = None,
    edf: Edf = None,
    corpus: Corpora = None,
    sets: Sets = None,
    verbose: Verbose = False,
) -> None:
    if context.invoked_subcommand is None:
        execute(["data"], Asked(run=run, preset=preset, sets=sets, edf=edf, corpora=corpus), verbose=verbose)


@data_app.command("corpus")
def data_corpus(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Write the embedded synthetic corpus as EDF+ files with its truth as annotations."""
    execute(["corpus"], Asked(run=run, preset=preset, sets=sets), verbose=verbose)


@data_app.command("segments")
def data_segments(
    run: Run = None, preset: Preset = None, edf: Edf = None, corpus: Corpora = None, sets: Sets = None, verbose: Verbose = False
) -> None:
    """Read EDF files into ten-second segments; what is refused goes to quarantine.parquet with its reason."""
    execute(["segments"], Asked(run=run, preset=preset, sets=sets, edf=edf, corpora=corpus), verbose=verbose)


@data_app.command("annotate")
def data_annotate(
    run: Run = None, preset: Preset = None, edf: Edf = None, corpus: Corpora = None, sets: Sets = None, verbose: Verbose = False
) -> None:
    """Detect waveforms on every segment and analyse background and artefacts."""
    execute(["annotations"], Asked(run=run, preset=preset, sets=sets, edf=edf, corpora=corpus), verbose=verbose)


@data_app.command("instruct")
def data_instruct(
    run: Run = None,
    preset: Preset = None,
    edf: Edf = None,
    corpus: Corpora = None,
    teacher_url: Annotated[
        str | None, typer.Option("--teacher-url", help="Have descriptions, hard questions and conversations written by the model there.")
    ] = None,
    teacher_model: Annotated[str | None, typer.Option("--teacher-model", help="Its name at that OpenAI-compatible endpoint.")] = None,
    teacher_consent: Annotated[
        bool, typer.Option("--teacher-consent", help="Let the structure of annotations leave for a host that is not private.")
    ] = False,
    sets: Sets = None,
    verbose: Verbose = False,
) -> None:
    """Turn annotations into captions, questions and dialogues: by rule, or with a teacher, which gets their structure and no more."""
    given = {"url": teacher_url, "model": teacher_model, "consent": teacher_consent or None}
    named = [f"data.teacher.{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    asked = Asked(run=run, preset=preset, sets=[*(sets or []), *named], edf=edf, corpora=corpus)
    execute(["samples"], asked, verbose=verbose)


@data_app.command("general")
def data_general(
    run: Run = None,
    preset: Preset = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="LLaVA-style list of dialogues (JSON); default: data.general.json_file.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder that its image paths count from; default: data.general.images_folder.")
    ] = None,
    sets: Sets = None,
    verbose: Verbose = False,
) -> None:
    """Turn a LLaVA-style list of pictures and dialogues into general samples; what is refused goes to quarantine.parquet."""
    given = {"json_file": json_file, "images_folder": images}
    named = [f"data.general.{name}={json.dumps(str(path.absolute()))}" for name, path in given.items() if path is not None]
    execute(["general"], Asked(run=run, preset=preset, sets=[*(sets or []), *named]), verbose=verbose)


@data_app.command("verify")
def data_verify(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Hold every shard of a run against its manifest: nothing missing, doubled, changed or out of step. Exit code 1 where it is not so."""
    from cluster.verify_view import verify_run

    config, folder = load(Asked(run=run, preset=preset, sets=sets))
    prepare_environment(config.cluster, verbose=verbose)
    with ray_session(config.cluster, verbose=verbose):
        if not verify_run(config, folder, Display()):
            raise typer.Exit(1)


@data_app.command("audit")
def data_audit(
    run: Run = None,
    preset: Preset = None,
    corpus: Annotated[
        str, typer.Option("--corpus", help="Whose samples: the embedded ones have planted truth, others the marks of readers.")
    ] = "synthetic",
    reader: Annotated[str, typer.Option("--reader", help="Hold samples against the marks of this reader alone.")] = "",
    shards: Annotated[int | None, typer.Option("--shards", min=1, help="Audit so many shards at most; default: all.")] = None,
    sets: Sets = None,
) -> None:
    """Say how much of what a run's samples state is not so: by kind of sample, claim and finding, with what they leave out."""
    from cluster.audit_view import audit_run
    from cluster.inspect_view import corpus_of

    _, folder = load(Asked(run=run, preset=preset, sets=sets))
    audit_run(folder, corpus_of(corpus), Display(), reader=reader, most_shards=shards)


@data_app.command("inspect")
def data_inspect(
    corpus: Annotated[
        str, typer.Argument(help="tusz, tuab, tuev, tuar, tuep, tusl, hmc, dreams, sleep-edf, chb-mit, siena, bids or folder.")
    ],
    path: Annotated[str, typer.Argument(help="Folder that holds the corpus (a path, s3:// or gs://).")],
    thorough: Annotated[bool, typer.Option("--thorough", help="Read every file whole, to find damage inside the signal too.")] = False,
    preset: Preset = None,
    sets: Sets = None,
) -> None:
    """Say what a corpus holds before any work: files, hours, signals, rates, labels, problems, and what would be refused."""
    from cg_data.inspect import inspect
    from cluster.inspect_view import corpus_of, show

    config, display = resolve_config(read_preset(preset or "tiny"), list(sets or [])), Display()
    with display.step("Inspecting") as progress:
        found = inspect(corpus_of(corpus), path, settings=config.data, thorough=thorough, progress=progress)
    show(found, display.console)
