"""`cg`, the command line. Every command is equally the entry point of a `ray job submit`."""

from __future__ import annotations

import errno
import sqlite3
import sys
from typing import Annotated

import typer

from cg_data.errors import StorageError, UserError
from cluster.cli_data import data_app
from cluster.cli_eval import eval_app
from cluster.cli_sweep import train_sweep
from cluster.config import read_preset, resolve_config
from cluster.display import Display
from cluster.options import Asked, Corpora, Edf, Preset, Run, Sets, Verbose, execute, load
from cluster.session import prepare_environment, ray_session

app = typer.Typer(
    name="cg",
    help="CerebraGloss on Ray: from EDF files to a served model that reads EEG pages. Output is a draft for a reader, never a diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Training: the waveform detector, the tiny model's sight and base, stage 1 and stage 2.", no_args_is_help=True)
app.add_typer(data_app, name="data", invoke_without_command=True)
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval", invoke_without_command=True)


@app.command("run")
def run_all(
    run: Run = None, preset: Preset = None, edf: Edf = None, corpus: Corpora = None, sets: Sets = None, verbose: Verbose = False
) -> None:
    """Do the whole road: data, detector, sight, base, stage 1, stage 2, bench, champion, service. Goes on after the last finished step."""
    execute([], Asked(run=run, preset=preset, sets=sets, edf=edf, corpora=corpus), verbose=verbose)


@train_app.command("detector")
def train_detector(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Train the waveform detector on the training subjects' reference marks."""
    execute(["detector"], Asked(run=run, preset=preset, sets=sets), verbose=verbose)


@train_app.command("sight")
def train_sight(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Teach the tiny model's tower to see, where no pretrained tower can be had (preset tiny)."""
    execute(["sight"], Asked(run=run, preset=preset, sets=sets), verbose=verbose)


@train_app.command("base")
def train_base(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Teach the tiny model to speak of what its tower sees (preset tiny)."""
    execute(["base"], Asked(run=run, preset=preset, sets=sets), verbose=verbose)


@train_app.command("stage1")
def train_stage1(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Stage 1, concept alignment: the projector alone."""
    execute(["stage1"], Asked(run=run, preset=preset, sets=sets), verbose=verbose)


@train_app.command("stage2")
def train_stage2(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Stage 2, instruction tuning: language model and projector, vision frozen, or LoRA."""
    execute(["stage2"], Asked(run=run, preset=preset, sets=sets), verbose=verbose)


@train_app.command("plan")
def train_plan(
    run: Run = None,
    preset: Preset = None,
    gpus: Annotated[
        int | None,
        typer.Option("--gpus", min=1, help="GPUs to plan for; default: those of the cluster, else of this machine.", show_default=False),
    ] = None,
    gpu_memory_gb: Annotated[
        float | None, typer.Option("--gpu-memory-gb", min=1, help="Memory of each, with --gpus; default 80.", show_default=False)
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Kind, for example H100, with --gpus; default: by memory A100 or H200.", show_default=False)
    ] = None,
    utilisation: Annotated[float, typer.Option("--utilisation", min=0.01, max=1.0, help="Share of the GPUs' peak that is reached.")] = 0.35,
    sets: Sets = None,
    verbose: Verbose = False,
) -> None:
    """Predict steps, memory on each GPU and hours of every stage; says what fits, and refuses what does not."""
    from cluster.train_plan_view import gpus_of, plan

    config, folder = load(Asked(run=run, preset=preset, sets=sets))
    prepare_environment(config.cluster, verbose=verbose)
    found = gpus_of(config.cluster, count=gpus, memory_gb=gpu_memory_gb, name=gpu, verbose=verbose)
    plan(config, folder, gpus=found, utilisation=utilisation, console=Display().console)


@train_app.command("track")
def train_track(run: Run = None, preset: Preset = None, sets: Sets = None) -> None:
    """Fill in what MLflow missed of the trainings in a run folder while it was down; a second time changes nothing."""
    from cluster.track_view import fill_in

    config, folder = load(Asked(run=run, preset=preset, sets=sets))
    prepare_environment(config.cluster, verbose=False)
    fill_in(config, folder, Display().console)


train_app.command("sweep")(train_sweep)


@app.command("serve")
def serve(run: Run = None, preset: Preset = None, sets: Sets = None, verbose: Verbose = False) -> None:
    """Serve the champion beside the detector over HTTP until interrupted (Ctrl-C)."""
    from cluster.steps_serve import check_servable, serve_forever

    config, folder = load(Asked(run=run, preset=preset, sets=sets))
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
