"""cg_eval.detection.figures: every figure of a resample is that of the pages it repeats, and the parts add up."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cg_data.records import Label
from cg_data.vocabulary import CHANNELS, WAVEFORM_INDEX, WAVEFORMS, Waveform
from cg_eval.detection.figures import compare, evaluate
from cg_eval.detection.pages import Found
from cg_eval.settings import EvalSettings
from cg_train.detection_metrics import IOUS, average_precision, detection_metrics, match
from tests.detections_small import page_of_marks, random_evaluation, repeated
from tests.records_small import event

SETTINGS = EvalSettings(resamples=100)
DRAWN = {"subject-0": 2, "subject-1": 0, "subject-2": 1, "subject-3": 3, "subject-4": 0, "subject-5": 0}


@pytest.fixture
def one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every resample draws the subjects as `DRAWN` says."""
    weights = np.tile(np.array(list(DRAWN.values()), dtype=np.float64), (100, 1))
    monkeypatch.setattr("cg_eval.detection.figures.subject_weights", lambda *_, **__: weights)
    for module in ("tally", "reliability"):
        monkeypatch.setattr(f"cg_eval.detection.{module}.resampled_sums", lambda sums, **_: weights @ sums)


def figures_in(tree: Any, path: str = "") -> Iterator[tuple[str, dict[str, float | None]]]:
    """All figures with intervals of a tree, by their path."""
    if isinstance(tree, dict) and set(tree) == {"value", "low", "high"}:
        yield path, tree
    elif isinstance(tree, dict | list):
        for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from figures_in(part, f"{path}/{part['waveform'] if isinstance(part, dict) and 'waveform' in part else key}")


@pytest.mark.usefixtures("one_draw")
@pytest.mark.parametrize("seed", range(3))
def test_a_resample_gives_the_figures_of_the_pages_it_repeats(seed: int) -> None:
    pages, found = random_evaluation(seed)
    ours = dict(figures_in(evaluate(pages, found, SETTINGS).figures))
    literal = dict(figures_in(evaluate(*repeated(pages, found, DRAWN), SETTINGS).figures | {"calibration": {}}))
    compared = 0
    for path, figure in ours.items():
        exact = figure["value"] in (0.0, 1.0)
        if figure["low"] is None or exact or path.startswith("/calibration"):
            continue
        assert figure["low"] == pytest.approx(figure["high"], abs=1e-12), path
        assert figure["low"] == pytest.approx(literal[path]["value"], abs=1e-12), path
        compared += 1
    assert compared > 120


@pytest.mark.usefixtures("one_draw")
def test_average_precision_of_a_resample_is_that_of_its_pages_at_every_overlap() -> None:
    pages, found = random_evaluation(7)
    table = evaluate(pages, found, SETTINGS).ap
    again, same = repeated(pages, found, DRAWN)
    literal = match(same.events, [page.references(0.0).marks for page in again])
    expected = np.array([[average_precision(literal[w], level) for level in range(len(IOUS))] for w in WAVEFORMS])
    np.testing.assert_allclose(table.resampled[0], expected, atol=1e-12)
    assert np.isnan(expected).any()
    assert (expected[np.isfinite(expected)] > 0).any()


def test_the_figures_are_those_of_training_on_the_same_pages() -> None:
    pages, found = random_evaluation(3)
    figures = evaluate(pages, found, SETTINGS).figures
    plain = detection_metrics(found.events, [page.references(0.0).marks for page in pages], found.thresholds)
    for name in ("map50", "map75", "map5095"):
        assert figures[name]["value"] == pytest.approx(plain[name], abs=1e-12)
        assert figures[name]["low"] < figures[name]["value"] < figures[name]["high"]
    for row in figures["classes"]:
        own = plain["waveforms"][row["waveform"]]
        assert [row[key] for key in ("references", "events", "hits")] == [own[key] for key in ("references", "events", "hits")]
        assert row["ap5095"]["value"] == (pytest.approx(own["ap5095"]) if own["references"] else None)
        assert row["curve"] is None or np.mean(row["curve"]) == pytest.approx(own["ap50"], abs=1e-4)
        if own["references"] and own["events"]:
            assert (row["precision"]["value"], row["f1"]["value"]) == (pytest.approx(own["precision"]), pytest.approx(own["f1"]))
        assert row["false_per_minute"]["value"] == pytest.approx((own["events"] - own["hits"]) / (len(pages) / 6))
    assert figures["all"]["recall"]["value"] == pytest.approx(plain["recall"])
    assert json.loads(json.dumps(figures)) == figures


@pytest.mark.parametrize("seed", range(3))
def test_each_wrong_event_has_one_error_and_each_missed_reference_one_explanation(seed: int) -> None:
    figures = evaluate(*random_evaluation(seed), SETTINGS).figures
    for row, errors in zip(
        [*figures["classes"], figures["all"]], [*figures["taxonomy"]["classes"], figures["taxonomy"]["all"]], strict=True
    ):
        assert sum(part["count"] for part in errors["errors"].values()) == row["events"] - row["hits"]
        assert sum(part["count"] for part in errors["missed"].values()) == row["references"] - row["hits"]
    assert all(part["count"] for part in figures["taxonomy"]["all"]["errors"].values())


@pytest.mark.parametrize("seed", range(3))
def test_the_confusion_matrix_counts_every_reference_and_every_event_once(seed: int) -> None:
    figures = evaluate(*random_evaluation(seed), SETTINGS).figures
    counts = np.array(figures["confusion"]["counts"])
    rows = {row["waveform"]: row for row in figures["classes"]}
    for index, waveform in enumerate(WAVEFORMS):
        row = rows.get(str(waveform), {"references": 0, "events": 0})
        assert counts[index].sum() == row["references"]
        assert counts[:, index].sum() == row["events"]
    assert counts[-1, -1] == 0
    assert np.trace(counts[:9, :9]) > counts[:9, :9].sum() / 2 > np.trace(counts[:9, :9]) / 2


def test_what_nobody_looked_for_is_neither_right_nor_wrong() -> None:
    pages, found = random_evaluation(4)
    searched = {str(w) for w in WAVEFORMS[:3]}
    partly = [dataclasses.replace(p, labels=tuple(e for e in p.labels if e.kind != "searched" or e.name in searched)) for p in pages]
    whole, part = (evaluate(of, found, SETTINGS).figures for of in (pages, partly))
    assert part["judged_proposals"] < whole["judged_proposals"] == whole["proposals"] == part["proposals"]
    known, unknown = (rows_of(part, names) for names in (searched, {str(w) for w in WAVEFORMS[3:5]}))
    assert known == rows_of(whole, searched)
    for row, full in zip(unknown, rows_of(whole, {row["waveform"] for row in unknown}), strict=True):
        assert row["recall"] == full["recall"]
        assert row["ap50"]["value"] is row["precision"]["value"] is row["f1"]["value"] is row["false_per_minute"]["value"] is None
        assert row["minutes"] == 0
    assert part["map50"]["value"] == pytest.approx(np.mean([row["ap50"]["value"] for row in known]))
    assert part["all"]["references"] == sum(row["references"] for row in known)
    assert {row["waveform"] for row in part["merged"]["classes"]} == searched


def test_subjects_without_references_do_not_pull_the_mean_down() -> None:
    """Of two subjects one has a spindle, which is found: what is drawn without it has no mean, and none looked for is no mean of 0."""
    marks = np.array([[WAVEFORM_INDEX[Waveform.SLEEP_SPINDLE], 8, 1.0, 2.0]])
    pages = [page_of_marks(0, "a", marks), page_of_marks(1, "b", marks[:0])]
    thresholds = dict.fromkeys(WAVEFORMS, 0.5)
    found = Found(version="v", min_box_s=0.0, thresholds=thresholds, events=((event(Waveform.SLEEP_SPINDLE, CHANNELS[8], 1.0, 1.0),), ()))
    figures = evaluate(pages, found, SETTINGS).figures
    assert figures["map50"] == figures["classes"][0]["ap50"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    no_spindles = [
        dataclasses.replace(p, labels=tuple(e for e in p.labels if (e.kind, e.name) != ("searched", "sleep_spindle"))) for p in pages
    ]
    assert evaluate(no_spindles, found, SETTINGS).figures["map50"]["value"] is None


def rows_of(figures: dict[str, Any], names: set[str]) -> list[dict[str, Any]]:
    return [row for row in figures["classes"] if row["waveform"] in names]


def test_false_events_are_counted_for_the_time_that_was_looked_at() -> None:
    pages, found = random_evaluation(6)
    half = [dataclasses.replace(p, labels=tuple(_first_half(e) for e in p.labels)) for p in pages]
    whole, part = (evaluate(of, found, SETTINGS).figures for of in (pages, half))
    assert whole["classes"][0]["minutes"] == pytest.approx(len(pages) / 6)
    assert part["classes"][0]["minutes"] == pytest.approx(len(pages) / 12)
    assert part["all"]["minutes"] == pytest.approx(len(pages) / 12)
    assert part["all"]["hits"] == whole["all"]["hits"]
    assert part["all"]["events"] < whole["all"]["events"]


def _first_half(label: Label) -> Label:
    return dataclasses.replace(label, duration_s=5.0) if label.kind == "searched" else label


def test_two_readers_marks_of_one_event_are_one_reference() -> None:
    pages, found = random_evaluation(2)
    again = [
        dataclasses.replace(p, labels=tuple(dataclasses.replace(e, reader=who) for who in ("1", "2") for e in p.labels)) for p in pages
    ]
    once, twice = (evaluate(of, found, SETTINGS).figures for of in (pages, again))
    assert twice["classes"] == once["classes"]
    assert {pair["f1"]["value"] for row in twice["readers"] for pair in row["pairs"][:1]} == {1.0}


def test_a_detector_that_finds_nothing_has_figures_all_the_same() -> None:
    pages, found = random_evaluation(1)
    silent = dataclasses.replace(found, events=((),) * len(pages))
    figures = evaluate(pages, silent, SETTINGS).figures
    assert figures["map50"]["value"] == figures["all"]["recall"]["value"] == 0.0
    assert figures["all"]["recall"]["high"] > 0
    assert figures["all"]["precision"]["value"] is None
    assert figures["all"]["false_per_minute"]["high"] == pytest.approx(3.689 / (len(pages) / 6), abs=1e-3)
    assert json.loads(json.dumps(figures)) == figures


def test_detectors_are_compared_on_the_same_subjects() -> None:
    pages, found = random_evaluation(5)
    weaker = dataclasses.replace(found, events=tuple(of_page[::2] for of_page in found.events))
    both = {name: evaluate(pages, one, SETTINGS) for name, one in (("weak", weaker), ("strong", found))}
    (difference,) = compare(both)
    assert (difference["first"], difference["second"]) == ("weak", "strong")
    values = [both[name].figures["map50"]["value"] for name in ("weak", "strong")]
    assert difference["map50"]["value"] == pytest.approx(values[1] - values[0])
    assert 0 < difference["map50"]["low"] < difference["map50"]["value"] < difference["map50"]["high"]
    widths = [e.figures["map50"]["high"] - e.figures["map50"]["low"] for e in both.values()]
    assert difference["map50"]["high"] - difference["map50"]["low"] < np.hypot(*widths)
    (same,) = compare({"one": both["strong"], "other": both["strong"]})
    assert same["map5095"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert [row["ap50"]["value"] for row in same["classes"]] == [0.0] * 5
