"""A trained detector in use: signals in, events out. Folders hold ``detector.json`` (`DetectorSpec`), ``weights.safetensors`` and, where
ONNX Runtime is the faster on a CPU, ``weights.onnx``."""

from __future__ import annotations

import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from pydantic import ValidationError

from cg_data import storage
from cg_data.detect.backends import CUDA_PAGES, OnnxBackend, exported, torch_backend
from cg_data.detect.boxes import Marks, keep_marks, least_of_rivals
from cg_data.detect.network import build_network
from cg_data.detect.signals import Mask, Signals, checked, seen, silences, sounding
from cg_data.detect.spec import DetectorSpec, PageNetworkSettings
from cg_data.errors import StorageError
from cg_data.records import Event, content_id
from cg_data.vocabulary import CHANNELS, WAVEFORMS, EventSource

_ROUNDED = 1e-4
"""Scores of events have four decimals."""
_PAGES_AT_ONCE = {"cpu": 16, "cuda": CUDA_PAGES}


class Detector:
    """Finds the nine waveforms on segments. Equal input gives equal events on the CPU.

    Events carry the marking convention of the training labels: spikes and sharp waves are at least `spec.min_box_s` wide.
    """

    def __init__(self, network: torch.nn.Module, spec: DetectorSpec, device: str = "cpu", onnx: OnnxBackend | None = None) -> None:
        """`network` is of `build_network`, with its weights; it is fused in place for evaluation. `onnx` runs in its stead on the CPU."""
        self.spec = spec
        self._device = device
        folded: Any = network.to(device).eval()
        folded.fuse()
        self._network = folded
        self._backend = onnx or torch_backend(folded, device)
        self._in_threads = onnx is not None  # torch spreads one batch over its threads, an `OnnxBackend` takes a batch from each

    @classmethod
    def load(cls, folder_uri: str, device: str = "cpu") -> Self:
        """The detector that `save_detector` wrote.

        Raises:
            StorageError: a file is missing, is not the one that the description names, or is of another version of this project.
            ConfigError: the Ultralytics or the ONNX Runtime that is installed cannot build or run the network.
        """
        spec = read_spec(folder_uri)
        network = build_network(spec.network)
        weights = safetensors.torch.load(_read(folder_uri, "weights.safetensors", spec.weights_sha256))
        if {name: tensor.shape for name, tensor in weights.items()} != {n: t.shape for n, t in network.state_dict().items()}:
            raise StorageError(f"{folder_uri}: these weights are of another version's network. Train the detector again.")
        network.load_state_dict(weights)
        if device != "cpu" or not spec.onnx_sha256:
            return cls(network, spec, device)
        return cls(network, spec, device, OnnxBackend(_read(folder_uri, "weights.onnx", spec.onnx_sha256)))

    @property
    def version(self) -> str:
        return self.spec.version

    def detect(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]:
        """Events of each segment at or above the working threshold of their waveform, in order of onset.

        There are none on a masked channel, nor where `cg_data.detect.signals.silences` finds no signal. What is on masked channels does
        not matter.

        Args:
            eeg_uv: `(n, 19, 2000)` microvolts.
            mask: `(n, 19)`, True where the electrode exists.

        Raises:
            SignalError: other shapes, another unit, or a value that is not finite on a channel that exists.
        """
        working = {waveform: self.spec.threshold(waveform) for waveform in WAVEFORMS}
        # Weaker candidates, of a waveform and of what excludes it, neither come out nor decide what does.
        found = self._found(eeg_uv, mask, least_of_rivals(np.array([*working.values()])) - _ROUNDED)
        return [tuple(e for e in events if e.score >= working[e.waveform]) for events in found]

    def propose(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]:
        """As `detect`, but every event at or above `spec.score_floor`: for metrics and for choosing thresholds."""
        return self._found(eeg_uv, mask, np.full(len(WAVEFORMS), self.spec.score_floor))

    def _found(self, eeg_uv: Signals, mask: Mask, least: npt.NDArray[np.float64]) -> list[tuple[Event, ...]]:
        """Events among the candidates whose score is at least that of their waveform in `least` `(9,)`.

        The network sees some pages at a time, so that memory does not grow with their number, on as many threads as torch is set to use.
        """
        signals, exists = checked(eeg_uv, mask)
        threads = torch.get_num_threads() if self._in_threads else 1
        size = min(_PAGES_AT_ONCE[torch.device(self._device).type], math.ceil(len(signals) / threads)) or 1
        starts = range(0, len(signals), size)
        chunks = [(signals[start : start + size], exists[start : start + size]) for start in starts]
        if min(threads, len(chunks)) <= 1:
            return [events for eeg, there in chunks for events in self._found_at_once(eeg, there, least)]
        with ThreadPoolExecutor(threads) as pool:
            found = pool.map(lambda chunk: self._found_at_once(chunk[0], chunk[1], least), chunks)
            return [events for events_of_chunk in found for events in events_of_chunk]

    @torch.inference_mode()
    def _found_at_once(self, eeg_uv: Signals, mask: Mask, least: npt.NDArray[np.float64]) -> list[tuple[Event, ...]]:
        silent = [silences(eeg, exists) for eeg, exists in zip(eeg_uv, mask, strict=True)]
        shown = np.stack([seen(exists, gaps) for exists, gaps in zip(mask, silent, strict=True)])
        outputs = self._backend(*self._network.prepare(eeg_uv, shown, self._device))
        found: list[tuple[Event, ...]] = []
        decoded = self._network.decode(outputs, max(float(least.min()), self.spec.score_floor))
        for eeg, exists, gaps, (marks, scores) in zip(eeg_uv, shown, silent, decoded, strict=True):
            strong = scores >= least[marks[:, 0].astype(np.int64)]
            marks, scores = marks[strong], scores[strong]
            kept = keep_marks(marks, scores, exists, self.spec.nms_iou)
            kept = kept[sounding(marks[kept], gaps)] if gaps else kept
            found.append(self._events(eeg, marks[kept], scores[kept]))
        return found

    def _events(self, eeg_uv: npt.NDArray[np.float32], marks: Marks, scores: npt.NDArray[np.float32]) -> tuple[Event, ...]:
        page_id = hashlib.sha256(np.ascontiguousarray(eeg_uv).tobytes()).hexdigest()
        sure = self.spec.probabilities(marks[:, 0].astype(np.int64), scores.astype(np.float64)).tolist()
        rows = zip(marks.tolist(), scores.tolist(), sure, strict=True)
        events = [self._event(page_id, mark, score, probability) for mark, score, probability in rows]
        return tuple(sorted(events, key=lambda e: (e.onset_s, CHANNELS.index(e.channel), e.waveform, e.event_id)))

    def _event(self, page_id: str, mark: list[float], score: float, probability: float) -> Event:
        waveform, channel = WAVEFORMS[int(mark[0])], CHANNELS[int(mark[1])]
        onset_s, duration_s = round(mark[2], 3), round(mark[3] - mark[2], 3)
        return Event(
            event_id=content_id(self.version, page_id, waveform, channel, onset_s, duration_s),
            waveform=waveform,
            channel=channel,
            onset_s=onset_s,
            duration_s=duration_s,
            score=round(score, 4),
            probability=round(probability, 4),
            source=EventSource.DETECTOR,
        )


def read_spec(folder_uri: str) -> DetectorSpec:
    """The content of ``detector.json``.

    Raises:
        StorageError: the file is missing, damaged, or of another version of this project.
    """
    content = storage.read_bytes(storage.join(folder_uri, "detector.json"))
    try:
        return DetectorSpec.model_validate_json(content)
    except ValidationError as error:
        raise StorageError(
            f"{folder_uri}: detector.json is damaged or not of this version ({error.errors()[0]['msg']}). Train the detector again."
        ) from error


def save_detector(network: torch.nn.Module, spec: DetectorSpec, folder_uri: str) -> DetectorSpec:
    """Write ``weights.safetensors`` and for networks on pages ``weights.onnx``, then ``detector.json``; gives back `spec` with the hashes.

    `network` is unfused and stays so.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = safetensors.torch.save(state)
    hashes = {"weights_sha256": hashlib.sha256(weights).hexdigest(), "onnx_sha256": ""}
    storage.write_bytes(storage.join(folder_uri, "weights.safetensors"), weights)
    if isinstance(spec.network, PageNetworkSettings):
        model = exported(network)
        hashes["onnx_sha256"] = hashlib.sha256(model).hexdigest()
        storage.write_bytes(storage.join(folder_uri, "weights.onnx"), model)
    named = spec.model_copy(update=hashes)
    storage.write_json(storage.join(folder_uri, "detector.json"), named.model_dump(mode="json"))
    return named


def _read(folder_uri: str, name: str, sha256: str) -> bytes:
    content = storage.read_bytes(storage.join(folder_uri, name))
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StorageError(f"{folder_uri}: {name} is not the file that detector.json describes. Train the detector again.")
    return content
