"""The signal network: where its places lie, and what must not and what must change its answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cg_data.detect.signal_network import COARSE, COARSE_S, FINE, FINE_S, SignalNetwork, place_centres_s, place_rows
from cg_data.montage import AVERAGE_FROM
from cg_data.vocabulary import CHANNEL_INDEX, N_CHANNELS, WAVEFORM_INDEX, WAVEFORMS, Waveform
from tests.detectors_small import SIGNAL, noise_pages, untrained

PLACES = N_CHANNELS * (FINE + COARSE)
Answer = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def network() -> SignalNetwork:
    built = untrained(SIGNAL)
    assert isinstance(built, SignalNetwork)
    return built


def answer(network: SignalNetwork, eeg_uv: np.ndarray, mask: np.ndarray) -> Answer:
    with torch.inference_mode():
        extents, logits = network(*network.prepare(eeg_uv, mask, "cpu"))
    return extents, logits


def near(one: Answer, other: Answer, where: torch.Tensor | slice = slice(None)) -> bool:
    return all(torch.allclose(a[:, where], b[:, where], atol=2e-3, rtol=1e-4) for a, b in zip(one, other, strict=True))


def test_each_place_says_where_and_what(network: SignalNetwork) -> None:
    extents, logits = answer(network, *noise_pages(3))
    assert extents.shape == (3, PLACES, 2)
    assert logits.shape == (3, PLACES, len(WAVEFORMS))
    centres_s = place_centres_s()
    assert bool(((extents[..., 0] < centres_s) & (centres_s < extents[..., 1])).all())
    assert bool((logits.std(dim=(0, 1)) > 0.01).all())


def test_places_lie_every_20_ms_of_every_row_then_every_80_ms() -> None:
    expected = [(row, (i + 0.5) * step_s) for step_s in (FINE_S, COARSE_S) for row in range(N_CHANNELS) for i in range(round(10 / step_s))]
    assert place_rows().tolist() == [row for row, _ in expected]
    np.testing.assert_allclose(place_centres_s().numpy(), [centre_s for _, centre_s in expected], atol=1e-5)


def test_what_lies_on_a_masked_electrode_changes_nothing(network: SignalNetwork) -> None:
    eeg_uv, mask = noise_pages(2)
    mask[:, [CHANNEL_INDEX["Fz"], CHANNEL_INDEX["O2"]]] = False
    other = eeg_uv.copy()
    other[~mask] = 1e4
    assert all(torch.equal(a, b) for a, b in zip(answer(network, eeg_uv, mask), answer(network, other, mask), strict=True))


def test_a_page_without_any_electrode_is_answered_in_numbers(network: SignalNetwork) -> None:
    eeg_uv, mask = noise_pages(1)
    assert all(bool(part.isfinite().all()) for part in answer(network, eeg_uv, np.zeros_like(mask)))


@pytest.mark.parametrize(("electrodes", "changes"), [(N_CHANNELS, False), (AVERAGE_FROM, False), (AVERAGE_FROM - 1, True)])
def test_what_the_reference_picks_up_changes_nothing_where_electrodes_are_enough(
    network: SignalNetwork, electrodes: int, changes: bool
) -> None:
    eeg_uv, mask = noise_pages(1)
    mask[:, electrodes:] = False
    course_uv = 80 * np.sin(np.arange(2000) * 0.3).astype(np.float32)
    one, other = answer(network, eeg_uv, mask), answer(network, eeg_uv + course_uv, mask)
    assert near(one, other) is not changes


def test_electrodes_tell_each_other_what_they_see(network: SignalNetwork) -> None:
    eeg_uv, mask = noise_pages(1)
    other = eeg_uv.copy()
    other[:, CHANNEL_INDEX["F3"]] *= -1
    difference = (answer(network, eeg_uv, mask)[1] - answer(network, other, mask)[1]).abs().amax(dim=(0, 2))
    rows = place_rows()
    changed = [float(difference[rows == row].max()) for row in range(N_CHANNELS)]
    assert min(changed) > 0
    assert changed[CHANNEL_INDEX["F3"]] == max(changed)


def test_polarity_is_seen(network: SignalNetwork) -> None:
    eeg_uv, mask = noise_pages(1)
    assert not near(answer(network, eeg_uv, mask), answer(network, -eeg_uv, mask))


def test_a_shift_by_80_ms_shifts_the_answer(network: SignalNetwork) -> None:
    rng = np.random.default_rng(7)
    long_uv = (30 * rng.standard_normal((1, N_CHANNELS, 2000 + 48))).astype(np.float32)
    mask = np.ones((1, N_CHANNELS), dtype=np.bool_)
    extents, logits = answer(network, long_uv[:, :, :2000], mask)
    later_extents, later_logits = answer(network, long_uv[:, :, 48:], mask)  # three coarse steps on
    for centre_s in (2.5, 5.0, 7.5):
        places = torch.nonzero((place_centres_s() - centre_s).abs() < 0.1).flatten()
        moved = torch.nonzero((place_centres_s() - (centre_s - 0.24)).abs() < 0.1).flatten()
        torch.testing.assert_close(later_logits[:, moved], logits[:, places], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(later_extents[:, moved] + 0.24, extents[:, places], atol=1e-4, rtol=1e-4)


def test_a_page_does_not_depend_on_its_neighbours_in_the_batch(network: SignalNetwork) -> None:
    eeg_uv, mask = noise_pages(3)
    mask[0, :12] = False
    together = answer(network, eeg_uv, mask)
    turned = answer(network, eeg_uv[[2, 0, 1]], mask[[2, 0, 1]])
    alone = answer(network, eeg_uv[:1], mask[:1])
    for one, other, single in zip(together, turned, alone, strict=True):
        torch.testing.assert_close(one[[2, 0, 1]], other, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(one[:1], single, atol=1e-4, rtol=1e-5)


def test_candidates_are_the_places_whose_score_reaches_the_floor(network: SignalNetwork) -> None:
    extents, logits = answer(network, *noise_pages(2))
    for (marks, scores), spans, of_page in zip(network.decode((extents, logits), 0.05), extents, logits, strict=True):
        rows, expected = place_rows(), []
        for place, waveform in torch.nonzero(of_page.double().sigmoid() >= 0.05).tolist():
            start_s, stop_s = (min(max(float(t), 0.0), 10.0) for t in spans[place])
            expected.append((waveform, int(rows[place]), start_s, stop_s, float(of_page[place, waveform].sigmoid())))
        assert len(marks) == len(expected) > 20
        np.testing.assert_allclose(np.column_stack([marks, scores]), np.array(expected), atol=1e-6)


def test_a_place_may_look_like_two_waveforms(network: SignalNetwork) -> None:
    logits = torch.full((1, PLACES, len(WAVEFORMS)), -9.0)
    both = [WAVEFORM_INDEX[Waveform.K_COMPLEX], WAVEFORM_INDEX[Waveform.SLEEP_SPINDLE]]
    logits[0, 40, both] = 2.0
    extents = torch.stack([place_centres_s() - 0.1, place_centres_s() + 0.1], dim=1)[None]
    ((marks, scores),) = network.decode((extents, logits), 0.5)
    assert sorted(marks[:, 0]) == sorted(both)
    np.testing.assert_allclose(marks[:, 2:], [[0.71, 0.91]] * 2, atol=1e-5)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-2.0)), atol=1e-6)
