"""`cg data plan`: what a corpus holds, what this machine does in a second, and what the work will take elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from cg_data import storage
from cg_data.errors import ConfigError
from cg_data.inspect import inspect
from cg_data.plan import Machines, Plan, Rates, measure_rates, plan_of
from cg_data.settings import DataSettings
from cluster.display import Display
from cluster.inspect_view import corpus_of


def plan(
    corpus: str, path: str, *, settings: DataSettings, nodes: int, cores: int | None, gpus: int, rates: Path | None, detector: str | None
) -> Plan:
    """Inspect, measure or read the rates, predict, and print it all.

    Raises:
        UserError: the corpus, the rates or the detector cannot be used.
    """
    display = Display()
    with display.step("Inspecting") as progress:
        found = inspect(corpus_of(corpus), path, settings=settings, progress=progress)
    measured = _rates(rates, detector, settings, display)
    machines = Machines(nodes=nodes, cores_per_node=cores or os.cpu_count() or 1, gpus=gpus)
    planned = plan_of(found.duration_s / 3600, measured, machines)
    _show(planned, measured, machines, display.console)
    return planned


def _rates(file: Path | None, detector: str | None, settings: DataSettings, display: Display) -> Rates:
    """Those of the file where there is one; else measured here, and written to it."""
    if file is not None and file.exists():
        try:
            return Rates.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{file}: {where}: {first['msg']}. Delete the file to measure anew.") from None
    with display.step("Measuring this machine"):
        rates = measure_rates(settings, detector)
    if file is not None:
        storage.write_bytes(str(file.absolute()), rates.model_dump_json(indent=1).encode())
        display.say(f"The rates are in {file}; give the same --rates on another machine to plan with them.")
    return rates


def _show(planned: Plan, rates: Rates, machines: Machines, console: Console) -> None:
    gpus = f" and {machines.gpus} GPUs" if machines.gpus else ""
    title = f"{planned.hours:,.1f} hours, {planned.pages:,} pages, on {machines.nodes} x {machines.cores_per_node} cores{gpus}"
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in ("Stage", "Core-hours", "GPU-hours", "Time", "Waits for", "Written"):
        table.add_column(column, justify="left" if column in ("Stage", "Waits for") else "right")
    for stage in planned.stages:
        table.add_row(
            stage.name, _number(stage.core_hours), _number(stage.gpu_hours), _time(stage.wall_hours), stage.bound_by, _size(stage.bytes)
        )
    core_h, gpu_h = sum(s.core_hours for s in planned.stages), sum(s.gpu_hours for s in planned.stages)
    table.add_row("Total", _number(core_h), _number(gpu_h), _time(planned.wall_hours), "", _size(planned.bytes), style="bold")
    console.print(table)
    if planned.cores_per_gpu is not None:
        actors = max(1, round(planned.cores_per_gpu + 1))
        console.print(
            f"{planned.cores_per_gpu:.1f} cores keep one GPU busy while pages are analysed: about {actors} actors share it "
            f"(data.engine.gpus_per_actor={1 / actors:.2g}, data.engine.detect_actors={actors * machines.gpus})."
        )
    for said in planned.assumptions:
        console.print(f"Assumed: {said}.", soft_wrap=True)


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 0.1 or value == 0 else f"{value:.3f}"


def _time(hours: float) -> str:
    if hours >= 1:
        return f"{hours:,.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def _size(n_bytes: float) -> str:
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:,.1f} {unit}"
    return f"{n_bytes / 1024:,.1f} KiB"
