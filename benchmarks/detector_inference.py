"""Windows a second of the detectors, beside `ultralytics.YOLO(weights).predict` over PNG files of the same pages with the same weights.

    python benchmarks/detector_inference.py [--detector FOLDER] [--segments SHARD] [--threads 2] [--rounds 5] [--device cuda]

On the CPU all ways take turns and the best round of each counts. Pages come from a segment shard, or are coloured noise; the network that
no folder gives has random weights. Speed hardly depends on either, but decoding does: a trained detector has fewer candidates.
``--device cuda`` gives rates of YOLO26 n, s and m, of the signal network and of the given detector in batches of 64, with the
shares of their parts.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cg_data.detect.backends import OnnxBackend, exported
from cg_data.detect.detector import Detector, read_spec
from cg_data.detect.network import build_network
from cg_data.detect.spec import DetectorSpec, NetworkSettings, PageNetworkSettings, SignalNetworkSettings
from cg_data.page import render_batch

Signals = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]
Way = Callable[[Signals], object]
SIZES = (1, 16, 64)


def pages_of(shard: str | None, count: int) -> Signals:
    """`count` pages of a segment shard, again from its start where it has fewer, or of coloured noise of 30 uV."""
    if shard is not None:
        from cg_data.shards import read_segments

        segments = list(read_segments(shard))
        rows = [segments[i % len(segments)] for i in range(count)]
        return np.stack([s.eeg_uv for s in rows]), np.stack([s.mask for s in rows])
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal((count, 19, 2000))) / np.sqrt(np.arange(1001) + 5.0)
    eeg_uv = np.fft.irfft(spectrum)
    return (30 * eeg_uv / eeg_uv.std()).astype(np.float32), np.ones((count, 19), dtype=np.bool_)


def network_of(folder: str | None, settings: NetworkSettings) -> tuple[Any, DetectorSpec]:
    """Network and description of a detector's folder where it is of this kind, else with random weights."""
    spec = DetectorSpec(network=settings, min_box_s=0.15, nms_iou=0.5, score_floor=0.03, weights_sha256="0" * 64)
    if folder is not None:
        found = DetectorSpec.model_validate_json((Path(folder) / "detector.json").read_text())
        if found.network.kind == settings.kind:
            import safetensors.torch

            network = build_network(found.network)
            network.load_state_dict(safetensors.torch.load_file(str(Path(folder) / "weights.safetensors")))
            return network, found
    torch.manual_seed(0)
    return build_network(settings), spec


def ultralytics_ways(network: Any, spec: DetectorSpec, signals: Signals, folder: Path, threads: int) -> dict[str, Way]:
    """`predict` on one PNG file a page, as it is called with a list of paths and with a batch."""
    import cv2
    from ultralytics import YOLO

    assert isinstance(spec.network, PageNetworkSettings)
    pages = render_batch(*signals, spec.network.page)
    paths = [str(folder / f"{i:03d}.png") for i in range(len(pages))]
    for path, page in zip(paths, pages, strict=True):
        cv2.imwrite(path, page)
    torch.save({"model": copy.deepcopy(network.yolo), "train_args": {}}, folder / "weights.pt")

    def way(batch: int, own_threads: bool) -> Way:
        yolo = YOLO(folder / "weights.pt", task="detect")
        options = {"imgsz": pages.shape[1:], "batch": batch, "conf": spec.score_floor, "device": "cpu", "verbose": False}
        yolo.predict(paths[:1], **options)  # sets the number of threads to its own taste
        own = torch.get_num_threads()

        def predict(part: Signals) -> None:
            torch.set_num_threads(own if own_threads else threads)
            yolo.predict(paths[: len(part[0])], **options)
            torch.set_num_threads(threads)

        return predict

    return {
        "YOLO.predict, PNG files, its own threads": way(1, True),
        "YOLO.predict, PNG files": way(1, False),
        "YOLO.predict, PNG files, batch 16": way(16, False),
    }


def detector_ways(name: str, network: Any, spec: DetectorSpec) -> dict[str, Detector]:
    onnx = OnnxBackend(exported(network))
    return {
        f"{name} network, torch": Detector(copy.deepcopy(network), spec),
        f"{name} network, ONNX Runtime": Detector(copy.deepcopy(network), spec, onnx=onnx),
    }


def best_times(ways: dict[str, Way], signals: Signals, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds and CPU-seconds of a window in the best round; the ways take turns."""
    best = {name: (float("inf"), float("inf")) for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            start, cpu = time.perf_counter(), time.process_time()
            way(signals)
            taken = (time.perf_counter() - start) / len(signals[0]), (time.process_time() - cpu) / len(signals[0])
            if turn:
                best[name] = min(best[name][0], taken[0]), min(best[name][1], taken[1])
    return best


def shares(detector: Any, signals: Signals, rounds: int) -> str:
    """What a batch's time goes into, from the best of the whole and of each part: input (on pages, rendering), network, and decoding."""
    eeg_uv, mask = signals
    sync = torch.cuda.synchronize if detector._device == "cuda" else lambda: None
    best, whole_s = [float("inf")] * 3, float("inf")
    with torch.inference_mode():
        for _ in range(rounds + 1):
            times = [time.perf_counter()]
            inputs = detector._network.prepare(eeg_uv, mask, detector._device)
            sync()
            times.append(time.perf_counter())
            outputs = detector._backend(*inputs)
            sync()
            times.append(time.perf_counter())
            detector._network.decode(outputs, detector.spec.score_floor)
            times.append(time.perf_counter())
            best = [min(old, new) for old, new in zip(best, np.diff(times), strict=True)]
            start = time.perf_counter()
            detector.propose(eeg_uv, mask)
            whole_s = min(whole_s, time.perf_counter() - start)
    parts = [*best, max(whole_s - sum(best), 0.0)]
    names = ("input", "network", "decoding", "checks, suppression and events")
    return ", ".join(f"{name} {part / sum(parts):.0%}" for name, part in zip(names, parts, strict=True))


def write(*cells: object) -> None:
    sys.stdout.write("| " + " | ".join(str(cell) for cell in cells) + " |\n")
    sys.stdout.flush()


def on_cpu(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    signals = pages_of(options.segments, max(SIZES))
    page, page_spec = network_of(options.detector, PageNetworkSettings())
    signal, signal_spec = network_of(options.detector, SignalNetworkSettings())
    with tempfile.TemporaryDirectory() as folder:
        part = signals[0][:16], signals[1][:16]
        detectors = detector_ways("page", page, page_spec)
        predict = ultralytics_ways(page, page_spec, part, Path(folder), options.threads)
        ways = predict | {name: (lambda s, d=d: d.detect(*s)) for name, d in detectors.items()}
        times = best_times(ways, part, options.rounds)
    sys.stdout.write(f"\nThe same {len(part[0])} pages and weights, {options.threads} threads, best of {options.rounds}.\n\n")
    baselines = [times[name][0] for name in predict]
    write("way", "windows a second", "CPU-ms a window", *(f"times '{name.removeprefix('YOLO.predict, ')}'" for name in predict))
    write(*["---"] * (3 + len(baselines)))
    for name, (seconds, cpu_s) in times.items():
        write(name, f"{1 / seconds:.1f}", f"{1000 * cpu_s:.1f}", *(f"{base / seconds:.2f}" for base in baselines))
    smaller = detector_ways("signal", signal, signal_spec)
    sys.stdout.write("\nThe signal network: windows a second (CPU-ms a window).\n\n")
    write("way", *(f"{size} windows" for size in SIZES))
    write(*["---"] * (1 + len(SIZES)))
    by_size = [
        best_times({n: (lambda s, d=d: d.detect(*s)) for n, d in smaller.items()}, (signals[0][:k], signals[1][:k]), options.rounds)
        for k in SIZES
    ]
    for name in smaller:
        write(name, *(f"{1 / times[name][0]:.1f} ({1000 * times[name][1]:.1f})" for times in by_size))
    sys.stdout.write("\nShares of 16 windows on one thread:\n\n")
    torch.set_num_threads(1)
    for name, detector in (detectors | smaller).items():
        sys.stdout.write(f"* {name}: {shares(detector, (signals[0][:16], signals[1][:16]), options.rounds)}\n")


def on_cuda(options: argparse.Namespace) -> None:
    signals = pages_of(options.segments, 64)
    settings: dict[str, NetworkSettings] = {"signal": SignalNetworkSettings()}
    settings |= {f"yolo26{size}": PageNetworkSettings(architecture="yolo26", size=size) for size in ("n", "s", "m")}
    sys.stdout.write(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batches of 64\n\n")
    write("network", "windows a second", "shares")
    write(*["---"] * 3)
    detectors = {name: (None, chosen) for name, chosen in settings.items()}
    if options.detector is not None:
        detectors["the trained one"] = options.detector, read_spec(options.detector).network
    for name, (folder, chosen) in detectors.items():
        detector = Detector(*network_of(folder, chosen), "cuda")
        seconds, _ = best_times({name: lambda s, d=detector: d.detect(*s)}, signals, options.rounds)[name]
        write(name, f"{1 / seconds:.0f}", shares(detector, signals, options.rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", help="folder of a trained detector of either kind")
    parser.add_argument("--segments", help="segment shard (parquet) whose pages are looked at")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    (on_cuda if options.device == "cuda" else on_cpu)(options)


if __name__ == "__main__":
    main()
