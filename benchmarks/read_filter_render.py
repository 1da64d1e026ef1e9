"""From an EDF file to pages: our road (read, filter, render) against the one that a user would write today with MNE and matplotlib.

    python benchmarks/read_filter_render.py [--minutes 60] [--subcolumns 2] [--device cuda]

Recordings of nineteen channels at 256 Hz with mains hum are made first, one for each of two processes, which work side by side on two
cores, one thread each. Printed are pages per second and the CPU time of a page of all roads in the same run, their ratios, and what our
parts cost one after the other, bare. A page is 1120 x 532 pixels. On a machine that others use, trust the ratio of CPU times.
With ``--device cuda`` the filter and the rasteriser work there, and one process reads.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import numpy as np
import numpy.typing as npt
import psutil

from cg_data.corpora.source import Source
from cg_data.edf.index import EdfIndex
from cg_data.edf.reader import EdfFile
from cg_data.page import page_shape
from cg_data.page_torch import draw_pages
from cg_data.recording import describe
from cg_data.records import Recording, Segment
from cg_data.segments import count_segments, segments_of
from cg_data.settings import DataSettings, PageSettings
from cg_data.signal import BLOCK_S, clean_blocks
from cg_data.vocabulary import CHANNELS, SEGMENT_S
from cluster.config import ClusterSettings
from cluster.session import ray_session

PROCESSES = 2
SFREQ_OUT_HZ = 200
PAGE_SAMPLES = SEGMENT_S * SFREQ_OUT_HZ
SFREQ_HZ = 256
PAGES_AT_ONCE = 16
WINDOWS_PER_TASK = 360
"""A shard of the data engine."""
RAY_ROUNDS = 6
"""On Ray the recordings are read so many times over, so that the start of a dataset does not count."""
PAGES_AT_ONCE_CUDA = 256
SETTINGS = DataSettings()
WARM_UP_MINUTES = 1

Road = Callable[[Path, PageSettings, str], int]


def write_recording(path: Path, minutes: float, seed: int) -> None:
    """Pink noise with a posterior alpha rhythm and 50-Hz hum, against a common reference."""
    import edfio

    rng = np.random.default_rng(seed)
    n = round(minutes * 60) * SFREQ_HZ
    hz = np.fft.rfftfreq(n, 1 / SFREQ_HZ)
    t = np.arange(n) / SFREQ_HZ
    signals = []
    for name in CHANNELS:
        noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) / np.maximum(hz, 0.3), n)
        alpha = (25 if name in ("O1", "O2", "P3", "Pz", "P4") else 5) * np.sin(2 * np.pi * 10 * t) * np.sin(2 * np.pi * 0.1 * t)
        uv = noise / noise.std() * 20 + alpha + 8 * np.sin(2 * np.pi * 50 * t)
        signals.append(
            edfio.EdfSignal(
                uv,
                SFREQ_HZ,
                label=f"EEG {name}-REF",
                physical_dimension="uV",
                physical_range=(-3276.8, 3276.7),
                digital_range=(-32768, 32767),
            )
        )
    edfio.Edf(signals).write(path)


def our_segments(path: Path, device: str) -> Iterator[Segment]:
    file = EdfFile.open(str(path))
    recording = describe(file, source=Source(uri=str(path)), corpus="benchmark", settings=SETTINGS)
    return segments_of(file, recording, device=device)


def our_road(path: Path, page: PageSettings, device: str = "cpu") -> int:
    """Pages made of one recording."""
    made, waiting = 0, list[Segment]()
    at_once = PAGES_AT_ONCE if device == "cpu" else PAGES_AT_ONCE_CUDA
    for segment in our_segments(path, device):
        waiting.append(segment)
        if len(waiting) == at_once:
            made += len(_drawn(waiting, page, device))
            waiting.clear()
    return made + (len(_drawn(waiting, page, device)) if waiting else 0)


def _drawn(segments: list[Segment], page: PageSettings, device: str) -> Any:
    return draw_pages(np.stack([s.eeg_uv for s in segments]), np.stack([s.mask for s in segments]), page, device)


def users_road(path: Path, page: PageSettings, device: str = "cpu") -> int:
    """The same pages as a user would make them: a figure for each, with the names of the channels and the seconds at its axes."""
    plt, eeg_uv = _with_mne(path)
    made = 0
    for page_uv in eeg_uv:
        figure, axes = plt.subplots(figsize=_inches(page), dpi=100)
        axes.set_yticks(range(len(CHANNELS)), CHANNELS)
        axes.set_xlabel("s")
        _traces(axes, page_uv, page)
        made += _pixels(figure).shape == page_shape(page)
        plt.close(figure)
    return made


def careful_users_road(path: Path, page: PageSettings, device: str = "cpu") -> int:
    """The same without axes, and with one figure whose traces are exchanged."""
    plt, eeg_uv = _with_mne(path)
    figure = plt.figure(figsize=_inches(page), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    traces = _traces(axes, eeg_uv[0], page)
    made = 0
    for page_uv in eeg_uv:
        for row, (trace, row_uv) in enumerate(zip(traces, page_uv, strict=True)):
            trace.set_ydata(row + row_uv / page.microvolts_per_row)
        made += _pixels(figure).shape == page_shape(page)
    plt.close(figure)
    return made


def _with_mne(path: Path) -> tuple[Any, npt.NDArray[np.float64]]:
    """Matplotlib, and ten-second pages `(n, 19, 2000)` in microvolts."""
    import matplotlib as mpl

    mpl.use("Agg")
    import mne
    from matplotlib import pyplot as plt

    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    raw.filter(0.5, 70.0, verbose="error")
    raw.notch_filter(50.0, verbose="error")
    raw.resample(SFREQ_OUT_HZ, verbose="error")
    raw.set_eeg_reference("average", verbose="error")
    eeg_uv = raw.get_data() * 1e6
    n = eeg_uv.shape[1] // PAGE_SAMPLES
    return plt, eeg_uv[:, : n * PAGE_SAMPLES].reshape(len(CHANNELS), n, PAGE_SAMPLES).transpose(1, 0, 2)


def _inches(page: PageSettings) -> tuple[float, float]:
    height, width = page_shape(page)
    return width / 100, height / 100


def _traces(axes: Any, page_uv: npt.NDArray[np.float64], page: PageSettings) -> list[Any]:
    axes.set(xlim=(0, SEGMENT_S), ylim=(len(CHANNELS) - 0.5, -0.5))
    seconds = np.arange(PAGE_SAMPLES) / SFREQ_OUT_HZ
    rows = enumerate(page_uv / page.microvolts_per_row)
    return [axes.plot(seconds, number + row, color="black", linewidth=0.72)[0] for number, row in rows]


def _pixels(figure: Any) -> npt.NDArray[np.uint8]:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., 0].copy()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One recording for one process, with a short one to warm up on."""

    road: Road
    path: Path
    warm_up: Path
    page: PageSettings
    device: str


def work(job: Job, ready: Any, start: Any, results: Any) -> None:
    import torch

    torch.set_num_threads(1)
    job.road(job.warm_up, job.page, job.device)
    ready.release()
    start.wait()
    begun = time.process_time()
    made = job.road(job.path, job.page, job.device)
    results.put((made, time.process_time() - begun))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Pages per second of all processes together, from the moment that all are warm to the last page; CPU time of a page."""

    pages_per_s: float
    cpu_ms: float


def speed_of(road: Road, folder: Path, page: PageSettings, device: str, processes: int) -> Speed:
    context = multiprocessing.get_context("spawn")
    ready, start, results = context.Semaphore(0), context.Event(), context.Queue()
    jobs = [Job(road=road, path=folder / f"{i}.edf", warm_up=folder / "warm_up.edf", page=page, device=device) for i in range(processes)]
    workers = [context.Process(target=work, args=(job, ready, start, results)) for job in jobs]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    begun = time.perf_counter()
    start.set()
    done = [results.get() for _ in workers]
    taken_s = time.perf_counter() - begun
    for worker in workers:
        worker.join()
    made = sum(count for count, _ in done)
    return Speed(pages_per_s=made / taken_s, cpu_ms=1000 * sum(cpu_s for _, cpu_s in done) / made)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Windows `start` to `stop` of a recording, for one Ray task."""

    path: str
    index: bytes
    recording: Recording
    start: int
    stop: int


def drawn_part(part: Part, page: PageSettings) -> int:
    segments = segments_of(EdfFile.open(part.path, EdfIndex.from_bytes(part.index, "")), part.recording, start=part.start, stop=part.stop)
    return sum(len(_drawn(list(batch), page, "cpu")) for batch in _batches(segments))


def _batches(segments: Iterator[Segment]) -> Iterator[tuple[Segment, ...]]:
    while batch := tuple(itertools.islice(segments, PAGES_AT_ONCE)):
        yield batch


def parts_of(path: Path) -> list[Part]:
    file = EdfFile.open(str(path))
    recording = describe(file, source=Source(uri=str(path)), corpus="benchmark", settings=SETTINGS)
    windows = range(0, count_segments(recording), WINDOWS_PER_TASK)
    return [Part(path=str(path), index=file.index, recording=recording, start=at, stop=at + WINDOWS_PER_TASK) for at in windows]


def ray_speed(folder: Path, page: PageSettings) -> Speed:
    """Our road in tasks of the data engine, on a Ray of two cores whose workers have drawn a page before."""
    with ray_session(ClusterSettings(local_cpus=PROCESSES, object_store_mib=256), verbose=False):
        from pydantic import TypeAdapter

        from cg_data.engine import Usage, run_tasks

        def made(parts: list[Part]) -> int:
            return sum(run_tasks(parts, partial(drawn_part, page=page), TypeAdapter(int), SETTINGS.engine, Usage()))

        made(parts_of(folder / "warm_up.edf") * 4 * PROCESSES)
        begun, before = time.perf_counter(), cpu_seconds()
        pages = made([part for i in range(PROCESSES) for part in parts_of(folder / f"{i}.edf")] * RAY_ROUNDS)
        taken_s = time.perf_counter() - begun
        return Speed(pages_per_s=pages / taken_s, cpu_ms=1000 * (cpu_seconds() - before) / pages)


def cpu_seconds() -> float:
    """Of this process and all that it started, Ray's own included."""
    own = psutil.Process()
    return sum(sum(p.cpu_times()[:4]) for p in [own, *own.children(recursive=True)])


def parts_ms(path: Path, page: PageSettings, device: str = "cpu") -> dict[str, float]:
    """What each of our parts costs alone in this process, in milliseconds a page: of CPU time, or by the clock where CUDA works."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begun = clock()
    file = EdfFile.open(str(path))
    recording = describe(file, source=Source(uri=str(path)), corpus="benchmark", settings=SETTINGS)
    checked = clock()
    eeg_uv = file.read_uv(recording.signals, *recording.runs_s[0])
    read = clock()
    pages_uv = _filtered(eeg_uv, recording, device)
    filtered = clock()
    mask = np.ones(pages_uv.shape[:2], dtype=np.bool_)
    at_once = PAGES_AT_ONCE if device == "cpu" else PAGES_AT_ONCE_CUDA
    for i in range(0, len(pages_uv), at_once):
        draw_pages(pages_uv[i : i + at_once], mask[i : i + at_once], page, device)
    _wait(device)
    drawn = clock()
    times_s = {"check": checked - begun, "read": read - checked, "filter": filtered - read, "render": drawn - filtered}
    return {name: 1000 * seconds / len(pages_uv) for name, seconds in times_s.items()}


def _filtered(eeg_uv: npt.NDArray[np.float32], recording: Recording, device: str) -> npt.NDArray[np.float32]:
    n_samples = eeg_uv.shape[1]
    blocks = range(n_samples // (BLOCK_S * SFREQ_HZ))
    cleaned = clean_blocks(lambda start, stop: eeg_uv[:, start:stop], n_samples, SFREQ_HZ, recording.mains_hz, blocks, device)
    pages = [block.reshape(len(block), -1, PAGE_SAMPLES).transpose(1, 0, 2) for block in cleaned]
    return np.ascontiguousarray(np.concatenate(pages))


def _wait(device: str) -> None:
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60, help="length of each recording")
    parser.add_argument("--subcolumns", type=int, default=2, help="of a page's pixel column")
    parser.add_argument("--device", default="cpu", help="where our filter and rasteriser work")
    given = parser.parse_args()
    page = PageSettings(subcolumns=given.subcolumns)
    processes = PROCESSES if given.device == "cpu" else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(PROCESSES):
            write_recording(folder / f"{i}.edf", given.minutes, i)
        write_recording(folder / "warm_up.edf", WARM_UP_MINUTES, PROCESSES)
        ours = speed_of(our_road, folder, page, given.device, processes)
        on_ray = None if given.device != "cpu" else ray_speed(folder, page)
        users = speed_of(users_road, folder, page, "cpu", PROCESSES)
        careful = speed_of(careful_users_road, folder, page, "cpu", PROCESSES)
        parts_ms(folder / "warm_up.edf", page, given.device)
        parts = parts_ms(folder / "0.edf", page, given.device)
    report(ours, on_ray, {"MNE, a matplotlib figure a page": users, "MNE, one matplotlib figure": careful}, parts, vars(given))


def report(ours: Speed, on_ray: Speed | None, others: dict[str, Speed], parts: dict[str, float], given: dict[str, Any]) -> None:
    say = sys.stdout.write
    say(f"{'road':32s} pages/s  ratio   CPU ms a page  ratio\n")
    say(f"{'ours':32s} {ours.pages_per_s:7.1f} {'':6s}   {ours.cpu_ms:13.2f}\n")
    for name, other in others.items():
        by_cpu = other.cpu_ms / ours.cpu_ms
        say(f"{name:32s} {other.pages_per_s:7.1f} {ours.pages_per_s / other.pages_per_s:6.1f}   {other.cpu_ms:13.2f} {by_cpu:6.1f}\n")
    say("\nour parts bare, ms a page: " + ", ".join(f"{part} {ms:.2f}" for part, ms in parts.items()))
    alone_ms = sum(parts.values())
    say(f"; sum {alone_ms:.2f}; our road keeps {alone_ms / ours.cpu_ms:.0%} of the speed of its bare parts\n")
    if on_ray is not None:
        share, by_cpu = on_ray.pages_per_s * alone_ms / 1000 / PROCESSES, alone_ms / on_ray.cpu_ms
        say(f"on Ray Data: {on_ray.pages_per_s:.1f} pages/s, {on_ray.cpu_ms:.2f} CPU ms a page with all of Ray's own; ")
        say(f"{on_ray.pages_per_s / ours.pages_per_s:.0%} of our road without Ray by the clock; of the bare parts on {PROCESSES} cores ")
        say(f"{share:.0%} by the clock, {by_cpu:.0%} by CPU\n")
    say("\n")
    figures = {
        "ours": dataclasses.asdict(ours),
        "on_ray": None if on_ray is None else dataclasses.asdict(on_ray),
        "others": {name: dataclasses.asdict(o) for name, o in others.items()},
        "parts_ms": parts,
    }
    say(json.dumps(figures | given) + "\n")


if __name__ == "__main__":
    main()
