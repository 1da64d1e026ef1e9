"""What a person sees while a command works: a bar per step with rate and time left, a line when it is done, a closing table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cg_data.progress import Progress as Report
from cluster.runfolder import FinishedStep

_PLAIN_EVERY_S = 15.0


class Display:
    """Progress on a terminal as bars, elsewhere as a line every few seconds."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Report]:
        """Show one step; the value is the callable that the step reports to."""
        if self.console.is_terminal:
            with self._bar(title) as report:
                yield report
        else:
            self.say(f"{title} ...")
            yield self._lines(title)

    @contextmanager
    def _bar(self, title: str) -> Iterator[Report]:
        columns = (
            TextColumn("[bold]{task.description:<34}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(title, total=None, note="")
            start = time.monotonic()

            def report(done: float, total: float, note: str = "") -> None:
                bars.update(task, completed=done, total=total, note=_with_rate(done, start, note))

            yield report

    def _lines(self, title: str) -> Report:
        start = last = time.monotonic()

        def report(done: float, total: float, note: str = "") -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < _PLAIN_EVERY_S or done <= 0:
                return
            last = now
            left = (now - start) * (total - done) / done
            self.say(f"  {title}: {done / total:4.0%}, {_with_rate(done, start, note)}, about {left:.0f} s left")

        return report

    def done(self, title: str, step: FinishedStep) -> None:
        self.console.print(f"[green]done[/green]  {title:<34} {duration(step.seconds):>8}  {step.result.figure}", soft_wrap=True)

    def skipped(self, title: str, step: FinishedStep) -> None:
        self.console.print(f"[dim]kept  {title:<34} {duration(step.seconds):>8}  {step.result.figure}[/dim]", soft_wrap=True)

    def closing_table(self, titles: dict[str, str], steps: list[FinishedStep]) -> None:
        """Step, time, counts, key figure."""
        table = Table(title="What was made", title_justify="left", header_style="bold")
        for name, justify in (("Step", "left"), ("Time", "right"), ("Counts", "left"), ("Key figure", "left")):
            table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for step in steps:
            counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in step.result.counts.items())
            table.add_row(titles.get(step.name, step.name), duration(step.seconds), counts, step.result.figure)
        table.add_row("Total", duration(sum(s.seconds for s in steps)), "", "", style="bold")
        self.console.print(table)


def duration(seconds: float) -> str:
    """``75.2`` as ``"1:15"``, below a minute ``"12.3 s"``."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _with_rate(done: float, start: float, note: str) -> str:
    elapsed = time.monotonic() - start
    rate = done / elapsed if elapsed > 0 else 0.0
    return f"{rate:.1f}/s {note}".strip()
