"""What a detector is, beside its weights: the content of ``detector.json``."""

from __future__ import annotations

from pydantic import Field

from cg_data.settings import PageSettings, Settings
from cg_data.vocabulary import Waveform


class DetectorSpec(Settings):
    """Architecture, page and working point of a trained detector.

    `thresholds` holds the working score of each waveform; one that is absent works at `score_floor`. `weights_sha256` ties the file of
    weights to this description.
    """

    architecture: str = Field(description="Ultralytics detection YAML without size letter, for example yolov8, yolo11, yolo26")
    depth_multiple: float = Field(gt=0)
    width_multiple: float = Field(gt=0)
    max_channels: int = Field(gt=0)
    distance_bins: int = Field(ge=1, description="bins per side of a box (reg_max of Ultralytics); 1 gives the distance directly")
    page: PageSettings
    min_box_s: float = Field(ge=0, description="spikes and sharp waves are marked at least this wide")
    nms_iou: float = Field(gt=0, lt=1, description="temporal overlap above which the weaker of two events of a class and row goes")
    score_floor: float = Field(gt=0, lt=1)
    thresholds: dict[Waveform, float] = Field(default_factory=dict)
    weights_sha256: str = ""

    @property
    def version(self) -> str:
        """First twelve digits of the weights' hash: the name of this detector in every product."""
        return self.weights_sha256[:12]

    def threshold(self, waveform: Waveform) -> float:
        return max(self.thresholds.get(waveform, self.score_floor), self.score_floor)
