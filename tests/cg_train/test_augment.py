"""Pages are changed as signals are: marks follow, what the change hides is unknown, and nothing is mirrored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cg_data.detect.references import References, Region, known_cells
from cg_data.vocabulary import N_CHANNELS, SEGMENT_SAMPLES, WAVEFORMS
from cg_train.augment import augmented, on_rows, shifted
from cg_train.recipe import AugmentSettings

ALL = np.ones(N_CHANNELS, dtype=np.bool_)
EVERY = np.ones(len(WAVEFORMS), dtype=np.bool_)
NOTHING = AugmentSettings(gain_log2=0, rereference=0, noise_uv=0, channel_loss=0, few_channels=0, shift=0)
CENTRES_S = (np.arange(1000) + 0.5) / 100


def rows(*numbers: int) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(N_CHANNELS), numbers)


def classes(*numbers: int) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(len(WAVEFORMS)), numbers)


def region(start_s: float, stop_s: float, on: npt.NDArray[np.bool_] = ALL, of: npt.NDArray[np.bool_] = EVERY) -> Region:
    return Region(rows=on, start_s=start_s, stop_s=stop_s, waveforms=of)


def references(*marks: tuple[float, float, float, float], coarse: tuple[Region, ...] = (), known: tuple[Region, ...] = ()) -> References:
    return References(marks=np.array(marks, dtype=np.float64).reshape(-1, 4), coarse=coarse, known=known)


def page(seed: int = 0) -> npt.NDArray[np.float32]:
    return (20 * np.random.default_rng(seed).standard_normal((N_CHANNELS, SEGMENT_SAMPLES))).astype(np.float32)


def changed(
    eeg_uv: npt.NDArray[np.float32], known: References, seed: int = 0, mask: npt.NDArray[np.bool_] = ALL, **how: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], References]:
    return augmented(eeg_uv, mask, known, NOTHING.model_copy(update=how), np.random.default_rng(seed))


def is_known(found: References, row: int, waveform: int) -> npt.NDArray[np.bool_]:
    """At every hundredth of a second."""
    return known_cells(found.known, CENTRES_S, np.full(len(CENTRES_S), row))[:, waveform]


def test_without_any_change_a_page_stays_as_it_is() -> None:
    given_, eeg_uv = references((0, 3, 1.0, 2.0), known=(region(0, 10),)), page()
    signal, mask, found = changed(eeg_uv, given_)
    np.testing.assert_array_equal(signal, eeg_uv)
    assert mask.all()
    np.testing.assert_array_equal(found.marks, given_.marks)
    assert is_known(found, 5, 5).all()


def test_equal_seeds_give_equal_pages_and_others_do_not() -> None:
    first, same, other = (
        augmented(page(), ALL, references((0, 3, 1.0, 2.0)), AugmentSettings(shift=1.0), np.random.default_rng(s)) for s in (4, 4, 5)
    )
    assert first[0].tobytes() == same[0].tobytes()
    assert first[2].marks.tobytes() == same[2].marks.tobytes()
    assert first[0].tobytes() != other[0].tobytes()
    assert first[0].dtype == np.float32


def test_the_page_that_was_given_is_left_alone() -> None:
    eeg_uv, mask, marks = page(), ALL.copy(), references((0, 3, 1.0, 2.0), known=(region(0, 10),))
    before = eeg_uv.copy(), marks.marks.copy()
    for seed in range(20):
        augmented(eeg_uv, mask, marks, AugmentSettings(shift=1.0, few_channels=0.5), np.random.default_rng(seed))
    np.testing.assert_array_equal(eeg_uv, before[0])
    np.testing.assert_array_equal(marks.marks, before[1])
    assert mask.all()


def test_the_gain_is_one_factor_within_its_range_and_never_turns_the_signal_over() -> None:
    eeg_uv = page()
    factors = []
    for seed in range(200):
        ratio = changed(eeg_uv, references(), seed, gain_log2=0.5)[0] / eeg_uv
        assert np.ptp(ratio) < 1e-5
        factors.append(float(ratio.mean()))
    assert 2**-0.5 - 1e-6 <= min(factors) < 0.75
    assert 1.35 < max(factors) <= 2**0.5 + 1e-6


def test_another_reference_takes_one_course_from_all_electrodes() -> None:
    eeg_uv = page()
    mask = ~rows(4)
    signal = changed(eeg_uv, references(), 1, mask, rereference=1.0)[0]
    course = (eeg_uv - signal)[mask]
    np.testing.assert_allclose(course, np.broadcast_to(course[0], course.shape), atol=1e-4)
    assert 0.5 < course.std() < 20
    # What is taken away is a mixture of electrodes that exist, all with the same sign.
    weights = np.linalg.lstsq(eeg_uv[mask].T.astype(np.float64), course[0].astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(weights @ eeg_uv[mask], course[0], atol=1e-3)
    assert weights.min() > -1e-4
    assert weights.sum() <= 1 + 1e-4


def test_noise_is_added_within_its_strength_and_differs_between_electrodes() -> None:
    eeg_uv = page()
    strengths = np.array([(changed(eeg_uv, references(), seed, noise_uv=2.0)[0] - eeg_uv).std(axis=1) for seed in range(100)])
    assert strengths.max() < 2.0 * 1.5 * 1.1
    assert strengths.max() > 1.5
    assert strengths.min() < 0.3
    assert np.median(strengths.max(axis=1) / strengths.min(axis=1)) > 1.5


def test_lost_electrodes_are_silent_and_nothing_is_known_or_marked_there() -> None:
    marks = references(*((0, row, 1.0, 2.0) for row in range(N_CHANNELS)), known=(region(0, 10),))
    lost = []
    for seed in range(100):
        signal, mask, found = changed(page(), marks, seed, channel_loss=0.2)
        lost.append((~mask).mean())
        assert not signal[~mask].any()
        assert signal[mask].any(axis=1).all()
        assert found.marks[:, 1].tolist() == np.flatnonzero(mask).tolist()
        assert [is_known(found, row, 0).all() for row in range(N_CHANNELS)] == mask.tolist()
        assert [is_known(found, row, 0).any() for row in range(N_CHANNELS)] == mask.tolist()
    assert 0.15 < np.mean(lost) < 0.25


def test_a_few_electrodes_are_at_least_one_and_at_most_six_of_those_there() -> None:
    there = ~rows(0, 1, 2)
    kept = [changed(page(), references(), seed, there, few_channels=1.0)[1] for seed in range(100)]
    assert {int(mask.sum()) for mask in kept} == {1, 2, 3, 4, 5, 6}
    assert not any((mask & ~there).any() for mask in kept)
    assert not changed(page(), references(), 0, np.zeros_like(ALL), few_channels=1.0)[1].any()


def test_a_coarse_region_that_loses_an_electrode_is_unknown() -> None:
    coarse = (region(1, 2, rows(3, 4), classes(0)), region(5, 6, rows(5), classes(0)))
    found = on_rows(references(coarse=coarse, known=(region(3, 4, rows(3, 4)), region(3, 4, rows(4)))), ~rows(4))
    assert found.coarse == coarse[1:]
    assert [(r.start_s, np.flatnonzero(r.rows).tolist()) for r in found.known] == [(3, [3])]


def bump(at_s: float, row: int) -> npt.NDArray[np.float32]:
    """A rising ramp of 0.5 s that falls at once: it has a direction in time and a polarity."""
    eeg_uv = np.zeros((N_CHANNELS, SEGMENT_SAMPLES), dtype=np.float32)
    start = round(at_s * 200)
    eeg_uv[row, start : start + 100] = np.linspace(1, 100, 100)
    return eeg_uv


@pytest.mark.parametrize("seed", range(8))
def test_marks_follow_the_signal_in_time_and_neither_is_mirrored(seed: int) -> None:
    eeg_uv = bump(4.0, 7)
    signal, _, found = changed(eeg_uv, references((2, 7, 4.0, 4.5), known=(region(0, 10),)), seed, shift=1.0)
    assert sorted(signal[7].tolist()) == sorted(eeg_uv[7].tolist())
    assert not signal[[row for row in range(N_CHANNELS) if row != 7]].any()
    peak = int(signal[7].argmax())
    assert signal[7, peak - 1] == pytest.approx(99)  # rises, then falls at once
    ((waveform, row, _, stop_s),) = found.marks
    assert (waveform, row) == (2, 7)
    assert stop_s == pytest.approx((peak + 1) / 200)


def test_half_of_the_pages_are_turned_if_half_shall_be() -> None:
    turned = [not np.array_equal(changed(page(), references(), seed, shift=0.5)[0], page()) for seed in range(200)]
    assert 70 < sum(turned) < 130


def test_of_a_mark_at_the_new_edge_the_greater_part_stays_and_the_rest_is_unknown() -> None:
    found = shifted(references((2, 7, 4.0, 5.0), known=(region(0, 10),)), 5.3)  # it lies from 9.3 to 10.3
    np.testing.assert_allclose(found.marks, [[2, 7, 9.3, 10.0]])
    unknown = CENTRES_S[~is_known(found, 7, 2)]
    sliver, seam = unknown[unknown < 1], unknown[unknown > 1]
    assert (sliver.min(), sliver.max()) == pytest.approx((0.005, 0.295))
    assert (seam.min(), seam.max()) == pytest.approx((5.005, 5.595))
    assert is_known(found, 7, 3)[CENTRES_S < 1].all()
    assert is_known(found, 8, 2)[CENTRES_S < 1].all()
    np.testing.assert_allclose(shifted(references((2, 7, 4.0, 5.0)), 5.7).marks, [[2, 7, 0.0, 0.7]])
    np.testing.assert_allclose(shifted(references((2, 7, 4.0, 5.0)), 5.5).marks, [[2, 7, 9.5, 10.0], [2, 7, 0.0, 0.5]])


def test_a_mark_that_was_at_the_old_edge_goes_to_the_seam() -> None:
    found = shifted(references((2, 7, 9.5, 10.0), (2, 8, 0.0, 0.4)), 3.0)
    np.testing.assert_allclose(found.marks, [[2, 7, 2.5, 3.0], [2, 8, 3.0, 3.4]])


def test_a_coarse_region_that_the_new_edge_cuts_is_gone_and_others_move() -> None:
    coarse = (region(4, 6, rows(1), classes(0)), region(0, 2, rows(2), classes(0)), region(8, 9, rows(3), classes(0)))
    found = shifted(references(coarse=coarse), 5.0)
    assert [(r.start_s, r.stop_s, np.flatnonzero(r.rows).tolist()) for r in found.coarse] == [(5, 7, [2]), (3, 4, [3])]


TENTHS = st.integers(0, 99)
MARKS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 18), TENTHS, st.integers(1, 30)), max_size=6)


@settings(max_examples=60)
@given(MARKS, st.integers(1, 1999))
def test_turned_marks_cover_what_the_marks_covered(marks: list[tuple[int, int, int, int]], samples: int) -> None:
    """Sample by sample: what was marked is marked or unknown at its new place, and nothing else is marked."""
    exact = [(w, r, start / 10, min((start + length) / 10, 10.0)) for w, r, start, length in marks]
    before = references(*exact, known=(region(0, 10),))
    after = shifted(before, samples / 200)
    centres_s = (np.arange(SEGMENT_SAMPLES) + 0.5) / 200
    for waveform, row in {mark[:2] for mark in exact}:
        was, now = (
            np.array([(m[0] == waveform) & (m[1] == row) & (m[2] <= centres_s) & (centres_s < m[3]) for m in found.marks]).reshape(-1, 2000)
            for found in (before, after)
        )
        known = known_cells(after.known, centres_s, np.full(SEGMENT_SAMPLES, row))[:, waveform]
        expected = np.roll(was.any(axis=0), samples)
        assert not (now.any(axis=0) & ~expected).any()
        assert not (expected & ~now.any(axis=0) & known).any()
    assert (after.marks[:, 2] >= 0).all()
    assert (after.marks[:, 3] <= 10 + 1e-9).all()
    assert (after.marks[:, 3] > after.marks[:, 2]).all()


def test_regions_keep_what_they_are_about() -> None:
    one = region(2, 3, rows(4), classes(5))
    (moved,) = shifted(references(known=(one,)), 4.0).known
    assert (moved.start_s, moved.stop_s) == (6, 7)
    assert moved.rows.tolist() == one.rows.tolist()
    assert moved.waveforms.tolist() == one.waveforms.tolist()
