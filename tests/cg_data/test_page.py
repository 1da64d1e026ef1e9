"""The page is exact, clinical in polarity, clean at its edges and equal to the byte from run to run."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import cg_data
from cg_data.errors import MontageError
from cg_data.montage import derive
from cg_data.page import page_rows, page_shape, render, render_batch, row_centre_px
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNEL_INDEX, N_CHANNELS, SEGMENT_SAMPLES, Montage
from tests.cg_data.golden_pages import ALL, DETECTOR, golden, golden_pages, waves


def _flat(value_uv: float = 0.0) -> npt.NDArray[np.float32]:
    return np.full((N_CHANNELS, SEGMENT_SAMPLES), value_uv, dtype=np.float32)


def _supersampled(eeg_uv: npt.NDArray[np.float32], page: PageSettings, fine: int) -> npt.NDArray[np.float64]:
    """Slow reference of the first second: share of `fine` x `fine` points of each pixel under the square pen, added and cut at full ink."""
    height, width = N_CHANNELS * page.pixels_per_row, page.pixels_per_second
    x = (np.arange(width * fine) + 0.5) / fine
    offsets = np.linspace(-0.5, 0.5, 4 * fine + 1) * page.pen_pixels
    positions = (x[:, None] + offsets) * 200 / page.pixels_per_second
    y = (np.arange(height * fine) + 0.5) / fine
    coverage = np.zeros((height, width))
    for row, trace in enumerate(eeg_uv):
        centre = row_centre_px(page, row)
        curve = centre + np.interp(positions, np.arange(SEGMENT_SAMPLES), trace) * page.pixels_per_row / page.microvolts_per_row
        top, bottom = curve.min(axis=1) - page.pen_pixels / 2, curve.max(axis=1) + page.pen_pixels / 2
        inside = (y[:, None] >= top) & (y[:, None] < bottom)
        coverage += inside.reshape(height, fine, width, fine).mean(axis=(1, 3))
    return 255 * (1 - np.minimum(coverage, 1))


@pytest.mark.parametrize(
    "page", [PageSettings(pixels_per_second=56, subcolumns=8), PageSettings(pixels_per_row=16, subcolumns=8, pen_pixels=1.5)]
)
def test_every_pixel_holds_the_area_of_ink_in_it(page: PageSettings) -> None:
    eeg_uv = waves()
    reference = _supersampled(eeg_uv, page, fine=8)
    error = np.abs(render(eeg_uv, ALL, page)[: reference.shape[0], : reference.shape[1]] - reference)
    # Eight points of a pixel know its coverage to a sixteenth at each end of each trace's stroke.
    assert error.mean() < 1.0
    assert error.max() < 255 / 4


def test_more_subcolumns_come_closer_to_the_exact_page() -> None:
    eeg_uv, errors = waves(), []
    for subcolumns in (1, 2, 4, 8):
        page = PageSettings(pixels_per_second=32, subcolumns=subcolumns)
        reference = _supersampled(eeg_uv, page, fine=8)
        errors.append(np.abs(render(eeg_uv, ALL, page)[: reference.shape[0], : reference.shape[1]] - reference).mean())
    assert errors == sorted(errors, reverse=True)


def test_a_flat_trace_is_a_line_of_the_pen_on_its_row_centre() -> None:
    page = PageSettings()
    picture = render(_flat(), ALL, page)
    for row in range(N_CHANNELS):
        centre = round(row_centre_px(page, row))
        column = picture[row * 28 : (row + 1) * 28, 500].astype(int)
        assert (255 - column).sum() == pytest.approx(255, abs=2)
        assert column[centre - row * 28 - 1] < 255 > column[centre - row * 28]


def test_positive_deflects_downwards() -> None:
    page = PageSettings()
    eeg_uv = _flat()
    eeg_uv[4, 900:1100] = 50.0
    ink_rows = np.flatnonzero(render(eeg_uv, ALL, page)[:, 560] < 200)
    moved = [y for y in ink_rows if abs(y + 0.5 - (row_centre_px(page, 4) + 14)) < 1]
    assert moved
    assert not [y for y in ink_rows if abs(y + 0.5 - (row_centre_px(page, 4) - 14)) < 1]


def test_a_trace_may_cross_into_other_rows() -> None:
    page = PageSettings()
    alone = np.zeros(N_CHANNELS, dtype=np.bool_)
    alone[9] = True
    picture = render(_flat(250.0), alone, page)
    assert round(row_centre_px(page, 9) + 70) in np.flatnonzero(picture[:, 100] < 255)


@pytest.mark.parametrize("value_uv", [-1e6, -70.0, 1e6])
def test_what_leaves_the_page_is_cut_off_and_not_drawn_along_the_edge(value_uv: float) -> None:
    eeg_uv = _flat()
    eeg_uv[0 if value_uv < 0 else 18] = value_uv
    mask = np.zeros(N_CHANNELS, dtype=np.bool_)
    mask[0 if value_uv < 0 else 18] = True
    assert (render(eeg_uv, mask, PageSettings()) == 255).all()


def test_a_missing_channel_draws_nothing_whatever_it_holds() -> None:
    eeg_uv, mask = waves(), ALL.copy()
    mask[CHANNEL_INDEX["Cz"]] = False
    without = render(eeg_uv, mask, DETECTOR)
    eeg_uv[CHANNEL_INDEX["Cz"]] = np.nan
    assert (render(eeg_uv, mask, DETECTOR) == without).all()
    assert (render(eeg_uv, np.zeros_like(mask), DETECTOR) == 255).all()


def test_sides_are_padded_with_white_to_the_grid_of_the_network() -> None:
    assert page_shape(PageSettings()) == (532, 1120)
    assert page_shape(DETECTOR) == (320, 1280)
    picture = render(waves(), ALL, PageSettings(pixels_per_second=100, multiple_of=28))
    assert picture.shape == (532, 1008)
    assert (picture[:, 1000:] == 255).all()
    assert (render(_flat(1e3), ALL, DETECTOR)[304:] == 255).all()


def test_a_batch_is_its_pages() -> None:
    eeg_uv = np.stack([waves(1), waves(2)])
    masks = np.stack([ALL, ALL])
    assert (render_batch(eeg_uv, masks, DETECTOR) == np.stack([render(waves(1), ALL, DETECTOR), render(waves(2), ALL, DETECTOR)])).all()


def test_pages_are_equal_to_the_byte_with_those_of_the_first_version() -> None:
    digest = {page: hashlib.sha256(render(waves(7), ALL, page).tobytes()).hexdigest()[:16] for page in (PageSettings(), DETECTOR)}
    assert list(digest.values()) == GOLDEN


GOLDEN = ["040cac1d87959b24", "df2526b12d999202"]


@pytest.mark.parametrize("name", golden_pages())
def test_pages_are_equal_to_the_byte_with_the_golden_ones(name: str) -> None:
    np.testing.assert_array_equal(render(*golden_pages()[name]), golden(name))


def test_a_page_of_a_montage_has_its_rows() -> None:
    page = PageSettings(montage=Montage.TCP)
    assert page_rows(page)[8:10] == ("A1-T3", "T3-C3")
    assert page_shape(page) == (22 * 28, 1120)
    eeg_uv = _flat()
    eeg_uv[CHANNEL_INDEX["Fp1"], 900:1100] = -25.0
    picture = render(eeg_uv, ALL, page)
    inked = np.flatnonzero((picture[:, 560] < 200).reshape(22, 28).any(axis=1))
    assert inked.tolist() == [row for row, name in enumerate(page_rows(page)) if "A1" not in name and "A2" not in name]
    for row in (0, 14):  # Fp1-F7 and Fp1-F3: the first electrode is more negative, so up
        assert picture[round(row_centre_px(page, row)) - 7, 560] < 200


@pytest.mark.parametrize("montage", [m for m in Montage if m not in (Montage.LINKED_EARS, Montage.TCP)])
def test_a_page_of_a_montage_shows_what_is_derived(montage: Montage) -> None:
    """Against the derived rows drawn as if they were the first of nineteen stored ones."""
    mask = ALL.copy()
    mask[CHANNEL_INDEX["Pz"]] = False
    rows_uv, there, names = derive(waves(3), mask, montage)
    stored_uv, stored = _flat(), np.zeros(N_CHANNELS, dtype=np.bool_)
    stored_uv[: len(names)], stored[: len(names)] = rows_uv, there
    height = 28 * len(names)
    np.testing.assert_array_equal(
        render(waves(3), mask, PageSettings(montage=montage))[:height], render(stored_uv, stored, PageSettings())[:height]
    )


def test_a_page_against_linked_ears_is_refused() -> None:
    with pytest.raises(MontageError, match="linked ears need A1 and A2"):
        render(waves(), ALL, PageSettings(montage=Montage.LINKED_EARS))


def test_values_that_are_not_finite_and_wrong_shapes_are_refused() -> None:
    eeg_uv = _flat()
    eeg_uv[2, 5] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        render(eeg_uv, ALL, DETECTOR)
    with pytest.raises(ValueError, match="a page needs signals"):
        render(eeg_uv[:18], ALL, DETECTOR)


@pytest.mark.slow
def test_pages_are_drawn_where_the_package_cannot_be_written_and_nothing_lands_in_the_home(tmp_path: Path) -> None:
    package = tmp_path / "site" / "cg_data"
    shutil.copytree(Path(cg_data.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import os; real = os.access; os.access = lambda path, mode, **k: False if mode == os.W_OK else real(path, mode, **k)\n"
        "import numpy as np, cg_data.page as p; from cg_data.settings import PageSettings\n"
        "print(p.__file__, (p.render(np.zeros((19, 2000), np.float32), np.ones(19, bool), PageSettings()) < 255).sum())"
    )
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    path, ink = done.stdout.split()
    assert path.startswith(str(package))
    assert int(ink) > 19 * 1000
    assert not list(home.iterdir())
    assert not list(package.rglob("*.nb[ci]"))
