"""CPU, memory, disk, network and GPUs of a node, looked at by MLflow's own monitors in a process of its own, written to a journal.

MLflow's monitor as a whole writes to the server from inside the training process and ends when the server does not answer; importing
MLflow there costs training a second and a half. Its parts, in a process beside, know neither the server nor the training.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cg_train.tracking import Journal, now_ms, quiet, system_journal

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor


@contextlib.contextmanager
def watched(folder: Path, every_s: float | None) -> Iterator[None]:
    """Journal what this node does every `every_s` seconds, or never, while the context lasts; the first worker of each node does it."""
    if every_s is None or os.environ["LOCAL_RANK"] != "0":
        yield
        return
    watcher = subprocess.Popen(
        [sys.executable, "-m", "cg_train.system_metrics", str(folder), str(every_s), str(os.getpid())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.wait()


def _watch(journal: Journal, node: str, every_s: float, parent: int) -> None:
    """Until the process `parent`, which started this one, is no more."""
    step = len(journal.read())
    monitors = _monitors()
    while os.getppid() == parent:
        step += 1
        figures: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            figures |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        journal.append({"step": step, "time_ms": now_ms(), **{f"system/{node}/{name}": value for name, value in figures.items()}})
        time.sleep(every_s)


def _monitors() -> list[BaseMetricsMonitor]:
    quiet()
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    logging.disable(logging.WARNING)
    monitors: list[BaseMetricsMonitor] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(RuntimeError):  # there is no GPU
        monitors.append(GPUMonitor())
    return monitors


if __name__ == "__main__":
    _watch(system_journal(Path(sys.argv[1]), platform.node()), platform.node(), float(sys.argv[2]), int(sys.argv[3]))
