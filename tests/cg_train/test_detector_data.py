"""Which pages are learnt from, in which order and how often, and what a batch says of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cg_data import storage
from cg_data.detect.boxes import marks_of_labels
from cg_data.detect.references import references_of
from cg_data.records import Label, Segment
from cg_data.rows import SEGMENT_SCHEMA, table_of
from cg_data.vocabulary import CHANNEL_INDEX, N_CHANNELS, WAVEFORM_INDEX, WAVEFORMS, ArtefactCode, LabelKind, Split, Stage, Waveform
from cg_train.detector_batches import make_batch
from cg_train.detector_data import SegmentStore, epoch_order, sampling_weights, waveforms_in
from cg_train.detector_losses import criterion_of
from cg_train.recipe import AugmentSettings
from tests.detectors_small import NETWORKS, planted_page, recipe_of, untrained

PAGES = [planted_page(number) for number in range(8)]
JAW = Label(kind=LabelKind.ARTEFACT_CODE, name=ArtefactCode.CHEWING, onset_s=3.0, duration_s=2.0, channel="T3-T5")
ASLEEP = Label(kind=LabelKind.STAGE, name=Stage.N2, onset_s=0.0, duration_s=10.0)
UNCHANGED = AugmentSettings(gain_log2=0, rereference=0, noise_uv=0, channel_loss=0, few_channels=0, shift=0)


def shards(folder: Path, *parts: list[Segment]) -> str:
    for number, part in enumerate(parts):
        storage.write_table(str(folder / f"{number}.parquet"), table_of(part, SEGMENT_SCHEMA))
    return str(folder)


def told(page: Segment) -> tuple[Any, ...]:
    return page.segment_id, page.eeg_steps.tobytes(), page.mask.tolist(), page.labels, page.split


def test_pages_come_by_their_ids_whatever_the_shards_and_are_those_that_were_written(tmp_path: Path) -> None:
    held_out = [dataclasses.replace(planted_page(50), split=Split.TEST)]
    one = SegmentStore(shards(tmp_path / "a", PAGES, held_out), Split.TRAIN, min_box_s=0.15)
    other = SegmentStore(shards(tmp_path / "b", PAGES[5:] + held_out, PAGES[2:5][::-1], PAGES[:2]), Split.TRAIN, min_box_s=0.15)
    assert one.ids == other.ids == sorted(page.segment_id for page in PAGES)
    assert one.held == other.held
    assert [told(page) for page in one] == [told(page) for page in other] == [told(page) for page in PAGES]
    assert [told(page) for page in one[2:6:2]] == [told(PAGES[2]), told(PAGES[4])]
    assert one.unknown == 0
    with pytest.raises(IndexError):
        one[8]


def test_pages_of_which_nothing_is_known_are_left_out_and_counted(tmp_path: Path) -> None:
    changes: list[tuple[Label, ...]] = [(), (ASLEEP,), (JAW,), PAGES[0].labels[-1:]]
    pages = [dataclasses.replace(page, labels=labels) for page, labels in zip(PAGES, changes, strict=False)]
    store = SegmentStore(shards(tmp_path, pages), Split.TRAIN, min_box_s=0.15)
    assert store.ids == [page.segment_id for page in pages[2:]]
    assert store.unknown == 2
    assert store.held == [frozenset({"high_frequency_noise"}), frozenset()]


def test_an_empty_folder_is_an_empty_store(tmp_path: Path) -> None:
    store = SegmentStore(shards(tmp_path, PAGES[:1]), Split.VALIDATION, min_box_s=0.15)
    assert (len(store), store.unknown, store.ids) == (0, 0, [])


def test_a_page_holds_what_is_marked_and_what_a_coarse_mark_may_be_about() -> None:
    page = dataclasses.replace(PAGES[0], labels=(*PAGES[0].labels[:1], JAW))
    assert waveforms_in(references_of(page, min_box_s=0.15)) == {"positive_sharp_transient", "high_frequency_noise"}


def test_pages_of_rare_waveforms_are_drawn_more_often_and_empty_ones_least() -> None:
    held = [frozenset({"spike", "k_complex"}), *[frozenset({"k_complex"})] * 8, *[frozenset()] * 7]
    weights = sampling_weights(held)
    assert weights.tolist() == pytest.approx([math.sqrt(8), *[1.0] * 8, *[0.3] * 7])
    drawn = np.bincount(np.concatenate([epoch_order(3, epoch, weights) for epoch in range(300)]), minlength=16) / 300
    np.testing.assert_allclose(drawn, weights / weights.sum() * 16, atol=0.1)


def test_a_coarse_candidate_makes_a_page_rare_as_a_mark_does() -> None:
    pages = [dataclasses.replace(PAGES[0], labels=(JAW,)), *[dataclasses.replace(p, labels=p.labels[:2]) for p in PAGES[1:]]]
    held = [waveforms_in(references_of(page, min_box_s=0.15)) for page in pages]
    assert sampling_weights(held).tolist() == pytest.approx([2.0, *[1.0] * 7])


def test_each_epoch_shows_pages_of_equal_weight_once_in_an_order_of_its_own() -> None:
    orders = [epoch_order(3, epoch, np.ones(50)).tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert epoch_order(3, 1, np.ones(50)).tolist() == orders[1]
    assert epoch_order(4, 1, np.ones(50)).tolist() != orders[1]


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Any:
    return untrained(NETWORKS[request.param])


def test_a_batch_holds_marks_and_what_is_known_at_every_place(network: Any) -> None:
    places = criterion_of(network, 1).places
    searched = [label for label in PAGES[1].labels if label.kind is LabelKind.SEARCHED and label.name == Waveform.SPIKE]
    mask = np.arange(N_CHANNELS) != CHANNEL_INDEX["O1"]
    second = dataclasses.replace(PAGES[1], labels=(JAW, *searched), mask=mask, eeg_steps=PAGES[1].eeg_steps * mask[:, None])
    recipe = recipe_of(NETWORKS["signal"], augment=UNCHANGED)
    batch = make_batch(recipe, network, places, [PAGES[0], second], [(1,), (2,)])
    assert len(batch) == 2
    marks = marks_of_labels(PAGES[0].labels, PAGES[0].mask, 0.15)
    np.testing.assert_allclose(batch.marks.numpy(), np.column_stack([np.zeros(len(marks)), marks]))
    assert batch.known.shape == (2, len(places.rows), len(WAVEFORMS))
    assert bool(batch.known[0].all())
    on_page = (places.rows >= 0) & (places.rows != CHANNEL_INDEX["O1"])
    np.testing.assert_array_equal(batch.known[1, :, WAVEFORM_INDEX[Waveform.SPIKE]].numpy(), on_page | (places.rows < 0))
    np.testing.assert_array_equal(batch.known[1, :, WAVEFORM_INDEX[Waveform.K_COMPLEX]].numpy(), places.rows < 0)
    (coarse,) = batch.coarse
    inside = np.isin(places.rows, [CHANNEL_INDEX["T3"], CHANNEL_INDEX["T5"]]) & (places.centres_s >= 3) & (places.centres_s < 5)
    assert coarse.page == 1
    assert coarse.places.tolist() == np.flatnonzero(inside).tolist()
    assert inside.sum() > 10


def test_a_batch_repeats_itself_and_each_page_has_its_own_seed(network: Any) -> None:
    places, recipe = criterion_of(network, 1).places, recipe_of(NETWORKS["signal"])
    one, same, swapped = (
        make_batch(recipe, network, places, PAGES[:2], seeds) for seeds in ([(1, 0, 5), (1, 0, 6)],) * 2 + ([(7,), (1, 0, 6)],)
    )
    assert all(torch.equal(a, b) for a, b in zip(one.inputs, same.inputs, strict=True))
    assert torch.equal(one.known, same.known)
    assert not torch.equal(one.inputs[0][0], swapped.inputs[0][0])
    assert torch.equal(one.inputs[0][1], swapped.inputs[0][1])
    alone = make_batch(recipe, network, places, PAGES[1:2], [(1, 0, 6)])
    assert torch.equal(alone.inputs[0][0], one.inputs[0][1])


def test_a_batch_moves_whole(network: Any) -> None:
    places = criterion_of(network, 1).places
    page = dataclasses.replace(PAGES[0], labels=(*PAGES[0].labels[:1], JAW))
    batch = make_batch(recipe_of(NETWORKS["signal"], augment=UNCHANGED), network, places, [page], [(1,)])
    moved = batch.to("meta")
    assert {t.device.type for t in (*moved.inputs, moved.marks, moved.known, moved.coarse[0].places, moved.coarse[0].classes)} == {"meta"}
    assert len(moved) == len(batch)
