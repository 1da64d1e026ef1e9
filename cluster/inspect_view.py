"""An inspection of a corpus as tables on the terminal."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cg_data.corpora import CorpusName
from cg_data.errors import ConfigError
from cg_data.inspect import Inspection, RuleTotal
from cg_data.vocabulary import N_CHANNELS
from cluster.config import nearest

_MANY = 40


def corpus_of(name: str) -> CorpusName:
    """The corpus that a user names.

    Raises:
        ConfigError: there is none of that name.
    """
    if name.lower() not in set(CorpusName):
        raise ConfigError(f"unknown corpus {name!r}{nearest(name.lower(), list(CorpusName))} Known are {', '.join(CorpusName)}.")
    return CorpusName(name.lower())


def show(inspection: Inspection, console: Console) -> None:
    """Print what a corpus holds and what is wrong with it."""
    console.print(
        f"{inspection.files:,} files: {inspection.accepted:,} can be used ({inspection.subjects:,} subjects, "
        f"{_time(inspection.duration_s)}), {inspection.files - inspection.accepted:,} would be refused.",
        soft_wrap=True,
    )
    splits = [(split, f"{t.files:,}", f"{t.subjects:,}", _time(t.duration_s)) for split, t in inspection.splits.items()]
    _table(console, "Splits", ("Split", "Files", "Subjects", "Time"), splits)
    rates = [(f"{sfreq_hz:g} Hz", f"{files:,}") for sfreq_hz, files in inspection.sfreqs_hz.items()]
    _table(console, "Sampling rates", ("Rate", "Files"), rates)
    electrodes = [(f"{n} of {N_CHANNELS}", f"{files:,}") for n, files in inspection.electrodes.items()]
    _table(console, "Electrodes", ("Electrodes", "Files"), electrodes)
    _show_signals(inspection, console)
    labels = [(t.kind, t.name, f"{t.count:,}", _time(t.duration_s)) for t in inspection.labels]
    _table(console, "Labels", ("Kind", "Name", "Count", "Time"), labels)
    _table(console, "Problems", ("Rule", "Files", "Count", "Such as"), _problems(inspection.problems))
    _table(console, "Would be refused", ("Reason", "Files", "Such as"), _refused(inspection.refused))


def _show_signals(inspection: Inspection, console: Console) -> None:
    """Labels of signals, those together that are in equally many files."""
    rows = []
    for files, group in itertools.groupby(inspection.channels.items(), key=lambda item: item[1]):
        labels = [label for label, _ in group]
        more = f" and {len(labels) - _MANY:,} more" if len(labels) > _MANY else ""
        rows.append((f"{files:,}", ", ".join(labels[:_MANY]) + more))
    _table(console, "Signals", ("Files", "Labels"), rows)


def _refused(totals: Iterable[RuleTotal]) -> list[Sequence[str]]:
    return [(t.rule, f"{t.files:,}", "\n".join(t.examples)) for t in totals]


def _problems(totals: Iterable[RuleTotal]) -> list[Sequence[str]]:
    return [(t.rule, f"{t.files:,}", f"{t.count:,}", "\n".join(t.examples)) for t in totals]


def _table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with numbers on the right; none where there is nothing to show."""
    if not rows:
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in ("Files", "Subjects", "Time", "Count") else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _time(seconds: float) -> str:
    """Hours from one hour on, else minutes or seconds."""
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"
