"""A one-dimensional YOLO on the signal: nineteen electrodes share convolutions along time, learned weights mix them, heads are anchor-free.

Every electrode is a row of places: one for each 20 ms (`FINE_S`) and one for each 80 ms (`COARSE_S`). Each place says how far before and
after its centre a waveform begins and ends, and how much it looks like each of the nine. The design follows YOLOv8 (Jocher et al. 2023: two
heads on a feature pyramid, no anchors) with one axis left out: rows are electrodes, which have no order, so nothing is convolved across
them. Instead features pass between electrodes by matrices of weights, normalised over the electrodes that exist.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cg_data.detect.network import Candidates
from cg_data.detect.spec import SignalNetworkSettings
from cg_data.montage import AVERAGE_FROM
from cg_data.vocabulary import CHANNELS, N_CHANNELS, POSITIONS_XY, SEGMENT_S, SEGMENT_SAMPLES, WAVEFORMS

FINE_S, COARSE_S = 0.02, 0.08
FINE, COARSE = round(SEGMENT_S / FINE_S), round(SEGMENT_S / COARSE_S)
PLACES_PER_ROW = FINE + COARSE
_SAMPLES = SEGMENT_SAMPLES // FINE
_LINEAR_UV, _LOG_UV = 100.0, 10.0
_LONGEST_LOG = 7.0
_RARE = 0.01


def place_rows() -> torch.Tensor:
    """Row of each place, int64 `(places,)`: the fine places of all rows, then the coarse ones."""
    rows = torch.arange(N_CHANNELS)
    return torch.cat([rows.repeat_interleave(FINE), rows.repeat_interleave(COARSE)])


def place_centres_s() -> torch.Tensor:
    """Centre of each place in seconds, float32 `(places,)`."""
    fine, coarse = (torch.arange(FINE) + 0.5) * FINE_S, (torch.arange(COARSE) + 0.5) * COARSE_S
    return torch.cat([fine.repeat(N_CHANNELS), coarse.repeat(N_CHANNELS)])


class SignalNetwork(nn.Module):
    """Microvolts in, for each place the extent of a waveform and the logits of its class out."""

    def __init__(self, settings: SignalNetworkSettings) -> None:
        super().__init__()
        fine, middle, coarse = settings.width, settings.width * 3 // 2, settings.width * 2
        self.stem = _Convolution(2 * _SAMPLES, fine, 5)
        self.electrode = nn.Parameter(torch.zeros(N_CHANNELS, fine))
        self.fine = nn.Sequential(*[_Residual(fine, 5) for _ in range(settings.depth)])
        self.fine_mix = _Mixing(fine)
        self.down = _Convolution(fine, middle, 4, stride=2)
        self.middle = nn.Sequential(*[_Residual(middle, 5) for _ in range(settings.depth)])
        self.down_again = _Convolution(middle, coarse, 4, stride=2)
        self.coarse = nn.Sequential(*[_Residual(coarse, 5, dilation=2**i) for i in range(settings.depth + 1)])
        self.coarse_mix = _Mixing(coarse)
        self.context = _Residual(coarse, 5, dilation=8)
        self.up = _Convolution(coarse, fine, 1)
        self.merge = nn.Sequential(_Convolution(2 * fine, fine, 1), _Residual(fine, 5))
        self.fine_head, self.coarse_head = _Head(fine, FINE_S), _Head(coarse, COARSE_S)
        self.to(memory_format=torch.channels_last)  # the order that CPU kernels prefer

    def prepare(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], device: torch.device | str) -> tuple[torch.Tensor, ...]:
        """See `WaveformNetwork`."""
        return torch.from_numpy(eeg_uv).to(device), torch.from_numpy(mask).to(device)

    def decode(self, outputs: tuple[torch.Tensor, ...], score_floor: float) -> list[Candidates]:
        """See `WaveformNetwork`."""
        extents, logits = outputs
        page, place, kind = torch.nonzero(logits >= math.log(score_floor / (1 - score_floor)), as_tuple=True)
        scores, extents_s = logits[page, place, kind].float().sigmoid().cpu(), extents[page, place].float().cpu()
        counts = torch.bincount(page, minlength=len(logits)).tolist()
        marks = torch.column_stack([kind.cpu(), place_rows()[place.cpu()], extents_s.clamp(0.0, SEGMENT_S)]).double()
        pages = zip(torch.split(marks, counts), torch.split(scores, counts), strict=True)
        return [(one.numpy(), sure.numpy()) for one, sure in pages]

    def fuse(self) -> None:
        """Fold batch normalisation into the convolutions."""
        for part in self.modules():
            if isinstance(part, _Convolution):
                part.fold()

    def forward(self, eeg_uv: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Extents and logits of every place.

        Args:
            eeg_uv: float32 `(n, 19, 2000)`.
            mask: bool `(n, 19)`, True where the electrode exists.

        Returns:
            float32 `(n, places, 2)`, onset and end in seconds, and float32 `(n, places, 9)`.
        """
        n = eeg_uv.shape[0]
        there = mask.to(eeg_uv.dtype)
        x = self.stem(_views(eeg_uv, there))
        x = x + self.electrode.repeat(n, 1)[:, :, None, None]
        fine = self.fine_mix(self.fine(x), there)
        coarse = self.coarse(self.down_again(self.middle(self.down(fine))))
        coarse = self.context(self.coarse_mix(coarse, there))
        raised = nn.functional.interpolate(self.up(coarse), size=(1, FINE), mode="nearest")
        heads = self.fine_head(self.merge(torch.cat([fine, raised], dim=1)), n), self.coarse_head(coarse, n)
        return torch.cat([h[0] for h in heads], dim=1), torch.cat([h[1] for h in heads], dim=1)


def _views(eeg_uv: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """The signal against the mean of its electrodes, where these are enough, on a linear and a logarithmic scale: the samples of each fine
    place are its features, `(n * 19, 8, 1, 500)`.

    So what the reference electrode picks up changes nothing. Electrodes that do not exist are zero.
    """
    weight = there[..., None]
    count = there.sum(dim=1)[:, None, None]
    mean = (eeg_uv * weight).sum(dim=1, keepdim=True) / count.clamp(min=1.0)
    x = (eeg_uv - mean * (count >= AVERAGE_FROM)) * weight
    views = torch.stack([x / _LINEAR_UV, torch.asinh(x / _LOG_UV)], dim=-1)
    return views.reshape(-1, 1, FINE, 2 * _SAMPLES).permute(0, 3, 1, 2)


class _Convolution(nn.Sequential):
    """Along time, with batch normalisation and SiLU."""

    def __init__(self, inputs: int, outputs: int, width: int, *, stride: int = 1, dilation: int = 1) -> None:
        padding = (dilation * (width - 1) + 1 - stride + 1) // 2
        convolution = nn.Conv2d(inputs, outputs, (1, width), stride=(1, stride), padding=(0, padding), dilation=(1, dilation), bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.SiLU())

    def fold(self) -> None:
        convolution, normalisation = self[0], self[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
            self[0], self[1] = nn.utils.fuse_conv_bn_eval(convolution, normalisation), nn.Identity()


class _Residual(nn.Module):
    def __init__(self, channels: int, width: int, *, dilation: int = 1) -> None:
        super().__init__()
        self.body = _Convolution(channels, channels, width, dilation=dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class _Mixing(nn.Module):
    """Adds to each electrode's features what the others show: a weighted mean over the electrodes that exist, weights learned for each
    group of features and each pair of electrodes, larger between neighbours at the start."""

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        xy = np.array([POSITIONS_XY[name] for name in CHANNELS])
        squared = ((xy[:, None] - xy[None]) ** 2).sum(axis=2)
        near = torch.from_numpy(-squared[None] * np.array([8.0, 2.0, 0.5, 0.0])[:groups, None, None]).float()
        self.weight = nn.Parameter(near - torch.eye(N_CHANNELS) * 2.0)
        self.project = _Convolution(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        n, (_, channels, _, time) = there.shape[0], x.shape
        groups = len(self.weight)
        absent = (1.0 - there)[:, None, None, :] * -1e4
        share = torch.softmax(self.weight[None] + absent, dim=-1)
        features = x.permute(0, 2, 3, 1).reshape(n, N_CHANNELS, time, groups, channels // groups)
        mixed = torch.einsum("ngij,njtgc->nitgc", share, features).reshape(n * N_CHANNELS, 1, time, channels).permute(0, 3, 1, 2)
        return x + self.project(torch.cat([x, mixed], dim=1))


class _Head(nn.Module):
    """Extents and logits of the places of one grid."""

    def __init__(self, channels: int, step_s: float) -> None:
        super().__init__()
        self._step_s = step_s
        self.body = _Convolution(channels, channels, 3)
        self.out = nn.Conv2d(channels, 2 + len(WAVEFORMS), 1)
        nn.init.zeros_(self.out.weight[:2])
        start = torch.full((2 + len(WAVEFORMS),), math.log(_RARE / (1 - _RARE)))
        start[:2] = 1.0
        self.out.bias = nn.Parameter(start)

    def forward(self, x: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.out(self.body(x)).permute(0, 2, 3, 1).reshape(n, N_CHANNELS, -1, 2 + len(WAVEFORMS))
        centres = (torch.arange(out.shape[2], device=out.device) + 0.5) * self._step_s
        reach = torch.exp(out[..., :2].clamp(max=_LONGEST_LOG)) * self._step_s
        extents = torch.stack([centres - reach[..., 0], centres + reach[..., 1]], dim=-1)
        return extents.reshape(n, -1, 2), out[..., 2:].reshape(n, -1, len(WAVEFORMS))
