"""Typed configuration of the bench."""

from __future__ import annotations

from pydantic import Field

from cg_data.settings import Settings


class EvalSettings(Settings):
    items_per_segment: int = Field(default=4, ge=1, description="questions of each kind about a held-out segment, at most")
    max_segments: int | None = Field(default=None, ge=1, description="held-out segments to ask about; null means all")
    description_segments: int = Field(default=24, ge=0, description="segments described freely (the slowest part)")
    max_new_tokens: int = Field(default=160, ge=1)
    batch: int = Field(default=16, ge=1)
    resamples: int = Field(default=2000, ge=100, description="bootstrap resamples of subjects for every interval")
    seed: int = 23
