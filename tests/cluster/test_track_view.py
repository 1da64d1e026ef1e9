from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from cg_data.errors import ConfigError, StorageError
from cg_train.follow import tracked
from cg_train.tracking import metrics_journal
from cluster.config import RunConfig, read_preset, resolve_config
from cluster.runfolder import RunFolder
from cluster.track_view import fill_in


def _said(config: RunConfig, folder: RunFolder) -> str:
    console = Console(file=io.StringIO(), width=80)
    fill_in(config, folder, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


@pytest.mark.slow
def test_the_command_fills_in_once_says_what_and_needs_an_mlflow_that_answers(tmp_path: Path) -> None:
    config, folder = resolve_config(read_preset("tiny"), []), RunFolder(uri=str(tmp_path))
    work = tmp_path / "train" / "stage1"
    with tracked(work, name="stage1", params={}, tags={}, config={}):
        metrics_journal(work, 0).append({"step": 1, "time_ms": 1, "loss": 0.5, "lr": 0.1})
    down = resolve_config(read_preset("tiny"), [f"tracking.uri=sqlite:///{work}/metrics-rank0.jsonl/mlflow.db"])
    with pytest.raises(StorageError, match="cannot be used"):
        fill_in(down, folder, Console(file=io.StringIO()))
    assert "stage1: 2 figures filled in" in _said(config, folder)
    assert "stage1: nothing was missing" in _said(config, folder)


def test_a_run_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    config = resolve_config(read_preset("tiny"), [])
    with pytest.raises(ConfigError, match="no such run folder"):
        fill_in(config, RunFolder(uri=str(tmp_path / "none")), Console(file=io.StringIO()))
    assert not (tmp_path / "none").exists()
