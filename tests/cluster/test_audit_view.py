"""`cg data audit` shows the noise of a run's samples, keeps it as JSON, and says what to do where there is nothing to hold them against."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from cg_data.corpora import CorpusName
from cg_data.errors import ConfigError, StorageError
from cluster.audit_view import audit_run
from cluster.display import Display
from cluster.runfolder import RunFolder
from tests.cg_data.test_audit import CAPTIONS, Making, by_rule, pairs_of, written, yes_no


def shown(folder: Path, corpus: str = "synthetic", **options: int | str) -> str:
    out = io.StringIO()
    display = Display(Console(file=out, width=120, highlight=False))
    audit_run(RunFolder(uri=str(folder)), CorpusName(corpus), display, **options)
    return out.getvalue()


def lay_out(folder: Path, corpus: str, making: Making) -> None:
    written(folder / "made", pairs_of(30), making)
    for name in ("segments", "annotations", "samples"):
        (folder / name).mkdir()
        (folder / "made" / name).rename(folder / name / corpus)


def test_the_tables_and_the_file_say_the_same(tmp_path: Path) -> None:
    lay_out(tmp_path, "synthetic", yes_no(lambda _, true: not true))
    said = shown(tmp_path)
    kept = json.loads((tmp_path / "audit-synthetic.json").read_text())
    assert "30 samples about 30 pages of 20 subjects, held against planted labels" in said
    assert "100.0%" in said
    assert kept["sentences"][0] == {
        "name": "all", "items": 30, "contradicted": 30, "unsupported": 0, "share": {"value": 1.0, "low": 1.0, "high": 1.0},
    }  # fmt: skip


def test_some_shards_stand_for_all(tmp_path: Path) -> None:
    lay_out(tmp_path, "synthetic", by_rule(CAPTIONS))
    assert "10 samples about 10 pages" in shown(tmp_path, most_shards=1)


def test_another_corpus_is_held_against_its_readers(tmp_path: Path) -> None:
    lay_out(tmp_path, "dreams", by_rule(CAPTIONS))
    assert "held against readers' marks" in shown(tmp_path, "dreams")
    with pytest.raises(ConfigError, match="no marks of reader 2 here"):
        shown(tmp_path, "dreams", reader="2")


def test_a_run_without_samples_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Run the step that makes them"):
        shown(tmp_path)
