"""`cg eval detector`: what it refuses, and what it prints."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from cg_data.errors import ConfigError
from cg_eval.detection.figures import compare, evaluate
from cg_eval.settings import EvalSettings
from cluster.detection_view import detectors_of, show
from cluster.steps_eval import bench_step
from tests.cluster.test_cli import cg, refuses
from tests.detections_small import random_evaluation


def test_a_run_without_a_detector_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = refuses(capsys, monkeypatch, "eval", "detector", "--run", str(tmp_path / "run"))
    assert "cg train detector" in said
    assert not (tmp_path / "run").exists()


def test_a_run_without_segments_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cg_data.detect.detector import Detector

    monkeypatch.setattr(Detector, "load", lambda folder: None)
    (tmp_path / "run" / "detector").mkdir(parents=True)
    (tmp_path / "run" / "detector" / "detector.json").write_text("{}")
    said = refuses(capsys, monkeypatch, "eval", "detector", "--run", str(tmp_path / "run"))
    assert "cg data segments" in said


def test_an_unknown_corpus_and_an_unknown_split_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = refuses(capsys, monkeypatch, "eval", "detector", "--run", str(tmp_path / "run"), "--corpus", "tuszz")
    assert "did you mean tusz" in said
    code, _, err = cg(capsys, monkeypatch, "eval", "detector", "--split", "exam")
    assert code == 2
    assert "exam" in err


def test_the_bench_alone_still_asks_for_its_model(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "bench builds on" in refuses(capsys, monkeypatch, "eval", "--run", str(tmp_path / "run"))


def test_a_bench_that_begins_anew_leaves_the_evaluation_of_detectors() -> None:
    assert not any("bench/detector/metrics.json".startswith(place) for place in bench_step().owns)


def test_detectors_are_named_one_by_one_or_are_the_runs_own() -> None:
    assert detectors_of([], "runs/a/detector") == {"own": "runs/a/detector"}
    assert detectors_of(["page=s3://x/detector", "signal=/d"], "own") == {"page": "s3://x/detector", "signal": "/d"}
    with pytest.raises(ConfigError, match="write it as NAME=FOLDER"):
        detectors_of(["runs/a/detector"], "own")
    with pytest.raises(ConfigError, match="two detectors named 'a'"):
        detectors_of(["a=/x", "a=/y"], "own")


def test_every_table_is_printed_with_intervals() -> None:
    pages, found = random_evaluation(1)
    weaker = dataclasses.replace(found, events=tuple(of_page[::2] for of_page in found.events))
    evaluations = {name: evaluate(pages, one, EvalSettings(resamples=100)) for name, one in (("a", found), ("b", weaker))}
    console = Console(file=io.StringIO(), width=150)
    show({"detectors": {n: e.figures for n, e in evaluations.items()}, "comparisons": compare(evaluations)}, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for title in ("Average precision", "At the working thresholds", "found as", "Wrong events", "Missed references", "Whole events",
                  "Expected calibration error, all proposals"):  # fmt: skip
        assert text.count(title) == 2
    assert "b less a on the same pages" in text
    assert "two readers" not in text
    figure = evaluations["a"].figures["map50"]
    assert f"mAP@0.5 {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" in text
