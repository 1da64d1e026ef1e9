"""Ray for the length of one command: joins the cluster that is named, or starts a private local one with a token of its own."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from cg_data.errors import ClusterError
from cluster.config import ClusterSettings

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
}
"""No telemetry, no chatter, no lowered priority of workers; read by the libraries when they are imported, so set before."""
_IDLE = {
    "RAY_enable_metrics_collection": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_event_stats": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
    "METRICS_RECORD_INTERVAL_S": "60",
    "AUTOSCALER_UPDATE_INTERVAL_S": "60",
    "RAY_DASHBOARD_AGENT_CHECK_PARENT_INTERVAL_S": "2",
    "RAY_memory_monitor_refresh_ms": "1000",
}
"""What a local Ray keeps account of for a dashboard and an autoscaler that it does not have, on the cores that compute."""


def prepare_environment(settings: ClusterSettings, *, verbose: bool) -> None:
    """Set what the libraries read at import, so before anything imports Ray; a user's own value stands.

    A local Ray gets token authentication; a cluster that is joined has its own.
    """
    if not address_of(settings):
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        for name, value in _IDLE.items():
            os.environ.setdefault(name, value)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if not verbose:
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        os.environ.setdefault("RAY_LOG_TO_STDERR", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it calls errors it mends itself


_TRIES = 3


@contextmanager
def ray_session(settings: ClusterSettings, *, verbose: bool) -> Iterator[None]:
    """A Ray driver connection.

    Raises:
        ClusterError: the named cluster does not answer or refuses the token.
    """
    prepare_environment(settings, verbose=verbose)
    address = address_of(settings)
    if address:
        check_address(address)
    import ray

    temporary = None if address else tempfile.mkdtemp(prefix="cg-ray-")
    try:
        _init(_joined(address) if address else _local(settings, str(temporary)), verbose)
        if not address and not verbose:
            ray._private.worker._global_node.kill_log_monitor()  # ten times a second it looks for lines that nobody is to see
        _quieten_data(verbose)
        yield
    except ConnectionError as error:
        raise ClusterError(f"Ray cluster {address or 'local'}: no connection ({' '.join(str(error).split())[:200]}).") from error
    finally:
        ray.shutdown()
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _init(arguments: dict[str, Any], verbose: bool) -> None:
    """Start or join Ray. A local node has half a minute to come up, fixed by Ray; a busy machine gets a second and a third try.

    Raises:
        ClusterError: the local node did not come up.
    """
    import ray

    for _ in range(_TRIES):
        try:
            with nullcontext() if verbose else _muted():
                ray.init(**arguments, **_logging(verbose))
            return
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    raise ClusterError("the local Ray did not come up within a minute and a half. Is the machine overloaded or out of memory?")


@contextmanager
def _muted() -> Iterator[None]:
    """Nothing reaches stderr, not even from C++, which says there at which level it is going to log. Exceptions pass as ever."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def check_address(address: str) -> None:
    """Ask whether anybody answers at `address` before Ray waits for it.

    Raises:
        ClusterError: nobody answers, or the address is not one that a driver can join.
    """
    if address.startswith("ray://"):
        raise ClusterError(f"{address}: run this on the cluster itself, as `ray job submit -- cg ...`, not through Ray Client.")
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        if address in ("auto", "local"):
            return
        raise ClusterError(f"Ray cluster {address!r}: not an address. Write host:port, for example 10.0.0.5:6379, or auto.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ClusterError(
            f"Ray cluster {address}: nobody answers ({error}). Is the head node running, and is RAY_ADDRESS right?"
        ) from error


def address_of(settings: ClusterSettings) -> str:
    """Address of the cluster to join, as configured or in the environment; empty for a local Ray."""
    return settings.address or os.environ.get("RAY_ADDRESS", "")


def _joined(address: str) -> dict[str, Any]:
    return {"address": address}


def _local(settings: ClusterSettings, temporary: str) -> dict[str, Any]:
    return {
        "address": "local",
        "num_cpus": settings.local_cpus,
        "object_store_memory": settings.object_store_mib * 2**20,
        "include_dashboard": False,
        "_temp_dir": temporary,
    }


def _logging(verbose: bool) -> dict[str, Any]:
    return {"log_to_driver": verbose, "logging_level": logging.INFO if verbose else logging.ERROR, "configure_logging": True}


def _quieten_data(verbose: bool) -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = verbose
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # else only its text is left, and a user's mistake is not told from a bug
    if not verbose:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
