"""A detector is saved whole, repeats itself, stays off masked channels, and touches neither the network nor the user's home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cg_data.detect.detector import Detector, save_detector
from cg_data.detect.network import build_network, network_input, predictions_of
from cg_data.detect.spec import DetectorSpec
from cg_data.errors import ConfigError, StorageError
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNEL_INDEX, CHANNELS, N_CHANNELS, SEGMENT_S, WAVEFORMS, Montage, Waveform

SPEC = DetectorSpec(
    architecture="yolov8",
    depth_multiple=0.33,
    width_multiple=0.0625,
    max_channels=256,
    distance_bins=4,
    page=PageSettings(pixels_per_row=8, pixels_per_second=32, subcolumns=2, multiple_of=32),
    min_box_s=0.15,
    nms_iou=0.5,
    score_floor=0.005,
)


def small_network(spec: DetectorSpec = SPEC) -> torch.nn.Module:
    """Untrained, with its scores lifted to about one in a hundred everywhere: enough to test all but its judgement."""
    torch.manual_seed(0)
    network = build_network(spec)
    head = network.model[-1]
    for branch in [*head.cv3, *getattr(head, "one2one_cv3", [])]:
        torch.nn.init.constant_(branch[-1].bias, -4.6)
    return network


def _signals(count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    eeg_uv = (30 * rng.standard_normal((count, N_CHANNELS, 2000))).astype(np.float32)
    return eeg_uv, np.ones((count, N_CHANNELS), dtype=np.bool_)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("detector"))
    save_detector(small_network(), SPEC, uri)
    return uri


def test_a_saved_detector_finds_what_it_found_before(folder: str) -> None:
    eeg_uv, mask = _signals()
    loaded = Detector.load(folder)
    before = Detector(small_network(), loaded.spec).propose(eeg_uv, mask)
    assert sum(len(events) for events in before) > 20
    assert loaded.propose(eeg_uv, mask) == before
    assert loaded.version == json.loads((Path(folder) / "detector.json").read_text())["weights_sha256"][:12]


def test_events_lie_on_the_page_and_their_ids_differ(folder: str) -> None:
    eeg_uv, mask = _signals()
    events = [e for page in Detector.load(folder).propose(eeg_uv, mask) for e in page]
    assert all(e.onset_s >= 0 and e.onset_s + e.duration_s <= SEGMENT_S + 1e-6 and e.duration_s > 0 for e in events)
    assert all(e.channel in CHANNELS and 0.005 <= e.score == e.probability for e in events)
    assert len({e.event_id for e in events}) == len(events)


def test_there_are_no_events_on_a_masked_channel(folder: str) -> None:
    eeg_uv, mask = _signals()
    mask[0, CHANNEL_INDEX["Fz"]] = False
    first, second = Detector.load(folder).propose(eeg_uv, mask)
    assert "Fz" not in {e.channel for e in first}
    assert "Fz" in {e.channel for e in second}


def test_detect_gives_what_passes_the_threshold_of_its_waveform(folder: str) -> None:
    eeg_uv, mask = _signals()
    detector = Detector.load(folder)
    proposed = [e for page in detector.propose(eeg_uv, mask) for e in page]
    split = float(np.median([e.score for e in proposed if e.waveform is Waveform.SPIKE]))
    detector.spec = detector.spec.model_copy(update={"thresholds": {Waveform.SPIKE: split, Waveform.K_COMPLEX: 1.0}})
    kept = [e for page in detector.detect(eeg_uv, mask) for e in page]
    assert kept == [e for e in proposed if e.waveform is not Waveform.K_COMPLEX and (e.waveform is not Waveform.SPIKE or e.score >= split)]
    assert len(kept) < len(proposed)


def test_weights_that_do_not_belong_to_the_description_are_refused(tmp_path: Path) -> None:
    save_detector(small_network(), SPEC, str(tmp_path))
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    with pytest.raises(StorageError, match="not the file that"):
        Detector.load(str(tmp_path))


def test_equal_weights_give_equal_files(tmp_path: Path, folder: str) -> None:
    save_detector(small_network(), SPEC, str(tmp_path))
    for name in ("weights.safetensors", "detector.json"):
        assert (tmp_path / name).read_bytes() == (Path(folder) / name).read_bytes()


@pytest.mark.parametrize("name", ["yolov99", "yolov8-seg", "../../v8/yolov8", "*"])
def test_an_architecture_that_is_no_detection_model_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"yolov8, yolo11 or yolo26"):
        build_network(SPEC.model_copy(update={"architecture": name}))


def test_a_page_that_does_not_fit_the_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 32 pixels, not 28"):
        build_network(SPEC.model_copy(update={"page": PageSettings()}))
    with pytest.raises(ConfigError, match="reads the nineteen stored rows, not tcp"):
        build_network(SPEC.model_copy(update={"page": SPEC.page.model_copy(update={"montage": Montage.TCP})}))


@pytest.mark.parametrize("name", ["yolov8", "yolo11", "yolo26"])
def test_each_architecture_builds_and_answers_boxes_on_the_page(name: str) -> None:
    spec = SPEC.model_copy(update={"architecture": name, "depth_multiple": 0.5, "width_multiple": 0.125, "distance_bins": 1})
    eeg_uv, mask = _signals(1)
    (events,) = Detector(small_network(spec), spec).propose(eeg_uv, mask)
    assert events
    assert all(0 <= e.onset_s < e.onset_s + e.duration_s <= SEGMENT_S for e in events)


def test_both_forms_of_output_are_read_alike() -> None:
    dense = torch.zeros(1, 4 + len(WAVEFORMS), 7)
    dense[0, :4, 3] = torch.tensor([50.0, 12.0, 20.0, 8.0])
    dense[0, 4 + 2, 3] = 0.75
    corners = torch.zeros(1, 300, 6)
    corners[0, 0] = torch.tensor([40.0, 8.0, 60.0, 16.0, 0.75, 2.0])
    for one, other in zip(predictions_of(dense, 0.5)[0], predictions_of(corners, 0.5)[0], strict=True):
        assert one.tolist() == other.tolist()


def test_the_network_sees_ink_as_one_and_paper_as_nothing() -> None:
    pages = torch.tensor([[[255, 0], [128, 255]]], dtype=torch.uint8)
    assert network_input(pages).tolist() == [[[[0.0, 1.0], [pytest.approx(127 / 255), 0.0]]]]


@pytest.mark.slow
def test_building_makes_no_look_up_and_writes_only_to_a_folder_that_goes(tmp_path: Path) -> None:
    code = """
import socket, os, sys
def refuse(*a, **k): raise SystemExit("network look-up")
socket.getaddrinfo = socket.create_connection = refuse
from cg_data.detect.network import build_network
from tests.cg_data.test_detect_detector import SPEC
build_network(SPEC)
print(os.environ["YOLO_CONFIG_DIR"])
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YOLO_")} | {"HOME": str(tmp_path)}
    # The test module's own package must be importable, but not its conftest, which sets a folder of its own.
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert not Path(done.stdout.strip()).exists()
    assert not list(tmp_path.rglob("*"))
