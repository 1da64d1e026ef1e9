"""The page: ten seconds of traces as black ink on white, the only rasteriser of the project (`cg_data.page_torch` is its twin for CUDA).

Data steps, training, bench and service all draw with it, for a second renderer would be a second input distribution.

* Rows are the nineteen `CHANNELS` from the top down, or those of `page.montage`; the x axis is time; `pixels_per_row` pixels stand for
  `microvolts_per_row`.
* Polarity is the clinical one, **negative up**: positive microvolts deflect downwards (IFCN convention), and of a derivation ("Fp1-F7")
  a more negative first electrode deflects upwards.
* Traces may cross rows, as on paper. Ink that would leave the rows is cut off; nothing is clamped to the edge.
* A masked channel leaves its row empty.

A trace is a piecewise linear curve drawn with a square pen of `pen_pixels`. In each of `subcolumns` slices of a pixel column the pen
covers one vertical interval, from the lowest to the highest point of the curve under the pen, widened by half a pen. Adding the second
difference of the interval's coverage at its two ends, for all traces, and summing once down the columns gives the exact area of ink in
every pixel (Catmull 1978: analytic coverage; the sum over differences is the accumulation buffer of font rasterisers). The additions
are of integers (1/64 pixel), so their order cannot change a picture and equal input gives equal bytes.
"""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt

from cg_data.montage import derive, row_names
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNELS, N_CHANNELS, SEGMENT_S, SEGMENT_SAMPLES, SFREQ_HZ

STEPS = 64
"""Vertical positions per pixel. Twenty-two traces of eight sub-columns sum to 22 * 8 * 64 < 2**15, so int16 holds every sum."""

# numba falls back to a cache in the user's home where it cannot write beside the package; then it rather compiles anew.
_CACHE = bool(os.environ.get("NUMBA_CACHE_DIR")) or os.access(Path(__file__).parent, os.W_OK)


def page_shape(page: PageSettings) -> tuple[int, int]:
    """Height and width of the picture in pixels, both padded with white to multiples of `page.multiple_of`."""
    return _padded(rows_height_px(page), page), _padded(SEGMENT_S * page.pixels_per_second, page)


def page_rows(page: PageSettings) -> tuple[str, ...]:
    """Names of the rows from the top down: the nineteen electrodes, or the derivations of `page.montage`."""
    return CHANNELS if page.montage is None else row_names(page.montage)


def rows_height_px(page: PageSettings) -> int:
    """Height of all rows in pixels, without the padding below."""
    return len(page_rows(page)) * page.pixels_per_row


def row_centre_px(page: PageSettings, row: int) -> float:
    """Height of the baseline of `row` (0 is the top channel) in pixels from the top edge of the picture."""
    return (row + 0.5) * page.pixels_per_row


def render(eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], page: PageSettings) -> npt.NDArray[np.uint8]:
    """Draw one segment.

    Args:
        eeg_uv: `(19, 2000)` microvolts at 200 Hz, rows in the order of `CHANNELS`.
        mask: `(19,)`, True where the electrode exists.
        page: geometry of the page.

    Returns:
        uint8 `(height, width)` of `page_shape`: 255 is paper, 0 is ink.

    Raises:
        ValueError: wrong shapes, or a value that is not finite on a channel that exists.
    """
    return render_batch(eeg_uv[None], mask[None], page)[0]


def render_batch(eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], page: PageSettings) -> npt.NDArray[np.uint8]:
    """Draw `(n, 19, 2000)` microvolts with masks `(n, 19)` as uint8 `(n, height, width)`; page by page the same bytes as `render`."""
    rows_uv, drawn = rows_to_draw(eeg_uv, mask, page)
    pages = np.full((len(rows_uv), *page_shape(page)), 255, dtype=np.uint8)
    heights = (centres_px(page), pixels_per_microvolt(page), rows_height_px(page))
    for page_uv, exists, picture in zip(rows_uv, drawn, pages, strict=True):
        _draw(page_uv, exists, heights, page.pen_pixels, page.subcolumns, pen_slices(page), picture)
    return pages


def rows_to_draw(
    eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], page: PageSettings
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The rows of `page_rows`, `(n, rows, 2000)` microvolts, and which of them exist, `(n, rows)`; arguments and errors as for `render`.

    Raises:
        MontageError: linked ears do not follow from the stored electrodes.
    """
    if eeg_uv.shape[1:] != (N_CHANNELS, SEGMENT_SAMPLES) or mask.shape != eeg_uv.shape[:2]:
        raise ValueError(
            f"a page needs signals (n, {N_CHANNELS}, {SEGMENT_SAMPLES}) and masks (n, {N_CHANNELS}), not {eeg_uv.shape}, {mask.shape}"
        )
    exists = np.ascontiguousarray(mask, dtype=np.bool_)
    if not np.isfinite(eeg_uv[exists]).all():
        raise ValueError("a page cannot show values that are not finite: mask the channel or repair the signal")
    if page.montage is None:
        return np.ascontiguousarray(eeg_uv, dtype=np.float32), exists
    rows_uv = np.empty((len(eeg_uv), len(page_rows(page)), SEGMENT_SAMPLES), dtype=np.float32)
    drawn = np.empty(rows_uv.shape[:2], dtype=np.bool_)
    for i, (eeg, there) in enumerate(zip(eeg_uv, exists, strict=True)):
        rows_uv[i], drawn[i], _ = derive(eeg, there, page.montage)
    return rows_uv, drawn


def pixels_per_microvolt(page: PageSettings) -> float:
    return page.pixels_per_row / page.microvolts_per_row


def centres_px(page: PageSettings) -> npt.NDArray[np.float64]:
    """`row_centre_px` of every row, `(rows, 1)`."""
    return np.array([[row_centre_px(page, row)] for row in range(len(page_rows(page)))])


def _padded(pixels: int, page: PageSettings) -> int:
    return math.ceil(pixels / page.multiple_of) * page.multiple_of


_Slices = tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]


@functools.lru_cache(maxsize=8)
def pen_slices(page: PageSettings) -> _Slices:
    """Where the pen's left and right edge lie in every sub-column: the sample before each, `(columns, 2)`, and the fraction beyond it.

    Sample i was taken at i/200 s; beyond its ends the curve is constant.
    """
    columns = SEGMENT_S * page.pixels_per_second * page.subcolumns
    middle_px = (np.arange(columns) + 0.5) / page.subcolumns
    edges_px = middle_px[:, None] + np.array([-0.5, 0.5]) * page.pen_pixels
    position = np.clip(edges_px * (SFREQ_HZ / page.pixels_per_second), 0.0, SEGMENT_SAMPLES - 1.0)
    before = np.minimum(position.astype(np.int32), SEGMENT_SAMPLES - 2)
    return before, position - before


@numba.njit(cache=_CACHE, nogil=True)
def _draw(rows_uv, mask, heights, pen, subcolumns, slices, picture):  # type: ignore[no-untyped-def]
    """Ink `(rows, 2000)` microvolts into the topmost rows of `picture` (uint8, white), which are `height` pixels high in all."""
    centres, gain, height = heights
    width = len(slices[0]) // subcolumns
    differences = np.zeros((height + 2, width), dtype=np.int16)
    intervals = np.empty((len(slices[0]), 2))
    for row in range(len(mask)):
        if mask[row]:
            _find_intervals(centres[row, 0] + rows_uv[row].astype(np.float64) * gain, 0.5 * pen, slices[0], slices[1], intervals)
            _add_intervals(intervals, height, subcolumns, differences)
    full = STEPS * subcolumns
    scale = np.float32(255.0 / full)
    coverage = np.zeros(width, dtype=np.int16)
    for y in range(height):
        for x in range(width):
            coverage[x] += differences[y, x]
        for x in range(width):
            picture[y, x] = np.uint8(np.int32(np.float32(255.5) - np.float32(min(coverage[x], full)) * scale))


@numba.njit(cache=_CACHE, nogil=True)
def _find_intervals(curve_px, half_pen, before, fraction, intervals):  # type: ignore[no-untyped-def]
    """Upper and lower end of the ink in every sub-column."""
    for column in range(len(before)):
        left, right = before[column, 0], before[column, 1]
        entry = curve_px[left] + fraction[column, 0] * (curve_px[left + 1] - curve_px[left])
        leave = curve_px[right] + fraction[column, 1] * (curve_px[right + 1] - curve_px[right])
        top, bottom = min(entry, leave), max(entry, leave)
        for sample in range(left + 1, right + 1):
            top, bottom = min(top, curve_px[sample]), max(bottom, curve_px[sample])
        intervals[column, 0], intervals[column, 1] = top - half_pen, bottom + half_pen


@numba.njit(cache=_CACHE, nogil=True)
def _add_intervals(intervals, height, subcolumns, differences):  # type: ignore[no-untyped-def]
    """Add the second differences of one curve's coverage; ink beyond the rows is cut off."""
    column = 0
    for x in range(differences.shape[1]):
        for _ in range(subcolumns):
            top, bottom = intervals[column, 0], intervals[column, 1]
            if bottom > 0.0 and top < height:
                _add_end(max(top, 0.0), 1, x, differences)
                _add_end(min(bottom, float(height)), -1, x, differences)
            column += 1


@numba.njit(cache=_CACHE, nogil=True)
def _add_end(y, sign, x, differences):  # type: ignore[no-untyped-def]
    """Coverage begins (`sign` 1) or ends (-1) at the height `y` >= 0 of pixel column `x`."""
    position = np.uint32(y * STEPS + 0.5)
    row, below = position // STEPS, position % STEPS
    differences[row, x] += sign * (STEPS - below)
    differences[row + 1, x] += sign * below
