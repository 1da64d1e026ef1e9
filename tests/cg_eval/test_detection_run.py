"""cg_eval.detection.run: detectors propose on the marked pages of a split, and every figure comes from what is stored."""

from __future__ import annotations

import dataclasses
import io
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cg_data import storage
from cg_data.detect.detector import Detector
from cg_data.errors import ConfigError, UserError
from cg_data.records import Event, Label, Segment
from cg_data.rows import SEGMENT_SCHEMA, table_of
from cg_data.vocabulary import LabelKind, Split, Waveform
from cg_eval.detection.draw import pictures
from cg_eval.detection.figures import evaluate
from cg_eval.detection.pages import page_of, read_found, read_pages, write_found, write_pages
from cg_eval.detection.report import CAPTIONS
from cg_eval.detection.run import evaluate_detectors, figures_of
from cg_eval.settings import EvalSettings
from tests.detections_small import random_evaluation
from tests.records_small import event

SETTINGS = EvalSettings(resamples=100)


class Knowing:
    """In the place of a trained detector: knows the labels of each page by its signal and finds those of `waveforms`."""

    def __init__(self, segments: list[Segment], waveforms: set[Waveform]) -> None:
        self.version = "knowing"
        self.spec = SimpleNamespace(min_box_s=0.0, threshold=lambda waveform: 0.5)
        self._events = {s.eeg_uv.tobytes(): tuple(self._event(e) for e in marks_of(s) if e.name in waveforms) for s in segments}

    def _event(self, label: Label) -> Event:
        return event(Waveform(label.name), label.channel, label.onset_s, label.duration_s)

    def propose(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]:
        assert eeg_uv.shape[1:] == (19, 2000)
        assert mask.shape == eeg_uv.shape[:2]
        return [self._events[page.tobytes()] for page in eeg_uv]


def marks_of(segment: Segment) -> list[Label]:
    return [label for label in segment.labels if label.kind is LabelKind.WAVEFORM]


@pytest.fixture
def place(tmp_path: Path, segments: list[Segment], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards of forty test pages and two training pages, and two detector folders: one finds all, one no spindle."""
    train = [dataclasses.replace(s, segment_id=f"train-{s.segment_id}", split=Split.TRAIN) for s in segments[:2]]
    parts = (segments[25:] + train, segments[:25])
    for number, part in enumerate(parts):
        storage.write_table(str(tmp_path / "segments" / f"part-{number}.parquet"), table_of(part, SEGMENT_SCHEMA))
    finds = {"good": set(Waveform), "deaf": set(Waveform) - {Waveform.SLEEP_SPINDLE}}
    for name in finds:
        storage.write_json(str(tmp_path / name / "detector.json"), {})
    monkeypatch.setattr(Detector, "load", lambda folder: Knowing(segments, finds[folder.rsplit("/", 1)[-1]]))
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longest to make, and not every test is about them."""
    monkeypatch.setattr("cg_eval.detection.report.pictures", lambda figures: dict.fromkeys(CAPTIONS, b"picture"))


def run(place: Path, detectors: dict[str, str], split: Split = Split.TEST) -> dict:
    out = str(place / "out")
    return evaluate_detectors(str(place / "segments"), detectors, split=split, out_uri=out, settings=SETTINGS)


@pytest.mark.usefixtures("quick")
def test_two_detectors_are_evaluated_on_the_same_held_out_pages(place: Path) -> None:
    metrics = run(place, {name: str(place / name) for name in ("good", "deaf")})
    good, deaf = metrics["detectors"]["good"], metrics["detectors"]["deaf"]
    assert (good["pages"], good["subjects"]) == (40, 5)
    assert good["map5095"]["value"] == 1.0
    assert deaf["map50"]["value"] == pytest.approx(2 / 3)
    assert deaf["merged"]["all"]["references"] > deaf["merged"]["all"]["hits"]
    assert metrics["comparisons"][0]["map50"]["value"] == pytest.approx(-1 / 3)
    assert storage.read_json(str(place / "out" / "metrics.json")) == metrics


def test_the_figures_can_be_computed_again_from_the_stored_rows(place: Path) -> None:
    metrics = run(place, {"deaf": str(place / "deaf")})
    before = {path.name: path.read_bytes() for path in (place / "out" / "deaf").iterdir()}
    again = figures_of(str(place / "out"), ["deaf"], SETTINGS, title=metrics["title"])
    assert again == metrics
    assert {path.name: path.read_bytes() for path in (place / "out" / "deaf").iterdir()} == before
    assert {"events.parquet", "working_point.json", "confusion.png", "reliability.png"} <= set(before)


@pytest.mark.usefixtures("quick")
def test_an_earlier_evaluation_leaves_nothing_behind(place: Path) -> None:
    run(place, {"deaf": str(place / "deaf")})
    run(place, {"good": str(place / "good")})
    assert not (place / "out" / "deaf").exists()


@pytest.mark.usefixtures("quick")
def test_the_report_stands_alone_and_shows_every_detector(place: Path) -> None:
    run(place, {name: str(place / name) for name in ("good", "deaf")})
    html = (place / "out" / "report.html").read_text()
    assert html.count('src="data:image/png;base64,') == 8
    assert not re.search(r'(?:src|href)="(?!data:)', html)
    assert "deaf less good" in html
    assert "never a diagnosis" in html


def test_what_is_stored_comes_back_as_it_was(tmp_path: Path, segments: list[Segment]) -> None:
    pages = sorted(map(page_of, segments), key=lambda p: p.segment_id)
    marked, found = random_evaluation(1, pages=len(pages))
    exact = dataclasses.replace(found, events=((event(Waveform.SPIKE, "T3", 1.0, 0.2, 0.2521),), *found.events[1:]))
    write_pages(str(tmp_path / "pages.parquet"), pages)
    write_found(str(tmp_path), [page.segment_id for page in marked], exact)
    for one, other in zip(read_pages(str(tmp_path / "pages.parquet")), pages, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        assert (one.segment_id, one.recording_id, one.subject, one.labels) == (
            other.segment_id, other.recording_id, other.subject, other.labels
        )  # fmt: skip
    assert read_found(str(tmp_path), marked) == exact


@pytest.mark.usefixtures("quick")
def test_a_folder_without_a_detector_is_refused_before_anything_is_lost(place: Path) -> None:
    run(place, {"good": str(place / "good")})
    with pytest.raises(ConfigError, match=r"nowhere: no detector there. Train one with `cg train detector`"):
        run(place, {"good": str(place / "good"), "none": str(place / "nowhere")})
    with pytest.raises(ConfigError, match="cannot name a folder"):
        run(place, {"../good": str(place / "good")})
    assert (place / "out" / "metrics.json").exists()


def test_a_split_without_pages_marks_or_searches_is_refused(place: Path, segments: list[Segment]) -> None:
    with pytest.raises(UserError, match="no segment of the validation split there"):
        run(place, {"good": str(place / "good")}, Split.VALIDATION)
    _relabel(place, segments, LabelKind.WAVEFORM)
    with pytest.raises(UserError, match="none of the 40 segments of the test split has a reference mark"):
        run(place, {"good": str(place / "good")})
    _relabel(place, segments, LabelKind.SEARCHED)
    with pytest.raises(UserError, match="nothing says where a waveform was looked for"):
        run(place, {"good": str(place / "good")})


@pytest.mark.usefixtures("quick")
def test_clicks_on_spikes_are_marks_of_a_detector_that_marks_them_wider(
    place: Path, segments: list[Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks = [dataclasses.replace(s, labels=tuple(_click(label) for label in s.labels)) for s in segments]
    for number in range(2):
        storage.write_table(str(place / "segments" / f"part-{number}.parquet"), table_of(clicks[number::2], SEGMENT_SCHEMA))
    knowing = Knowing(segments, {Waveform.SPIKE})
    monkeypatch.setattr(Detector, "load", lambda folder: knowing)
    with pytest.raises(UserError, match="has a reference mark"):
        run(place, {"good": str(place / "good")})
    knowing.spec.min_box_s = 0.15
    (row,) = run(place, {"good": str(place / "good")})["detectors"]["good"]["classes"]
    assert row["references"] == sum(label.name == Waveform.SPIKE for s in clicks for label in marks_of(s) if s.split is Split.TEST)


def _click(label: Label) -> Label:
    return dataclasses.replace(label, name=Waveform.SPIKE, duration_s=0.0) if label.kind is LabelKind.WAVEFORM else label


@pytest.mark.usefixtures("quick")
def test_pages_of_which_nothing_is_known_are_left_out(place: Path, segments: list[Segment]) -> None:
    unknown = [dataclasses.replace(s, labels=()) for s in segments[:15]]
    storage.write_table(str(place / "segments" / "part-1.parquet"), table_of(unknown, SEGMENT_SCHEMA))
    metrics = run(place, {"good": str(place / "good")})
    assert metrics["detectors"]["good"]["pages"] == 15
    assert metrics["detectors"]["good"]["map50"]["value"] == 1.0


def _relabel(place: Path, segments: list[Segment], without: LabelKind) -> None:
    """Take one kind of label from every segment."""
    made = [dataclasses.replace(s, labels=tuple(label for label in s.labels if label.kind is not without)) for s in segments]
    for number in range(2):
        storage.write_table(str(place / "segments" / f"part-{number}.parquet"), table_of(made[number::2], SEGMENT_SCHEMA))


def test_pictures_are_drawn_of_any_figures() -> None:
    pages, found = random_evaluation(2)
    silent = dataclasses.replace(found, events=((),) * len(pages))
    unknown = [dataclasses.replace(p, labels=tuple(e for e in p.labels if e.kind == "waveform")) for p in pages]
    for of, one in ((pages, found), (pages, silent), (unknown, found)):
        figures = evaluate(of, one, SETTINGS).figures
        with warnings.catch_warnings(action="error"):
            drawn = pictures(figures)
        assert list(drawn) == ["precision_recall", "confusion", "taxonomy", "reliability"]
        for png in drawn.values():
            picture = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
            assert picture.shape[1] > 800
            assert 0.002 < (picture < 128).mean() < 0.5
