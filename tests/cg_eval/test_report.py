"""cg_eval.report: one page that stands alone, says what was found, and leaves out what a run did not make."""

from __future__ import annotations

import html.parser
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cg_data import storage
from cg_data.records import Quarantined, Sample, Segment
from cg_data.rows import QUARANTINE_SCHEMA, SEGMENT_SCHEMA, table_of
from cg_data.settings import InstructSettings
from cg_eval import bench, job, metrics
from cg_eval.baselines import Majority
from cg_eval.report import ReportFacts, StepFact, choose_pages, training_curves, write_report
from cg_eval.settings import EvalSettings

SETTINGS = EvalSettings(resamples=200, description_segments=6)
DETECTOR: dict[str, Any] = {
    "subjects": 5,
    "segments": 40,
    "map50": {"value": 0.487, "low": 0.41, "high": 0.55},
    "classes": [
        {
            "waveform": name,
            "planted": n,
            "ap50": {"value": ap, "low": ap - 0.08, "high": ap + 0.06},
            "precision": 0.71,
            "recall": ap + 0.1,
            "threshold": 0.3,
        }
        for name, n, ap in (
            ("spike", 214, 0.312),
            ("k_complex", 96, 0.402),
            ("sleep_spindle", 530, 0.634),
            ("high_frequency_noise", 88, 0.6),
        )
    ],
}
AGREEMENT = {"true_pages": 40, "found_pages": 38, "both": 33, "precision": 33 / 38, "recall": 33 / 40}
NOISE: dict[str, Any] = {
    "kinds": ["spike", "sleep_spindle"],
    "splits": {
        name: {"pages": 120, "findings": {"spike": AGREEMENT, "sleep_spindle": {**AGREEMENT, "precision": None}, "all": AGREEMENT}}
        for name in ("training subjects", "held-out subjects")
    },
}


def _facts(noise: dict[str, Any] | None) -> ReportFacts:
    return ReportFacts(
        title="CerebraGloss on Ray: report of a run",
        preset="tiny",
        corpora=["synthetic"],
        steps=[
            StepFact(name="segments", seconds=21.4, counts={"recordings": 36, "segments": 1080}, figure="0 refused"),
            StepFact(name="detector", seconds=141.0, counts={"epochs": 3}, figure="mAP@0.5 0.487"),
            StepFact(name="bench", seconds=64.0, counts={"items": 412, "subjects": 7}, figure="yes/no 84.1 % against 50 %"),
        ],
        noise=noise,
        versions={"code": "0.1.0", "detector": "3f2a90c1d2e4", "prompt": "prompt-1"},
        config_yaml="preset: tiny\ndata:\n  synthetic: {subjects: 36}\n",
    )


def _bench(run: Path, segments: list[Segment], fake_interpreter: Any) -> None:
    """A bench whose interpreter knows three of four answers."""
    items = bench.build_items(segments, SETTINGS, InstructSettings())
    majority = Majority.learn(bench.question_of(item) for item in items)
    answers = [_answer(i, item, items, segments, majority, fake_interpreter) for i, item in enumerate(items)]
    table = bench.score(items, answers, majority)
    events = [{"segment_id": s.segment_id, "events": []} for s in segments]
    storage.write_table(str(run / "bench" / "answers.parquet"), table)
    storage.write_table(str(run / "bench" / "events.parquet"), pa.Table.from_pylist(events, schema=job.EVENT_SCHEMA))
    storage.write_json(str(run / "bench" / "metrics.json"), metrics.summarise(table, DETECTOR, SETTINGS))
    storage.write_table(str(run / "segments" / "synthetic" / "a.parquet"), table_of(segments, SEGMENT_SCHEMA))


def _answer(
    i: int, item: Sample, items: list[Sample], segments: list[Segment], majority: Majority, fake_interpreter: Any
) -> bench.ItemAnswer:
    reply = item.messages[-1].content if i % 4 else items[i - 7].messages[-1].content
    interpreter = fake_interpreter(lambda _: reply, lambda _, options: i % len(options))
    pages = {segment.segment_id: segment for segment in segments}
    return bench.answer_items(interpreter, [item], pages, majority, SETTINGS)[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, segments: list[Segment], fake_interpreter: Any) -> Path:
    folder = tmp_path_factory.mktemp("run")
    _bench(folder, segments, fake_interpreter)
    refused = [
        Quarantined(uri="/eeg/<b>night</b>.edf", sha256="", corpus="edf", reason="montage.channels", message="only EOG channels"),
        Quarantined(uri="/eeg/cut.edf", sha256="", corpus="edf", reason="data.truncated", message="fewer records than the header says"),
    ]
    storage.write_table(str(folder / "quarantine.parquet"), table_of(refused, QUARANTINE_SCHEMA))
    for name in ("stage2", "base"):
        lines = [json.dumps({"step": s, "loss": 4 * 0.97**s + 0.05 * (s * 7 % 5)} | _look(name, s)) for s in range(1, 120)]
        storage.write_bytes(str(folder / "train" / name / "metrics-rank0.jsonl"), "\n".join(lines).encode())
    write_report(str(folder), _facts(NOISE))
    return folder


def _look(name: str, step: int) -> dict[str, float]:
    return {"validation_loss": 4.321 * 0.97**step} if name == "stage2" and step % 40 == 0 else {}


class _Tags(html.parser.HTMLParser):
    """Checks that elements close in the order in which they opened, and collects what is loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.pictures += tag == "img"
        self.loaded += [v for k in ("src", "href") if (v := values.get(k)) and not v.startswith("data:")]
        if tag not in ("meta", "img", "path", "polyline", "circle", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_whole_and_loads_nothing_from_elsewhere(run: Path) -> None:
    page = (run / "report.html").read_text()
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.loaded == []
    assert "<script" not in page
    assert 4 <= tags.pictures <= 6


def test_the_report_states_the_figures_and_what_they_are_not(run: Path) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (run / "report.html").read_text()))
    figures = storage.read_json(str(run / "bench" / "metrics.json"))
    for row in figures["scores"]:
        assert f"{100 * row['accuracy']['value']:.1f} %" in text
    for words in (
        "easy synthetic task",
        "never a diagnosis",
        "0.487",
        "data.truncated",
        "fewer records than the header says",
        "2 min 21 s",
        "on validation (dots) 1.28 to 0.38",
    ):
        assert words in text


def test_file_names_cannot_write_markup(run: Path) -> None:
    assert "<b>night</b>" not in (run / "report.html").read_text()


def test_an_empty_run_gives_a_report_too(tmp_path: Path) -> None:
    write_report(str(tmp_path), _facts(None))
    page = (tmp_path / "report.html").read_text()
    assert "Refused recordings" in page
    assert "Example pages" not in page


def test_a_resumed_training_shows_each_step_once(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 9.0}, {"step": 2, "loss": 3.0}, {"step": 3, "loss": 2.0}]
    storage.write_bytes(str(tmp_path / "train" / "base" / "metrics-rank0.jsonl"), "\n".join(map(json.dumps, lines)).encode())
    (curve,) = training_curves(str(tmp_path))
    assert (curve.name, curve.first, curve.last, curve.high, curve.points.count(",")) == ("base", 4.0, 2.0, 4.0, 3)


def test_losses_on_validation_lie_on_the_scale_of_the_curve(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 4.0 - step} | ({"validation_loss": 5.0 - step} if step % 2 == 0 else {}) for step in range(5)]
    storage.write_bytes(str(tmp_path / "train" / "stage1" / "metrics-rank0.jsonl"), "\n".join(map(json.dumps, lines)).encode())
    (curve,) = training_curves(str(tmp_path))
    assert (curve.low, curve.high, curve.first, curve.last) == (0.0, 5.0, 4.0, 0.0)
    assert (curve.looks, curve.looked) == ([5.0, 3.0, 1.0], "0.0,0.0 150.0,48.0 300.0,96.0")
    assert curve.points == "0.0,24.0 75.0,48.0 150.0,72.0 225.0,96.0 300.0,120.0"


def test_curves_come_in_the_order_of_training(run: Path) -> None:
    assert [curve.name for curve in training_curves(str(run))] == ["base", "stage2"]


def test_pages_are_chosen_by_topic_and_never_by_success() -> None:
    rows = [{"segment_id": f"s{i}", "kind": "binary", "topic": f"t{i % 3}", "correct": i % 2 == 0} for i in range(20)]
    turned = [{**row, "correct": not row["correct"]} for row in rows]
    chosen = choose_pages(rows, 5)
    assert chosen == choose_pages(turned, 5)
    assert len(chosen) == len(set(chosen)) == 5
    assert {row["topic"] for row in rows if row["segment_id"] in chosen} == {"t0", "t1", "t2"}
