"""A card says what was trained on what, how well it does, and where it must not be trusted."""

from __future__ import annotations

import dataclasses
import re

from markdown_it import MarkdownIt

from cg_data.detect.calibration import Calibration, fit_calibration
from cg_data.detect.card import CardFacts, SplitFacts, model_card
from cg_data.detect.thresholds import TargetSettings, choose_threshold
from cg_data.vocabulary import WAVEFORMS, Waveform

SCORES = [0.95, 0.9, 0.8, 0.7, 0.6, 0.4, 0.3, 0.2]
HITS = [True, True, False, True, True, False, False, False]
TARGETS = TargetSettings()
FOUND = {w: choose_threshold(SCORES, HITS, 6, 1.5, TARGETS.target(w)) for w in WAVEFORMS}
MARKS = {w: 1200 + i for i, w in enumerate(WAVEFORMS)}

FACTS = CardFacts(
    name="Detector of the tiny preset",
    architecture="yolo26",
    parameters=912_345,
    splits=[
        SplitFacts(name="training", corpora=["synthetic"], subjects=42, pages=1512, marks=MARKS),
        SplitFacts(name="validation", corpora=["synthetic"], subjects=6, pages=9, marks={Waveform.SPIKE: 6}),
    ],
    synthetic_truth=True,
    recipe={"epochs": 4, "page": {"pixels_per_row": 16, "montage": None}, "betas": [0.9, 0.99]},
    figures={
        "subjects": 12,
        "map50": {"value": 0.6123, "low": 0.5801, "high": 0.6789},
        "map5095": {"value": 0.41, "low": None, "high": None},
        "classes": [
            {"waveform": "spike", "ap50": {"value": 0.5, "low": 0.4, "high": 0.6}, "planted": 77, "curve": [1, 2]},
            {"waveform": "k_complex", "ap50": {"value": float("nan"), "low": None, "high": None}, "planted": 0, "curve": []},
        ],
        "errors": {"wrong_class": {"events": 3}, "wrong_channel": {"events": 1}},
        "confusion": [[1, 2], [3, 4]],
    },
    figures_of="held-out test subjects",
    calibrations={w: fit_calibration(SCORES, HITS, 6) for w in WAVEFORMS},
    targets=TARGETS,
    points=FOUND,
    sha256={"weights.safetensors": "ab" * 32, "detector.json": "cd" * 32},
    versions={"torch": "2.13.0", "cerebragloss": "0.1.0"},
)


def _section(card: str, heading: str) -> str:
    found = re.search(rf"^#+ {re.escape(heading)}.*?\n(.*?)(?=^#|\Z)", card, re.DOTALL | re.MULTILINE)
    assert found is not None, heading
    return found[1]


def test_the_headings_are_those_of_model_cards() -> None:
    headings = re.findall(r"^## (.*)$", model_card(FACTS), re.MULTILINE)
    assert headings == [
        "Model details", "Intended use", "Factors", "Metrics", "Training and evaluation data", "Quantitative analyses",
        "Ethical considerations", "Caveats and recommendations",
    ]  # fmt: skip


def test_weights_recipe_data_and_versions_are_named() -> None:
    card = model_card(FACTS)
    details = _section(card, "Model details")
    for row in (
        "| architecture | yolo26 |",
        "| parameters | 912,345 |",
        f"| sha256 of weights.safetensors | `{'ab' * 32}` |",
        "| epochs | 4 |",
        "| page.pixels_per_row | 16 |",
        "| torch | 2.13.0 |",
    ):
        assert row in details
    data = _section(card, "Training and evaluation data")
    assert "|  | training | validation |" in data
    assert "| subjects | 42 | 6 |" in data
    assert "| marks: sleep spindle | 1,204 | 0 |" in data
    assert "Never a diagnosis" in _section(card, "Intended use")


def test_figures_stand_with_their_intervals_and_tables_with_their_rows() -> None:
    figures = _section(model_card(FACTS), "Quantitative analyses")
    assert "held-out test subjects" in figures
    for row in (
        "| subjects | 12 |",
        "| map50 | 0.612 [0.580, 0.679] |",
        "| map5095 | 0.410 |",
        "| waveform | ap50 | planted |",
        "| spike | 0.500 [0.400, 0.600] | 77 |",
        "| k_complex | – | 0 |",
        "| wrong class | 3 |",
    ):
        assert row in figures
    assert "confusion" not in figures


def test_thresholds_stand_with_their_targets_and_whether_they_were_reached() -> None:
    card = model_card(FACTS)
    thresholds = _section(card, "Working thresholds")
    assert "| k complex | greatest F1 | yes | 0.600 | 0.800 | 0.667 | 0.727 | 0.67 (2.59) |" in thresholds
    assert "| spike | at most 0.15 false a minute | **no**, kept nothing | 0.950 | 0.000 |" in thresholds
    assert "for: spike, sharp wave, spike or sharp and slow wave. Do not rely" in _section(card, "Caveats")
    probabilities = _section(card, "Probability of an event")
    assert len(re.findall(r"^\| .* \| beta \| 8 \| 4 \|", probabilities, re.MULTILINE)) == len(WAVEFORMS)


def test_limits_follow_from_what_was_seen() -> None:
    synthetic = _section(model_card(FACTS), "Caveats")
    assert "planted in synthetic EEG" in synthetic
    assert "unfitted" not in synthetic
    assert "No reference mark" not in synthetic
    read = dataclasses.replace(
        FACTS,
        synthetic_truth=False,
        splits=[SplitFacts(name="training", corpora=["dreams"], subjects=8, pages=900, marks={Waveform.SLEEP_SPINDLE: 700})],
        calibrations={Waveform.SLEEP_SPINDLE: fit_calibration(SCORES, HITS, 6), Waveform.SPIKE: Calibration()},
    )
    limits = _section(model_card(read), "Caveats")
    assert "planted" not in limits
    assert "unfitted, for: spike, sharp wave," in limits
    assert "No reference mark at all of: spike, sharp wave, spike or sharp and slow wave, k complex, high" in limits


def test_every_table_is_whole_whatever_stands_in_its_cells() -> None:
    card = model_card(dataclasses.replace(FACTS, recipe={"note": "a | b\nc"}, figures={}))
    assert "| note | a \\| b c |" in card
    for table in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
        assert "\n\n" + table + "\n" in card


def test_equal_facts_give_equal_text_in_whatever_order_they_were_gathered() -> None:
    turned = dataclasses.replace(
        FACTS,
        calibrations=dict(reversed(FACTS.calibrations.items())),
        points=dict(reversed(FACTS.points.items())),
        sha256=dict(reversed(FACTS.sha256.items())),
        versions=dict(reversed(FACTS.versions.items())),
    )
    assert model_card(turned) == model_card(FACTS)


def test_a_card_is_markdown_that_renders_its_tables() -> None:
    markdown = MarkdownIt("commonmark").enable("table")
    html = markdown.render(model_card(FACTS).split("---\n", 2)[2])
    assert html.count("<table>") == 9
    assert "|" not in re.sub(r"<[^>]*>", "", html)
