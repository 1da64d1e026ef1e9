"""What a corpus will cost before anything is spent on it: core-hours, GPU-hours, time, bytes and how many cores keep a GPU busy.

The prediction is arithmetic on measured rates: `measure_rates` times the engine's own functions, one process and one thread, on
synthetic EEG. Rates of another machine can be kept as JSON and given again.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from cg_data import storage
from cg_data.analyze.annotate import annotate
from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.synthetic import write_corpus
from cg_data.errors import ConfigError
from cg_data.formats import open_file
from cg_data.instruct.teacher_store import TeacherStore
from cg_data.recording import describe
from cg_data.records import Segment
from cg_data.rows import ANNOTATION_SCHEMA, SEGMENT_SCHEMA, table_of
from cg_data.segments import segments_of
from cg_data.settings import DataSettings, Settings, SyntheticSettings, TeacherSettings
from cg_data.vocabulary import SEGMENT_S
from cg_data.work import make_samples

_MINUTES = 5
_SHARD = "measured.parquet"
_MEASURE_S = 3.0
"""Each part is repeated until it has taken so long."""


class Rates(Settings):
    """What one core, and one device with a detector, does in a second; bytes and samples that a page becomes."""

    machine: str = Field(description="where it was measured, for example 'NVIDIA H100' or 'cpu'")
    segment_pages_per_core_s: float = Field(gt=0, description="read, filter and write")
    analyse_pages_per_core_s: float = Field(gt=0, description="background, artefacts and cleaning")
    instruct_pages_per_core_s: float = Field(gt=0, description="dialogues by rule, written")
    detect_pages_per_device_s: float | None = Field(default=None, gt=0, description="render and detect; None: not measured")
    detect_device: Literal["cpu", "cuda"] = "cpu"
    segment_bytes: float = Field(gt=0)
    annotation_bytes: float = Field(gt=0, description="of a page")
    samples_bytes: float = Field(gt=0, description="of all samples of a page")


class Machines(Settings):
    """What is to do the work. `gpus` is the number in all nodes together."""

    nodes: int = Field(ge=1)
    cores_per_node: int = Field(ge=1)
    gpus: int = Field(default=0, ge=0)

    @property
    def cores(self) -> int:
        return self.nodes * self.cores_per_node


class StagePlan(Settings):
    """One stage: what it takes and how long; `bound_by` names what it waits for."""

    name: str
    core_hours: float
    gpu_hours: float
    wall_hours: float
    bound_by: Literal["cores", "gpus"]
    bytes: float


class Plan(Settings):
    """The prediction. `cores_per_gpu` is how many cores keep one GPU busy in the stage of annotations; None without a GPU."""

    pages: int
    hours: float
    stages: tuple[StagePlan, ...]
    cores_per_gpu: float | None
    assumptions: tuple[str, ...]

    @property
    def wall_hours(self) -> float:
        return sum(stage.wall_hours for stage in self.stages)

    @property
    def bytes(self) -> float:
        return sum(stage.bytes for stage in self.stages)


def plan_of(hours: float, rates: Rates, machines: Machines) -> Plan:
    """Predict the three stages for `hours` of usable EEG; they run one after the other.

    Raises:
        ConfigError: GPUs are asked about, but the rates hold none for a GPU.
    """
    detects = rates.detect_pages_per_device_s
    if machines.gpus and (detects is None or rates.detect_device != "cuda"):
        raise ConfigError(
            f"these rates were measured on {rates.machine} without a GPU and a detector. Measure on a machine of the cluster with "
            "--detector, keep them with --rates FILE and give that file here."
        )
    pages = math.floor(hours * 3600 / SEGMENT_S)
    on_gpu = machines.gpus > 0
    detect_core_s = 0.0 if detects is None or on_gpu else pages / detects
    stages = (
        _stage("segments", pages / rates.segment_pages_per_core_s, 0.0, machines, pages * rates.segment_bytes),
        _stage(
            "annotations",
            pages / rates.analyse_pages_per_core_s + detect_core_s,
            pages / detects if detects is not None and on_gpu else 0.0,
            machines,
            pages * rates.annotation_bytes,
        ),
        _stage("samples", pages / rates.instruct_pages_per_core_s, 0.0, machines, pages * rates.samples_bytes),
    )
    return Plan(
        pages=pages,
        hours=hours,
        stages=stages,
        cores_per_gpu=detects / rates.analyse_pages_per_core_s if detects is not None and on_gpu else None,
        assumptions=_assumptions(rates),
    )


def _stage(name: str, core_s: float, gpu_s: float, machines: Machines, n_bytes: float) -> StagePlan:
    by_cores, by_gpus = core_s / machines.cores, gpu_s / max(1, machines.gpus)
    return StagePlan(
        name=name,
        core_hours=core_s / 3600,
        gpu_hours=gpu_s / 3600,
        wall_hours=max(by_cores, by_gpus) / 3600,
        bound_by="gpus" if by_gpus > by_cores else "cores",
        bytes=n_bytes,
    )


def _assumptions(rates: Rates) -> tuple[str, ...]:
    said = [
        f"rates of {rates.machine}; the cores of the cluster are as fast",
        "every core and GPU is busy all the time; storage and network keep up",
        "files that are refused and ends of recordings under ten seconds cost nothing",
    ]
    if rates.detect_pages_per_device_s is None:
        said.append("no detector was measured (--detector): detection is not counted")
    return tuple(said)


def measure_rates(settings: DataSettings, detector_uri: str | None = None) -> Rates:
    """Measure on this machine, in about half a minute; on its GPU where there is one and a detector is given.

    Raises:
        StorageError: there is no detector at `detector_uri`.
    """
    with tempfile.TemporaryDirectory() as folder:
        uri = write_corpus(folder, SyntheticSettings(subjects=3, minutes_per_subject=_MINUTES))[0]
        segments = list(_read(uri, settings))
        read_s = _seconds(lambda: _written(list(_read(uri, settings)), SEGMENT_SCHEMA, folder))
        segment_bytes = _written(segments, SEGMENT_SCHEMA, folder)
        annotations = [annotate(segment, (), detector_version="") for segment in segments]
        analyse_s = _seconds(lambda: [annotate(segment, (), detector_version="") for segment in segments])
        annotation_bytes = _written(annotations, ANNOTATION_SCHEMA, f"{folder}/annotations")
        _written(segments, SEGMENT_SCHEMA, f"{folder}/segments")
        instruct = partial(
            make_samples,
            _SHARD,
            segments_uri=f"{folder}/segments",
            annotations_uri=f"{folder}/annotations",
            out_uri=f"{folder}/samples",
            settings=settings.instruct,
            teacher=TeacherSettings(),
            store=TeacherStore(uri=f"{folder}/teacher"),
            share={},
        )
        samples_bytes = instruct().bytes
        instruct_s = _seconds(instruct)
    detect, device, machine = _detection(segments, detector_uri, settings.engine.detect_batch)
    n = len(segments)
    return Rates(
        machine=machine,
        segment_pages_per_core_s=n / read_s,
        analyse_pages_per_core_s=n / analyse_s,
        instruct_pages_per_core_s=n / instruct_s,
        detect_pages_per_device_s=detect,
        detect_device=device,
        segment_bytes=segment_bytes / n,
        annotation_bytes=annotation_bytes / n,
        samples_bytes=samples_bytes / n,
    )


def _read(uri: str, settings: DataSettings) -> Sequence[Segment]:
    source, file = CORPORA[CorpusName.FOLDER].sources(uri)[0], open_file(uri)
    recording = describe(file, source=source, corpus=CorpusName.FOLDER, settings=settings)
    return list(segments_of(file, recording))


def _written(records: Sequence[object], schema: pa.Schema, folder: str) -> int:
    return storage.write_table(storage.join(folder, _SHARD), table_of(list(records), schema)).bytes


def _seconds(work: Callable[[], object]) -> float:
    """CPU-seconds of one call, all threads together."""
    work()
    calls, start = 0, time.process_time()
    while time.process_time() - start < _MEASURE_S:
        work()
        calls += 1
    return (time.process_time() - start) / calls


def _detection(segments: Sequence[Segment], detector_uri: str | None, batch: int) -> tuple[float | None, Literal["cpu", "cuda"], str]:
    """Pages a second of the detector, where it ran, and the machine's name."""
    here = f"this machine ({os.cpu_count()} cores)"
    if detector_uri is None:
        return None, "cpu", here
    import torch

    from cg_data.detect.detector import Detector

    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    detector = Detector.load(detector_uri, device=device)
    parts = [segments[at : at + batch] for at in range(0, len(segments), batch)]
    stacked = [(np.stack([s.eeg_uv for s in part]), np.stack([s.mask for s in part])) for part in parts]

    def detect() -> None:
        for eeg_uv, mask in stacked:
            detector.detect(eeg_uv, mask)

    if device == "cpu":
        return len(segments) / _seconds(detect), device, here
    detect()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < _MEASURE_S:
        detect()
        calls += 1
    return len(segments) * calls / (time.perf_counter() - start), device, f"{here}, {torch.cuda.get_device_name()}"
