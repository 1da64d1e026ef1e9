from __future__ import annotations

import hashlib
import subprocess
from importlib.metadata import version
from pathlib import Path

from cg_data.manifest import NAME
from cg_train.provenance import provenance


def _git(folder: Path, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_a_checkout_and_whether_it_was_changed_are_said(tmp_path: Path) -> None:
    _git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "one")
    assert provenance([], tmp_path)["git"] == {"commit": _git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "code.py").write_text("2")
    assert provenance([], tmp_path)["git"]["dirty"] is True
    inside = tmp_path / ".venv" / "site-packages"
    inside.mkdir(parents=True)
    assert provenance([], inside)["git"] == {}  # the checkout of somebody else


def test_lock_versions_and_manifests_are_said_where_there_are_some(tmp_path: Path) -> None:
    folder = tmp_path / "samples" / "synthetic"
    folder.mkdir(parents=True)
    nothing = provenance([str(folder)], tmp_path)
    assert (nothing["git"], nothing["requirements_lock"], nothing["manifest"]) == ({}, {}, {})
    assert nothing["versions"] == {name: version(name) for name in ("ray", "torch", "transformers", "deepspeed")}
    (tmp_path / "requirements.lock").write_bytes(b"ray==1")
    (folder / NAME).write_bytes(b"[]")
    there = provenance([str(folder)], tmp_path)
    assert there["requirements_lock"] == {"sha256": hashlib.sha256(b"ray==1").hexdigest()}
    assert there["manifest"] == {"samples/synthetic": hashlib.sha256(b"[]").hexdigest()}
