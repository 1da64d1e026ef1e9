"""A detector of either kind is saved whole, repeats itself, keeps its working point, and stays off masked channels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cg_data import storage
from cg_data.detect.calibration import Calibration
from cg_data.detect.detector import Detector, save_detector
from cg_data.detect.network import build_network
from cg_data.detect.spec import DetectorSpec
from cg_data.errors import StorageError
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, SEGMENT_S, Waveform
from tests.detectors_small import NETWORKS, noise_pages, spec_of, untrained

HALVED = Calibration(scores=(0.0, 1.0), probabilities=(0.0, 0.5))


@pytest.fixture(scope="module", params=NETWORKS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a detector with a probability and a threshold of its own for spikes, and one that is never reached for K-complexes."""
    uri = str(tmp_path_factory.mktemp("detector"))
    network = NETWORKS[request.param]
    spec = spec_of(network, {Waveform.SPIKE: 0.04, Waveform.K_COMPLEX: 1.0}).model_copy(update={"calibrations": {Waveform.SPIKE: HALVED}})
    save_detector(untrained(network), spec, uri)
    return uri


def test_a_saved_detector_finds_what_it_found_before(folder: str) -> None:
    eeg_uv, mask = noise_pages(2)
    loaded = Detector.load(folder)
    before = Detector(untrained(loaded.spec.network), loaded.spec).propose(eeg_uv, mask)
    found = loaded.propose(eeg_uv, mask)
    assert all(len(events) > 50 for events in before)
    if loaded.spec.onnx_sha256:  # another runtime rounds otherwise; tests/cg_data/test_detect_backends.py compares events one by one
        assert [len(events) for events in found] == pytest.approx([len(events) for events in before], rel=0.05)
    else:
        assert found == before
    assert loaded.version == json.loads((Path(folder) / "detector.json").read_text())["weights_sha256"][:12]


def test_a_description_survives_saving(folder: str) -> None:
    loaded = Detector.load(folder).spec
    assert loaded.calibrations == {Waveform.SPIKE: HALVED}
    assert loaded.thresholds == {Waveform.SPIKE: 0.04, Waveform.K_COMPLEX: 1.0}
    assert DetectorSpec.model_validate(storage.read_json(f"{folder}/detector.json")) == loaded


def test_events_lie_on_the_page_and_their_ids_differ(folder: str) -> None:
    events = [e for page in Detector.load(folder).propose(*noise_pages(2)) for e in page]
    assert all(e.onset_s >= 0 and e.onset_s + e.duration_s <= SEGMENT_S + 1e-6 and e.duration_s > 0 for e in events)
    assert all(e.channel in CHANNELS and e.score >= 0.03 for e in events)
    assert len({e.event_id for e in events}) == len(events)
    assert len({e.waveform for e in events}) > 5


def test_the_probability_of_an_event_is_that_of_the_calibration(folder: str) -> None:
    events = [e for page in Detector.load(folder).propose(*noise_pages(2)) for e in page]
    spikes = [e for e in events if e.waveform is Waveform.SPIKE]
    assert len(spikes) > 5
    assert all(abs(e.probability - e.score / 2) <= 1e-4 for e in spikes)
    assert all(e.probability == e.score for e in events if e.waveform is not Waveform.SPIKE)


def test_detect_gives_what_reaches_the_threshold_of_its_waveform(folder: str) -> None:
    detector, pages = Detector.load(folder), noise_pages(2)
    proposed, kept = detector.propose(*pages), detector.detect(*pages)
    assert kept == [tuple(e for e in page if e.score >= detector.spec.threshold(e.waveform)) for page in proposed]
    assert min(e.score for page in kept for e in page if e.waveform is Waveform.SPIKE) >= 0.04
    for waveform, held in ((Waveform.SPIKE, True), (Waveform.K_COMPLEX, False)):
        before, after = (sum(e.waveform is waveform for page in pages for e in page) for pages in (proposed, kept))
        assert before > after
        assert bool(after) == held


def test_a_threshold_is_the_least_score_that_is_kept(folder: str) -> None:
    detector, pages = Detector.load(folder), noise_pages(1)
    scores = sorted(e.score for e in detector.propose(*pages)[0] if e.waveform is Waveform.SLEEP_SPINDLE)
    middle = scores[len(scores) // 2]
    detector.spec = detector.spec.model_copy(update={"thresholds": {Waveform.SLEEP_SPINDLE: middle}})
    kept = [e.score for e in detector.detect(*pages)[0] if e.waveform is Waveform.SLEEP_SPINDLE]
    assert sorted(kept) == [score for score in scores if score >= middle]


def test_there_are_no_events_on_a_masked_channel_whatever_lies_there(folder: str) -> None:
    eeg_uv, mask = noise_pages(2)
    mask[0, CHANNEL_INDEX["Fz"]] = False
    eeg_uv[0, CHANNEL_INDEX["Fz"]] = 500.0
    first, second = Detector.load(folder).propose(eeg_uv, mask)
    assert "Fz" not in {e.channel for e in first}
    assert "Fz" in {e.channel for e in second}
    (nothing,) = Detector.load(folder).propose(eeg_uv[:1], np.zeros_like(mask[:1]))
    assert nothing == ()


def test_what_is_found_on_a_page_does_not_depend_on_its_neighbours(folder: str) -> None:
    detector = Detector.load(folder)
    eeg_uv, mask = noise_pages(4)
    together = detector.propose(eeg_uv, mask)
    assert detector.propose(eeg_uv[::-1].copy(), mask) == together[::-1]
    # A batch of another size may round otherwise in the last place.
    alone = detector.propose(eeg_uv[2:3], mask[2:3])[0]
    one, other = ({(e.waveform, e.channel, round(e.onset_s, 2)) for e in page if e.score > 0.05} for page in (alone, together[2]))
    assert len(one & other) >= 0.98 * len(one | other)


def test_more_pages_than_go_through_at_once_are_all_answered(folder: str) -> None:
    eeg_uv, mask = noise_pages(2)
    many = Detector.load(folder).propose(np.concatenate([eeg_uv] * 16), np.concatenate([mask] * 16))
    assert many == many[:2] * 16


def test_weights_that_do_not_belong_to_the_description_are_refused(tmp_path: Path) -> None:
    save_detector(untrained(), spec_of(), str(tmp_path))
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(StorageError, match="not the file that"):
        Detector.load(str(tmp_path))


def test_equal_weights_give_equal_files(tmp_path: Path, folder: str) -> None:
    spec = Detector.load(folder).spec
    save_detector(untrained(spec.network), spec, str(tmp_path))
    for name in ("weights.safetensors", "detector.json"):
        assert (tmp_path / name).read_bytes() == (Path(folder) / name).read_bytes()


@pytest.mark.parametrize("kind", NETWORKS)
def test_folding_changes_nothing_but_rounding(kind: str) -> None:
    network, pages = untrained(NETWORKS[kind]), noise_pages(1)
    with torch.inference_mode():
        before = network(*network.prepare(*pages, "cpu"))
        network.fuse()
        after = network(*network.prepare(*pages, "cpu"))
    assert not [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    for one, other in zip(before, after, strict=True):
        scale = max(1.0, float(one.abs().max()))
        assert float((one - other).abs().max()) / scale < 1e-4


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_folded_network_is_still_built_and_filled_from_unfolded_weights(kind: str) -> None:
    """What is saved is what was trained, so that it can be trained on."""
    state = untrained(NETWORKS[kind]).state_dict()
    assert any("running_mean" in name for name in state)
    build_network(NETWORKS[kind]).load_state_dict(state)


def test_a_detector_of_another_version_or_cut_short_is_refused_in_a_sentence(tmp_path: Path) -> None:
    folder = str(tmp_path / "detector")
    save_detector(untrained(), spec_of(), folder)
    description = storage.read_json(f"{folder}/detector.json")
    storage.write_json(f"{folder}/detector.json", {**description, "network": {"kind": "signal", "width": 16}})
    with pytest.raises(StorageError, match="of another version's network"):
        Detector.load(folder)
    storage.write_json(f"{folder}/detector.json", {**description, "architecture": "yolov8"})
    with pytest.raises(StorageError, match="not of this version"):
        Detector.load(folder)
    (tmp_path / "detector" / "detector.json").write_text(json.dumps(description)[:-9])
    with pytest.raises(StorageError, match="is damaged or"):
        Detector.load(folder)
