"""Fixtures of the whole suite: real recordings where they are, and homes of third-party tools kept inside a temporary folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

_HOME = tempfile.mkdtemp(prefix="cg-test-home-")
os.environ["YOLO_CONFIG_DIR"] = _HOME
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")

REAL_EEG = Path(os.environ.get("CG_REAL_EEG", Path(__file__).parents[2] / "shared" / "data" / "real"))


@pytest.fixture(scope="session")
def real_eeg() -> Path:
    """Folder of real recordings (see its MANIFEST.csv)."""
    if not REAL_EEG.is_dir():
        pytest.skip(f"no real recordings at {REAL_EEG}: set CG_REAL_EEG to their folder")
    return REAL_EEG
