"""The pages of ``golden/*.png``; ``python -m tests.cg_data.golden_pages`` draws them anew, which only a wanted change of pixels may do.

``golden/eyes_closed.npz`` holds ten seconds of the EEG Motor Movement/Imagery Dataset (Schalk et al. 2004, PhysioNet, ODC-By 1.0): run 2 of
subject 1, as int16 steps of 0.1 uV against the average reference.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from cg_data.page import render
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNELS, N_CHANNELS, SEGMENT_SAMPLES, Montage

FOLDER = Path(__file__).parent / "golden"
TOKENS = PageSettings()
DETECTOR = PageSettings(pixels_per_row=16, pixels_per_second=128, subcolumns=2, multiple_of=32)
TINY = PageSettings(pixels_per_row=7, pixels_per_second=28)
ALL = np.ones(N_CHANNELS, dtype=np.bool_)

Drawn = tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], PageSettings]


def waves(seed: int = 0) -> npt.NDArray[np.float32]:
    """Random but platform-independent signals: sums of sines in whole microvolts."""
    rng = np.random.default_rng(seed)
    t = np.arange(SEGMENT_SAMPLES) / 200
    parts = [
        rng.uniform(5, 40, (N_CHANNELS, 1)) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6, (N_CHANNELS, 1))) for f in (0.7, 3.1, 9.6, 22.0)
    ]
    return np.round(np.sum(parts, axis=0)).astype(np.float32)


def eyes_closed() -> npt.NDArray[np.float32]:
    """A real page with a posterior alpha rhythm, `(19, 2000)` microvolts."""
    with np.load(FOLDER / "eyes_closed.npz") as file:
        return file["eeg_steps"].astype(np.float32) * np.float32(0.1)


def golden_pages() -> dict[str, Drawn]:
    """Signal, mask and geometry of each picture."""
    without_two = np.array([name not in ("T3", "Cz") for name in CHANNELS])
    chains = PageSettings(pixels_per_row=14, pixels_per_second=56, montage=Montage.LONGITUDINAL_BIPOLAR)
    return {
        "eyes_closed_tokens": (eyes_closed(), ALL, TOKENS),
        "eyes_closed_detector": (eyes_closed(), ALL, DETECTOR),
        "eyes_closed_tiny": (eyes_closed(), ALL, TINY),
        "eyes_closed_chains_without_two": (eyes_closed(), without_two, chains),
        "beyond_the_rows": (eyes_closed() * 3, ALL, TINY.model_copy(update={"pixels_per_second": 56})),
    }


def golden(name: str) -> npt.NDArray[np.uint8]:
    """The committed picture, uint8 `(height, width)`."""
    return np.asarray(Image.open(FOLDER / f"{name}.png"))


def main() -> None:
    for name, (eeg_uv, mask, page) in golden_pages().items():
        Image.fromarray(render(eeg_uv, mask, page)).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
