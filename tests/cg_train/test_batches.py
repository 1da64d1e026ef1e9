from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cg_data.errors import StorageError, UserError
from cg_data.records import Sample
from cg_data.rows import SAMPLE_SCHEMA, table_of
from cg_data.storage import write_table
from cg_data.vocabulary import SampleKind, Split
from cg_train.batches import BatchMaker, SampleStore, StepBatch, finished, gain, prefetched
from cg_train.plan import make_plan
from cg_train.recipe import PaddedBatches, StageRecipe
from tests.cg_train.train_small import KINDS, SEGMENTS, make_sample

RECIPE = StageRecipe(
    mixture=dict.fromkeys(KINDS, 1.0),
    steps=4,
    global_batch=8,
    batching=PaddedBatches(micro_batch=2),
    gain_log2=0.5,
    trainable=("projector",),
)


def _collate(samples: Sequence[Sample], signals: Sequence[npt.NDArray[np.float32]]) -> Mapping[str, torch.Tensor]:
    return {"signal": torch.from_numpy(np.stack(signals))}


def _maker(uri: str, rank: int, workers: int) -> BatchMaker:
    store = SampleStore([uri])
    plan = make_plan(store.index, RECIPE)
    return BatchMaker(
        store=store,
        plan=plan,
        rank=rank,
        workers=workers,
        batching=RECIPE.batching,
        lengths=None,
        seed=RECIPE.seed,
        gain_log2=RECIPE.gain_log2,
        collate=_collate,
    )


def test_the_store_offers_every_training_sample_and_no_held_out_one(samples_uri: str) -> None:
    store = SampleStore([samples_uri])
    assert store.index.num_rows == SEGMENTS * len(KINDS)
    for row, sample_id in enumerate(store.index.column("sample_id").to_pylist()):
        sample = store.sample(row)
        assert sample.sample_id == sample_id
        expected = make_sample(int(sample.segment_id.removeprefix("segment-")), sample.kind)
        assert sample.messages == expected.messages
        np.testing.assert_array_equal(sample.eeg_steps, expected.eeg_steps)


def test_any_row_of_a_shard_of_many_row_groups_is_found_with_a_cache_for_one(tmp_path: Path) -> None:
    samples = [make_sample(number, SampleKind.OPEN) for number in range(150)]
    write_table(str(tmp_path / "0.parquet"), table_of(samples, SAMPLE_SCHEMA))
    store = SampleStore([str(tmp_path)], cache_bytes=1)
    for row in (0, 149, 54, 55, 56, 110, 1):
        assert store.sample(row).sample_id == samples[row].sample_id


@pytest.mark.parametrize(("split", "message"), [(None, "no samples there"), (Split.TEST, "no sample of the train split")])
def test_a_folder_without_training_samples_is_refused(tmp_path: Path, split: Split | None, message: str) -> None:
    if split is not None:
        write_table(str(tmp_path / "0.parquet"), table_of([make_sample(0, SampleKind.OPEN, split)], SAMPLE_SCHEMA))
    with pytest.raises(StorageError, match=message):
        SampleStore([str(tmp_path)])


def test_two_workers_together_consume_bit_for_bit_what_one_consumes(samples_uri: str) -> None:
    whole, halves = _maker(samples_uri, 0, 1), [_maker(samples_uri, rank, 2) for rank in range(2)]
    for step in range(RECIPE.steps or 0):
        one, two = whole(step), [maker(step) for maker in halves]
        assert one.sample_ids == two[0].sample_ids + two[1].sample_ids
        together = [batch["signal"] for half in two for batch in half.micro_batches]
        assert all(torch.equal(a["signal"], b) for a, b in zip(one.micro_batches, together, strict=True))


def test_the_gain_is_fixed_by_step_and_sample_and_stays_in_its_range() -> None:
    factors = [gain(f"{i}", step=i, seed=1, gain_log2=0.5) for i in range(500)]
    assert factors == [gain(f"{i}", step=i, seed=1, gain_log2=0.5) for i in range(500)]
    assert 2**-0.5 <= min(factors) < 0.75
    assert 1.35 < max(factors) <= 2**0.5
    assert gain("1", step=1, seed=1, gain_log2=0.5) != gain("1", step=2, seed=1, gain_log2=0.5)


def test_pixels_are_finished_in_the_weights_precision_and_all_else_is_left_as_it_is() -> None:
    inputs = {"pixel_values": torch.linspace(-2, 2, 99), "input_ids": torch.arange(9)}
    batch = StepBatch(step=3, sample_ids=("a",), micro_batches=(inputs, inputs))
    for dtype in (torch.float32, torch.bfloat16):
        done = finished(batch, dtype=dtype, gpu=False)
        assert (done.step, done.sample_ids, len(done.micro_batches)) == (3, ("a",), 2)
        for micro in done.micro_batches:
            assert torch.equal(micro["pixel_values"], inputs["pixel_values"].to(dtype))
            assert torch.equal(micro["input_ids"], inputs["input_ids"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_batches_for_a_gpu_are_pinned() -> None:
    batch = StepBatch(step=0, sample_ids=(), micro_batches=({"pixel_values": torch.ones(9), "input_ids": torch.arange(9)},))
    assert all(tensor.is_pinned() for tensor in finished(batch, dtype=torch.bfloat16, gpu=True).micro_batches[0].values())


def test_prefetching_keeps_the_order_works_ahead_and_delivers_an_error_at_its_step() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        if step == 3:
            raise UserError("sample 3 is too long")
        return step

    results = prefetched(make, range(6))
    assert next(results)() == 0
    deadline = time.monotonic() + 10
    while made != [0, 1, 2] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made == [0, 1, 2]
    assert [next(results)(), next(results)()] == [1, 2]
    failing = next(results)
    with pytest.raises(UserError, match="sample 3"):
        failing()
    results.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]
