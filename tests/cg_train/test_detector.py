"""Training of either detector repeats itself to the bit, goes on where it stopped, agrees over processes, and learns."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from pydantic import ValidationError

from cg_data.detect.detector import Detector, save_detector
from cg_data.detect.references import references_of
from cg_data.detect.signal_network import place_centres_s, place_rows
from cg_data.errors import ConfigError
from cg_data.records import Label, Segment
from cg_data.vocabulary import CHANNEL_INDEX, N_CHANNELS, WAVEFORM_INDEX, ArtefactCode, LabelKind, Waveform
from cg_train.detection_metrics import detection_metrics
from cg_train.detector import EpochReport, TrainedDetector, TrainerState, spec_of, train
from cg_train.detector_data import waveforms_in
from cg_train.recipe import AugmentSettings, DetectorRecipe
from tests.cg_train.train_small import in_group
from tests.detectors_small import NETWORKS, PAGE, SIGNAL, everything_searched, planted_page, recipe_of

PAGES = [planted_page(number) for number in range(9)]
RECIPES = {kind: recipe_of(network) for kind, network in NETWORKS.items()}
LOSSES = {"signal": {"box", "class"}, "page": {"box", "class", "distance"}}
Trained = tuple[str, TrainedDetector, list[EpochReport]]


def taught(
    recipe: DetectorRecipe, pages: list[Segment] = PAGES, validation: list[Segment] | None = None, **more: object
) -> TrainedDetector:
    held = [waveforms_in(references_of(page, min_box_s=recipe.min_box_s)) for page in pages]
    return train(recipe, pages, pages[:2] if validation is None else validation, held=held, **more)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request: pytest.FixtureRequest) -> Trained:
    reports: list[EpochReport] = []
    return request.param, taught(RECIPES[request.param], on_epoch=reports.append), reports


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(trained: Trained) -> None:
    kind, done, _ = trained
    before = torch.get_rng_state()
    again = taught(RECIPES[kind])
    assert same(again.network, done.network)
    assert again.spec == done.spec
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(taught(RECIPES[kind].model_copy(update={"seed": 4})).network, again.network)


def test_a_training_goes_on_after_an_epoch_as_if_it_had_not_stopped(trained: Trained) -> None:
    kind, done, reports = trained
    assert [r.epoch for r in reports] == [1, 2]
    seen: list[EpochReport] = []
    resumed = taught(RECIPES[kind], state=reports[0].state, on_epoch=seen.append)
    assert [r.epoch for r in seen] == [2]
    assert seen[0].losses == reports[1].losses
    assert same(resumed.network, done.network)
    assert all(torch.equal(seen[0].state[name], tensor) for name, tensor in reports[1].state.items())


def test_a_finished_training_that_is_called_again_only_finishes(trained: Trained) -> None:
    kind, done, reports = trained
    again = taught(RECIPES[kind], state=reports[-1].state, on_step=lambda *_: pytest.fail("a step was made"))
    assert same(again.network, done.network)
    assert again.spec == done.spec


@pytest.mark.slow
def test_an_end_to_end_head_trains_and_goes_on_too() -> None:
    network = PAGE.model_copy(update={"architecture": "yolo26", "depth_multiple": 0.5, "width_multiple": 0.125, "distance_bins": 1})
    recipe, reports = recipe_of(network, epochs=3), list[EpochReport]()
    done = taught(recipe, on_epoch=reports.append)
    assert same(taught(recipe, state=reports[1].state).network, done.network)


def test_progress_counts_steps_and_losses_are_finite(trained: Trained) -> None:
    kind, _, reports = trained
    steps: list[tuple[float, float, str]] = []
    taught(RECIPES[kind].model_copy(update={"epochs": 1}), on_step=lambda *step: steps.append(step))
    assert [step[:2] for step in steps] == [(1, 2), (2, 2)]
    assert steps[0][2].startswith("loss ")
    assert all(math.isfinite(value) and value > 0 for report in reports for value in report.losses.values())
    assert set(reports[0].losses) == LOSSES[kind]


def test_the_rate_warms_up_and_falls_to_a_hundredth() -> None:
    reports: list[EpochReport] = []
    recipe = RECIPES["signal"].model_copy(update={"epochs": 10, "warmup_fraction": 0.2})
    taught(recipe, on_epoch=reports.append)
    rates = [report.learning_rate for report in reports]
    assert rates[0] < recipe.learning_rate
    assert rates[1] == pytest.approx(recipe.learning_rate)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert rates[-1] == pytest.approx(recipe.learning_rate / 100)


def test_pages_of_which_nothing_is_wanted_are_learnt_from_too() -> None:
    """A batch without a mark has no box to learn; its class losses still count, and no gradient is missing."""
    pages = [dataclasses.replace(page, labels=tuple(everything_searched())) for page in PAGES]
    for kind, recipe in RECIPES.items():
        reports: list[EpochReport] = []
        done = taught(recipe, pages, on_epoch=reports.append)
        assert reports[0].losses["box"] == 0.0, kind
        assert reports[1].losses["class"] < reports[0].losses["class"]
        assert all(bool(tensor.isfinite().all()) for tensor in done.network.state_dict().values())


# On some steps one of two processes has marks and the other has none.
HALF_EMPTY = [page if number % 2 else dataclasses.replace(page, labels=tuple(everything_searched())) for number, page in enumerate(PAGES)]


def _worker(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    for kind, recipe in RECIPES.items():
        changed = recipe.model_copy(update={"batch": 2, "epochs": 3})
        for run in (1, 2):
            states: list[TrainerState] = []
            done = taught(changed, HALF_EMPTY, rank=rank, world_size=2, on_epoch=lambda report, to=states: to.append(report.state))
            save_detector(done.network, done.spec, f"{folder}/{kind}-{run}-{rank}")
            torch.save(states, f"{folder}/{kind}-{run}-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two runs of two processes left: of each kind, run and process the detector and the states after all epochs."""
    folder = tmp_path_factory.mktemp("ranks")
    in_group(_worker, str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_two_processes_hold_the_same_parameters_and_buffers_after_every_epoch(two_processes: Path, kind: str) -> None:
    first, second = (torch.load(two_processes / f"{kind}-1-{rank}.pt") for rank in (0, 1))
    assert len(first) == len(second) == 3
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert any("running_var" in name for name in one)
        assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_two_processes_repeat_themselves_to_the_bit(two_processes: Path, kind: str) -> None:
    for name in ("weights.safetensors", "detector.json"):
        files = [two_processes / f"{kind}-{run}-{rank}" / name for run in (1, 2) for rank in (0, 1)]
        assert len({file.read_bytes() for file in files}) == 1


UNCHANGED = AugmentSettings(gain_log2=0, rereference=0, noise_uv=0, channel_loss=0, few_channels=0, shift=0)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_few_steps_lower_the_loss(kind: str) -> None:
    reports: list[EpochReport] = []
    taught(RECIPES[kind].model_copy(update={"epochs": 6, "learning_rate": 1e-2, "augment": UNCHANGED}), on_epoch=reports.append)
    totals = [sum(report.losses.values()) for report in reports]
    assert totals[-1] < 0.9 * totals[0]


@pytest.mark.slow
def test_the_signal_detector_learns_a_handful_of_pages_by_heart() -> None:
    done = taught(recipe_of(SIGNAL, epochs=50, batch=6, learning_rate=2e-2, ema_decay=0.9, augment=UNCHANGED), PAGES[:6], PAGES[:6])
    assert done.validation["map50"] > 0.9
    detector = Detector(done.network, done.spec)
    signals, mask = np.stack([p.eeg_uv for p in PAGES[:6]]), np.ones((6, N_CHANNELS), dtype=np.bool_)
    marks = [references_of(page, min_box_s=done.spec.min_box_s).marks for page in PAGES[:6]]
    thresholds = {waveform: done.spec.threshold(waveform) for waveform in Waveform}
    assert detection_metrics(detector.propose(signals, mask), marks, thresholds) == done.validation
    events = [e for page in detector.detect(signals, mask) for e in page]
    assert {e.channel for e in events} == {"Fp1", "Fp2", "T3"}
    assert {e.probability for e in events} != {e.score for e in events}


def coarsely(page: Segment) -> Segment:
    """The same page, of which a reader says only that there is something of the jaw on T3 within seconds of the burst."""
    burst = next(label for label in page.labels if label.name == Waveform.HIGH_FREQUENCY_NOISE and label.duration_s == 2.0)
    start_s, stop_s = max(burst.onset_s - 2, 0.0), min(burst.onset_s + 4, 10.0)
    jaw = Label(kind=LabelKind.ARTEFACT_CODE, name=ArtefactCode.CHEWING, onset_s=start_s, duration_s=stop_s - start_s, channel="T3")
    return dataclasses.replace(page, labels=(jaw, *everything_searched()))


@pytest.mark.slow
def test_a_class_is_learnt_from_coarse_marks_alone() -> None:
    pages, seen = [coarsely(page) for page in PAGES[:5]], [planted_page(number) for number in range(50, 54)]
    done = taught(recipe_of(SIGNAL, epochs=150, batch=5, learning_rate=2e-2, ema_decay=0.9, augment=UNCHANGED), pages)
    logits = done.network(*(torch.from_numpy(np.stack([getattr(p, name) for p in seen])) for name in ("eeg_uv", "mask")))[1]
    scores = logits[..., WAVEFORM_INDEX[Waveform.HIGH_FREQUENCY_NOISE]].sigmoid().numpy()
    rows, centres_s = place_rows().numpy(), place_centres_s().numpy()
    for page, of_place in zip(seen, scores, strict=True):
        onset_s = next(label.onset_s for label in page.labels if label.duration_s == 2.0)
        inside = (rows == CHANNEL_INDEX["T3"]) & (centres_s > onset_s) & (centres_s < onset_s + 2)
        assert of_place[inside].max() > 0.5
        assert of_place[inside].max() > 20 * of_place[rows != CHANNEL_INDEX["T3"]].max()
        assert inside[of_place.argmax()]


@pytest.mark.parametrize(("batch", "world_size", "words"), [(5, 2, "do not divide among 2 workers"), (16, 1, "only 9 training segments")])
def test_a_batch_that_cannot_be_filled_is_refused(batch: int, world_size: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        taught(RECIPES["signal"].model_copy(update={"batch": batch}), world_size=world_size)


def test_a_seed_that_numpy_would_not_take_is_refused() -> None:
    with pytest.raises(ValidationError, match="seed"):
        recipe_of(SIGNAL, seed=-1)


def test_the_description_carries_what_the_recipe_says() -> None:
    recipe = RECIPES["page"].model_copy(update={"min_box_s": 0.2, "nms_iou": 0.4, "score_floor": 0.1})
    spec = spec_of(recipe)
    assert (spec.network, spec.min_box_s, spec.nms_iou, spec.score_floor) == (PAGE, 0.2, 0.4, 0.1)
    assert (spec.thresholds, spec.calibrations, spec.threshold(Waveform.SPIKE)) == ({}, {}, 0.1)
