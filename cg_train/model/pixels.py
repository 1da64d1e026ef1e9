"""Patches of pictures as bytes and as what the model reads: a page, each grey of which is six float32, is a twenty-fourth as bytes.

`tests/cg_train/test_model_encode.py` holds the values against the image processor of transformers.
"""

from __future__ import annotations

import functools

import torch

PATCH_PX, FRAMES = 14, 2
"""Side of a patch in pixels, and frames per patch (a still picture is shown twice) of Qwen2.5-VL."""
IMAGE_MEAN, IMAGE_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Red, green and blue, of values from 0 to 1 (CLIP, Radford et al. 2021)."""
_PIECE = 512
"""Patches at a time, so that what lies between bytes and values stays in the processor's cache."""


def to_values(shades: torch.Tensor) -> torch.Tensor:
    """Shades of red, green and blue, uint8 `(patches, 3, 196)`, or of grey, `(patches, 1, 196)`, as `pixel_values`.

    Returns:
        float32 `(patches, 1176)`, normalised, rounded as the image processor rounds.
    """
    values = torch.empty(len(shades), len(IMAGE_MEAN), FRAMES, PATCH_PX**2)
    for piece, into in zip(torch.split(shades, _PIECE), torch.split(values, _PIECE), strict=True):
        into[:] = _normalised(piece)
    return values.flatten(1)


def to_shades(values: torch.Tensor) -> torch.Tensor | None:
    """The shades of which `to_values` makes `values` again, to the bit; None where there are none, as of a picture that is not seen."""
    apart = values.view(len(values), len(IMAGE_MEAN), FRAMES, PATCH_PX**2)
    mean, deviation = _scale()
    for colours in (1, len(IMAGE_MEAN)):
        nearest = torch.addcmul(mean[:colours], apart[:, :colours, 0], deviation[:colours])
        shades = nearest.round_().clamp_(0, 255).to(torch.uint8)
        pieces = zip(torch.split(shades, _PIECE), torch.split(apart, _PIECE), strict=True)
        if all(torch.equal(_normalised(piece).expand_as(there), there) for piece, there in pieces):
            return shades
    return None


def _normalised(shades: torch.Tensor) -> torch.Tensor:
    """float32 `(patches, 3, 1, 196)`."""
    mean, deviation = _scale()
    return ((shades - mean) / deviation)[:, :, None]


@functools.cache
def _scale() -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation in shades of 255, float32 `(3, 1)` each."""
    shade = 1.0 / (1 / 255)
    return torch.tensor(IMAGE_MEAN)[:, None] * shade, torch.tensor(IMAGE_STD)[:, None] * shade
