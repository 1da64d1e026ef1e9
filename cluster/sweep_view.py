"""`cg train sweep`: ablations of a run, done where they are missing, and one table of them: terminal, CSV and Markdown."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table

from cg_data import storage
from cg_data.intervals import Interval
from cg_eval.comparison import SCORES, Compared, compare
from cg_eval.settings import EvalSettings
from cg_train.tracking import metrics_journal
from cluster.config import RunConfig
from cluster.display import Display, duration
from cluster.runfolder import RunFolder
from cluster.session import ray_session
from cluster.steps_train import tracking_of
from cluster.sweep import BASE, Sweep, Trial, trial_of

_TRAINED = ("stage1", "stage2")
_FILES = ("comparison.csv", "comparison.md")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One ablation, or the run itself, in the table; `reason` is empty where it is done, and says why it is not.

    `train_s` are seconds of steps, `tokens` those with a loss, both of stage 1 and 2 together, shared with the run or not.
    """

    name: str
    about: str
    scores: Mapping[str, Compared]
    train_s: float
    tokens: int
    reason: str = ""

    @property
    def figures(self) -> dict[str, float]:
        """What MLflow shows."""
        scores = {name: score.figure.value for name, score in self.scores.items()}
        differences = {f"{name} difference": score.difference.value for name, score in self.scores.items()}
        named = {key.replace("/", " or "): value for key, value in {**scores, **differences}.items()}
        return {**named, "train_s": self.train_s, "tokens": float(self.tokens)}


def sweep(config: RunConfig, folder: RunFolder, asked: Sweep, only: Sequence[str], display: Display, *, verbose: bool) -> bool:
    """Do what is missing of the ablations of a finished run, and print and write the table of all that are done.

    Returns:
        Whether none failed.

    Raises:
        UserError: an ablation cannot be made of this run's configuration, or the cluster does not answer.
    """
    from cluster.sweep_run import run_trials
    from cluster.sweep_track import track_trials

    tracking = tracking_of(config, folder)
    of = partial(trial_of, config=config, base=RunFolder(uri=str(folder.path.absolute())), tracking_uri=tracking.uri)
    wanted = asked.only(only)
    trials = [of(one) for one in asked.ablations if one in wanted or storage.exists(folder.at("sweep", one.name))]
    missing = [trial for trial in trials if trial.name in {one.name for one in wanted} and not trial.is_done()]
    with folder.locked():
        if missing:
            with ray_session(config.cluster, verbose=verbose), display.step("Ablations") as progress:
                run_trials(missing, RunFolder(uri=folder.at("sweep")), progress)
        shown = [trial for trial in trials if trial.is_done() or trial.failure()]
        rows = [row_of(BASE, "the run itself", folder, folder, config.evaluate), *map(_row, shown)]
        write_table(rows, folder)
        show(rows, display.console)
        track_trials(shown, {row.name: row.figures for row in rows if not row.reason}, tracking)
    display.say(f"The table is in {' and '.join(folder.at('sweep', name) for name in _FILES)}.")
    return all(trial.is_done() for trial in missing)


def _row(trial: Trial) -> Row:
    if trial.is_done():
        return row_of(trial.name, trial.about, trial.folder, trial.base, trial.config.evaluate)
    return Row(name=trial.name, about=trial.about, scores={}, train_s=0.0, tokens=0, reason=trial.failure())


def row_of(name: str, about: str, folder: RunFolder, base: RunFolder, settings: EvalSettings) -> Row:
    """The row of a run folder whose bench is done, compared with that of `base`."""
    answers, usual = (storage.read_table(one.at("bench", "answers.parquet")) for one in (folder, base))
    lines = [line for stage in _TRAINED for line in metrics_journal(folder.path / "train" / stage, 0).read()]
    return Row(
        name=name,
        about=about,
        scores=compare(answers, usual, settings),
        train_s=sum(line["seconds"] for line in lines),
        tokens=sum(line["tokens"] for line in lines),
    )


def show(rows: Sequence[Row], console: Console) -> None:
    """The table on a terminal."""
    table = Table(
        title="Ablations: figures on held-out subjects with 95 % intervals, and below them the paired difference to the run",
        title_justify="left",
        header_style="bold",
    )
    names = _names(rows)
    for column in ("Ablation", *names, "Training", "Tokens learnt"):
        table.add_column(column, justify="left" if column == "Ablation" else "right", no_wrap=column == "Ablation")
    for row in rows:
        if row.reason:
            table.add_row(row.name, "[red]failed[/red]")
        else:
            cells = [_cell(row, name, "\n", digits=2) for name in names]
            table.add_row(row.name, *cells, duration(row.train_s), f"{row.tokens:,}")
    console.print(table)
    for row in rows:
        if row.reason:
            console.print(f"[red]failed[/red]  {row.name}: ", end="")
            console.print(row.reason, markup=False, soft_wrap=True)


def _names(rows: Sequence[Row]) -> list[str]:
    return [name for name in SCORES if any(name in row.scores for row in rows)]


def _cell(row: Row, name: str, between: str, *, digits: int) -> str:
    score = row.scores.get(name)
    if score is None:
        return ""
    figure = _written(score.figure, f".{digits}f")
    return figure if row.name == BASE else figure + between + _written(score.difference, f"+.{digits}f")


def _written(figure: Interval, form: str) -> str:
    ends = "" if figure.low is None or figure.high is None else f" [{figure.low:{form}}, {figure.high:{form}}]"
    return f"{figure.value:{form}}{ends}"


def write_table(rows: Sequence[Row], folder: RunFolder) -> None:
    """``sweep/comparison.csv`` and ``sweep/comparison.md``."""
    for name, text in zip(_FILES, (_as_csv(rows), _as_markdown(rows)), strict=True):
        storage.write_bytes(folder.at("sweep", name), text.encode())


def _as_csv(rows: Sequence[Row]) -> str:
    names, ends = _names(rows), ("value", "low", "high")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = [f"{name} {kind}{end}" for name in names for kind in ("", "difference ") for end in ends]
    writer.writerow(["ablation", "about", "failed because", *columns, "train_s", "tokens"])
    for row in rows:
        figures: list[object] = []
        for name in names:
            score = row.scores.get(name)
            both = (None, None) if score is None else (score.figure, score.difference)
            figures += ["" if one is None else getattr(one, end) for one in both for end in ends]
        made = ["", ""] if row.reason else [round(row.train_s, 3), row.tokens]
        writer.writerow([row.name, row.about, row.reason, *figures, *made])
    return stream.getvalue()


def _as_markdown(rows: Sequence[Row]) -> str:
    names = _names(rows)
    lines = [
        "Figures on held-out subjects with 95 % intervals; after the semicolon the paired difference to the run.",
        "",
        f"| Ablation | About | {' | '.join(names)} | Training, s | Tokens learnt |",
        f"|---|---|{'---:|' * (len(names) + 2)}",
    ]
    for row in rows:
        cells = [f"failed: {_plain(row.reason)}", *[""] * (len(names) + 1)]
        if not row.reason:
            cells = [*(_cell(row, name, "; ", digits=3) for name in names), f"{row.train_s:.1f}", f"{row.tokens:,}"]
        lines.append(f"| {row.name} | {_plain(row.about)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """`text` as it can stand in a cell of Markdown."""
    return text.replace("|", "/")
