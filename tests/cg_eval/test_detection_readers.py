"""cg_eval.detection.readers: two readers and a detector are held against each other alike."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cg_data.records import Event, Label
from cg_data.vocabulary import CHANNELS, WAVEFORM_INDEX, WAVEFORMS, LabelKind, Waveform
from cg_eval.detection import readers
from cg_eval.detection.pages import Found, Page
from cg_eval.detection.tally import Tally, by_subject
from cg_eval.settings import EvalSettings
from tests.detections_small import page_of_marks
from tests.records_small import event

SPINDLE, C3 = Waveform.SLEEP_SPINDLE, CHANNELS.index("C3")


def pages_read_twice(seed: int, pages: int = 12) -> list[Page]:
    """Spindles of 0.6 to 1.4 s on C3 of three subjects; the second reader misses some, adds some and moves all."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(pages):
        starts = np.arange(0.3, 9, 1.8) + rng.uniform(0, 0.3, 5)
        first = np.array([(WAVEFORM_INDEX[SPINDLE], C3, a, a + rng.uniform(0.6, 1.4)) for a in starts if rng.random() < 0.7]).reshape(-1, 4)
        second = first[rng.random(len(first)) < 0.8] + np.array([0, 0, 1, 1]) * rng.normal(0, 0.3)
        subject = f"subject-{number % 3}"
        one, two = (page_of_marks(number, subject, m.clip(0), who, "C3") for m, who in ((first, "1"), (second, "2")))
        made.append(dataclasses.replace(one, labels=one.labels + two.labels))
    return made


def found_of(pages: list[Page], events: list[tuple[Event, ...]]) -> Found:
    return Found(version="v", min_box_s=0.0, thresholds=dict.fromkeys(WAVEFORMS, 0.5), events=tuple(events))


def agreement(pages: list[Page], found: Found) -> list[dict]:
    tally = Tally(by_subject([p.subject for p in pages], readers.count(pages, found)), EvalSettings(resamples=100))
    return readers.table(tally)


def copies(pages: list[Page], reader: str, score: float = 0.9) -> list[tuple[Event, ...]]:
    """A detector that marks what a reader marks."""
    of_reader = ([e for e in p.labels if e.reader == reader and e.kind == LabelKind.WAVEFORM] for p in pages)
    return [tuple(event(SPINDLE, e.channel, e.onset_s, e.duration_s, score) for e in labels) for labels in of_reader]


def test_kappa_and_f1_are_those_of_samples_and_pairs() -> None:
    pages = pages_read_twice(1)
    (row,) = agreement(pages, found_of(pages, [()] * len(pages)))
    first, second = ([readers.occupied(p.of_reader(who).references(0.0).marks)[C3] for p in pages] for who in ("1", "2"))
    pair = row["pairs"][0]
    assert pair["kappa"]["value"] == pytest.approx(cohen_kappa_score(np.concatenate(first).ravel(), np.concatenate(second).ravel()))
    assert 0.3 < pair["kappa"]["low"] < pair["kappa"]["value"] < pair["kappa"]["high"] < 1
    assert pair["f1"]["value"] == pytest.approx(2 * pair["matched"] / (pair["first_marks"] + pair["second_marks"]))
    assert 0 < pair["matched"] < min(pair["first_marks"], pair["second_marks"])


def test_a_detector_that_copies_a_reader_agrees_with_the_other_as_that_reader_does() -> None:
    pages = pages_read_twice(2)
    (row,) = agreement(pages, found_of(pages, copies(pages, "2")))
    between, with_first, with_second = row["pairs"]
    assert with_first["f1"]["value"] == pytest.approx(between["f1"]["value"])
    assert with_first["kappa"]["value"] == pytest.approx(between["kappa"]["value"])
    assert with_second["f1"]["value"] == 1.0
    assert with_second["kappa"]["value"] == pytest.approx(1.0)
    against_first, against_second = row["detector_against_other_reader"]
    assert against_first["f1"]["value"] == pytest.approx(0.0)
    assert against_second["kappa"]["value"] > 0
    assert against_second["kappa"]["low"] > 0


def test_only_what_both_readers_looked_at_counts() -> None:
    pages = pages_read_twice(3)
    one_reader = [dataclasses.replace(p, labels=tuple(e for e in p.labels if e.reader == "1")) for p in pages]
    assert agreement(one_reader, found_of(pages, copies(pages, "1"))) == []
    elsewhere = [tuple(event(SPINDLE, "O1", 1.0, 1.0) for _ in range(3)) for _ in pages]
    (row,) = agreement(pages, found_of(pages, elsewhere))
    assert row["pairs"][1]["second_marks"] == 0
    late = [dataclasses.replace(p, labels=tuple(_cut(e) for e in p.labels)) for p in pages]
    (half,) = agreement(late, found_of(pages, [()] * len(pages)))
    assert 0 < half["pairs"][0]["first_marks"] < row["pairs"][0]["first_marks"]
    (weak,) = agreement(pages, found_of(pages, copies(pages, "1", score=0.4)))
    assert weak["pairs"][1]["second_marks"] == 0


def _cut(label: Label) -> Label:
    """The second reader looks at the second half of a page alone."""
    is_search = label.kind == LabelKind.SEARCHED and label.reader == "2"
    return dataclasses.replace(label, onset_s=5.0, duration_s=5.0) if is_search else label


def test_marks_match_one_to_one_whichever_comes_first() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        a, b = (np.array([(4, 0, s, s + rng.uniform(0.3, 1.0)) for s in rng.uniform(0, 3, 6)]) for _ in range(2))
        assert readers.matched(a, b) == readers.matched(b, a) <= 6
    same = np.array([(4.0, 0.0, 1.0, 2.0)])
    assert readers.matched(np.vstack([same, same]), same) == 1
