"""Patches travel as bytes and become again what they were."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessor

from cg_train.model.encode import page_to_patches
from cg_train.model.pixels import to_shades, to_values

SHADES = np.random.default_rng(3).integers(0, 256, (1, 3, 56, 840), dtype=np.uint8)
"""More patches than are worked on at a time, every shade."""


def _by_processor(picture: npt.NDArray[np.uint8], size: dict[str, int]) -> torch.Tensor:
    values: torch.Tensor = Qwen2VLImageProcessor(size=size)([Image.fromarray(picture)], return_tensors="pt")["pixel_values"]
    return values


def test_a_page_is_a_byte_for_each_pixel_and_the_same_values_again() -> None:
    values, _ = page_to_patches(np.concatenate([SHADES[0], SHADES[0, ::-1]]))
    shades = to_shades(values)
    assert shades is not None
    assert shades.shape == (6 * 240, 1, 196)
    assert torch.equal(to_values(shades), values)


@pytest.mark.parametrize("size", [{"shortest_edge": 784, "longest_edge": 10**6}, {"shortest_edge": 784, "longest_edge": 20_000}])
def test_a_picture_is_a_byte_for_each_colour_also_where_it_was_scaled(size: dict[str, int]) -> None:
    values = _by_processor(np.ascontiguousarray(SHADES[0].transpose(1, 2, 0)), size)
    shades = to_shades(values)
    assert shades is not None
    assert shades.shape == (len(values), 3, 196)
    assert torch.equal(to_values(shades), values)


def test_values_of_no_shades_are_left_alone() -> None:
    assert to_shades(torch.zeros(4, 1176)) is None
    values, _ = page_to_patches(SHADES[0])
    values[700, 1000] = values[700, 1000].nextafter(torch.tensor(9.0))
    assert to_shades(values) is None
