"""What the commands have in common: their options, the configuration that these ask for, and the steps that it leads to."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cg_data.corpora import CorpusName
from cg_data.errors import ConfigError
from cluster.config import RunConfig, name_of, read_preset, resolve_config
from cluster.display import Display
from cluster.pipeline import run_steps
from cluster.road import road_of, select
from cluster.runfolder import RunFolder, check_space
from cluster.session import prepare_environment, ray_session
from cluster.steps_data import is_samples, sources_of

Run = Annotated[
    str | None, typer.Option("--run", help="Run folder for all products (a path or file://); default runs/<preset>.", show_default=False)
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="tiny, qwen2.5-vl-3b, qwen2.5-vl-7b, qwen2.5-vl-7b-lora or a YAML file; default: what the run folder holds, else tiny.",
        show_default=False,
    ),
]
Edf = Annotated[
    Path | None,
    typer.Option("--edf", help="Folder of your own EDF files for the data steps and the service.", show_default=False),
]
Corpora = Annotated[
    list[str] | None,
    typer.Option("--corpus", help="A known corpus and where it lies, for example tusz=/data/tusz. Repeatable.", show_default=False),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change one value of the configuration, for example data.synthetic.subjects=12. Repeatable.", show_default=False
    ),
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show what Ray and the workers say.")]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the options of a command say about the run."""

    run: str | None
    preset: str | None
    sets: list[str] | None
    edf: Path | None = None
    corpora: list[str] | None = None


def load(asked: Asked) -> tuple[RunConfig, RunFolder]:
    """The run folder and its configuration: the stored one, or the preset where one is named; corpora and `--set` on top."""
    folder = RunFolder(uri=asked.run or f"runs/{name_of(asked.preset or 'tiny')}")
    stored = folder.stored_config() if asked.preset is None else None
    tree = stored if stored is not None else read_preset(asked.preset or "tiny")
    named = ([f"{CorpusName.FOLDER}={asked.edf}"] if asked.edf else []) + (asked.corpora or [])
    if named:
        tree["corpora"] = dict(_named_corpus(text) for text in named)
    return resolve_config(tree, list(asked.sets or [])), folder


def _named_corpus(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not equals or not place:
        raise ConfigError(f"--corpus {text}: write it as name=place, for example tusz=/data/tusz.")
    return name, place if "://" in place else str(Path(place).absolute())


def is_alone(context: typer.Context) -> bool:
    """Whether a group of commands is called without one of them.

    Raises:
        ConfigError: it is called with one, and with options before it, which that one would not see.
    """
    command = context.invoked_subcommand
    if command is not None and any(context.params.values()):
        raise ConfigError(
            f"{context.command_path}: options stand after the command, as in `{context.command_path} {command} --run FOLDER`."
        )
    return command is None


def execute(names: list[str], asked: Asked, *, verbose: bool) -> None:
    """Do the steps `names` (all, where empty) of the configured road and print the closing table."""
    config, folder = load(asked)
    for corpus in config.corpora:
        sources_of(config, folder, corpus)
    road = road_of(config)
    wanted = select(road, names, config, folder.finished())
    if config.data.teacher.url and any(is_samples(step) for step in wanted if step.name not in folder.finished()):
        from cg_data.instruct.teacher_endpoint import endpoint_of  # the client takes a second to import

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
