"""What every detector's network is, whatever it looks at, and how one is built from its settings."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from cg_data.detect.boxes import Marks
from cg_data.detect.spec import NetworkSettings, SignalNetworkSettings

Candidates = tuple[Marks, npt.NDArray[np.float32]]
"""Marks `(k, 4)` (row -1 where a box lies on no row) and scores `(k,)` of one page, before any suppression."""


class WaveformNetwork(Protocol):
    """A torch module between signals and candidates. What it computes lies between `prepare` and `decode`, tensors in and tensors out, so
    that it can be compiled or exported by itself."""

    def prepare(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], device: torch.device | str) -> tuple[torch.Tensor, ...]:
        """Inputs of the module on `device` for signals `(n, 19, 2000)` and masks `(n, 19)`."""

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the module makes of its inputs in evaluation."""

    def decode(self, outputs: tuple[torch.Tensor, ...], score_floor: float) -> list[Candidates]:
        """Candidates of each page with a score of at least `score_floor`."""

    def fuse(self) -> None:
        """Fold what training alone needs into the weights, in place."""


def build_network(settings: NetworkSettings) -> torch.nn.Module:
    """An untrained network (`WaveformNetwork`); its weights come from torch's global generator, so seed that for a repeatable start.

    Raises:
        ConfigError: see `PageNetwork`.
    """
    if isinstance(settings, SignalNetworkSettings):
        from cg_data.detect.signal_network import SignalNetwork

        return SignalNetwork(settings)
    from cg_data.detect.page_network import PageNetwork

    return PageNetwork(settings)
