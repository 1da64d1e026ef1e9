"""`cg eval detector`: which detectors are evaluated, and their figures as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cg_data.errors import ConfigError
from cg_eval.detection.draw import short
from cg_eval.detection.report import number, percent
from cg_eval.detection.taxonomy import EXPLAINING, UNEXPLAINED, Error

OWN = "own"
"""Name of the run's own detector."""


def detectors_of(named: Sequence[str], own_folder: str) -> dict[str, str]:
    """Folder of each detector by name, from ``NAME=FOLDER`` texts; the run's own where there are none.

    Raises:
        ConfigError: a text is not of that form, or a name stands twice.
    """
    detectors: dict[str, str] = {}
    for text in named:
        name, equals, folder = text.partition("=")
        if not equals or not name or not folder:
            raise ConfigError(f"--detector {text}: write it as NAME=FOLDER, for example page=runs/a/detector.")
        if name in detectors:
            raise ConfigError(f"--detector {text}: there are two detectors named {name!r}. Give each a name of its own.")
        detectors[name] = folder if "://" in folder else str(Path(folder).absolute())
    return detectors or {OWN: own_folder}


def show(metrics: Mapping[str, Any], console: Console) -> None:
    """Print the tables of every detector, and how they differ."""
    for name, figures in metrics["detectors"].items():
        console.print(_summary(name, figures), soft_wrap=True)
        _classes(console, figures)
        _confusion(console, figures["confusion"])
        _taxonomy(console, figures["taxonomy"])
        _merged(console, figures["merged"])
        _calibration(console, figures["calibration"])
        _readers(console, figures["readers"])
    _comparisons(console, metrics["comparisons"])


def _summary(name: str, figures: Mapping[str, Any]) -> str:
    pages = f"{figures['pages']:,} pages of {figures['subjects']:,} subjects, {figures['minutes']:.1f} minutes"
    left = figures["proposals"] - figures["judged_proposals"]
    unjudged = f"; {left:,} of {figures['proposals']:,} proposals are where nobody looked, and in no figure" if left else ""
    means = f"mAP@0.5 {number(figures['map50'])}, mAP@0.5:0.95 {number(figures['map5095'])}"
    return f"[bold]{name}[/bold] ({figures['version']}): {pages}{unjudged}. {means}."


def _classes(console: Console, figures: Mapping[str, Any]) -> None:
    means = {"ap50": figures["map50"], "ap75": figures["map75"], "ap5095": figures["map5095"], "waveform": "all (mean)"}
    every = [*figures["classes"], {**figures["all"], **means}]
    ap = [(short(row["waveform"]), f"{row['references']:,}", *(number(row[name]) for name in ("ap50", "ap75", "ap5095"))) for row in every]
    _table(console, "Average precision", ("Class", "References", "AP@0.5", "AP@0.75", "AP@0.5:0.95"), ap)
    working = [
        (
            short(row["waveform"]).removesuffix(" (mean)"), f"{row['events']:,}", percent(row["precision"]), percent(row["recall"]),
            percent(row["f1"]), number(row["false_per_minute"], 2),
        )
        for row in every
    ]  # fmt: skip
    columns = ("Class", "Events", "Precision, %", "Recall, %", "F1, %", "False a minute")
    _table(console, "At the working thresholds", columns, working)


def _confusion(console: Console, matrix: Mapping[str, Any]) -> None:
    """Counts; columns carry the letters of the rows."""
    columns = [*"ABCDEFGHI", "missed"]
    titled = [f"{letter}  {short(name)}" for letter, name in zip(columns[:-1], matrix["names"][:-1], strict=True)] + ["nothing marked"]
    rows = [(title, *(f"{n:,}" if n else "" for n in counts)) for title, counts in zip(titled, matrix["counts"], strict=True)]
    _table(console, "Reference (rows) found as (columns), whatever the class", ("", *columns), rows)


def _taxonomy(console: Console, taxonomy: Mapping[str, Any]) -> None:
    rows = [*taxonomy["classes"], {"waveform": "all", **taxonomy["all"]}]
    parts = (
        ("errors", list(map(str, Error)), "Wrong events, % of the events"),
        ("missed", [*map(str, EXPLAINING), UNEXPLAINED], "Missed references by what explains them, % of the references"),
    )
    for part, kinds, title in parts:
        cells = [(short(row["waveform"]), *(percent(row[part][kind]["share"]) for kind in kinds)) for row in rows]
        _table(console, title, ("Class", *(kind.replace("_", " ") for kind in kinds)), cells)


def _merged(console: Console, merged: Mapping[str, Any]) -> None:
    rows = [
        (
            short(row["waveform"]), f"{row['references']:,}", f"{row['false']:,}", percent(row["sensitivity"]), percent(row["precision"]),
            percent(row["f1"]), number(row["false_per_minute"], 2),
        )
        for row in (*merged["classes"], {"waveform": "all", **merged["all"]})
    ]  # fmt: skip
    columns = ("Class", "References", "False", "Sensitivity, %", "Precision, %", "F1, %", "False a minute")
    _table(console, "Whole events: one on any channels, found by any overlap in time", columns, rows)


def _calibration(console: Console, calibration: Mapping[str, Any]) -> None:
    for part, title in (("proposals", "all proposals"), ("working", "events at the working thresholds")):
        rows = [
            (short(row["waveform"]), f"{row['score']['n']:,}", number(row["score"]["ece"]), number(row["probability"]["ece"]))
            for row in calibration[part]
        ]
        _table(console, f"Expected calibration error, {title}", ("Class", "Events", "Before (score)", "After (probability)"), rows)


def _readers(console: Console, readers: Sequence[Mapping[str, Any]]) -> None:
    pairs = [(row["waveform"], pair) for row in readers for pair in row["pairs"]]
    rows = [
        (short(w), f"{_who(p['first'])} and {_who(p['second'])}", f"{p['first_marks']:,} and {p['second_marks']:,}", f"{p['matched']:,}",
         percent(p["f1"]), number(p["kappa"], 2))
        for w, p in pairs
    ]  # fmt: skip
    _table(console, "Agreement where two readers marked", ("Class", "Between", "Marks", "Matched", "F1, %", "Kappa"), rows)
    against = [
        (short(row["waveform"]), f"reader {part['reader']}", percent(part["f1"]), number(part["kappa"], 2))
        for row in readers
        for part in row["detector_against_other_reader"]
    ]
    _table(console, "Detector's agreement less the other reader's", ("Class", "With", "F1, points", "Kappa"), against)


def _who(name: str) -> str:
    return name if name == "detector" else f"reader {name}"


def _comparisons(console: Console, comparisons: Sequence[Mapping[str, Any]]) -> None:
    for one in comparisons:
        rows = [("all (mean)", percent(one["map50"]), percent(one["map5095"]))]
        rows += [(short(row["waveform"]), percent(row["ap50"]), percent(row["ap5095"])) for row in one["classes"]]
        title = f"{one['second']} less {one['first']} on the same pages, paired by subject"
        _table(console, title, ("Class", "AP@0.5, points", "AP@0.5:0.95, points"), rows)


def _table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """The first column to the left, the others to the right; no table without rows."""
    cells = list(rows)
    if not cells:
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    for row in cells:
        table.add_row(*row)
    console.print(table)
