"""Lengths of samples that are known before anything is drawn."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cg_data import storage
from cg_data.errors import UserError
from cg_data.records import Sample
from cg_data.rows import SAMPLE_SCHEMA, table_of
from cg_data.vocabulary import Split
from cg_train.batches import SampleStore
from cg_train.model import encode
from cg_train.model.encode import picture_to_patches, picture_tokens, training_batch
from cg_train.model.lengths import LengthFiles, length_files
from cg_train.recipe import PictureSettings
from tests.cg_train.general_small import DOT, DRAWING, LARGE, PHOTO, WORDS, general
from tests.cg_train.model_small import PAGE, PICTURES, SAMPLES, build
from tests.cg_train.train_small import KINDS, make_sample

SHARDS: tuple[tuple[Sample, ...], ...] = (
    SAMPLES,
    (make_sample(99, KINDS[0], Split.TEST),),
    (PHOTO, make_sample(98, KINDS[1], Split.TEST), WORDS, DRAWING, LARGE, SAMPLES[0], DOT),
)


@pytest.fixture(scope="module")
def processor() -> Any:
    return build()[1]


@pytest.fixture
def samples_folder(tmp_path: Path) -> str:
    for number, samples in enumerate(SHARDS):
        storage.write_table(str(tmp_path / "samples" / f"{number}.parquet"), table_of(samples, SAMPLE_SCHEMA))
    return str(tmp_path / "samples")


def files_of(folder: str, processor: Any, pictures: PictureSettings = PICTURES) -> LengthFiles:
    return length_files(str(Path(folder).parent / "lengths"), SampleStore([folder]), processor, page=PAGE, pictures=pictures)


def test_counted_lengths_are_those_of_what_training_makes(samples_folder: str, processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = [sample for samples in SHARDS for sample in samples if sample.split == Split.TRAIN]
    with monkeypatch.context() as without:
        without.setattr(encode, "render_batch", None)
        without.setattr(Image.Image, "load", None)
        files = files_of(samples_folder, processor)
        for rank in range(2):
            files.write(rank=rank, workers=2)
        lengths = files.read()
    assert [*files.store.index.column("sample_id").to_pylist()] == [sample.sample_id for sample in trained]
    for sample, tokens, images in zip(trained, lengths.tokens, lengths.images, strict=True):
        batch = training_batch([sample], [sample.eeg_uv], processor=processor, page=PAGE, pictures=PICTURES, max_tokens=400)
        assert tokens == batch["attention_mask"].sum()
        assert images == (sample is not WORDS)


@pytest.mark.parametrize("bounds", [(4, 768), (1, 16), (30, 31)])
def test_predicted_visual_tokens_are_those_of_the_processor_for_odd_sizes_too(processor: Any, bounds: tuple[int, int]) -> None:
    pictures = PictureSettings(min_pixels=bounds[0] * 784, max_pixels=bounds[1] * 784)
    random = np.random.default_rng(bounds[1])
    near = [28 * round(bound**0.5) for bound in bounds]
    sizes = [(near[i] + a, near[i] + b) for i in range(2) for a in (-15, -14, -1, 0, 1, 14) for b in (-13, 0, 1) if near[i] + min(a, b) > 0]
    sizes += [(1, 1), (1, 199), (400, 2), (27, 29), *((int(w), int(h)) for w, h in random.integers(5, 900, (12, 2)))]
    for size in sizes:
        sample = general(1, size, "PNG")
        assert sample.picture is not None
        _, grid = picture_to_patches(sample, processor.image_processor, pictures)
        assert picture_tokens(sample.picture, pictures) == int(grid.prod()) // 4, size


def test_a_picture_that_lies_on_its_side_is_counted_as_it_is_shown(processor: Any) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (150, 61)).save(turned, "JPEG", exif=exif)
    sample = dataclasses.replace(PHOTO, picture=turned.getvalue())
    _, grid = picture_to_patches(sample, processor.image_processor, PICTURES)
    assert grid[0, 1] > grid[0, 2]
    assert picture_tokens(turned.getvalue(), PICTURES) == int(grid.prod()) // 4


def test_what_was_counted_is_not_counted_again_unless_the_samples_or_sizes_are_others(samples_folder: str, processor: Any) -> None:
    files_of(samples_folder, processor).write(rank=0, workers=1)
    before = _written(samples_folder)
    assert len(before) == len(SHARDS)
    files_of(samples_folder, processor).write(rank=0, workers=1)
    assert _written(samples_folder) == before
    storage.write_table(str(Path(samples_folder) / "0.parquet"), table_of(SAMPLES[:2], SAMPLE_SCHEMA))
    changed = files_of(samples_folder, processor)
    with pytest.raises(UserError, match="not all lengths of samples are there"):
        changed.read()
    changed.write(rank=0, workers=1)
    assert len(changed.read().tokens) == 2 + 6
    assert [_written(samples_folder)[path] == time for path, time in before.items()].count(False) == 1
    other = files_of(samples_folder, processor, PictureSettings(max_pixels=4 * 784))
    assert other.folder != changed.folder


def _written(samples_folder: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (Path(samples_folder).parent / "lengths").rglob("*.parquet")}


def test_a_sample_that_cannot_be_counted_is_named(samples_folder: str, processor: Any) -> None:
    broken = dataclasses.replace(PHOTO, picture=b"no picture")
    storage.write_table(str(Path(samples_folder) / "0.parquet"), table_of([broken], SAMPLE_SCHEMA))
    with pytest.raises(UserError, match=rf"sample {PHOTO.sample_id}: its picture cannot be read"):
        files_of(samples_folder, processor).write(rank=0, workers=1)
