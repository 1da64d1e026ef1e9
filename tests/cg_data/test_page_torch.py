"""Torch draws the same pages as numba, to the byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cg_data.page import render_batch
from cg_data.page_torch import draw_pages, rasterise
from cg_data.settings import PageSettings
from cg_data.vocabulary import N_CHANNELS, Montage
from tests.cg_data.golden_pages import DETECTOR, TINY, TOKENS, golden, golden_pages

GEOMETRIES = [
    TOKENS,
    DETECTOR,
    TINY,
    PageSettings(pen_pixels=0.3, subcolumns=8, pixels_per_second=300),
    PageSettings(pen_pixels=3.7, subcolumns=1, pixels_per_row=9, multiple_of=1),
    PageSettings(montage=Montage.TCP, pixels_per_second=40),
]
NAMES = ["tokens", "detector", "tiny", "thin pen", "broad pen", "montage"]


def walks(n: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Wandering traces, some far beyond the page, one flat page, missing rows that hold no numbers."""
    rng = np.random.default_rng(0)
    eeg_uv = np.cumsum(rng.normal(size=(n, N_CHANNELS, 2000)), axis=2) * 8
    eeg_uv = (eeg_uv - eeg_uv.mean(axis=2, keepdims=True)).astype(np.float32)
    eeg_uv[0, 3] *= 1000
    eeg_uv[1] = 0
    mask = rng.random((n, N_CHANNELS)) > 0.2
    eeg_uv[~mask] = np.nan
    return eeg_uv, mask


@pytest.mark.parametrize("page", GEOMETRIES, ids=NAMES)
def test_pages_are_those_of_numba(page: PageSettings) -> None:
    eeg_uv, mask = walks(3)
    np.testing.assert_array_equal(rasterise(eeg_uv, mask, page, "cpu").numpy(), render_batch(eeg_uv, mask, page))


@pytest.mark.parametrize("name", golden_pages())
def test_golden_pages_are_met(name: str) -> None:
    eeg_uv, mask, page = golden_pages()[name]
    np.testing.assert_array_equal(rasterise(eeg_uv[None], mask[None], page, "cpu")[0].numpy(), golden(name))


def test_more_pages_than_fit_at_once_are_all_drawn() -> None:
    eeg_uv, mask = walks(70)
    np.testing.assert_array_equal(rasterise(eeg_uv, mask, TINY, "cpu").numpy(), render_batch(eeg_uv, mask, TINY))


def test_no_pages_are_no_pages() -> None:
    assert draw_pages(np.zeros((0, 19, 2000), np.float32), np.zeros((0, 19), np.bool_), TINY, "cpu").shape == (0, 140, 280)
    assert rasterise(np.zeros((0, 19, 2000), np.float32), np.zeros((0, 19), np.bool_), TINY, "cpu").shape == (0, 140, 280)


def test_values_that_are_not_finite_and_wrong_shapes_are_refused() -> None:
    eeg_uv, mask = walks(2)
    with pytest.raises(ValueError, match="not finite"):
        rasterise(eeg_uv, np.ones_like(mask), TINY, "cpu")
    with pytest.raises(ValueError, match="a page needs signals"):
        rasterise(eeg_uv[:, :18], mask, TINY, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("page", GEOMETRIES, ids=NAMES)
def test_cuda_draws_the_pages_of_numba(page: PageSettings) -> None:
    eeg_uv, mask = walks(40)
    drawn = draw_pages(eeg_uv, mask, page, "cuda")
    assert drawn.device.type == "cuda"
    np.testing.assert_array_equal(drawn.cpu().numpy(), render_batch(eeg_uv, mask, page))
