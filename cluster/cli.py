"""`cg`, the command line. Every command is equally the entry point of a `ray job submit`."""

from __future__ import annotations

import errno
import json
import sqlite3
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cg_data.errors import StorageError, UserError
from cluster.config import RunConfig, name_of, read_preset, resolve_config
from cluster.display import Display
from cluster.pipeline import run_steps
from cluster.road import road_of, select
from cluster.runfolder import RunFolder, check_space
from cluster.session import prepare_environment, ray_session

app = typer.Typer(
    name="cg",
    help="CerebraGloss on Ray: from EDF files to a served model that reads EEG pages. Output is a draft for a reader, never a diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data steps: EDF files to segments, annotations and instruction samples. Alone: all that can run now.")
train_app = typer.Typer(help="Training: the waveform detector, the tiny model's sight and base, stage 1 and stage 2.", no_args_is_help=True)
app.add_typer(data_app, name="data", invoke_without_command=True)
app.add_typer(train_app, name="train")

Run = Annotated[
    str | None, typer.Option("--run", help="Run folder for all products (a path or file://); default runs/<preset>.", show_default=False)
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="tiny, qwen2.5-vl-3b, qwen2.5-vl-7b or a YAML file; default: what the run folder holds, else tiny.",
        show_default=False,
    ),
]
Edf = Annotated[
    Path | None,
    typer.Option("--edf", help="Folder of your own EDF files for the data steps and the service.", show_default=False),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one value of the configuration, for example data.synthetic.subjects=12. Repeatable.", show_default=False
    ),
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show what Ray and the workers say.")]


def load(run: str | None, preset: str | None, edf: Path | None, sets: list[str] | None) -> tuple[RunConfig, RunFolder]:
    """The run folder and its configuration: the stored one, or the preset where one is named; `--edf` and `--set` on top."""
    folder = RunFolder(uri=run or f"runs/{name_of(preset or 'tiny')}")
    stored = folder.stored_config() if preset is None else None
    tree = stored if stored is not None else read_preset(preset or "tiny")
    if edf is not None:
        tree["edf"] = str(edf.absolute())
    return resolve_config(tree, list(sets or [])), folder


def execute(names: list[str], run: str | None, preset: str | None, edf: Path | None, sets: list[str] | None, verbose: bool) -> None:
    """Do the steps `names` (all, where empty) of the configured road and print the closing table."""
    config, folder = load(run, preset, edf, sets)
    if config.edf:
        from cg_data.corpora.folder import list_recordings

        list_recordings(config.edf)
    road = road_of(config)
    wanted = select(road, names, config, folder.finished())
    if config.data.teacher.url and {"samples", "edf-samples"}.intersection(step.name for step in wanted) - folder.finished().keys():
        from cg_data.instruct.teacher_endpoint import endpoint_of

        endpoint_of(config.data.teacher)
    prepare_environment(config.cluster, verbose=verbose)
    display = Display()
    with folder.locked():
        check_space(folder, space_needed(config))
        steps = run_steps(
            wanted,
            road=road,
            config=config,
            folder=folder,
            display=display,
            session=partial(ray_session, config.cluster, verbose=verbose),
        )
    display.closing_table({step.name: step.title for step in road}, steps)
    display.say(f"Everything is named in {folder.at('run.json')}.")


def space_needed(config: RunConfig) -> int:
    """A generous guess of the bytes that the embedded corpus, its shards and the small models take; users' recordings come on top."""
    synthetic_s = config.data.synthetic.subjects * config.data.synthetic.minutes_per_subject * 60
    return int(synthetic_s * 19 * 256 * 2 * 10) + 512 * 2**20


@app.command("run")
def run_all(run: Run = None, preset: Preset = None, edf: Edf = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Do the whole road: data, detector, sight, base, stage 1, stage 2, bench, champion, service. Goes on after the last finished step."""
    execute([], run, preset, edf, sets, verbose)


@data_app.callback()
def data_all(
    context: typer.Context, run: Run = None, preset: Preset = None, edf: Edf = None, sets: Sets = None, verbose: Verbose = False
) -> None:
    if context.invoked_subcommand is None:
        execute(["data"], run, preset, edf, sets, verbose)


@data_app.command("corpus")
def data_corpus(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Write the embedded synthetic corpus as EDF+ files with its truth as annotations."""
    execute(["corpus"], run, preset, None, sets, verbose)


@data_app.command("segments")
def data_segments(run: Run = None, preset: Preset = None, edf: Edf = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Read EDF files into ten-second segments; what is refused goes to quarantine.parquet with its reason."""
    execute(["segments", "edf-segments"], run, preset, edf, sets, verbose)


@data_app.command("annotate")
def data_annotate(run: Run = None, preset: Preset = None, edf: Edf = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Detect waveforms on every segment and analyse background and artefacts."""
    execute(["annotations", "edf-annotations"], run, preset, edf, sets, verbose)


@data_app.command("instruct")
def data_instruct(
    run: Run = None,
    preset: Preset = None,
    edf: Edf = None,
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
    execute(["samples", "edf-samples"], run, preset, edf, [*(sets or []), *named], verbose)


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
    execute(["general"], run, preset, None, [*(sets or []), *named], verbose)


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


@train_app.command("detector")
def train_detector(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Train the waveform detector on the training subjects' reference marks."""
    execute(["detector"], run, preset, None, sets, verbose)


@train_app.command("sight")
def train_sight(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Teach the tiny model's tower to see, where no pretrained tower can be had (preset tiny)."""
    execute(["sight"], run, preset, None, sets, verbose)


@train_app.command("base")
def train_base(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Teach the tiny model to speak of what its tower sees (preset tiny)."""
    execute(["base"], run, preset, None, sets, verbose)


@train_app.command("stage1")
def train_stage1(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Stage 1, concept alignment: the projector alone."""
    execute(["stage1"], run, preset, None, sets, verbose)


@train_app.command("stage2")
def train_stage2(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Stage 2, instruction tuning: language model and projector, vision frozen, or LoRA."""
    execute(["stage2"], run, preset, None, sets, verbose)


@app.command("eval")
def evaluate(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Ask the trained model about held-out subjects, score it with intervals and register the champion."""
    execute(["bench", "champion", "report", "edf-report"], run, preset, None, sets, verbose)


@app.command("serve")
def serve(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Serve the champion beside the detector over HTTP until interrupted (Ctrl-C)."""
    from cluster.steps_serve import check_servable, serve_forever

    config, folder = load(run, preset, None, sets)
    prepare_environment(config.cluster, verbose=verbose)
    check_servable(config, folder)
    with ray_session(config.cluster, verbose=verbose):
        serve_forever(config, folder, Display())


@app.command("doctor")
def doctor(preset: Preset = None, sets: Sets = None) -> None:
    """Say what this machine and cluster offer, and what is missing for a preset."""
    from cluster.doctor import examine

    config = resolve_config(read_preset(preset or "tiny"), list(sets or []))
    prepare_environment(config.cluster, verbose=False)
    if not examine(config, Display().console):
        raise typer.Exit(1)


def user_error_in(error: BaseException | None) -> UserError | None:
    """The user's mistake inside an exception, also where Ray or Ray Train has wrapped it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        cause = getattr(error, "cause", None)
        if isinstance(error, UserError) and not isinstance(cause, UserError):
            return error
        if _disk_is_full(error):
            return StorageError("the disk is full. Free some space or choose another --run folder, then run the same command again.")
        error = cause if isinstance(cause, BaseException) else error.__cause__ or error.__context__
    return None


def _disk_is_full(error: BaseException) -> bool:
    """As the operating system says it, and as SQLite does (the tracking store)."""
    of_sqlite = isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error)
    return of_sqlite or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


def main() -> None:
    """Entry point: a user's mistake is one sentence and exit code 2; anything else is a bug and shows its traceback."""
    try:
        app(prog_name="cg")
    except KeyboardInterrupt:
        sys.stderr.write("cg: stopped. The same command goes on from here.\n")
        sys.exit(130)
    except Exception as error:
        mistake = user_error_in(error)
        if mistake is None:
            raise
        sys.stderr.write(f"cg: {mistake}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
