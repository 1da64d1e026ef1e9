"""cg_eval.detection.{judged, confusion, taxonomy, merged}: what a wrong event is, and what one event over many channels is."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from cg_data.detect.boxes import Marks
from cg_data.records import Event
from cg_data.vocabulary import CHANNEL_INDEX, WAVEFORM_INDEX, WAVEFORMS, Waveform
from cg_eval.detection import confusion, merged
from cg_eval.detection.judged import judge
from cg_eval.detection.taxonomy import UNEXPLAINED, Error, errors_of, explanations_of
from tests.detections_small import random_pages
from tests.records_small import event

SPIKE, SHARP, SPINDLE = Waveform.SPIKE, Waveform.SHARP_WAVE, Waveform.SLEEP_SPINDLE


def marks(*rows: tuple[Waveform, str, float, float]) -> Marks:
    return np.array([(WAVEFORM_INDEX[w], CHANNEL_INDEX[c], a, b) for w, c, a, b in rows], dtype=np.float64).reshape(-1, 4)


def errors(events: list[Event], truth: Marks) -> list[Error | None]:
    """Errors in the order of the events' scores, which is how the tests write them."""
    return errors_of(judge(events, truth))


def test_every_kind_of_wrong_event() -> None:
    truth = marks((SPINDLE, "C3", 1.0, 2.0), (SHARP, "T3", 4.0, 4.4))
    found = [
        event(SPINDLE, "C3", 1.0, 1.0, 0.9),
        event(SPINDLE, "C3", 1.1, 1.0, 0.8),
        event(SPIKE, "T3", 4.0, 0.4, 0.7),
        event(SHARP, "T3", 4.3, 0.4, 0.6),
        event(SHARP, "T4", 4.0, 0.4, 0.5),
        event(SHARP, "T4", 8.0, 0.4, 0.4),
    ]
    kinds = [None, Error.DOUBLED, Error.WRONG_CLASS, Error.WRONG_EXTENT, Error.WRONG_CHANNEL, Error.BACKGROUND]
    assert errors(found, truth) == kinds


def test_of_several_errors_the_first_named_counts() -> None:
    both = marks((SPINDLE, "C3", 1.0, 2.0), (Waveform.K_COMPLEX, "C3", 1.0, 2.0), (SPINDLE, "C4", 1.0, 2.0))
    found = [event(SPINDLE, "C3", 1.0, 1.0, 0.9), event(SPINDLE, "C3", 1.0, 1.0, 0.8), event(SPINDLE, "C3", 1.0, 0.45, 0.7)]
    assert errors(found, both) == [None, Error.DOUBLED, Error.WRONG_EXTENT]
    assert errors(found[1:2], both[1:]) == [Error.WRONG_CLASS]
    assert errors(found[1:2], both[2:]) == [Error.WRONG_CHANNEL]


def test_overlaps_of_exactly_a_half_and_a_tenth_belong_to_the_nearer_kind() -> None:
    truth = marks((SPINDLE, "C3", 0.0, 2.0))
    assert errors([event(SPINDLE, "C3", 0.0, 1.0)], truth) == [None]
    assert errors([event(SPINDLE, "C3", 0.0, 0.5)], truth) == [Error.WRONG_EXTENT]
    assert errors([event(SPINDLE, "C3", 0.0, 0.25)], truth) == [Error.WRONG_EXTENT]
    assert errors([event(SPINDLE, "C3", 0.0, 0.125)], truth) == [Error.BACKGROUND]


def test_a_missed_reference_is_explained_by_the_event_that_is_about_it() -> None:
    truth = marks(
        (SPINDLE, "C3", 1.0, 2.0), (SHARP, "T3", 4.0, 4.4), (SPINDLE, "O1", 6.0, 7.0), (SPINDLE, "P3", 8.0, 9.0), (SPIKE, "F7", 3.0, 3.2)
    )
    found = [event(SPINDLE, "C3", 1.0, 1.0), event(SPIKE, "T3", 4.0, 0.4), event(SPINDLE, "O1", 6.7, 0.9), event(SPINDLE, "F8", 8.0, 1.0)]
    page = judge(found, truth)
    assert explanations_of(page, errors_of(page)) == [None, "wrong_class", "wrong_extent", "wrong_channel", UNEXPLAINED]


def test_confusion_pairs_by_time_and_row_alone_best_score_first() -> None:
    truth = marks((SHARP, "T3", 4.0, 4.4), (SPINDLE, "C3", 1.0, 2.0))
    found = [event(SPIKE, "T3", 4.0, 0.4, 0.9), event(SHARP, "T3", 4.0, 0.4, 0.8), event(SPINDLE, "C4", 1.0, 1.0, 0.7)]
    assert confusion.count(judge(found, truth)) == Counter(
        {
            ("confusion", SHARP, SPIKE): 1,
            ("confusion", "background", SHARP): 1,
            ("confusion", "background", SPINDLE): 1,
            ("confusion", SPINDLE, "background"): 1,
        }
    )


def test_of_references_at_one_place_an_event_takes_that_of_its_class() -> None:
    for order in ((SHARP, SPIKE), (SPIKE, SHARP)):
        truth = marks(*((w, "T3", 4.0, 4.4) for w in order))
        assert confusion.count(judge([event(SPIKE, "T3", 4.0, 0.4)], truth)) == {
            ("confusion", SPIKE, SPIKE): 1,
            ("confusion", SHARP, "background"): 1,
        }


def test_weak_events_leave_what_strong_ones_take() -> None:
    found, truth = random_pages(8, pages=30)
    thresholds = dict.fromkeys(WAVEFORMS, 0.45)
    for events, of_page in zip(found, truth, strict=True):
        strong = judge([e for e in events if e.score >= 0.45], of_page)
        cut = judge(events, of_page).at(thresholds)
        assert cut.events == strong.events
        np.testing.assert_array_equal(cut.taken, strong.taken)


def test_marks_that_overlap_on_any_channels_are_one_event() -> None:
    of_page = marks((SPINDLE, "C3", 1.0, 2.0), (SPINDLE, "O1", 1.9, 2.5), (SPINDLE, "O2", 2.5, 3.0), (SPINDLE, "Cz", 1.2, 1.4))
    np.testing.assert_array_equal(merged.merged_times(of_page), [[1.0, 2.5], [2.5, 3.0]])
    found = [event(SPINDLE, "T6", 2.4, 0.2), event(SPINDLE, "T6", 5.0, 0.5), event(SPIKE, "C3", 1.0, 1.0)]
    counts = merged.count(judge(found, of_page))
    assert counts == {
        ("merged", SPINDLE, "references"): 2, ("merged", SPINDLE, "hits"): 2, ("merged", SPINDLE, "false"): 1, ("merged", SPIKE, "false"): 1
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_whole_events_are_the_connected_ones(seed: int) -> None:
    for events, of_page in zip(*random_pages(seed, pages=15), strict=True):
        page = judge(events, of_page)
        counts = merged.count(page)
        for index, waveform in enumerate(WAVEFORMS):
            truth, found = (m[m[:, 0] == index] for m in (page.truth, page.found))
            wanted, said = _connected(truth), _connected(found)
            pairs = {(wanted[i], said[j]) for i, j in zip(*np.nonzero(_meet(truth, found)), strict=True)}
            right = len({s for _, s in pairs})
            expected = {"references": len(set(wanted)), "hits": len({w for w, _ in pairs}), "false": len(set(said)) - right}
            assert {name: counts["merged", str(waveform), name] for name in expected} == expected


def _meet(first: Marks, second: Marks) -> np.ndarray:
    return (first[:, None, 2] < second[None, :, 3]) & (second[None, :, 2] < first[:, None, 3])


def _connected(of_class: Marks) -> list[int]:
    """The number of the event that each mark belongs to."""
    return connected_components(_meet(of_class, of_class))[1].tolist() if len(of_class) else []
