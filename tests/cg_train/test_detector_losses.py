"""What is unknown costs nothing, what is marked coarsely is asked for once, and the rest is the loss that each network came with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from cg_data.records import Label
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, N_CHANNELS, SEGMENT_SAMPLES, WAVEFORM_INDEX, ArtefactCode, LabelKind, Waveform
from cg_train.detector_batches import Batch, Coarse, make_batch
from cg_train.detector_losses import anchors_of, class_losses, criterion_of
from cg_train.recipe import AugmentSettings
from tests.detectors_small import NETWORKS, PAGE, everything_searched, page_of, planted_page, recipe_of, untrained

UNCHANGED = AugmentSettings(gain_log2=0, rereference=0, noise_uv=0, channel_loss=0, few_channels=0, shift=0)
NOISE_UV = 20 * np.random.default_rng(0).standard_normal((N_CHANNELS, SEGMENT_SAMPLES))
JAW = Label(kind=LabelKind.ARTEFACT_CODE, name=ArtefactCode.CHEWING, onset_s=3.0, duration_s=2.0, channel="T3")
END_TO_END = PAGE.model_copy(update={"architecture": "yolo26", "depth_multiple": 0.5, "width_multiple": 0.125, "distance_bins": 1})


def small_batch(known: torch.Tensor, *coarse: Coarse) -> Batch:
    return Batch(inputs=(), marks=torch.zeros(0, 5), known=known, coarse=coarse)


def logits_of(seed: int, places: int = 12) -> torch.Tensor:
    return torch.randn(2, places, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def region(page: int, places: Sequence[int], classes: Sequence[int]) -> Coarse:
    return Coarse(page=page, places=torch.tensor(places), classes=torch.tensor(classes))


def test_where_all_is_known_the_losses_are_plain_cross_entropy() -> None:
    logits, wanted = logits_of(0), torch.rand(2, 12, 9, dtype=torch.float64)
    expected = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    assert torch.equal(class_losses(logits, wanted, small_batch(torch.ones(2, 12, 9, dtype=torch.bool))), expected)


def test_what_is_unknown_costs_nothing_unless_it_is_wanted() -> None:
    logits, wanted, known = logits_of(1), torch.zeros(2, 12, 9, dtype=torch.float64), torch.zeros(2, 12, 9, dtype=torch.bool)
    wanted[1, 4, 2], known[0, 3, 5] = 0.7, True
    losses = class_losses(logits, wanted, small_batch(known))
    losses.sum().backward()
    assert logits.grad is not None
    for found in (losses, logits.grad):
        assert torch.nonzero(found).tolist() == [[0, 3, 5], [1, 4, 2]]


def test_of_a_coarse_region_the_best_place_and_class_alone_is_asked_for() -> None:
    logits, known = logits_of(2), torch.zeros(2, 12, 9, dtype=torch.bool)
    places, classes = [2, 3, 7], [1, 4, 8]
    losses = class_losses(logits, torch.zeros_like(logits), small_batch(known, region(1, places, classes)))
    losses.sum().backward()
    best = max(((p, c) for p in places for c in classes), key=lambda at: float(logits.detach()[1, at[0], at[1]]))
    assert logits.grad is not None
    assert torch.nonzero(logits.grad).tolist() == [[1, *best]]
    assert float(logits.grad[1, best[0], best[1]]) < 0
    assert float(losses.detach().sum()) == pytest.approx(float(functional.softplus(-logits.detach()[1, best[0], best[1]])))


def test_two_regions_with_one_best_place_ask_for_it_once() -> None:
    logits, known = logits_of(3), torch.zeros(2, 12, 9, dtype=torch.bool)
    with torch.no_grad():
        logits[0, 5, 3] = 4.0
    batch = small_batch(known, region(0, [4, 5], [3]), region(0, [5, 6], [2, 3]), region(0, [0], [0]))
    assert torch.autograd.gradcheck(lambda x: class_losses(x, torch.zeros_like(x), batch).sum(), (logits,))
    assert len(torch.nonzero(class_losses(logits, torch.zeros_like(logits), batch))) == 2


def test_a_region_without_a_place_asks_for_nothing() -> None:
    known = torch.zeros(2, 12, 9, dtype=torch.bool)
    assert not class_losses(logits_of(4), torch.zeros(2, 12, 9), small_batch(known, region(0, [], [1]))).any()


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    return untrained(NETWORKS[request.param]).train()


def batch_of(network: Any, criterion: Any, *labels: Sequence[Label]) -> Batch:
    pages = [page_of(NOISE_UV, found, corpus="folder") for found in labels]
    recipe = recipe_of(PAGE, augment=UNCHANGED)
    return make_batch(recipe, network, criterion.places, pages, [(number,) for number in range(len(pages))])


def gradients(network: Any) -> list[torch.Tensor]:
    return [p.grad for p in network.parameters() if p.grad is not None]


def test_a_page_of_which_nothing_is_known_teaches_nothing(network: Any) -> None:
    criterion = criterion_of(network, epochs=1)
    batch = batch_of(network, criterion, [], [])
    on_row = torch.from_numpy(criterion.places.rows >= 0)
    batch = dataclasses.replace(batch, known=batch.known & on_row[:, None])  # below the last row nothing is ever there
    losses = criterion(batch)
    torch.stack(losses).sum().backward()
    assert [float(loss.detach()) for loss in losses] == [0.0] * len(criterion.names)
    assert gradients(network)
    assert not any(bool(gradient.any()) for gradient in gradients(network))


def test_a_page_with_one_coarse_mark_asks_for_its_best_place(network: Any) -> None:
    criterion = criterion_of(network, epochs=1)
    batch = batch_of(network, criterion, [JAW])
    (coarse,) = batch.coarse
    assert coarse.classes.tolist() == [WAVEFORM_INDEX[Waveform.HIGH_FREQUENCY_NOISE]]
    rows, centres_s = criterion.places.rows[coarse.places], criterion.places.centres_s[coarse.places]
    assert set(rows) == {CHANNEL_INDEX["T3"]}
    assert 3.0 <= centres_s.min() < centres_s.max() < 5.0
    on_row = torch.from_numpy(criterion.places.rows >= 0)
    loss = criterion(dataclasses.replace(batch, known=batch.known & on_row[:, None]))[1]
    with torch.no_grad():
        logits = network(*batch.inputs)[1] if hasattr(network, "stem") else network.raw(*batch.inputs)["scores"].permute(0, 2, 1)
    best = logits[0, coarse.places][:, coarse.classes].max()
    gain = 1.0 if hasattr(network, "stem") else 1.5
    assert float(loss.detach()) == pytest.approx(gain * float(functional.softplus(-best)), rel=1e-4)
    loss.backward()
    assert any(bool(gradient.any()) for gradient in gradients(network))


def test_losses_have_their_names_and_a_gradient_for_every_parameter_with_or_without_marks(network: Any) -> None:
    criterion = criterion_of(network, epochs=1)
    for labels in (everything_searched(), planted_page(0).labels):
        network.zero_grad()
        losses = criterion(batch_of(network, criterion, labels))
        assert len(losses) == len(criterion.names)
        torch.stack(losses).sum().backward()
        assert [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("settings", [PAGE, END_TO_END], ids=["yolov8", "yolo26"])
def test_page_losses_of_pages_that_are_all_known_are_those_of_ultralytics(settings: Any) -> None:
    network = untrained(settings).train()
    criterion = criterion_of(network, epochs=5)
    theirs = network.yolo.init_criterion()
    batch = batch_of(network, criterion, planted_page(3).labels, planted_page(4).labels, everything_searched())
    assert bool(batch.known.all())
    targets = _fractions(planted_page(3).labels, 0) + _fractions(planted_page(4).labels, 1)
    table = torch.tensor(targets)
    for epoch in (1, 3):
        losses = criterion(batch)
        expected, _ = theirs(network.raw(*batch.inputs), {"batch_idx": table[:, 0], "cls": table[:, 1], "bboxes": table[:, 2:]})
        torch.testing.assert_close(torch.stack(losses), expected / 3, rtol=1e-5, atol=0)  # boxes are rounded on another way
        assert float(expected.detach().min()) > 0
        criterion.schedule(epoch)
        if hasattr(theirs, "update"):
            theirs.updates = epoch - 1
            theirs.update()


def _fractions(labels: Sequence[Label], page: int) -> list[list[float]]:
    """Page, class, and centre and size as fractions of a page of 320 x 160 pixels with rows of 8."""
    found = [label for label in labels if label.kind is LabelKind.WAVEFORM]
    return [
        [
            page,
            WAVEFORM_INDEX[Waveform(x.name)],
            (x.onset_s + x.duration_s / 2) * 32 / 320,
            (CHANNELS.index(x.channel) + 0.5) * 8 / 160,
            x.duration_s * 32 / 320,
            8 / 160,
        ]
        for x in found
    ]


@pytest.mark.parametrize("settings", [PAGE, PAGE.model_copy(update={"architecture": "yolo26-p2"})], ids=["three grids", "four grids"])
def test_anchors_are_those_of_ultralytics(settings: Any) -> None:
    from ultralytics.utils.tal import make_anchors

    network = untrained(settings)
    height, width = network.sides
    features = [torch.zeros(1, 1, height // stride, width // stride) for stride in network.strides]
    points, strides = make_anchors(features, network.yolo.model[-1].stride, 0.5)
    x, y = (points * strides).T
    places = anchors_of(network)
    np.testing.assert_allclose(places.centres_s, (x / settings.page.pixels_per_second).numpy(), atol=1e-6)
    expected = np.floor((y / settings.page.pixels_per_row).numpy()).astype(int)
    np.testing.assert_array_equal(places.rows, np.where(expected < N_CHANNELS, expected, -1))
    assert (places.rows == -1).any()
