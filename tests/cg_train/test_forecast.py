"""What a stage will take, from the samples of a run folder where there are some."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from cg_data.errors import ConfigError
from cg_data.vocabulary import SampleKind
from cg_train import job
from cg_train.batches import SampleStore
from cg_train.forecast import Forecast, forecast, measured_lengths, tokenizer_of
from cg_train.hardware import Gpus
from cg_train.job import Stage
from cg_train.model.encode import IGNORED
from cg_train.recipe import PaddedBatches, StageRecipe, TrainSettings, ValidationSettings
from tests.cg_train.model_small import PAGE, PICTURES, TOKENS, batch_of, build
from tests.cg_train.train_small import KINDS, SEGMENTS, make_sample

RECIPE = StageRecipe(
    mixture=dict.fromkeys(KINDS, 1.0),
    epochs=2.0,
    global_batch=4,
    batching=PaddedBatches(micro_batch=2),
    trainable=("projector", "language"),
)
GPUS = Gpus(count=2, memory_bytes=80e9, name="NVIDIA A100-SXM4-80GB")


def _forecast(source: str = "Qwen/Qwen2.5-VL-7B-Instruct", store: SampleStore | None = None, **changes: Any) -> Forecast:
    recipe = RECIPE.model_copy(update=changes.pop("recipe", {}))
    settings = TrainSettings(source=source, stage1=recipe, stage2=recipe, **changes)
    return forecast("stage2", recipe, settings, page=PAGE, store=store, tokenizer=None, gpus=GPUS)


def test_measured_lengths_are_those_of_the_batches_that_training_makes(samples_uri: str, model_folder: str) -> None:
    store, tokenizer = SampleStore([samples_uri]), tokenizer_of(model_folder)
    lengths = measured_lengths(store, RECIPE, page=PAGE, pictures=PICTURES, tokenizer=tokenizer)
    _, processor = build()
    batches = [batch_of([make_sample(number, kind)], processor) for number in range(SEGMENTS) for kind in KINDS]
    tokens = np.array([batch["input_ids"].shape[1] for batch in batches])
    targets = np.array([int((batch["labels"] != IGNORED).sum()) for batch in batches])
    assert lengths.load.tokens == pytest.approx(tokens.mean())
    assert lengths.load.tokens_squared == pytest.approx((tokens**2).mean())
    assert lengths.targets_mean == pytest.approx(targets.mean())
    assert lengths.longest.tokens == tokens.max()
    assert lengths.tokens_p95 == np.sort(tokens)[int(np.ceil(0.95 * len(tokens))) - 1]
    assert (lengths.image_mean, lengths.longest.patches, lengths.load.patches) == pytest.approx((TOKENS, TOKENS * 4, TOKENS * 4))
    assert "counted by the model's tokenizer" in lengths.said


def test_the_mixture_weighs_the_kinds(samples_uri: str, model_folder: str) -> None:
    store, tokenizer = SampleStore([samples_uri]), tokenizer_of(model_folder)

    def mean(**mixture: float) -> float:
        weighed = RECIPE.model_copy(update={"mixture": {SampleKind(kind): weight for kind, weight in mixture.items()}})
        return measured_lengths(store, weighed, page=PAGE, pictures=PICTURES, tokenizer=tokenizer).load.tokens

    assert mean(caption=3.0, open=1.0) == pytest.approx(0.75 * mean(caption=1.0) + 0.25 * mean(open=1.0))


def test_without_the_tokenizer_characters_are_counted_and_it_says_so(samples_uri: str) -> None:
    lengths = measured_lengths(SampleStore([samples_uri]), RECIPE, page=PAGE, pictures=PICTURES, tokenizer=None)
    assert lengths.text_mean > lengths.targets_mean > 5
    assert "3 characters to a token" in lengths.said


def test_steps_are_those_that_training_takes(samples_uri: str) -> None:
    found = _forecast(store=SampleStore([samples_uri]))
    assert (found.steps, found.samples) == (2 * SEGMENTS * len(KINDS) // 4, 2 * SEGMENTS * len(KINDS))
    assert found.accumulated == 1


def test_without_samples_there_are_as_many_as_the_paper_has_or_steps_as_set() -> None:
    assert _forecast().samples == 2 * 294_000
    assert "the paper" in _forecast().said
    assert _forecast(recipe={"epochs": None, "steps": 7}).steps == 7


def test_hours_are_operations_by_peak_and_unknown_where_the_peak_is() -> None:
    found = _forecast()
    assert found.hours == pytest.approx(found.steps * found.flops.hardware / (312e12 * 2 * 0.35) / 3600)
    assert found.flops.model / found.tokens_per_step > 4 * 7e9  # most of six times the parameters, for each token
    assert _forecast(precision="float32").hours is None


def test_hours_hold_a_forward_pass_over_the_validation_set_for_each_look() -> None:
    bare, looking = (
        _forecast(recipe={"epochs": None, "steps": 25, "validation": looks}) for looks in (None, ValidationSettings(samples=8, every=10))
    )
    assert bare.hours is not None
    assert looking.hours is not None
    # Three looks, after steps 10, 20 and 25, at two steps' samples. The tower does not learn: a forward pass is over a third of the work.
    forward = 3 * 2 * looking.flops.forward / (312e12 * 2 * 0.35) / 3600
    assert looking.hours - bare.hours == pytest.approx(forward)
    assert looking.validation_share == pytest.approx(forward / looking.hours)
    assert 1 / 3 < looking.flops.forward / looking.flops.model < 1 / 2
    assert bare.validation_share == 0


def test_a_batch_that_the_gpus_cannot_share_is_refused() -> None:
    with pytest.raises(ConfigError, match="global_batch 4 is not a multiple"):
        _forecast(recipe={"batching": PaddedBatches(micro_batch=3)})


def test_training_on_gpus_that_are_too_small_is_refused_before_any_worker_starts(samples_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPE.model_copy(update={"global_batch": 8})
    settings = TrainSettings(source="Qwen/Qwen2.5-VL-7B-Instruct", stage1=recipe, stage2=recipe)
    stage = Stage(
        name="stage2",
        identity="i",
        recipe=recipe,
        model_from=settings.source,
        out_folder="o",
        about={},
        progress=lambda done, total, note="": None,
    )
    monkeypatch.setattr(job, "gpus_of_cluster", lambda: dataclasses.replace(GPUS, memory_bytes=40e9))
    with pytest.raises(ConfigError, match=r"train\.stage2: about \d+ GB on each GPU .*SXM4-80GB has 40 GB\."):
        job._check_memory([stage], settings, PAGE, [samples_uri])
    monkeypatch.setattr(job, "gpus_of_cluster", lambda: dataclasses.replace(GPUS, memory_bytes=1e12))
    job._check_memory([stage], settings, PAGE, [samples_uri])
