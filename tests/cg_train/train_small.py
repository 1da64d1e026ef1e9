"""Samples and a model small enough for the tests of the training room."""

from __future__ import annotations

import multiprocessing
import os
import socket
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp

from cg_data.records import Annotation, Event, Finding, Label, Message, Sample, Segment, content_id
from cg_data.vocabulary import CHANNELS, Eyes, LabelKind, SampleKind, SampleSource, Split, Stage, Waveform

KINDS = (SampleKind.CAPTION, SampleKind.BINARY, SampleKind.OPEN)
SEGMENTS = 12


def make_sample(number: int, kind: SampleKind, split: Split = Split.TRAIN) -> Sample:
    """A sample whose answer can be seen: one channel carries a large sine, and the text names it."""
    channel = CHANNELS[number % len(CHANNELS)]
    eeg = np.zeros((19, 2000), dtype=np.int16)
    eeg[number % len(CHANNELS)] = np.round(400 * np.sin(np.arange(2000) * 0.05 * (1 + number % 3))).astype(np.int16)
    question = {SampleKind.CAPTION: "Describe the page.", SampleKind.BINARY: f"Is {channel} flat?", SampleKind.OPEN: "Which channel?"}[kind]
    answer = {SampleKind.CAPTION: f"A rhythm at {channel}.", SampleKind.BINARY: "No", SampleKind.OPEN: channel}[kind]
    return Sample(
        sample_id=content_id("test", number, kind),
        segment_id=f"segment-{number}",
        recording_id="recording",
        corpus="synthetic",
        subject=f"subject-{number % 4}",
        split=split,
        kind=kind,
        topic="test",
        messages=(Message(role="user", content=question), Message(role="assistant", content=answer)),
        options=(),
        answer_index=-1,
        source=SampleSource.RULE,
        prompt_version="1",
        detector_version="1",
        mask=np.ones(19, dtype=np.bool_),
        eeg_steps=eeg,
    )


def make_segment(number: int, split: Split) -> Segment:
    """A segment with one spindle-like burst and its label."""
    channel, onset_s = number % len(CHANNELS), 1.0 + number % 7
    eeg = np.zeros((19, 2000), dtype=np.int16)
    start = int(onset_s * 200)
    eeg[channel, start : start + 200] = np.round(500 * np.sin(2 * np.pi * 13 * np.arange(200) / 200)).astype(np.int16)
    return Segment(
        segment_id=content_id("segment", number),
        recording_id="recording",
        sha256="0" * 64,
        corpus="synthetic",
        subject=f"subject-{number % 4}",
        split=split,
        start_s=0.0,
        montage="average",
        sfreq_recorded_hz=200.0,
        filter_version="1",
        flags=(),
        mask=np.ones(19, dtype=np.bool_),
        eeg_steps=eeg,
        labels=(Label(kind=LabelKind.WAVEFORM, name=Waveform.SLEEP_SPINDLE, onset_s=onset_s, duration_s=1.0, channel=CHANNELS[channel]),),
    )


def annotation(*, events: tuple[Event, ...] = (), findings: tuple[Finding, ...] = (), segment_id: str = "segment-0") -> Annotation:
    return Annotation(
        segment_id=segment_id,
        recording_id="recording",
        corpus="synthetic",
        subject="subject-0",
        split=Split.TRAIN,
        start_s=0.0,
        events=events,
        removed=(),
        background=(),
        posterior=None,
        dipoles=(),
        findings=findings,
        stage=Stage.UNKNOWN,
        eyes=Eyes.UNKNOWN,
        seizure=False,
        detector_version="1",
        analyser_version="1",
    )


class SmallModel(torch.nn.Module):
    """Next-token prediction with the calling convention of a Hugging Face model: two "modules", one of which can be frozen."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.vision = torch.nn.Embedding(32, 16)
        self.language = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 32))
        self.unused = torch.nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor) -> types.SimpleNamespace:
        logits = self.language(self.vision(input_ids))[:, :-1]
        total = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
        return types.SimpleNamespace(loss=total / num_items_in_batch)


def small_batch(rows: range) -> Mapping[str, torch.Tensor]:
    """One micro-batch; rows differ in how many of their tokens carry a loss."""
    ids = torch.stack([torch.arange(row, row + 9) % 32 for row in rows])
    labels = ids.clone()
    for place, row in enumerate(rows):
        labels[place, : 1 + row % 6] = -100
    return {"input_ids": ids, "labels": labels}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_group(worker: Callable[..., None], *args: Any, workers: int = 2) -> None:
    """Run ``worker(rank, port, *args)`` in as many processes at once."""
    multiprocessing.set_forkserver_preload(["tests.cg_train.preloaded"])
    mp.start_processes(worker, args=(free_port(), *args), nprocs=workers, start_method="forkserver")


def join_group(port: int, rank: int, workers: int) -> None:
    """Make this process worker `rank` of a gloo group on this machine."""
    names = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": workers}
    os.environ |= {name: str(value) for name, value in names.items()}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=workers)
