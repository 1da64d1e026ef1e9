"""`cg data audit`: what it refuses, and what it draws."""

from __future__ import annotations

import io
from collections import Counter

import pytest
from rich.console import Console

from cg_data.audit import Counts, Group, summary
from cg_data.instruct.judge import Ruling
from cg_data.vocabulary import FindingKind, SampleKind, Truth
from cluster.audit_view import show
from tests.cluster.test_cli import refuses


def test_a_run_without_samples_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    assert "cg data instruct" in refuses(capsys, monkeypatch, "data", "audit", "--run", str(tmp_path / "run"))


def test_an_unknown_corpus_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    assert "did you mean tusz" in refuses(capsys, monkeypatch, "data", "audit", "--run", str(tmp_path / "run"), "--corpus", "tuszz")


def test_a_reader_beside_another_truth_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    said = refuses(capsys, monkeypatch, "data", "audit", "--run", str(tmp_path / "run"), "--reader", "1", "--truth", "planted")
    assert "--truth marks" in said


def counts(subjects: int) -> Counts:
    """Eight of ten statements right for each subject, one contradicted, one not borne out; spindles are left out in half of the texts."""
    statement = Counter(
        {(Group.SAMPLE, SampleKind.CAPTION, "n"): 10, (Group.SAMPLE, SampleKind.CAPTION, Ruling.CONTRADICTED): 1}
        | {(Group.SAMPLE, SampleKind.CAPTION, Ruling.UNSUPPORTED): 1, (Group.ALL, "segments", "n"): 5, (Group.ALL, "unjudged", "n"): 2}
        | {(Group.OMITTED, FindingKind.SLEEP_SPINDLE, "n"): 4, (Group.OMITTED, FindingKind.SLEEP_SPINDLE, Ruling.CONTRADICTED): 2}
    )
    return {f"subject-{index}": Counter(statement) for index in range(subjects)}


def drawn(subjects: int, reader: str = "") -> str:
    console = Console(file=io.StringIO(), width=120)
    show(summary(counts(subjects), truth=Truth.MARKS, reader=reader), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_shares_stand_in_per_cent_with_their_intervals() -> None:
    text = drawn(3)
    assert "15 pages of 3 subjects held against the marks of the readers." in text
    assert "6 statements" in text
    caption = next(line for line in text.splitlines() if "caption " in line and "│" in line)
    assert caption.count("10.0 (10.0 to 10.0)") == 2
    assert "50.0 (50.0 to 50.0)" in next(line for line in text.splitlines() if "sleep spindle" in line)


def test_one_subject_has_no_interval_and_a_reader_is_named() -> None:
    text = drawn(1, reader="[b]2")
    assert "the marks of reader [b]2" in text
    assert " to " not in text
