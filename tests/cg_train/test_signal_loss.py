"""The loss of the signal detector: which places shall find which mark is what a slow and plain search says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cg_data.detect.signal_network import place_centres_s, place_rows
from cg_data.vocabulary import WAVEFORMS
from cg_train.signal_loss import Targets, signal_losses

ROWS, CENTRES_S = place_rows().numpy(), place_centres_s().numpy()
PLACES = len(ROWS)
Marks = list[tuple[int, int, int, float, float]]
"""Page, class, row, start and stop in seconds."""


def losses_of(extents: torch.Tensor, logits: torch.Tensor, marks: Marks) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses of extents and classes, and the scores that places shall have `(n, places, 9)`."""
    seen: list[torch.Tensor] = []

    def plain(wanted: torch.Tensor) -> torch.Tensor:
        seen.append(wanted)
        return functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")

    box, classes = signal_losses(extents, logits, Targets.of(torch.tensor(marks, dtype=torch.float64).reshape(-1, 5)), plain)
    return box, classes, seen[0]


def predictions(seed: int, pages: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Extents that contain their centres and logits, both at random."""
    random = torch.Generator().manual_seed(seed)
    reach = torch.exp(torch.randn(pages, PLACES, 2, generator=random)) * 0.15
    centres_s = place_centres_s()
    extents = torch.stack([centres_s - reach[..., 0], centres_s + reach[..., 1]], dim=-1)
    return extents, torch.randn(pages, PLACES, len(WAVEFORMS), generator=random) * 2 - 3


def iou(start: float, stop: float, other_start: float, other_stop: float) -> float:
    shared = max(min(stop, other_stop) - max(start, other_start), 0.0)
    return shared / (stop - start + other_stop - other_start - shared)


def slow_assignment(extents: np.ndarray, logits: np.ndarray, marks: Marks) -> dict[tuple[int, int], tuple[int, float]]:
    """Mark and score of each place `(page, place)` that shall find one, as TOOD has it, place by place."""
    claims: dict[tuple[int, int], list[tuple[float, int, float]]] = {}
    for number, (page, waveform, row, start_s, stop_s) in enumerate(marks):
        candidates = []
        for place in np.flatnonzero(row == ROWS):
            if start_s < CENTRES_S[place] < stop_s:
                overlap = iou(*extents[page, place], start_s, stop_s)
                score = 1 / (1 + math.exp(-logits[page, place, waveform]))
                candidates.append((score**0.5 * overlap**6, overlap, (page, int(place))))
        for aligned, overlap, place in sorted(candidates, reverse=True)[:8]:
            claims.setdefault(place, []).append((overlap, number, aligned))
    won = {place: max(wanting) for place, wanting in claims.items()}
    strongest = {n: max(aligned for _, mark, aligned in won.values() if mark == n) for _, n, _ in won.values()}
    widest = {n: max(overlap for overlap, mark, _ in won.values() if mark == n) for _, n, _ in won.values()}
    return {place: (mark, aligned / strongest[mark] * widest[mark]) for place, (_, mark, aligned) in won.items()}


def crowded(seed: int) -> Marks:
    """Many marks on two pages, so that on every row some want the same places."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(60):
        start_s, length_s = rng.uniform(0, 9.5), rng.choice([0.06, 0.15, 0.5, 1.5]) * rng.uniform(0.8, 1.2)
        found.append((int(rng.integers(2)), int(rng.integers(9)), int(rng.integers(4)), float(start_s), float(min(start_s + length_s, 10))))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_places_are_assigned_as_by_the_slow_way(seed: int) -> None:
    (extents, logits), marks = predictions(seed, pages=2), crowded(seed)
    box, classes, wanted = losses_of(extents, logits, marks)
    slow = slow_assignment(extents.double().numpy(), logits.double().numpy(), marks)
    expected = np.zeros(wanted.shape)
    for (page, place), (mark, score) in slow.items():
        expected[page, place, marks[mark][1]] = score
    np.testing.assert_allclose(wanted.numpy(), expected, atol=1e-4)

    total = max(sum(score for _, score in slow.values()), 1.0)
    distance = 0.0
    for (page, place), (mark, score) in slow.items():
        start_s, stop_s = extents[page, place].tolist()
        _, _, _, onset_s, end_s = marks[mark]
        span_s = max(stop_s, end_s) - min(start_s, onset_s)
        apart = ((start_s + stop_s - onset_s - end_s) / 2 / span_s) ** 2
        distance += score * (1 - iou(start_s, stop_s, onset_s, end_s) + apart)
    assert float(box) == pytest.approx(2 * distance / total, rel=1e-3)
    entropy = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(expected).float(), reduction="sum")
    assert float(classes) == pytest.approx(float(entropy) / total, rel=1e-3)


def test_extents_that_are_right_cost_nothing() -> None:
    extents, logits = predictions(0)
    mark = (0, 3, 5, 2.1, 3.3)
    extents[0, ROWS == 5] = torch.tensor(mark[3:])
    box, _, wanted = losses_of(extents, logits, [mark])
    assert float(box) < 1e-4
    assert float(wanted.max()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("length_s", [0.03, 0.06, 0.079])
@pytest.mark.parametrize("start_s", [0.0, 4.003, 4.0399])
def test_a_mark_narrower_than_a_coarse_step_is_still_to_be_found(start_s: float, length_s: float) -> None:
    _, _, wanted = losses_of(*predictions(1), [(0, 0, 18, start_s, start_s + length_s)])
    places = torch.nonzero(wanted[0].amax(dim=1)).flatten().numpy()
    assert len(places) >= 1
    assert all(ROWS[places] == 18)
    assert all((CENTRES_S[places] > start_s) & (CENTRES_S[places] < start_s + length_s))


def test_a_mark_however_badly_met_is_still_to_be_found() -> None:
    for reach_s in (1e-4, 40.0):
        extents = torch.stack([place_centres_s() - reach_s, place_centres_s() + reach_s], dim=1)[None]
        for mark in ((0, 4, 2, 3.0, 3.1), (0, 4, 2, 0.0, 10.0)):
            box, _, wanted = losses_of(extents, torch.full((1, PLACES, 9), -8.0), [mark])
            assert float(wanted.sum()) > 0, (reach_s, mark)
            assert float(box) > 0


def test_of_two_marks_that_want_one_place_the_better_met_has_it() -> None:
    extents, logits = predictions(2)
    place = int(np.flatnonzero((ROWS == 0) & np.isclose(CENTRES_S, 5.03))[0])
    first, second = (0, 1, 0, 5.02, 5.04), (0, 2, 0, 5.015, 5.045)  # only this fine centre lies in them, and no coarse one
    extents[0, place] = torch.tensor([5.015, 5.045])
    _, _, wanted = losses_of(extents, logits, [first, second])
    assert torch.nonzero(wanted[0]).tolist() == [[place, 2]]


def test_rows_and_pages_keep_to_themselves() -> None:
    _, _, wanted = losses_of(*predictions(3, pages=2), [(1, 6, 7, 4.0, 6.0)])
    pages, places, waveforms = torch.nonzero(wanted, as_tuple=True)
    assert set(pages.tolist()) == {1}
    assert set(ROWS[places.numpy()]) == {7}
    assert set(waveforms.tolist()) == {6}


def test_gradients_are_finite_and_push_the_assigned_places() -> None:
    extents, logits = (part.requires_grad_() for part in predictions(4, pages=2))
    box, classes, wanted = losses_of(extents, logits, crowded(4))
    (box + classes).backward()
    assert extents.grad is not None
    assert logits.grad is not None
    assert bool(extents.grad.isfinite().all())
    assert bool(logits.grad.isfinite().all())
    assigned = wanted.amax(dim=2) > 0
    assert bool((extents.grad[~assigned] == 0).all())
    assert float((extents.grad[assigned].abs().sum(dim=1) > 0).float().mean()) > 0.99


def test_a_batch_without_marks_has_class_losses_alone() -> None:
    extents, logits = (part.requires_grad_() for part in predictions(5))
    box, classes, wanted = losses_of(extents, logits, [])
    (box + classes).backward()
    assert float(box.detach()) == 0.0
    assert float(wanted.max()) == 0.0
    assert float(classes.detach()) == pytest.approx(float(functional.softplus(logits.detach()).sum()), rel=1e-5)
    assert extents.grad is not None
    assert not extents.grad.any()
