"""Whatever runs a network gives its events: ONNX Runtime those of torch, for each kind of network and any number of pages."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cg_data.detect.backends import OnnxBackend, exported, in_whole_batches
from cg_data.detect.detector import Detector, save_detector
from cg_data.detect.network import build_network
from cg_data.detect.spec import DetectorSpec, NetworkSettings, PageNetworkSettings, SignalNetworkSettings
from cg_data.errors import ConfigError, StorageError
from cg_data.records import Event
from cg_data.settings import PageSettings
from cg_data.vocabulary import N_CHANNELS, WAVEFORMS
from tests.cg_data.planted_signals import real_pages

PAGE = PageSettings(pixels_per_row=8, pixels_per_second=32, microvolts_per_row=100.0, subcolumns=2, multiple_of=32)
NETWORKS: dict[str, NetworkSettings] = {
    "signal": SignalNetworkSettings(width=8, depth=1),
    "yolov8": PageNetworkSettings(width_multiple=0.0625, max_channels=256, distance_bins=4, page=PAGE),
    "yolo26": PageNetworkSettings(architecture="yolo26", depth_multiple=0.5, max_channels=256, distance_bins=1, page=PAGE),
}


def lively(settings: NetworkSettings) -> Any:
    """An untrained network that sees something here and there: normalised by what it is shown, and with heads that are seldom sure."""
    torch.manual_seed(3)
    network: Any = build_network(settings)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        inputs = network.train().prepare(*noise(4, seed=2), "cpu")
        network.raw(*inputs) if settings.kind == "page" else network(*inputs)
    if settings is NETWORKS["yolo26"]:
        network.yolo.end2end = True  # corners of the best boxes, suppressed by the head itself
    for last in classifiers(network):
        torch.nn.init.normal_(last.weight[-9:], 0.0, 1.2 / last.weight.shape[1] ** 0.5)
        torch.nn.init.constant_(last.bias[-9:], -6.0)
    return network.eval()


def classifiers(network: Any) -> list[torch.nn.Conv2d]:
    if not hasattr(network, "yolo"):
        return [network.fine_head.out, network.coarse_head.out]
    head = network.yolo.model[-1]
    return [branch[-1] for branch in [*head.cv3, *getattr(head, "one2one_cv3", [])]]


def spec_of(settings: NetworkSettings) -> DetectorSpec:
    return DetectorSpec(network=settings, min_box_s=0.15, nms_iou=0.5, score_floor=0.1, weights_sha256="0" * 64)


@pytest.fixture(scope="module", params=list(NETWORKS))
def pair(request: pytest.FixtureRequest) -> tuple[Detector, Detector]:
    """One detector on torch and on ONNX Runtime."""
    settings = NETWORKS[request.param]
    network = lively(settings)
    onnx = OnnxBackend(exported(network))
    return Detector(copy.deepcopy(network), spec_of(settings)), Detector(network, spec_of(settings), onnx=onnx)


def noise(count: int, seed: int = 1) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    slow = rng.standard_normal((count, N_CHANNELS, 2000)).cumsum(axis=2)
    eeg_uv = 6 * rng.standard_normal((count, N_CHANNELS, 2000)) + 2 * (slow - slow.mean(axis=2, keepdims=True))
    return eeg_uv.astype(np.float32), rng.random((count, N_CHANNELS)) > 0.1


def assert_same(first: list[tuple[Event, ...]], second: list[tuple[Event, ...]]) -> None:
    """The same events, each onset and end within a millisecond and each score within a thousandth."""
    assert [len(events) for events in first] == [len(events) for events in second]
    for one, other in zip(first, second, strict=True):
        order = [sorted(events, key=lambda e: (e.channel, e.waveform, round(e.score, 2), e.onset_s)) for events in (one, other)]
        for a, b in zip(*order, strict=True):
            assert (a.waveform, a.channel) == (b.waveform, b.channel)
            assert abs(a.onset_s - b.onset_s) <= 0.001 + 1e-9
            assert abs(a.duration_s - b.duration_s) <= 0.002 + 1e-9
            assert abs(a.score - b.score) <= 0.001


@pytest.mark.parametrize("count", [1, 2, 7])
def test_onnx_runtime_and_torch_find_the_same_events(pair: tuple[Detector, Detector], count: int) -> None:
    found = [detector.propose(*noise(count)) for detector in pair]
    assert sum(len(events) for events in found[0]) > 2
    assert_same(*found)


def test_onnx_runtime_and_torch_agree_on_real_pages(pair: tuple[Detector, Detector], real_eeg: Path) -> None:
    pages = [*real_pages(real_eeg / "iiic_SZ_sample1.edf")[:2], *real_pages(real_eeg / "eegmmi_s001r01_eyes_open.edf")[:2]]
    signals = np.stack([page.eeg_uv for page in pages]), np.stack([page.mask for page in pages])
    found = [detector.propose(*signals) for detector in pair]
    assert sum(len(events) for events in found[0]) > 10
    assert_same(*found)


@pytest.mark.parametrize("threads", [1, 3])
def test_pages_are_found_in_any_company_and_on_any_number_of_threads(pair: tuple[Detector, Detector], threads: int) -> None:
    eeg_uv, mask = noise(20)
    alone = [pair[1].propose(eeg_uv[i : i + 1], mask[i : i + 1])[0] for i in range(len(eeg_uv))]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_same(pair[1].propose(eeg_uv, mask), alone)
    finally:
        torch.set_num_threads(before)


def test_no_pages_give_no_events(pair: tuple[Detector, Detector]) -> None:
    for detector in pair:
        assert detector.propose(*noise(0)) == []


def test_an_exported_model_names_no_place_of_the_machine_and_leaves_the_network_as_it_was() -> None:
    network = lively(NETWORKS["yolov8"])
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = exported(network)
    assert str(Path(__file__).parents[2]).encode() not in model
    assert b"site-packages" not in model
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_saved_page_detector_runs_on_onnx_runtime_and_checks_its_file(tmp_path: Path) -> None:
    network = lively(NETWORKS["yolov8"])
    spec = save_detector(network, spec_of(NETWORKS["yolov8"]), str(tmp_path))
    assert json.loads((tmp_path / "detector.json").read_text())["onnx_sha256"] == spec.onnx_sha256 != ""
    assert spec.version == spec.weights_sha256[:12]
    eeg_uv, mask = noise(2)
    loaded = Detector.load(str(tmp_path))
    assert_same(loaded.propose(eeg_uv, mask), Detector(network, spec).propose(eeg_uv, mask))
    model = tmp_path / "weights.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"\1")
    with pytest.raises(StorageError, match=r"weights\.onnx is not the file that detector\.json describes"):
        Detector.load(str(tmp_path))


def test_a_signal_detector_is_saved_without_a_second_file(tmp_path: Path) -> None:
    spec = save_detector(lively(NETWORKS["signal"]), spec_of(NETWORKS["signal"]), str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detector.json", "weights.safetensors"]
    assert spec.onnx_sha256 == ""


def test_a_model_that_onnx_runtime_cannot_read_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"weights\.onnx cannot be run by ONNX Runtime"):
        OnnxBackend(b"no model")


@pytest.mark.parametrize("kind", ["signal", "yolov8"])
def test_half_precision_is_compiled_whole_and_once_and_moves_no_box_far(kind: str) -> None:
    """As on CUDA, in the CPU's own short type, which has three bits less than float16."""
    network = lively(NETWORKS[kind])
    network.fuse()
    torch._dynamo.reset()
    graphs = []

    def keep(graph: torch.fx.GraphModule, example: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    backend = in_whole_batches(torch.compile(network, fullgraph=True, backend=keep), 4)
    with torch.inference_mode():
        for pages in (1, 3, 4):
            inputs = network.prepare(*noise(pages), "cpu")
            exact, short = network(*inputs), backend(*inputs)
            assert [tensor.shape for tensor in short] == [tensor.shape for tensor in exact]
            assert all(tensor.dtype == torch.float32 for tensor in (exact[0], short[0]))
            places = [outputs[0] if kind == "signal" else outputs[0][:, :4] for outputs in (exact, short)]
            assert float((places[0] - places[1]).abs().median()) < (0.01 if kind == "signal" else 0.2)
    assert len(graphs) == 1


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_what_is_detected_is_what_is_proposed_above_the_thresholds(kind: str) -> None:
    """Also where a waveform that works at a high score is excluded by, or excludes, one that works at a low score."""
    rng = np.random.default_rng(4)
    network = lively(NETWORKS[kind])
    for _ in range(3):
        thresholds = dict(zip(WAVEFORMS, np.round(rng.uniform(0.1, 0.6, len(WAVEFORMS)), 4).tolist(), strict=True))
        detector = Detector(copy.deepcopy(network), spec_of(NETWORKS[kind]).model_copy(update={"thresholds": thresholds}))
        proposed = detector.propose(*noise(6))
        expected = [tuple(e for e in events if e.score >= thresholds[e.waveform]) for events in proposed]
        assert 0 < sum(map(len, expected)) < sum(map(len, proposed))
        assert detector.detect(*noise(6)) == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", list(NETWORKS))
def test_cuda_finds_what_the_cpu_finds(kind: str) -> None:
    network = lively(NETWORKS[kind])
    eeg_uv, mask = noise(4)
    spec = spec_of(NETWORKS[kind])
    on_cpu = Detector(copy.deepcopy(network), spec).propose(eeg_uv, mask)
    on_cuda = Detector(network, spec, "cuda").propose(eeg_uv, mask)
    strong = [e for events in on_cpu for e in events if e.score >= 0.2]
    near = [e for events in on_cuda for e in events]
    matched = [any((e.waveform, e.channel) == (f.waveform, f.channel) and abs(e.onset_s - f.onset_s) < 0.05 for f in near) for e in strong]
    assert np.mean(matched) > 0.95
