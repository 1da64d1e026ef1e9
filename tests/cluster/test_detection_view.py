"""`cg eval detector`: what it refuses, and what it prints."""

from __future__ import annotations

import copy
import dataclasses
import io
import re
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    pages, found = random_evaluation(1)
    weaker = dataclasses.replace(found, events=tuple(of_page[::2] for of_page in found.events))
    evaluations = {name: evaluate(pages, one, EvalSettings(resamples=100)) for name, one in (("a", found), ("b", weaker))}
    return {"detectors": {n: e.figures for n, e in evaluations.items()}, "comparisons": compare(evaluations)}


def printed(metrics: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=80)
    show(metrics, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_table_is_printed_after_the_means_and_differences(metrics: dict[str, Any]) -> None:
    text = printed(metrics)
    titles = ["Average precision", "At the working thresholds\n", "found as", "Wrong events", "Missed references", "Whole events",
              "Expected calibration error"]  # fmt: skip
    plain = "\n".join(line.rstrip() for line in text.splitlines())
    assert [plain.count(title) for title in titles] == [2] * len(titles)
    assert "two readers" not in plain
    figure = metrics["detectors"]["b"]["map50"]
    of_second = plain.index(f"mAP@0.5 {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
    assert of_second < plain.index("b less a on the same pages") < plain.index("Average precision")


def test_no_figure_is_broken_or_cut_on_eighty_columns(metrics: dict[str, Any]) -> None:
    many = copy.deepcopy(metrics)
    confusion = many["detectors"]["a"]["confusion"]
    confusion["counts"] = [[1234] * 10 for _ in confusion["counts"]]
    figure = {"value": -0.123, "low": -0.456, "high": 1.0}
    pair = {"first": "1", "second": "detector", "f1": figure, "kappa": figure}
    against = {"reader": "1", "f1": figure, "kappa": figure}
    readers = [{"waveform": "negative_square_wave", "pairs": [pair], "detector_against_other_reader": [against]}]
    many["detectors"]["a"]["readers"] = readers
    text = printed(many)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert all(line.count("[") == line.count("]") for line in text.splitlines())
    assert text.count("1234") == 100
    assert re.search(r"reader 1 and detector +-12 \[-46, 100\] +-0\.12 \[-0\.46, 1\.00\]", text)
