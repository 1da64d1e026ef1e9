"""`cg data`: the commands of the data steps, and those that look at data without making any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cg_data import storage
from cg_data.corpora import CorpusName
from cg_data.errors import ConfigError
from cg_data.vocabulary import Truth
from cluster.config import read_preset, resolve_config
from cluster.display import Display
from cluster.options import Asked, Corpora, Edf, Preset, Run, Sets, Verbose, execute, is_alone, load
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
    if is_alone(context):
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
    from cluster.verify_view import corpora_with_shards, verify_corpus

    config, folder = load(Asked(run=run, preset=preset, sets=sets))
    corpora, display = corpora_with_shards(config, folder), Display()
    prepare_environment(config.cluster, verbose=verbose)
    with ray_session(config.cluster, verbose=verbose):
        sound = [verify_corpus(config, folder, corpus, display) for corpus in corpora]
    if not all(sound):
        raise typer.Exit(1)


@data_app.command("audit")
def data_audit(
    run: Run = None,
    preset: Preset = None,
    corpus: Annotated[str, typer.Option("--corpus", help="Name of the run's corpus whose samples are audited.")] = CorpusName.SYNTHETIC,
    truth: Annotated[
        Truth | None,
        typer.Option("--truth", help="What is held to be true; default: planted for the embedded corpus, else (or with --reader) marks."),
    ] = None,
    reader: Annotated[str, typer.Option("--reader", help="Hold against the marks of this reader alone.")] = "",
    share: Annotated[float, typer.Option("--share", min=0.0001, max=1.0, help="Share of the pages that are looked at.")] = 1.0,
    sets: Sets = None,
) -> None:
    """Say how many statements of the samples are false, and how much they leave out; writes audit/CORPUS.json into the run folder."""
    from cg_data.audit import audit
    from cluster.audit_view import show
    from cluster.inspect_view import corpus_of
    from cluster.verify_view import folders_of

    _, folder = load(Asked(run=run, preset=preset, sets=sets))
    name, display = corpus_of(corpus), Display()
    held = truth or (Truth.PLANTED if name == CorpusName.SYNTHETIC and not reader else Truth.MARKS)
    if reader and held is not Truth.MARKS:
        raise ConfigError(f"--reader {reader} --truth {held}: a reader's marks are --truth marks.")
    with display.step("Auditing") as progress:
        found = audit(folders_of(folder, name), truth=held, reader=reader, share=share, progress=progress)
    storage.write_json(folder.at("audit", f"{name}.json"), found.as_json())
    show(found, display.console)


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


@data_app.command("plan")
def data_plan(
    corpus: Annotated[str, typer.Argument(help="As for `cg data inspect`.")],
    path: Annotated[str, typer.Argument(help="Folder that holds the corpus.")],
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Machines that will work.")] = 1,
    cores: Annotated[
        int | None, typer.Option("--cores", min=1, help="Cores of each; default: as many as here.", show_default=False)
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", min=0, help="GPUs in all of them together.")] = 0,
    rates: Annotated[
        Path | None, typer.Option("--rates", help="JSON file of measured rates; made here where it is not there yet.", show_default=False)
    ] = None,
    detector: Annotated[
        str | None, typer.Option("--detector", help="Detector to measure, for example runs/demo/detector.", show_default=False)
    ] = None,
    preset: Preset = None,
    sets: Sets = None,
) -> None:
    """Predict hours, bytes and the ratio of cores to GPUs for a corpus, from rates measured on this machine or on another."""
    from cluster.plan_view import plan

    config = resolve_config(read_preset(preset or "tiny"), list(sets or []))
    plan(corpus, path, settings=config.data, nodes=nodes, cores=cores, gpus=gpus, rates=rates, detector=detector)


@data_app.command("deidentify")
def data_deidentify(
    source: Annotated[str, typer.Argument(help="EDF file, or a folder of them.")],
    target: Annotated[str, typer.Argument(help="Folder for the clean copies, which are named by pseudonyms.")],
) -> None:
    """Write clean copies of EDF files: the signal to the bit, of the words only what is on a list. Needs CG_SUBJECT_SALT."""
    from cg_data.corpora.folder import list_recordings
    from cg_data.deidentify import deidentify_all
    from cg_data.settings import DataSettings

    display = Display()
    found = list_recordings(source)
    uris = [uri for uri in found if uri.lower().endswith(".edf")]
    if len(uris) < len(found):
        display.say(f"{len(found) - len(uris):,} recordings of other formats are left out: only EDF files are cleaned.")
    with display.step("Cleaning") as progress:
        cleaned, failed = deidentify_all(uris, target, DataSettings().subject_salt, progress)
    notes = f"{sum(c.notes_kept for c in cleaned):,} notes kept, {sum(c.notes_dropped for c in cleaned):,} left out"
    display.say(f"{len(cleaned):,} clean copies in {target}: {notes}, {sum(c.labels_replaced for c in cleaned):,} labels replaced.")
    for uri, error in failed:
        display.say(f"not cleaned: {uri}: {error}")
    if failed:
        raise typer.Exit(1)
