"""Training of the detector repeats itself to the bit, goes on where it stopped, agrees over processes, learns, and is scored rightly."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from cg_data.detect.boxes import marks_of_labels
from cg_data.detect.detector import Detector, save_detector
from cg_data.errors import ConfigError
from cg_data.records import Event, Label, Segment
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNELS, N_CHANNELS, SEGMENT_SAMPLES, EventSource, LabelKind, Split, Waveform
from cg_train.detection_metrics import average_precision, best_threshold, detection_metrics, match
from cg_train.detector import (
    EpochReport,
    TrainedDetector,
    TrainerState,
    epoch_order,
    evaluate,
    make_batch,
    sampling_weights,
    spec_of,
    train,
)
from cg_train.recipe import DetectorRecipe

RECIPE = DetectorRecipe(
    width_multiple=0.0625,
    max_channels=256,
    distance_bins=4,
    page=PageSettings(pixels_per_row=8, pixels_per_second=32, subcolumns=1, multiple_of=32),
    epochs=2,
    batch=4,
)


def _segment(number: int) -> Segment:
    """Noise with one blink, a bump of 0.4 s, on Fp1 and Fp2, and one burst of 40 Hz on T3."""
    rng = np.random.default_rng((99, number))
    eeg_uv = rng.normal(0, 5, (N_CHANNELS, SEGMENT_SAMPLES))
    blink, burst = rng.uniform(0, 9), rng.uniform(0, 8)
    t = np.arange(SEGMENT_SAMPLES) / 200
    eeg_uv[:2] += np.where((t >= blink) & (t < blink + 0.4), 120 * np.sin(np.pi * (t - blink) / 0.4), 0)
    eeg_uv[7] += np.where((t >= burst) & (t < burst + 2), 40 * np.sin(2 * np.pi * 40 * t), 0)
    marks = [("Fp1", Waveform.POSITIVE_SHARP_TRANSIENT, blink, 0.4), ("Fp2", Waveform.POSITIVE_SHARP_TRANSIENT, blink, 0.4)]
    marks.append(("T3", Waveform.HIGH_FREQUENCY_NOISE, burst, 2.0))
    return Segment(
        segment_id=f"{number}",
        recording_id="r",
        sha256="",
        corpus="synthetic",
        subject="s",
        split=Split.TRAIN,
        start_s=0.0,
        montage="average",
        sfreq_recorded_hz=200.0,
        filter_version="",
        flags=(),
        mask=np.ones(N_CHANNELS, dtype=np.bool_),
        eeg_steps=np.round(eeg_uv * 10).astype(np.int16),
        labels=tuple(Label(kind=LabelKind.WAVEFORM, name=w, onset_s=o, duration_s=d, channel=c) for c, w, o, d in marks),
    )


SEGMENTS = [_segment(number) for number in range(9)]


def _same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def trained() -> tuple[TrainedDetector, list[EpochReport]]:
    reports: list[EpochReport] = []
    return train(RECIPE, SEGMENTS, SEGMENTS[:2], on_epoch=reports.append), reports


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(trained: tuple[TrainedDetector, list[EpochReport]]) -> None:
    before = torch.get_rng_state()
    again = train(RECIPE, SEGMENTS, SEGMENTS[:2])
    assert _same(again.network, trained[0].network)
    assert again.spec == trained[0].spec
    assert torch.equal(torch.get_rng_state(), before)
    assert not _same(train(RECIPE.model_copy(update={"seed": 4}), SEGMENTS, SEGMENTS[:2]).network, again.network)


def test_a_training_goes_on_after_an_epoch_as_if_it_had_not_stopped(trained: tuple[TrainedDetector, list[EpochReport]]) -> None:
    done, reports = trained
    assert [r.epoch for r in reports] == [1, 2]
    seen: list[EpochReport] = []
    resumed = train(RECIPE, SEGMENTS, SEGMENTS[:2], state=reports[0].state, on_epoch=seen.append)
    assert [r.epoch for r in seen] == [2]
    assert seen[0].losses == reports[1].losses
    assert _same(resumed.network, done.network)
    assert all(torch.equal(seen[0].state[name], tensor) for name, tensor in reports[1].state.items())


@pytest.mark.slow
def test_an_end_to_end_head_trains_and_goes_on_too() -> None:
    recipe = RECIPE.model_copy(
        update={"architecture": "yolo26", "depth_multiple": 0.5, "width_multiple": 0.125, "distance_bins": 1, "epochs": 3}
    )
    reports: list[EpochReport] = []
    done = train(recipe, SEGMENTS, SEGMENTS[:2], on_epoch=reports.append)
    assert _same(train(recipe, SEGMENTS, SEGMENTS[:2], state=reports[1].state).network, done.network)


def test_progress_counts_steps_and_losses_are_finite(trained: tuple[TrainedDetector, list[EpochReport]]) -> None:
    steps: list[tuple[float, float, str]] = []
    train(RECIPE.model_copy(update={"epochs": 1}), SEGMENTS, SEGMENTS[:2], on_step=lambda *step: steps.append(step))
    assert [step[:2] for step in steps] == [(1, 2), (2, 2)]
    assert steps[0][2].startswith("loss ")
    assert all(math.isfinite(value) and value > 0 for report in trained[1] for value in report.losses.values())
    assert set(trained[1][0].losses) == {"box", "class", "distance"}


def _worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    states: list[TrainerState] = []
    done = train(RECIPE, SEGMENTS, SEGMENTS[:2], rank=rank, world_size=2, on_epoch=lambda report: states.append(report.state))
    save_detector(done.network, done.spec, f"{folder}/{rank}")
    torch.save(states[-1], f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_hold_the_same_weights_and_repeat_themselves(tmp_path: Path) -> None:
    for run in ("first", "second"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (tmp_path / run).mkdir()
        mp.spawn(_worker, (port, str(tmp_path / run)), nprocs=2)
    files = [tmp_path / run / rank / "weights.safetensors" for run in ("first", "second") for rank in ("0", "1")]
    assert len({file.read_bytes() for file in files}) == 1
    states = [torch.load(tmp_path / "first" / f"{rank}.pt") for rank in (0, 1)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


@pytest.mark.slow
def test_the_detector_learns_plain_waveforms() -> None:
    recipe = RECIPE.model_copy(
        update={
            "width_multiple": 0.125,
            "epochs": 40,
            "learning_rate": 6e-3,
            "page": PageSettings(pixels_per_row=16, pixels_per_second=32, multiple_of=32),
        }
    )
    segments = [_segment(number) for number in range(24)]
    done = train(recipe, segments, segments[:4])
    detector = Detector(done.network, done.spec.model_copy(update={"weights_sha256": "0" * 64}))
    figures = evaluate(detector, [_segment(number) for number in range(100, 108)])
    assert figures["map50"] > 0.6
    events = detector.detect(np.stack([_segment(200).eeg_uv]), np.ones((1, N_CHANNELS), dtype=np.bool_))[0]
    assert {e.channel for e in events} <= {"Fp1", "Fp2", "T3"}


def test_each_epoch_shows_every_segment_in_its_own_order() -> None:
    orders = [epoch_order(3, epoch, np.ones(50)).tolist() for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert epoch_order(3, 1, np.ones(50)).tolist() == orders[1]


def test_segments_with_rare_waveforms_are_drawn_more_often_and_those_without_any_least() -> None:
    blinks = [dataclasses.replace(SEGMENTS[0], labels=SEGMENTS[0].labels[:2])] * 8
    weights = sampling_weights([*blinks, SEGMENTS[0], *[dataclasses.replace(SEGMENTS[0], labels=())] * 7])
    assert (weights[0], weights[-1]) == (1.0, 0.3)
    assert weights[8] == pytest.approx(math.sqrt(8))
    drawn = np.bincount(np.concatenate([epoch_order(3, epoch, weights) for epoch in range(300)]), minlength=16) / 300
    np.testing.assert_allclose(drawn, weights / weights.sum() * 16, atol=0.1)


def test_targets_are_the_boxes_of_the_drawn_page() -> None:
    batch = make_batch(RECIPE, SEGMENTS[:2], [(1,), (2,)])
    assert batch["img"].shape == (2, 1, 160, 320)
    first = batch["batch_idx"] == 0
    blink = SEGMENTS[0].labels[0]
    centre_x, centre_y, width, height = batch["bboxes"][first][0].tolist()
    assert centre_x * 320 == pytest.approx((blink.onset_s + 0.2) * 32, abs=1e-3)
    assert (centre_y * 160, width * 320, height * 160) == pytest.approx((4.0, 0.4 * 32, 8.0), abs=1e-3)


def test_augmentation_is_of_the_signal_and_repeats_itself() -> None:
    one, same, other = (make_batch(RECIPE, SEGMENTS[:1], [seed]) for seed in ((1, 0, 5), (1, 0, 5), (1, 1, 5)))
    assert torch.equal(one["img"], same["img"])
    assert not torch.equal(one["img"], other["img"])


@pytest.mark.parametrize(("batch", "world_size", "words"), [(5, 2, "do not divide among 2 workers"), (16, 1, "only 9 training segments")])
def test_a_batch_that_cannot_be_filled_is_refused(batch: int, world_size: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train(RECIPE.model_copy(update={"batch": batch}), SEGMENTS, SEGMENTS[:2], world_size=world_size)


def _event(onset_s: float, score: float, channel: str = "C3", waveform: Waveform = Waveform.SPIKE) -> Event:
    return Event(
        event_id="",
        waveform=waveform,
        channel=channel,
        onset_s=onset_s,
        duration_s=1.0,
        score=score,
        probability=score,
        source=EventSource.DETECTOR,
    )


def _truth(*onsets_s: float, channel: str = "C3") -> np.ndarray:
    labels = [Label(kind=LabelKind.WAVEFORM, name=Waveform.SPIKE, onset_s=o, duration_s=1.0, channel=channel) for o in onsets_s]
    return marks_of_labels(labels, np.ones(N_CHANNELS, dtype=np.bool_), 0.15)


def test_a_reference_is_found_once_and_only_on_its_channel_with_half_overlap() -> None:
    found = [_event(1.0, 0.9), _event(1.1, 0.8), _event(4.0, 0.7, "C4"), _event(6.4, 0.6), _event(8.3, 0.5)]
    spikes = match([found], [_truth(1.0, 4.0, 6.0, 8.0)])[Waveform.SPIKE]
    assert spikes.hits.tolist() == [True, False, False, False, True]
    assert spikes.references == 4


def test_average_precision_is_the_envelope_at_101_recalls() -> None:
    # Ranks: hit, miss, hit, miss of three references: precision 1 at recalls of 0 to 0.33, then 2/3 up to 0.66.
    spikes = match([[_event(1.0, 0.9), _event(3.0, 0.8), _event(5.0, 0.7), _event(9.0, 0.6)]], [_truth(1.0, 5.0, 7.0)])[Waveform.SPIKE]
    assert average_precision(spikes) == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert best_threshold(spikes) == 0.7
    assert math.isnan(average_precision(match([[]], [_truth()])[Waveform.SPIKE]))


def test_average_precision_agrees_with_that_of_ultralytics() -> None:
    from ultralytics.utils.metrics import compute_ap

    rng = np.random.default_rng(5)
    found = [[_event(float(rng.uniform(0, 9)), float(rng.random())) for _ in range(12)] for _ in range(60)]
    truth = [_truth(*(e.onset_s + rng.uniform(-0.2, 0.2) for e in page if rng.random() < 0.3 + 0.5 * e.score)) for page in found]
    spikes = match(found, truth)[Waveform.SPIKE]
    true = np.cumsum(spikes.hits)
    theirs = compute_ap(true / spikes.references, true / np.arange(1, len(true) + 1))[0]
    assert 0.3 < average_precision(spikes) < 0.9
    assert average_precision(spikes) == pytest.approx(theirs, abs=0.01)


def test_metrics_are_plain_json_with_every_waveform_and_its_counts() -> None:
    found = [[_event(1.0, 0.9), _event(3.0, 0.2)], [_event(1.0, 0.6, "O1")]]
    figures = detection_metrics(found, [_truth(1.0, 7.0), _truth()], dict.fromkeys(Waveform, 0.5))
    assert json.loads(json.dumps(figures)) == figures
    spike = figures["waveforms"]["spike"]
    assert (spike["references"], spike["events"], spike["hits"]) == (2, 2, 1)
    assert (spike["precision"], spike["recall"], spike["f1"], spike["threshold"]) == (0.5, 0.5, 0.5, 0.5)
    assert figures["waveforms"]["k_complex"]["ap50"] is None
    assert figures["map50"] == spike["ap50"] == pytest.approx(51 / 101)
    assert len(figures["waveforms"]) == 9


def test_the_description_carries_what_the_recipe_says() -> None:
    spec = spec_of(RECIPE, {Waveform.SPIKE: 0.4})
    assert (spec.page, spec.distance_bins, spec.threshold(Waveform.SPIKE)) == (RECIPE.page, 4, 0.4)
    assert spec.threshold(Waveform.K_COMPLEX) == RECIPE.score_floor
    assert set(CHANNELS) >= {"Fp1", "T3"}
