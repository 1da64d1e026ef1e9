"""How the samples of a step are cut into micro-batches."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from cg_data.errors import ConfigError, UserError
from cg_train.packs import Rows, SampleLengths, check_batching, check_lengths, shares
from cg_train.recipe import Batching, PackedBatches, PaddedBatches, StageRecipe

SAMPLES = 4000
PACKED = PackedBatches(tokens=4096, images=5)
BY_LENGTH = PaddedBatches(micro_batch=4, by_length=True)


def lengths_of(seed: int) -> SampleLengths:
    """As the paper's mixture has them: pages, smaller pictures and a few dialogues without either; answers of very different lengths."""
    random = np.random.default_rng(seed)
    text = np.clip(random.lognormal(5, 0.8, SAMPLES), 20, 1200).astype(np.int32)
    images = random.random(SAMPLES) < 0.9
    visual = np.where(random.random(SAMPLES) < 0.7, 760, random.integers(4, 768, SAMPLES))
    return SampleLengths(tokens=(text + images * visual).astype(np.int32), images=images.astype(np.int32))


def steps_of(seed: int, batch: int = 256) -> list[Rows]:
    return [*np.random.default_rng(seed).permutation(SAMPLES)[: 8 * batch].reshape(8, batch)]


@pytest.mark.parametrize("batching", [PACKED, BY_LENGTH, PaddedBatches(micro_batch=2)], ids=["packed", "by_length", "padded"])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_workers_share_each_global_batch_without_loss_or_overlap_in_equally_many_micro_batches(batching: Batching, workers: int) -> None:
    lengths = lengths_of(1)
    for rows in steps_of(2):
        cut = shares(rows, lengths, batching=batching, workers=workers)
        assert len(cut) == workers
        assert len({len(mine) for mine in cut}) == 1
        micro = [group for mine in cut for group in mine]
        assert all(len(group) for group in micro)
        assert sorted(np.concatenate(micro)) == sorted(rows)
        again = shares(rows, lengths, batching=batching, workers=workers)
        assert all(np.array_equal(a, b) for a, b in zip(micro, itertools.chain(*again), strict=True))
        if isinstance(batching, PackedBatches):
            assert max(lengths.tokens[group].sum() for group in micro) <= batching.tokens
            assert max(lengths.images[group].sum() for group in micro) <= batching.images
        else:
            assert {len(group) for group in micro} == {batching.micro_batch}


def test_padded_micro_batches_are_cut_in_the_plans_order() -> None:
    rows = np.arange(100, 116)
    cut = shares(rows, None, batching=PaddedBatches(micro_batch=4), workers=2)
    assert [group.tolist() for mine in cut for group in mine] == np.arange(100, 116).reshape(4, 4).tolist()


def test_packs_are_as_few_as_tokens_allow_and_none_waits_for_another() -> None:
    lengths = SampleLengths(tokens=lengths_of(3).tokens, images=np.ones(SAMPLES, dtype=np.int32))
    generous = PACKED.model_copy(update={"images": 99})
    for rows in steps_of(4):
        cut = shares(rows, lengths, batching=generous, workers=8)
        least = -(-int(lengths.tokens[rows].sum()) // PACKED.tokens)
        assert len(cut[0]) <= -(-least // 8) + 1
        sums = np.array([[lengths.tokens[group].sum() for group in mine] for mine in cut])
        assert (sums.max(axis=0) / sums.mean(axis=0)).max() < 1.02  # all workers meet in each micro-batch
        unbalanced = lengths.tokens[rows].reshape(8, -1).sum(axis=1)
        assert sums.sum(axis=1).max() < unbalanced.max()


def test_few_samples_are_packed_as_well_as_trying_every_way_finds() -> None:
    random, more = np.random.default_rng(5), 0
    for _ in range(40):
        tokens = random.integers(10, 100, 7).astype(np.int32)
        lengths = SampleLengths(tokens=tokens, images=np.ones(7, dtype=np.int32))
        cut = shares(np.arange(7), lengths, batching=PackedBatches(tokens=130, images=3), workers=1)
        best = next(n for n in range(1, 8) if any(_fits(tokens, places, n) for places in itertools.product(range(n), repeat=7)))
        assert best <= len(cut[0]) <= best + 1
        more += len(cut[0]) - best
    assert more <= 8


def _fits(tokens: Rows, places: tuple[int, ...], packs: int) -> bool:
    at = np.array(places)
    return all(tokens[at == pack].sum() <= 130 and (at == pack).sum() <= 3 for pack in range(packs))


def test_samples_of_near_length_share_a_padded_micro_batch() -> None:
    lengths = lengths_of(6)

    def padded(batching: Batching) -> int:
        micro = [group for rows in steps_of(7) for mine in shares(rows, lengths, batching=batching, workers=2) for group in mine]
        return sum(len(group) * int(lengths.tokens[group].max()) for group in micro)

    useful = sum(int(lengths.tokens[rows].sum()) for rows in steps_of(7))
    assert padded(BY_LENGTH) < 1.03 * useful < padded(PaddedBatches(micro_batch=4))


def _recipe(batching: Batching, **changes: object) -> StageRecipe:
    fields = {"mixture": {"open": 1.0}, "steps": 1, "global_batch": 8, "batching": batching.model_dump(), "trainable": ("projector",)}
    return StageRecipe.model_validate(fields | changes)


def test_a_global_batch_that_does_not_divide_is_refused_with_the_numbers() -> None:
    check_batching(_recipe(PaddedBatches(micro_batch=2)), workers=2)
    with pytest.raises(ConfigError, match="8 is not a multiple of workers x micro_batch = 3 x 2"):
        check_batching(_recipe(PaddedBatches(micro_batch=2)), workers=3)
    check_batching(_recipe(PACKED), workers=8)
    with pytest.raises(ConfigError, match=r"8 is not a multiple of compute\.workers 3"):
        check_batching(_recipe(PACKED), workers=3)


def test_a_planned_sample_that_is_too_long_is_refused_by_name_and_one_that_is_not_planned_is_not() -> None:
    index = pa.table({"sample_id": ["a", "b", "c"], "kind": ["open", "mcq", "open"]})
    lengths = SampleLengths(tokens=np.array([10, 99, 70], dtype=np.int32), images=np.zeros(3, dtype=np.int32))
    check_lengths(index, np.array([[0, 2]]), lengths, 70)
    with pytest.raises(UserError, match=r"sample b \(mcq\) has 99 tokens, more than max_tokens 70"):
        check_lengths(index, np.array([[0, 2], [1, 0]]), lengths, 70)


@pytest.mark.parametrize(
    ("batching", "changes", "message"),
    [
        (PackedBatches(tokens=1024), {"max_tokens": 2048}, "such a sample would fit into no pack"),
        (PACKED, {"objective": "sight", "trainable": ("vision",)}, "all samples are of one length"),
        (BY_LENGTH, {"objective": "sight", "trainable": ("vision",)}, "all samples are of one length"),
    ],
)
def test_batching_that_a_stage_cannot_have_is_refused(batching: Batching, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _recipe(batching, **changes)
