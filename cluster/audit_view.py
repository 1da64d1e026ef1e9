"""`cg data audit`: the noise rate of a corpus's samples as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cg_data.audit import Audit, Rate
from cg_data.intervals import Interval
from cg_data.vocabulary import Truth

_TRUTHS = {
    Truth.PLANTED: "what was planted",
    Truth.MARKS: "the marks of the readers",
    Truth.ANNOTATION: "the annotations that they were made from",
}
_CONTRADICTED, _UNSUPPORTED = "Contradicted, %", "Not borne out, %"
_BOTH = (_CONTRADICTED, _UNSUPPORTED)


def show(audit: Audit, console: Console) -> None:
    """Print every table of an audit, shares in per cent with their 95 % intervals over subjects."""
    against = f"the marks of reader {audit.reader}" if audit.reader else _TRUTHS[Truth(audit.truth)]
    console.print(
        escape(f"{audit.segments:,} pages of {audit.subjects:,} subjects held against {against}. ")
        + f"{audit.unjudged:,} statements are about what that cannot tell and are left out.",
        soft_wrap=True,
    )
    _table(console, "Statements by what they are held against", "Held against", "Statements", audit.held, _BOTH)
    _table(console, "Statements by kind of sample", "Sample", "Statements", audit.by_sample, _BOTH)
    _table(console, "Statements by what they claim", "Claim", "Statements", audit.by_claim, _BOTH)
    _table(console, "Says that it is there", "Finding", "Statements", audit.affirmed, (_CONTRADICTED,))
    _table(console, "Says that it is not there", "Finding", "Statements", audit.denied, (_CONTRADICTED,))
    _table(console, "It is there and a caption or description is silent", "Finding", "Texts", audit.omitted, ("Silent, %",))
    _table(console, "Samples with any such statement", "Sample", "Samples", audit.samples, _BOTH)
    _table(console, "Choices with a second right option", "Sample", "Questions", audit.choices, ("Ambiguous, %",))


def _table(console: Console, title: str, first: str, unit: str, rates: Sequence[Rate], columns: Sequence[str]) -> None:
    """One row for each rate; no table where there is none."""
    if not rates:
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column(first)
    for column in (unit, *columns):
        table.add_column(column, justify="right")
    for rate in rates:
        shares = (rate.contradicted, rate.unsupported)[: len(columns)]
        table.add_row(rate.name.replace("_", " "), f"{rate.n:,}", *map(_percent, shares))
    console.print(table)


def _percent(share: Interval) -> str:
    """ "3.1 (1.2 to 5.0)"; without an interval where a single subject gives none."""
    if share.low is None or share.high is None:
        return f"{100 * share.value:.1f}"
    return f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
