"""Pages per second of one core and how near they come to the ideal page, beside matplotlib and OpenCV.

    python benchmarks/raster.py [--device cuda]

Pages of the synthetic corpus at 1120 x 532 pixels. One process, one thread, the best of several rounds. The ideal page is drawn eight
times as large by OpenCV (lines of eight pixels, without anti-aliasing) and averaged; likeness is the structural similarity of Wang et al.
2004 over whole pages. ``--device cuda`` draws batches there as well, signals sent from main memory each time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import cv2
import numpy as np
import numpy.typing as npt
import torch
from skimage.metrics import structural_similarity

from cg_data.corpora.source import Source
from cg_data.corpora.synthetic import write_corpus
from cg_data.edf.reader import EdfFile
from cg_data.page import centres_px, page_shape, pixels_per_microvolt, render_batch
from cg_data.page_torch import rasterise
from cg_data.recording import describe
from cg_data.segments import segments_of
from cg_data.settings import DataSettings, PageSettings, SyntheticSettings
from cg_data.vocabulary import CHANNELS, SEGMENT_S, SEGMENT_SAMPLES, SFREQ_HZ

Pages = npt.NDArray[np.uint8]
Signals = npt.NDArray[np.float32]
Draw = Callable[[Signals], Pages]
PAGE = PageSettings()
FINE = 8
_SHIFT = 4
"""Fractional bits of OpenCV's coordinates."""
LIKENESS_PAGES = 6
ROUNDS = 7
CUDA_PAGES = 256


def synthetic_pages() -> Signals:
    """Ten-second pages `(n, 19, 2000)` in microvolts."""
    settings = DataSettings()
    with tempfile.TemporaryDirectory() as folder:
        pages = []
        for uri in write_corpus(folder, SyntheticSettings(subjects=3, minutes_per_subject=1.0)):
            edf = EdfFile.open(uri)
            recording = describe(edf, source=Source(uri=uri), corpus="synthetic", settings=settings)
            pages += [segment.eeg_uv for segment in segments_of(edf, recording)]
    return np.stack(pages)


def numba(subcolumns: int) -> Draw:
    page = PAGE.model_copy(update={"subcolumns": subcolumns})
    return lambda eeg_uv: render_batch(eeg_uv, np.ones(eeg_uv.shape[:2], dtype=np.bool_), page)


def on_cuda(subcolumns: int) -> Draw:
    """The pages stay on the device, where a network reads them; what comes back is empty."""
    page = PAGE.model_copy(update={"subcolumns": subcolumns})

    def draw(eeg_uv: Signals) -> Pages:
        rasterise(eeg_uv, np.ones(eeg_uv.shape[:2], dtype=np.bool_), page, "cuda")
        torch.cuda.synchronize()
        return np.empty((0, 0, 0), dtype=np.uint8)

    return draw


def opencv(eeg_uv: Signals) -> Pages:
    return np.stack([_polylines(page_uv, 1, 1, cv2.LINE_AA) for page_uv in eeg_uv])


def ideal(eeg_uv: Signals) -> Pages:
    height, width = page_shape(PAGE)
    large = (_polylines(page_uv, FINE, FINE, cv2.LINE_8) for page_uv in eeg_uv)
    return np.stack([cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in large])


def _polylines(page_uv: Signals, scale: int, thickness: int, kind: int) -> Pages:
    """OpenCV counts from the middle of the first pixel, we from its corner."""
    height, width = page_shape(PAGE)
    picture = np.full((height * scale, width * scale), 255, dtype=np.uint8)
    x = np.arange(SEGMENT_SAMPLES) * (PAGE.pixels_per_second / SFREQ_HZ)
    y = centres_px(PAGE) + page_uv * pixels_per_microvolt(PAGE)
    points = np.stack([np.broadcast_to(x, y.shape), y], axis=2) * scale - 0.5
    cv2.polylines(picture, list(np.rint(points * 2**_SHIFT).astype(np.int32)), False, 0, thickness, kind, _SHIFT)
    return picture


def matplotlib() -> Draw:
    """One figure for all pages, its traces exchanged."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    height, width = page_shape(PAGE)
    figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, SEGMENT_S), ylim=(height, 0))
    axes.axis("off")
    seconds = np.arange(SEGMENT_SAMPLES) / SFREQ_HZ
    traces = [axes.plot(seconds, np.zeros(SEGMENT_SAMPLES), color="black", linewidth=0.72)[0] for _ in CHANNELS]

    def draw(eeg_uv: Signals) -> Pages:
        pages = []
        for page_uv in eeg_uv:
            for trace, y in zip(traces, centres_px(PAGE) + page_uv * pixels_per_microvolt(PAGE), strict=True):
                trace.set_ydata(y)
            figure.canvas.draw()
            pages.append(np.asarray(figure.canvas.buffer_rgba())[..., 0].copy())
        return np.stack(pages)

    return draw


def pages_per_second(draw: Draw, eeg_uv: Signals) -> float:
    draw(eeg_uv)
    best_s = np.inf
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        draw(eeg_uv)
        best_s = min(best_s, time.perf_counter() - begun)
    return len(eeg_uv) / best_s


def likeness(pages: Pages, wanted: Pages) -> float:
    return float(np.mean([structural_similarity(one, other, data_range=255) for one, other in zip(pages, wanted, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    eeg_uv = synthetic_pages()
    few = eeg_uv[:: len(eeg_uv) // LIKENESS_PAGES][:LIKENESS_PAGES]
    wanted = ideal(few)
    renderers = {"ours, K=2": numba(2), "ours, K=4": numba(4), "OpenCV, LINE_AA": opencv, "matplotlib, one figure": matplotlib()}
    figures = {name: {"pages_per_s": pages_per_second(draw, few), "ssim": likeness(draw(few), wanted)} for name, draw in renderers.items()}
    if given.device == "cuda":
        many = np.resize(eeg_uv, (CUDA_PAGES, *eeg_uv.shape[1:]))
        figures |= {f"ours, K={k}, CUDA": {"pages_per_s": pages_per_second(on_cuda(k), many)} for k in (2, 4)}
    height, width = page_shape(PAGE)
    sys.stdout.write(f"{width} x {height} pixels          pages/s    SSIM\n")
    for name, row in figures.items():
        sys.stdout.write(f"{name:26s} {row['pages_per_s']:8.0f}  " + (f"{row['ssim']:.4f}\n" if "ssim" in row else "\n"))
    sys.stdout.write("\n" + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
