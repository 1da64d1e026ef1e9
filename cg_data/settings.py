"""Typed configuration of the data engine. Every settings class of the project derives from `Settings`: frozen, unknown keys refused."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cg_data.vocabulary import N_CHANNELS, SEGMENT_S, Montage

SALT_VARIABLE = "CG_SUBJECT_SALT"
PUBLIC_SALT = "cerebragloss"
"""With this one, whoever has a list of patient codes can tell which pseudonym is whose."""


class Settings(BaseModel):
    """Base of the configuration tree."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class PageSettings(Settings):
    """Geometry of a page: rows are channels, the x axis is time (see `cg_data.page`).

    For Qwen2.5-VL the picture's sides must be multiples of 28 pixels (one merged visual token); rows below the last channel stay white.
    """

    pixels_per_row: int = Field(default=28, ge=4)
    pixels_per_second: int = Field(default=112, ge=8)
    microvolts_per_row: float = Field(default=100.0, gt=0)
    pen_pixels: float = Field(default=1.0, gt=0)
    subcolumns: int = Field(default=4, ge=1, le=8)
    multiple_of: int = Field(default=28, ge=1, description="width and height are padded with white to a multiple of this")
    montage: Montage | None = Field(
        default=None, description="rows are derived in this montage; none: as stored, as every network reads them"
    )


class SyntheticSettings(Settings):
    """The embedded corpus (`cg_data.corpora.synthetic`)."""

    subjects: int = Field(default=36, ge=3)
    minutes_per_subject: float = Field(default=5.0, gt=0)
    seed: int = Field(default=7, ge=0)

    @field_validator("minutes_per_subject")
    @classmethod
    def _whole_pages(cls, minutes: float) -> float:
        """What is planted is planned by page."""
        pages = minutes * 60 / SEGMENT_S
        if abs(pages - round(pages)) > 1e-6:
            raise ValueError(f"{minutes} minutes are no whole number of pages of {SEGMENT_S} seconds; give for example 0.5 or 1.5")
        return minutes


class EngineSettings(Settings):
    """Resources that Ray Data gives to the data steps."""

    segments_per_shard: int = Field(default=360, ge=1, le=1500, description="at most; 360 are an hour and 27 MiB in memory")
    cpus_per_task: float = Field(default=1.0, gt=0)
    detect_actors: int = Field(default=1, ge=1)
    cpus_per_actor: float = Field(default=1.0, ge=0)
    gpus_per_actor: float = Field(default=0.0, ge=0)
    detect_batch: int = Field(default=16, ge=1)


class InstructSettings(Settings):
    """What the rules write about each training segment: how many samples of each kind."""

    seed: int = 11
    captions: int = Field(default=1, ge=0)
    binaries: int = Field(default=2, ge=0)
    mcqs: int = Field(default=1, ge=0)
    complex_mcqs: int = Field(default=1, ge=0)
    opens: int = Field(default=1, ge=0)
    descriptions: int = Field(default=1, ge=0)
    conversations: int = Field(default=1, ge=0)
    details: int = Field(default=1, ge=0, description="questions on where, when, how many and how fast; 0: no other kind has them either")


class TeacherSettings(Settings):
    """A teacher model behind an OpenAI-compatible endpoint (`cg_data.instruct.teacher`). Without `url` nothing is ever sent."""

    url: str = Field(default="", description="base URL of the endpoint, for example http://localhost:8000/v1; empty: no teacher")
    model: str = Field(default="", description="name of the model at the endpoint")
    consent: bool = Field(default=False, description="true allows the structure of annotations to leave for a host that is not private")
    key_variable: str = Field(default="OPENAI_API_KEY", min_length=1, description="environment variable that holds the key")
    store: str = Field(default="", description="folder of all requests and answers, to share between runs; empty: in the run folder")
    share: float = Field(default=1.0, gt=0, le=1, description="share of the training segments that are asked about")
    seed: int = 13
    temperature: float = Field(default=0.7, ge=0, le=2)
    max_tokens: int = Field(default=1500, ge=64, description="of an answer; a longer one counts as none")
    concurrency: int = Field(default=16, ge=1, description="requests under way at a time")
    timeout_s: float = Field(default=120.0, gt=0)
    retries: int = Field(default=6, ge=0, description="after 429, 5xx, a timeout or a lost connection, for each request")
    backoff_s: float = Field(default=1.0, gt=0, description="before the first retry, doubled for each further one")
    max_wait_s: float = Field(default=120.0, gt=0, description="an endpoint that asks for a longer wait (Retry-After) fails the request")
    reasks: int = Field(default=1, ge=0, description="further asks after an answer that is empty, cut or not of the form asked for")
    input_price: float = Field(default=0.0, ge=0, description="per million tokens sent, in any currency; 0: unknown")
    output_price: float = Field(default=0.0, ge=0, description="per million tokens received; 0: unknown")
    max_requests: int | None = Field(default=None, ge=1, description="HTTP requests, all that the store holds included")
    max_cost: float | None = Field(default=None, gt=0, description="in the currency of the prices, all that the store holds included")


class GeneralSettings(Settings):
    """A LLaVA-style list of dialogues about pictures (`cg_data.instruct.general`)."""

    json_file: str = Field(min_length=1, description="the list: path or URI of a JSON file")
    images_folder: str = Field(min_length=1, description="folder that the items' image paths count from")
    items_per_shard: int = Field(default=256, ge=1)
    max_characters: int = Field(default=4000, ge=1, description="of all turns of an item; longer items are refused, never cut")
    max_picture_bytes: int = Field(default=8 << 20, ge=1)
    max_picture_pixels: int = Field(default=40_000_000, ge=1, description="larger pictures are refused before they are decoded")


class DataSettings(Settings):
    subject_salt: str = Field(
        default_factory=lambda: os.environ.get(SALT_VARIABLE, PUBLIC_SALT),
        min_length=1,
        exclude=True,
        repr=False,
        description="secret salt of every subject's pseudonym; never written to a product",
    )
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    test_fraction: float = Field(default=0.2, ge=0, lt=1)
    mains_hz: Literal["auto", "50", "60", "none"] = "auto"
    montage: Literal[Montage.AVERAGE, Montage.LINKED_EARS, Montage.RECORDED] = Field(
        default=Montage.AVERAGE, description="what segments are stored against; from these all other montages are derived"
    )
    min_electrodes: int = Field(default=3, ge=2, le=N_CHANNELS, description="a recording with fewer of the nineteen is refused")
    synthetic: SyntheticSettings = SyntheticSettings()
    engine: EngineSettings = EngineSettings()
    page: PageSettings = PageSettings()
    instruct: InstructSettings = InstructSettings()
    teacher: TeacherSettings = TeacherSettings()
    general: GeneralSettings | None = None
