"""`cg eval detector`: which detectors are evaluated, and their figures as tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
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
    """Print what matters most, first: means and working points of all detectors and how they differ; then the tables of each.

    Eighty columns hold every table: percentages are whole, and figures that less hangs on are in ``report.html`` alone.
    """
    detectors: Mapping[str, Mapping[str, Any]] = metrics["detectors"]
    for name, figures in detectors.items():
        console.print(_summary(name, figures), soft_wrap=True)
    _comparisons(console, metrics["comparisons"])
    for name, figures in detectors.items():
        if len(detectors) > 1:
            console.print(f"\n[bold]{name}[/bold]")
        _classes(console, figures)
        _confusion(console, figures["confusion"])
        _errors(console, figures)
        _merged(console, figures["merged"])
        _calibration(console, figures["calibration"])
        _readers(console, figures["readers"])


def _summary(name: str, figures: Mapping[str, Any]) -> str:
    pages = f"{figures['pages']:,} pages of {figures['subjects']:,} subjects, {figures['minutes']:.1f} minutes"
    left = figures["proposals"] - figures["judged_proposals"]
    unjudged = f"; {left:,} of {figures['proposals']:,} proposals are where nobody looked, and in no figure" if left else ""
    means = f"mAP@0.5 {number(figures['map50'])}, mAP@0.5:0.95 {number(figures['map5095'])}"
    events = figures["all"]
    rates = f"precision {percent(events['precision'], 0)} %, recall {percent(events['recall'], 0)} %"
    return (
        f"[bold]{name}[/bold] ({figures['version']}): {pages}{unjudged}.\n  {means}.\n"
        f"  At the working thresholds {rates},\n  and {number(events['false_per_minute'], 2)} false events a minute."
    )


def _classes(console: Console, figures: Mapping[str, Any]) -> None:
    means = {"ap50": figures["map50"], "ap5095": figures["map5095"], "waveform": "all (mean)"}
    ap = [
        (short(row["waveform"]), f"{row['references']:,}", number(row["ap50"], 2), number(row["ap5095"], 2))
        for row in (*figures["classes"], {**figures["all"], **means})
    ]
    _table(console, "Average precision, with 95 % intervals", ("Class", "References", "AP@0.5", "AP@0.5:0.95"), ap)
    working = [
        (short(row["waveform"]), percent(row["precision"], 0), percent(row["recall"], 0), number(row["false_per_minute"], 2))
        for row in (*figures["classes"], {**figures["all"], "waveform": "all"})
    ]
    _table(console, "At the working thresholds", ("Class", "Precision, %", "Recall, %", "False a minute"), working)


def _confusion(console: Console, matrix: Mapping[str, Any]) -> None:
    """Counts; columns carry the letters of the rows."""
    columns = [*"ABCDEFGHI", "missed"]
    titled = [f"{letter}  {short(name)}" for letter, name in zip(columns[:-1], matrix["names"][:-1], strict=True)] + ["nothing marked"]
    rows = [(title, *(f"{n}" if n else "" for n in counts)) for title, counts in zip(titled, matrix["counts"], strict=True)]
    _table(console, "Reference (rows) found as (columns), whatever the class", ("", *columns), rows)


def _errors(console: Console, figures: Mapping[str, Any]) -> None:
    """Counts; shares with intervals are in the report."""
    taxonomy, totals = figures["taxonomy"], {row["waveform"]: row for row in figures["classes"]} | {"all": figures["all"]}
    rows = [*taxonomy["classes"], {"waveform": "all", **taxonomy["all"]}]
    parts = (
        ("errors", "events", list(map(str, Error)), "Wrong events by kind"),
        ("missed", "references", [*map(str, EXPLAINING), UNEXPLAINED], "Missed references by what explains them"),
    )
    for part, of, kinds, title in parts:
        cells = [
            (short(row["waveform"]), f"{totals[row['waveform']][of]:,}", *(f"{row[part][kind]['count']:,}" for kind in kinds))
            for row in rows
        ]
        _table(console, title, ("Class", of.capitalize(), *(kind.replace("_", "\n") for kind in kinds)), cells)


def _merged(console: Console, merged: Mapping[str, Any]) -> None:
    rows = [
        (short(row["waveform"]), percent(row["sensitivity"], 0), percent(row["precision"], 0), number(row["false_per_minute"], 2))
        for row in (*merged["classes"], {"waveform": "all", **merged["all"]})
    ]
    columns = ("Class", "Sensitivity, %", "Precision, %", "False a minute")
    _table(console, "Whole events: one on any channels, found by any overlap in time", columns, rows)


def _calibration(console: Console, calibration: Mapping[str, Any]) -> None:
    """Of all classes together; each class is in the report."""
    rows = [
        (title, f"{row['score']['n']:,}", number(row["score"]["ece"], 2), number(row["probability"]["ece"], 2))
        for part, title in (("proposals", "all proposals"), ("working", "at the working thresholds"))
        for row in calibration[part]
        if row["waveform"] == "all"
    ]
    _table(console, "Expected calibration error", ("Events", "Number", "Before (score)", "After (probability)"), rows)


def _readers(console: Console, readers: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (short(row["waveform"]), f"{_who(pair['first'])} and {_who(pair['second'])}", percent(pair["f1"], 0), number(pair["kappa"], 2))
        for row in readers
        for pair in row["pairs"]
    ]
    _table(console, "Agreement where two readers marked", ("Class", "Between", "F1, %", "Kappa"), rows)
    against = [
        (short(row["waveform"]), f"reader {part['reader']}", percent(part["f1"], 0), number(part["kappa"], 2))
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
    """The first column to the left, the others to the right and never wrapped; no table without rows."""
    cells = list(rows)
    if not cells:
        return
    narrow: dict[str, Any] = {"box": SIMPLE_HEAD, "show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(title=f"\n{title}", title_justify="left", header_style="bold", **narrow)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=bool(place))
    for row in cells:
        table.add_row(*row)
    console.print(table)
