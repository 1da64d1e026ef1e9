"""The page network is Ultralytics' on our page, and touches neither the network nor the user's home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cg_data.detect.detector import Detector
from cg_data.detect.network import build_network
from cg_data.detect.page_network import network_input, predictions_of
from cg_data.errors import ConfigError
from cg_data.settings import PageSettings
from cg_data.vocabulary import SEGMENT_S, WAVEFORMS, Montage
from tests.detectors_small import PAGE, noise_pages, spec_of, untrained


@pytest.mark.parametrize("name", ["yolov99", "yolov8-seg", "../../v8/yolov8", "/yolov8", "*", "**", ""])
def test_an_architecture_that_is_no_detection_model_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"yolov8, yolo11 or yolo26"):
        build_network(PAGE.model_copy(update={"architecture": name}))


def test_a_size_that_the_architecture_does_not_come_in_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"yolov3 has no size 'n'\. Give depth_multiple"):
        build_network(PAGE.model_copy(update={"architecture": "yolov3", "size": "n"}))


def test_a_page_that_does_not_fit_the_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 32 pixels, not 28"):
        build_network(PAGE.model_copy(update={"page": PageSettings()}))
    with pytest.raises(ConfigError, match="read the nineteen stored rows, not tcp"):
        build_network(PAGE.model_copy(update={"page": PAGE.page.model_copy(update={"montage": Montage.TCP})}))


@pytest.mark.parametrize(("name", "strides"), [("yolov8", [8, 16, 32]), ("yolo11", [8, 16, 32]), ("yolo26-p2", [4, 8, 16, 32])])
def test_each_architecture_builds_and_answers_boxes_on_the_page(name: str, strides: list[int]) -> None:
    settings = PAGE.model_copy(update={"architecture": name, "depth_multiple": 0.5, "width_multiple": 0.125, "distance_bins": 1})
    network = untrained(settings)
    assert network.strides == strides
    (events,) = Detector(network, spec_of(settings)).propose(*noise_pages(1))
    assert events
    assert all(0 <= e.onset_s < e.onset_s + e.duration_s <= SEGMENT_S + 1e-6 for e in events)


def test_a_size_stands_for_its_multiples() -> None:
    by_size = build_network(PAGE.model_copy(update={"size": "n", "width_multiple": 9.0}))
    by_hand = build_network(PAGE.model_copy(update={"depth_multiple": 0.33, "width_multiple": 0.25, "max_channels": 1024}))
    assert [p.shape for p in by_size.parameters()] == [p.shape for p in by_hand.parameters()]


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
from cg_data.detect.spec import PageNetworkSettings
build_network(PageNetworkSettings())
print(os.environ["YOLO_CONFIG_DIR"])
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("YOLO_")} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert not Path(done.stdout.strip()).exists()
    assert not list(tmp_path.rglob("*"))
