"""What a training was made with and from, for the record: the code, the packages, the samples."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cg_data import storage
from cg_data.manifest import NAME

_PACKAGES = ("ray", "torch", "transformers", "deepspeed")
_HOME = Path(__file__).resolve().parents[1]


def provenance(data_uris: Sequence[str], home: Path = _HOME) -> dict[str, Any]:
    """A tree of what decides a training beside its configuration.

    ``git`` (`commit`, and whether anything is changed: `dirty`) where `home`, the folder of the packages, is a checkout;
    ``requirements_lock`` its SHA-256 where it is there; ``versions`` of packages; ``manifest`` the SHA-256 of the manifest of each folder
    of `data_uris` that has one, which holds the hashes of all its shards.
    """
    lock = home / "requirements.lock"
    manifests = {_short(uri): storage.join(uri, NAME) for uri in data_uris}
    return {
        "git": _git_state(home),
        "requirements_lock": {"sha256": _sha256(lock.read_bytes())} if lock.exists() else {},
        "versions": {name: version(name) for name in _PACKAGES},
        "manifest": {name: _sha256(storage.read_bytes(where)) for name, where in manifests.items() if storage.exists(where)},
    }


def _git_state(home: Path) -> dict[str, Any]:
    """Nothing where there is no git, or `home` lies in somebody else's checkout (an environment inside one)."""
    top = _git(home, "rev-parse", "--show-toplevel")
    commit = _git(home, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top) != home.resolve():
        return {}
    return {"commit": commit, "dirty": _git(home, "status", "--porcelain") != ""}


def _git(home: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _short(uri: str) -> str:
    return "/".join(uri.rstrip("/").split("/")[-2:])


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
