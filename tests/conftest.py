"""Fixtures of the whole suite: real recordings where they are, and homes of third-party tools kept inside a temporary folder."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_HOME = tempfile.mkdtemp(prefix="cg-test-home-")
os.environ["YOLO_CONFIG_DIR"] = _HOME
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "token"  # read when Ray is imported, so before any test module
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ.pop("RAY_ADDRESS", None)
os.environ.setdefault("OMP_NUM_THREADS", "1")

REAL_EEG = Path(os.environ.get("CG_REAL_EEG", Path(__file__).parents[2] / "shared" / "data" / "real"))


@pytest.fixture(scope="session")
def real_eeg() -> Path:
    """Folder of real recordings (see its MANIFEST.csv)."""
    if not REAL_EEG.is_dir():
        pytest.skip(f"no real recordings at {REAL_EEG}: set CG_REAL_EEG to their folder")
    return REAL_EEG


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray of two CPUs with a folder and a token of its own."""
    from cluster.config import ClusterSettings
    from cluster.session import ray_session as session

    with session(ClusterSettings(local_cpus=2, object_store_mib=128), verbose=False):
        yield
