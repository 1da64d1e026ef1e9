"""A trained detector in use: signals in, events out. Folders hold ``detector.json`` (`DetectorSpec`) and ``weights.safetensors``."""

from __future__ import annotations

import hashlib
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from cg_data import storage
from cg_data.detect.boxes import Marks, keep_marks
from cg_data.detect.network import build_network
from cg_data.detect.spec import DetectorSpec
from cg_data.errors import StorageError
from cg_data.records import Event, content_id
from cg_data.vocabulary import CHANNELS, WAVEFORMS, EventSource

_PAGES_AT_ONCE = 16


class Detector:
    """Finds the nine waveforms on segments. Equal input gives equal events on the CPU.

    Events carry the marking convention of the training labels: spikes and sharp waves are at least `spec.min_box_s` wide.
    """

    def __init__(self, network: torch.nn.Module, spec: DetectorSpec, device: str = "cpu") -> None:
        """`network` is of `build_network`, with its weights; it is fused in place for evaluation."""
        self.spec = spec
        self._device = device
        folded: Any = network.to(device).eval()
        folded.fuse()
        self._network = folded

    @classmethod
    def load(cls, folder_uri: str, device: str = "cpu") -> Self:
        """The detector that `save_detector` wrote.

        Raises:
            StorageError: a file is missing, or the weights are not those that the description names.
        """
        spec = DetectorSpec.model_validate(storage.read_json(storage.join(folder_uri, "detector.json")))
        weights = storage.read_bytes(storage.join(folder_uri, "weights.safetensors"))
        if hashlib.sha256(weights).hexdigest() != spec.weights_sha256:
            raise StorageError(f"{folder_uri}: weights.safetensors is not the file that detector.json describes. Train the detector again.")
        network = build_network(spec.network)
        network.load_state_dict(safetensors.torch.load(weights))
        return cls(network, spec, device)

    @property
    def version(self) -> str:
        return self.spec.version

    def detect(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]:
        """Events of each segment at or above the working threshold of their waveform, in order of onset; none on a masked channel.

        Args:
            eeg_uv: `(n, 19, 2000)` microvolts.
            mask: `(n, 19)`, True where the electrode exists.
        """
        found = self.propose(eeg_uv, mask)
        return [tuple(e for e in events if e.score >= self.spec.threshold(e.waveform)) for events in found]

    def propose(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]:
        """As `detect`, but every event at or above `spec.score_floor`: for metrics and for choosing thresholds."""
        found: list[tuple[Event, ...]] = []
        for start in range(0, len(eeg_uv), _PAGES_AT_ONCE):
            chunk = slice(start, start + _PAGES_AT_ONCE)
            found += self._propose(eeg_uv[chunk], mask[chunk])
        return found

    @torch.inference_mode()
    def _propose(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]:
        outputs = self._network(*self._network.prepare(eeg_uv, mask, self._device))
        found: list[tuple[Event, ...]] = []
        for eeg, exists, (marks, scores) in zip(eeg_uv, mask, self._network.decode(outputs, self.spec.score_floor), strict=True):
            kept = keep_marks(marks, scores, exists, self.spec.nms_iou)
            found.append(self._events(eeg, marks[kept], scores[kept]))
        return found

    def _events(self, eeg_uv: npt.NDArray[np.float32], marks: Marks, scores: npt.NDArray[np.float32]) -> tuple[Event, ...]:
        page_id = hashlib.sha256(np.ascontiguousarray(eeg_uv).tobytes()).hexdigest()
        events = [self._event(page_id, mark, float(score)) for mark, score in zip(marks.tolist(), scores, strict=True)]
        return tuple(sorted(events, key=lambda e: (e.onset_s, CHANNELS.index(e.channel), e.waveform, e.event_id)))

    def _event(self, page_id: str, mark: list[float], score: float) -> Event:
        waveform, channel = WAVEFORMS[int(mark[0])], CHANNELS[int(mark[1])]
        onset_s, duration_s = round(mark[2], 3), round(mark[3] - mark[2], 3)
        return Event(
            event_id=content_id(self.version, page_id, waveform, channel, onset_s, duration_s),
            waveform=waveform,
            channel=channel,
            onset_s=onset_s,
            duration_s=duration_s,
            score=round(score, 4),
            probability=round(self.spec.probability(waveform, score), 4),
            source=EventSource.DETECTOR,
        )


def save_detector(network: torch.nn.Module, spec: DetectorSpec, folder_uri: str) -> DetectorSpec:
    """Write ``weights.safetensors``, then ``detector.json``; gives back `spec` with the weights' hash. `network` is unfused."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = safetensors.torch.save(state)
    named = spec.model_copy(update={"weights_sha256": hashlib.sha256(weights).hexdigest()})
    storage.write_bytes(storage.join(folder_uri, "weights.safetensors"), weights)
    storage.write_json(storage.join(folder_uri, "detector.json"), named.model_dump(mode="json"))
    return named
