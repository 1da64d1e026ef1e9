"""`cg train sweep`: the ablations of a run by one command."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.display import Display
from cluster.options import Asked, Preset, Run, Sets, Verbose, execute, load
from cluster.session import prepare_environment
from cluster.sweep import read_sweep

_ROAD = ["corpus", "segments", "detector", "annotations", "samples", "general", "sight", "base", "stage1", "stage2", "bench"]
"""What the run itself needs before anything can be compared with it."""


def train_sweep(
    run: Run = None,
    preset: Preset = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep", help="paper, tiny or a YAML file of ablations; default: tiny for the tiny model, else paper.", show_default=False
        ),
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Names of ablations, by commas; default: all.", show_default=False)] = "",
    sets: Sets = None,
    verbose: Verbose = False,
) -> None:
    """Train and ask every ablation of a run on Ray Tune, as far as that is missing, and compare them. Exit code 1 where one failed."""
    from cluster import sweep_view

    asked = Asked(run=run, preset=preset, sets=sets)
    config, folder = load(asked)
    chosen = read_sweep(sweep or ("tiny" if config.train.source == "tiny" else "paper"))
    names = [name.strip() for name in only.split(",") if name.strip()]
    for ablation in chosen.only(names):
        ablation.applied(config)  # a mistake is said before hours of work
    execute(_ROAD, asked, verbose=verbose)
    prepare_environment(config.cluster, verbose=verbose)
    if not sweep_view.sweep(config, folder, chosen, names, Display(), verbose=verbose):
        raise typer.Exit(1)
