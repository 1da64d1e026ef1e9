"""`cg data audit`: the noise of a run's samples on the terminal and in a JSON file."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from cg_data import storage
from cg_data.audit import Audit, Rate, Truth, audit
from cg_data.corpora import CorpusName
from cluster.display import Display
from cluster.runfolder import RunFolder
from cluster.steps_data import SYNTHETIC
from cluster.verify_view import folders_of


def audit_run(folder: RunFolder, corpus: CorpusName, display: Display, *, reader: str = "", most_shards: int | None = None) -> Audit:
    """Audit the samples of one corpus, show what was found and keep it in ``audit-<corpus>.json`` of the run folder.

    The embedded corpus has planted labels; others are held against the marks of `reader`, or of all readers.
    """
    truth = Truth(planted=corpus == SYNTHETIC and not reader, reader=reader)
    with display.step(f"Auditing {corpus}") as progress:
        found = audit(folders_of(folder, corpus), truth, most_shards=most_shards, progress=progress)
    uri = folder.at(f"audit-{corpus}.json")
    storage.write_json(uri, found.to_json())
    show(found, display.console)
    display.say(f"These figures are in {uri}.")
    return found


def show(found: Audit, console: Console) -> None:
    """Print an audit as tables."""
    console.print(
        f"{found.samples:,} samples about {found.pages:,} pages of {found.subjects:,} subjects, held against {found.truth}. "
        "Intervals are of 95 %, over subjects.",
        soft_wrap=True,
    )
    _table(console, "Sentences that are not so, by kind of sample", "Kind", found.sentences)
    _table(console, "Sentences not borne out by the annotation that they were written from", "Kind", found.written)
    _table(console, "Claims, by what they are about", "About", found.claims)
    _table(console, "Claims that a finding is there", "Finding", found.findings)
    _table(console, "Findings of which captions and descriptions do not speak", "Finding", found.omitted, silent=True)


def _table(console: Console, title: str, first: str, rates: Iterable[Rate], *, silent: bool = False) -> None:
    """Nothing where there are no rows. Of what was left out nothing can be contradicted, so it has one column less."""
    rows = list(rates)
    if not rows:
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column(first)
    for column in ("There", "Left out") if silent else ("Said", "Contradicted", "Not borne out"):
        table.add_column(column, justify="right")
    table.add_column("Share", justify="right")
    table.add_column("95 % interval")
    for rate in rows:
        counts = [rate.items, rate.unsupported] if silent else [rate.items, rate.contradicted, rate.unsupported]
        table.add_row(rate.name, *(f"{count:,}" for count in counts), f"{rate.share.value:.1%}", _spread(rate))
    console.print(table)


def _spread(rate: Rate) -> str:
    low, high = rate.share.low, rate.share.high
    return "" if low is None or high is None else f"{low:.1%} to {high:.1%}"
