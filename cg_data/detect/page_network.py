"""The paper's way: an Ultralytics detection model built from its YAML for pages of one grey channel and nine classes.

Ultralytics reads its environment when it is first imported; `quieten_ultralytics` must come before. It then makes no network look-up,
installs nothing and keeps its settings file in a folder of this process that goes with it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from cg_data.detect.boxes import marks_of_boxes
from cg_data.detect.network import Candidates
from cg_data.detect.spec import PageNetworkSettings
from cg_data.errors import ConfigError
from cg_data.page import page_shape
from cg_data.page_torch import draw_pages
from cg_data.settings import PageSettings
from cg_data.vocabulary import WAVEFORMS


def quieten_ultralytics() -> None:
    """Set the environment that keeps Ultralytics off the network and out of the user's home. Call before the first import of it."""
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="cg-ultralytics-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["YOLO_CONFIG_DIR"] = folder


class PageNetwork(torch.nn.Module):
    """Pages in, boxes out. `yolo` is the Ultralytics model, which keeps its own way of training.

    Raises:
        ConfigError: no detection model of that name, or not in that size, is installed, the page's sides do not fit its coarsest grid, or
            its rows are derived ones.
    """

    def __init__(self, settings: PageNetworkSettings) -> None:
        super().__init__()
        quieten_ultralytics()
        from ultralytics.nn.tasks import DetectionModel

        self.page = settings.page
        network = DetectionModel(_architecture(settings), ch=1, nc=len(WAVEFORMS), verbose=False)
        _check_page(settings.page, int(max(network.model[-1].stride)))
        self.yolo = network.to(memory_format=torch.channels_last)  # the order that CPU kernels prefer

    @property
    def strides(self) -> list[int]:
        """Pixels of a cell of each grid of the head."""
        return [int(stride) for stride in self.yolo.model[-1].stride]

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of the page in pixels."""
        return page_shape(self.page)

    def raw(self, pages: torch.Tensor) -> Any:
        """What Ultralytics' losses take."""
        return self.yolo(network_input(pages))

    def forward(self, pages: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pages, uint8 `(n, height, width)`, to `(n, 4 + classes, anchors)` with centre, width and height in pixels and scores, or, from an
        end-to-end head, `(n, k, 6)` with corners, score and class."""
        return (self.yolo(network_input(pages))[0],)

    def prepare(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], device: torch.device | str) -> tuple[torch.Tensor, ...]:
        """See `WaveformNetwork`."""
        return (draw_pages(eeg_uv, mask, self.page, device),)

    def decode(self, outputs: tuple[torch.Tensor, ...], score_floor: float) -> list[Candidates]:
        """See `WaveformNetwork`."""
        boxes = predictions_of(outputs[0], score_floor)
        return [(marks_of_boxes(corners, classes, self.page), scores) for corners, classes, scores in boxes]

    def fuse(self) -> None:
        """Fold batch normalisation into the convolutions, and fix the head's grid to the page."""
        self.yolo.fuse(verbose=False)
        _fix_grid(self.yolo.model[-1], self.sides)


def _fix_grid(head: Any, sides: tuple[int, int]) -> None:
    """Let a head place its boxes in float32 whatever precision it computes in, on a grid that it does not lay out anew for each size of
    batch: in float16 the pixels from 1024 on are whole ones, of 8 ms."""
    from ultralytics.nn.modules import Detect
    from ultralytics.utils.tal import make_anchors

    class FixedGrid(Detect):
        def _get_decode_boxes(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.decode_bboxes(self.dfl(x["boxes"]).float(), self.anchors[None]) * self.strides

    grids = [torch.empty(1, 1, *(side // int(stride) for side in sides), device=head.stride.device) for stride in head.stride]
    head.anchors, head.strides = (tensor.T.contiguous() for tensor in make_anchors(grids, head.stride, 0.5))
    head.__class__ = FixedGrid


def _check_page(page: PageSettings, stride: int) -> None:
    if page.montage is not None:
        raise ConfigError(f"train.detector.network.page.montage: detectors read the nineteen stored rows, not {page.montage}. Take it out.")
    if any(side % stride for side in page_shape(page)):
        raise ConfigError(
            f"train.detector.network.page.multiple_of: this network needs sides in multiples of {stride} pixels, not {page.multiple_of}."
        )


def _architecture(settings: PageNetworkSettings) -> dict[str, Any]:
    """The model's YAML with its one size, named "n" because Ultralytics tests size letters."""
    import ultralytics

    name = settings.architecture
    known = (Path(ultralytics.__file__).parent / "cfg" / "models").rglob("*.yaml")
    found = sorted(path for path in known if path.stem == name)
    config: dict[str, Any] = yaml.safe_load(found[0].read_text()) if found else {}
    if not config or config["head"][-1][2] != "Detect":
        raise ConfigError(f"train.detector.network.architecture: {name!r} is no Ultralytics detection model. Use yolov8, yolo11 or yolo26.")
    sizes = config.get("scales", {})
    if settings.size and settings.size not in sizes:
        raise ConfigError(f"train.detector.network.size: {name} has no size {settings.size!r}. Give depth_multiple and width_multiple.")
    own = [settings.depth_multiple, settings.width_multiple, settings.max_channels]
    scale = sizes[settings.size] if settings.size else own
    bins = {} if settings.distance_bins is None else {"reg_max": settings.distance_bins}
    return config | {"scales": {"n": scale}, "scale": "n"} | bins


def network_input(pages: torch.Tensor) -> torch.Tensor:
    """Pages, uint8 `(n, height, width)`, as float32 `(n, 1, height, width)`: ink is 1 and paper 0, as is the padding of convolutions."""
    return 1.0 - pages[:, None].float() / 255.0


_Boxes = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]


def predictions_of(output: torch.Tensor, score_floor: float) -> list[_Boxes]:
    """Boxes `(k, 4)` in pixels (left, top, right, bottom), classes `(k,)` and scores `(k,)` of each page, before any suppression.

    `output` is that of `PageNetwork.forward`.
    """
    if output.shape[1] != 4 + len(WAVEFORMS):
        page, place = torch.nonzero(output[:, :, 4] >= score_floor, as_tuple=True)
        found = output[page, place].float().cpu()
        corners, scores, classes = found[:, :4], found[:, 4], found[:, 5].long()
    else:
        page, kind, anchor = torch.nonzero(output[:, 4:] >= score_floor, as_tuple=True)
        found = output[page, :4, anchor].float().cpu()
        centre, half = found[:, :2], found[:, 2:] / 2
        corners = torch.cat([centre - half, centre + half], dim=1)
        scores, classes = output[page, 4 + kind, anchor].float().cpu(), kind.cpu()
    counts = torch.bincount(page, minlength=len(output)).tolist()
    parts = zip(*(torch.split(tensor, counts) for tensor in (corners, classes, scores)), strict=True)
    return [(box.numpy(), which.numpy(), sure.numpy()) for box, which, sure in parts]
