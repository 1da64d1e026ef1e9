"""General samples: pictures of several sizes and kinds, and words alone; and a stage that learns from them beside pages."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image

from cg_data.instruct.general import GENERAL_SYSTEM_PROMPT
from cg_data.records import Message, Sample, content_id
from cg_data.vocabulary import SampleKind, SampleSource
from cg_train.recipe import PaddedBatches, StageRecipe, TrainSettings
from cg_train.stage import StageJob
from tests.cg_train.model_small import PAGE, PICTURES, SIZES
from tests.cg_train.train_small import make_sample


def general(number: int, size: tuple[int, int] | None, kind: str = "JPEG") -> Sample:
    """A dialogue about a picture of `size`, or about nothing."""
    picture = io.BytesIO()
    if size is not None:
        noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 4 if kind == "PNG" else 3), dtype=np.uint8)
        Image.fromarray(noise).save(picture, kind)
    return dataclasses.replace(
        make_sample(number, SampleKind.CAPTION),
        sample_id=content_id("general", number),
        kind=SampleKind.GENERAL,
        source=SampleSource.GENERAL,
        messages=(
            Message(role="system", content=GENERAL_SYSTEM_PROMPT),
            Message(role="user", content="What is this?" if size else "Name a number."),
            Message(role="assistant", content=f"Noise, number {number}."),
        ),
        mask=np.zeros(0, dtype=np.bool_),
        eeg_steps=np.zeros((0, 2000), dtype=np.int16),
        picture=picture.getvalue() if size else None,
    )


PHOTO, DRAWING, LARGE, DOT, WORDS = (
    general(0, (100, 60)),
    general(1, (61, 95), "PNG"),
    general(2, (600, 250)),
    general(3, (1, 1), "PNG"),
    general(4, None),
)


MIXED = StageRecipe(
    mixture={SampleKind.CAPTION: 1.0, SampleKind.GENERAL: 1.0},
    steps=8,
    global_batch=4,
    batching=PaddedBatches(micro_batch=1),
    learning_rate=5e-3,
    trainable=("projector", "language"),
)


def job_of(tmp_path: Path, recipe: StageRecipe, samples_uris: tuple[str, ...], annotations_uri: str, model_folder: str) -> StageJob:
    return StageJob(
        name="mixed",
        identity="0" * 16,
        recipe=recipe,
        settings=TrainSettings(precision="float32", tiny=SIZES, pictures=PICTURES, stage1=recipe, stage2=recipe),
        page=PAGE,
        samples_uris=samples_uris,
        annotations_uri=annotations_uri,
        model_from=model_folder,
        out_folder=str(tmp_path / "models"),
        work_folder=str(tmp_path / "train"),
        about={},
    )
