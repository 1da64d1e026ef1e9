"""The network: an Ultralytics detection model built from its YAML for pages of one grey channel and nine classes.

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

from cg_data.detect.spec import DetectorSpec
from cg_data.errors import ConfigError
from cg_data.page import page_shape
from cg_data.settings import PageSettings
from cg_data.vocabulary import WAVEFORMS


def quieten_ultralytics() -> None:
    """Set the environment that keeps Ultralytics off the network and out of the user's home. Call before the first import of it."""
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="cg-ultralytics-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["YOLO_CONFIG_DIR"] = folder


def build_network(spec: DetectorSpec) -> torch.nn.Module:
    """An untrained network of `spec`; its weights come from torch's global generator, so seed that for a repeatable start.

    In training it maps float32 `(n, 1, height, width)` to raw predictions, in evaluation to `(predictions, raw)`.

    Raises:
        ConfigError: no detection model of that name is installed, the page's sides do not fit its coarsest grid, or its
            rows are derived ones.
    """
    quieten_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    # A single size, named "n" because Ultralytics tests size letters, carries our multiples.
    size = {"scales": {"n": [spec.depth_multiple, spec.width_multiple, spec.max_channels]}, "scale": "n"}
    config = _architecture(spec.architecture) | size | {"reg_max": spec.distance_bins}
    network = DetectionModel(config, ch=1, nc=len(WAVEFORMS), verbose=False)
    _check_page(spec.page, int(max(network.model[-1].stride)))
    return network.to(memory_format=torch.channels_last)  # the order that CPU kernels prefer


def _check_page(page: PageSettings, stride: int) -> None:
    if page.montage is not None:
        raise ConfigError(f"train.detector.page.montage: a detector reads the nineteen stored rows, not {page.montage}. Take it out.")
    if any(side % stride for side in page_shape(page)):
        raise ConfigError(
            f"train.detector.page.multiple_of: this network needs sides in multiples of {stride} pixels, not {page.multiple_of}."
        )


def _architecture(name: str) -> dict[str, Any]:
    import ultralytics

    found = sorted((Path(ultralytics.__file__).parent / "cfg" / "models").rglob(f"{name}.yaml"))
    config: dict[str, Any] = yaml.safe_load(found[0].read_text()) if found else {}
    if not config or config["head"][-1][2] != "Detect":
        raise ConfigError(f"train.detector.architecture: {name!r} is no Ultralytics detection model. Use yolov8, yolo11 or yolo26.")
    return config


def network_input(pages: torch.Tensor) -> torch.Tensor:
    """Pages, uint8 `(n, height, width)`, as float32 `(n, 1, height, width)`: ink is 1 and paper 0, as is the padding of convolutions."""
    return 1.0 - pages[:, None].float() / 255.0


def predictions_of(
    output: torch.Tensor, score_floor: float
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Boxes `(k, 4)` in pixels (left, top, right, bottom), classes `(k,)` and scores `(k,)` of each page, before any suppression.

    `output` is the evaluated network's: `(n, 4 + classes, anchors)` with centre, width and height, or of an end-to-end head `(n, k, 6)`
    with corners, score and class.
    """
    if output.shape[1] != 4 + len(WAVEFORMS):
        pages = [page[page[:, 4] >= score_floor] for page in output.float().cpu()]
        return [(p[:, :4].numpy(), p[:, 5].long().numpy(), p[:, 4].numpy()) for p in pages]
    return [_dense_predictions(page, score_floor) for page in output.float().cpu()]


def _dense_predictions(
    page: torch.Tensor, score_floor: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    classes, anchors = torch.nonzero(page[4:] >= score_floor, as_tuple=True)
    centre, half = page[:2, anchors], page[2:4, anchors] / 2
    corners = torch.cat([centre - half, centre + half]).T.contiguous()
    return corners.numpy(), classes.numpy(), page[4 + classes, anchors].numpy()
