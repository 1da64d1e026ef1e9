"""What a detector is, beside its weights: the content of ``detector.json``."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cg_data.detect.calibration import Calibration
from cg_data.settings import PageSettings, Settings
from cg_data.vocabulary import WAVEFORMS, Waveform


class SignalNetworkSettings(Settings):
    """A one-dimensional YOLO on the signal (`cg_data.detect.signal_network`)."""

    kind: Literal["signal"] = "signal"
    width: int = Field(default=24, ge=8, multiple_of=8, description="features of an electrode at 20 ms; 3/2 of it at 40, twice at 80")
    depth: int = Field(default=2, ge=1, description="convolutions at each scale")


class PageNetworkSettings(Settings):
    """An Ultralytics detection model on a grey page (`cg_data.detect.page_network`). Give a `size`, or multiples of your own."""

    kind: Literal["page"] = "page"
    architecture: str = Field(
        default="yolov8", description="Ultralytics model YAML without size letter: yolov8, yolo11, yolo26, or with finer heads yolo26-p2"
    )
    size: Literal["n", "s", "m", "l", "x"] | None = Field(default=None, description="Ultralytics' size; then the multiples are unused")
    depth_multiple: float = Field(default=0.33, gt=0)
    width_multiple: float = Field(default=0.125, gt=0)
    max_channels: int = Field(default=1024, gt=0)
    distance_bins: int | None = Field(
        default=None, ge=1, description="bins per side of a box (reg_max of Ultralytics), 1 for the distance itself; none: as in the YAML"
    )
    page: PageSettings = PageSettings(pixels_per_row=16, pixels_per_second=128, microvolts_per_row=100.0, subcolumns=2, multiple_of=32)


NetworkSettings = Annotated[SignalNetworkSettings | PageNetworkSettings, Field(discriminator="kind")]


class DetectorSpec(Settings):
    """Network and working point of a trained detector.

    `calibrations` give the probability that an event of a score is right, `thresholds` the working score of each waveform; a waveform
    that is absent has its score for a probability and works at `score_floor`. `weights_sha256` ties the file of weights to this, and
    `onnx_sha256` the network as a CPU runs it best, where that is another file.
    """

    network: NetworkSettings
    min_box_s: float = Field(ge=0, description="spikes and sharp waves are marked at least this wide")
    nms_iou: float = Field(gt=0, lt=1, description="temporal overlap above which the weaker of two events of a class and row goes")
    score_floor: float = Field(gt=0, lt=1)
    calibrations: dict[Waveform, Calibration] = Field(default_factory=dict)
    thresholds: dict[Waveform, float] = Field(default_factory=dict)
    weights_sha256: str = ""
    onnx_sha256: str = ""

    @property
    def version(self) -> str:
        """First twelve digits of the weights' hash: the name of this detector in every product."""
        return self.weights_sha256[:12]

    def probabilities(self, classes: npt.NDArray[np.int64], scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """That events of `classes` (indices of `WAVEFORMS`) and `scores`, `(k,)` each, are right."""
        sure = scores.copy()
        for index in np.unique(classes):
            calibration = self.calibrations.get(WAVEFORMS[index])
            if calibration is not None:
                sure[classes == index] = calibration.apply(scores[classes == index])
        return sure

    def threshold(self, waveform: Waveform) -> float:
        return max(self.thresholds.get(waveform, self.score_floor), self.score_floor)
