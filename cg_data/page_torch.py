"""The rasteriser of `cg_data.page` in torch, for CUDA; `draw_pages` chooses between the two by the device.

The same steps in the same precision: heights in float64, one operation after the other, and ink in integers, whose sum does not depend on
the order of additions. So the pages are those of `cg_data.page` to the byte.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import torch

from cg_data.page import STEPS, centres_px, page_shape, pen_slices, pixels_per_microvolt, render_batch, rows_height_px, rows_to_draw
from cg_data.settings import PageSettings
from cg_data.vocabulary import SEGMENT_S

_PAGES_AT_ONCE = 32
"""About 0.5 GB of heights and counters at 1120 x 532 with four sub-columns."""


def draw_pages(
    eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], page: PageSettings, device: torch.device | str
) -> torch.Tensor:
    """Pages as uint8 `(n, height, width)` on `device`, ready for a network: numba draws for the CPU, torch on any other device.

    Args:
        eeg_uv: `(n, 19, 2000)` microvolts at 200 Hz.
        mask: `(n, 19)`, True where the electrode exists.
        page: geometry of the page.
        device: where the pages are drawn and stay.

    Raises:
        ValueError: wrong shapes, or a value that is not finite on a channel that exists.
        MontageError: as `cg_data.page.rows_to_draw`.
    """
    if torch.device(device).type == "cpu":
        return torch.from_numpy(render_batch(eeg_uv, mask, page))
    return rasterise(eeg_uv, mask, page, device)


def rasterise(eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], page: PageSettings, device: torch.device | str) -> torch.Tensor:
    """As `draw_pages`, always with torch."""
    rows_uv, drawn = rows_to_draw(eeg_uv, mask, page)
    pages = torch.full((len(rows_uv), *page_shape(page)), 255, dtype=torch.uint8, device=device)
    for start in range(0, len(rows_uv), _PAGES_AT_ONCE):
        part = slice(start, start + _PAGES_AT_ONCE)
        _draw(torch.from_numpy(rows_uv[part]).to(device), torch.from_numpy(drawn[part]).to(device), page, pages[part])
    return pages


def _draw(rows_uv: torch.Tensor, drawn: torch.Tensor, page: PageSettings, pages: torch.Tensor) -> None:
    """Ink `(n, rows, 2000)` microvolts into white `pages`."""
    height, width = rows_height_px(page), SEGMENT_S * page.pixels_per_second
    there = drawn[..., None]
    centres = torch.from_numpy(centres_px(page)).to(rows_uv.device)
    curves = torch.where(there, centres + rows_uv.double() * pixels_per_microvolt(page), 0.0)
    top, bottom = _intervals(curves, page)
    differences = torch.zeros((len(pages), (height + 2) * width), dtype=torch.int32, device=pages.device)
    # What lies beyond the rows as a whole begins and ends at the same height: it adds nothing.
    for y, sign in ((top - 0.5 * page.pen_pixels, 1), (bottom + 0.5 * page.pen_pixels, -1)):
        _add_ends(y.clamp(0, height), there, sign, page, differences)
    coverage = differences.view(len(pages), height + 2, width)[:, :height].cumsum(1, dtype=torch.int32)
    full = STEPS * page.subcolumns
    scale = np.float32(255.0 / full).item()
    pages[:, :height, :width] = (255.5 - coverage.clamp_(max=full).float() * scale).to(torch.uint8)


def _intervals(curves: torch.Tensor, page: PageSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Lowest and highest height of `(n, rows, 2000)` curves under the pen in every sub-column, `(n, rows, columns)`."""
    before, fraction, inside = _pen(page, curves.device)
    edges = [curves[..., at] + part * (curves[..., at + 1] - curves[..., at]) for at, part in zip(before, fraction, strict=True)]
    top, bottom = torch.minimum(*edges), torch.maximum(*edges)
    for sample, counts in inside:
        heights = curves[..., sample]
        top = torch.where(counts, torch.minimum(top, heights), top)
        bottom = torch.where(counts, torch.maximum(bottom, heights), bottom)
    return top, bottom


_Pen = tuple[torch.Tensor, torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]


@functools.lru_cache(maxsize=8)
def _pen(page: PageSettings, device: torch.device) -> _Pen:
    """`pen_slices` edge by edge, and the samples between the edges: the k-th of every sub-column, and where there is one."""
    before, fraction = pen_slices(page)
    left, right = before.T.astype(np.int64)
    inside = [(np.minimum(left + k, right), left + k <= right) for k in range(1, int((right - left).max()) + 1)]
    return (
        torch.from_numpy(np.stack([left, right])).to(device),
        torch.from_numpy(fraction.T.copy()).to(device),
        [(torch.from_numpy(sample).to(device), torch.from_numpy(counts).to(device)) for sample, counts in inside],
    )


def _add_ends(y: torch.Tensor, there: torch.Tensor, sign: int, page: PageSettings, differences: torch.Tensor) -> None:
    """Coverage begins (`sign` 1) or ends (-1) at heights `y` `(n, rows, columns)`, in the rows that are `there`, `(n, rows, 1)`."""
    width = SEGMENT_S * page.pixels_per_second
    position = (y * STEPS + 0.5).int()
    row, below = position // STEPS, position % STEPS
    at = row.long() * width + (torch.arange(width * page.subcolumns, device=y.device) // page.subcolumns)
    for pixel, share in ((at, STEPS - below), (at + width, below)):
        differences.scatter_add_(1, pixel.flatten(1), (sign * share * there).flatten(1))
