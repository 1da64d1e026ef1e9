"""General samples beside pages: pictures become what the model's own processor makes of them, and words alone are no obstacle."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from cg_data import storage
from cg_data.errors import ConfigError, UserError
from cg_data.instruct.prompt import SYSTEM_PROMPT
from cg_data.records import Sample
from cg_data.rows import SAMPLE_SCHEMA, table_of
from cg_train.batches import SampleStore
from cg_train.checkpoint import Keeper
from cg_train.model.encode import IGNORED, training_batch
from cg_train.recipe import PictureSettings, StageRecipe
from cg_train.stage import run_stage
from cg_train.tracking import ledger, metrics_journal
from tests.cg_train.general_small import DOT, DRAWING, LARGE, MIXED, PHOTO, WORDS, general, job_of
from tests.cg_train.model_small import PAGE, PICTURES, SAMPLES, build, pages_of


@pytest.fixture(scope="module")
def model_and_processor() -> tuple[Any, Any]:
    return build()


def batch_of(samples: list[Sample], processor: Any) -> dict[str, torch.Tensor]:
    return training_batch(samples, [s.eeg_uv for s in samples], processor=processor, page=PAGE, pictures=PICTURES, max_tokens=256)


def by_processor(samples: list[Sample], processor: Any) -> Any:
    """What transformers makes of the same pictures and words."""
    pictures, texts = [], []
    for sample in samples:
        *own, question, answer = (message.content for message in sample.messages)
        seen = sample.has_page or sample.picture is not None
        asked = [*([{"type": "image"}] if seen else []), {"type": "text", "text": question}]
        turns = [
            {"role": "system", "content": own[0] if own else SYSTEM_PROMPT},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answer},
        ]
        texts.append(processor.apply_chat_template(turns, tokenize=False))
        if sample.picture is not None:
            pictures.append(Image.open(io.BytesIO(sample.picture)).convert("RGB"))
        elif sample.has_page:
            pictures.append(Image.fromarray(pages_of(sample.eeg_uv[None], sample.mask[None])[0]).convert("RGB"))
    size = {"shortest_edge": PICTURES.min_pixels, "longest_edge": PICTURES.max_pixels}
    images = [processor.image_processor(p, size=size, return_tensors="pt") for p in pictures]
    whole = processor(text=texts, images=pictures or None, padding=True, padding_side="right", return_tensors="pt", size=size)
    assert torch.equal(whole["pixel_values"], torch.cat([i["pixel_values"] for i in images]))
    return whole


def test_a_batch_of_pages_pictures_and_words_is_what_the_processor_makes_of_it(model_and_processor: tuple[Any, Any]) -> None:
    _, processor = model_and_processor
    samples = [PHOTO, SAMPLES[0], WORDS, LARGE, DRAWING, SAMPLES[1], DOT]
    ours, theirs = batch_of(samples, processor), by_processor(samples, processor)
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
    tokens = ours["mm_token_type_ids"].sum(1).tolist()
    assert tokens == [8, 15, 0, 12, 6, 15, 4]
    assert (ours["image_grid_thw"].prod(1) // 4).tolist() == [n for n in tokens if n]


def test_the_largest_picture_costs_no_more_tokens_than_the_settings_allow(model_and_processor: tuple[Any, Any]) -> None:
    _, processor = model_and_processor
    for most in (4, 9, 30):
        pictures = PictureSettings(max_pixels=most * 28 * 28)
        batch = training_batch([LARGE], [LARGE.eeg_uv], processor=processor, page=PAGE, pictures=pictures, max_tokens=256)
        assert 1 <= batch["mm_token_type_ids"].sum() <= most


def test_words_alone_are_read_as_if_there_were_no_tower_and_give_it_gradients_of_zero(model_and_processor: tuple[Any, Any]) -> None:
    model, processor = model_and_processor
    batch = batch_of([WORDS, general(9, None)], processor)
    assert batch["attention_mask"].sum(1).tolist() == [batch["input_ids"].shape[1] - 1] * 2
    plain = {name: batch[name][:, :-1] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        expected = model(**plain).logits
    out = model(**batch)
    torch.testing.assert_close(out.logits[:, :-1], expected, rtol=0, atol=2e-5)
    assert (batch["labels"][:, -1] == IGNORED).all()
    model.requires_grad_(False)
    model.model.visual.merger.requires_grad_(True)
    try:
        model(**batch).loss.backward()
        gradients = [parameter.grad for parameter in model.model.visual.merger.parameters()]
        assert all(gradient is not None and not gradient.any() for gradient in gradients)
    finally:
        model.requires_grad_(True)
        model.zero_grad(set_to_none=True)


def test_a_picture_that_cannot_be_read_is_named(model_and_processor: tuple[Any, Any]) -> None:
    broken = dataclasses.replace(PHOTO, picture=b"no picture")
    with pytest.raises(UserError, match=rf"sample {PHOTO.sample_id}: its picture cannot be read"):
        batch_of([broken], model_and_processor[1])


def test_general_samples_come_back_from_a_shard_beside_pages(tmp_path: Path) -> None:
    samples = [SAMPLES[0], WORDS, PHOTO, SAMPLES[1], DRAWING]
    storage.write_table(str(tmp_path / "0.parquet"), table_of(samples, SAMPLE_SCHEMA))
    store = SampleStore([str(tmp_path), str(tmp_path / "nowhere")])
    for row, expected in enumerate(samples):
        found = store.sample(row)
        assert (found.messages, found.picture, found.has_page) == (expected.messages, expected.picture, expected.has_page)
        np.testing.assert_array_equal(found.eeg_steps, expected.eeg_steps)
        np.testing.assert_array_equal(found.mask, expected.mask)


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("trainable", [("projector", "language"), ("projector",)])
def test_a_stage_learns_from_pages_pictures_and_words_in_one_mixture(
    tmp_path: Path, samples_uri: str, annotations_uri: str, model_folder: str, trainable: Any
) -> None:
    """Micro-batches of one: some hold words alone, also where the projector is all that learns."""
    folder = tmp_path / "general"
    items = [PHOTO, DRAWING, LARGE, DOT, *(general(n, None) for n in range(4, 8))]
    storage.write_table(str(folder / "0.parquet"), table_of(items, SAMPLE_SCHEMA))
    recipe = MIXED.model_copy(update={"trainable": trainable})
    job = job_of(tmp_path, recipe, (samples_uri, str(folder)), annotations_uri, model_folder)
    run_stage(job, SampleStore(job.samples_uris), rank=0, workers=1, keeper=Keeper(resume_from=(), keep=lambda folder, step: None))
    losses = [line["loss"] for line in metrics_journal(Path(job.work_folder), 0).read()]
    assert len(losses) == 8
    if "language" in trainable:
        assert np.mean(losses[-2:]) < np.mean(losses[:2])
    eaten = [sample_id for line in ledger(Path(job.work_folder), 0).read() for sample_id in line["sample_ids"]]
    assert sum(sample_id in {item.sample_id for item in items} for sample_id in eaten) == len(eaten) // 2


@pytest.mark.usefixtures("process_group")
def test_a_mixture_that_asks_for_general_samples_where_there_are_none_is_refused(
    tmp_path: Path, samples_uri: str, annotations_uri: str, model_folder: str
) -> None:
    job = job_of(tmp_path, MIXED, (samples_uri,), annotations_uri, model_folder)
    with pytest.raises(ConfigError, match='no training sample of kind "general"'):
        run_stage(job, SampleStore(job.samples_uris), rank=0, workers=1, keeper=Keeper(resume_from=(), keep=lambda folder, step: None))


def test_sight_is_not_learnt_from_general_samples() -> None:
    with pytest.raises(ValidationError, match="which have no page"):
        StageRecipe.model_validate({**MIXED.model_dump(), "objective": "sight", "trainable": ("vision",)})
