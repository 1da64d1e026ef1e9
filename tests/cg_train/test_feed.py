"""Ray Data hands over what the worker's own thread would have made, in order, not too far ahead, and lets go when it is closed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from cg_data.errors import UserError
from cg_data.vocabulary import SampleKind
from cg_train.batches import BatchMaker, SampleStore, StepBatch, prefetched
from cg_train.model.learner import load_learner
from cg_train.packs import SampleLengths
from cg_train.plan import make_plan
from cg_train.recipe import Batching, PackedBatches, PaddedBatches, StageRecipe, TrainSettings
from tests.cg_data.engine_runs import workers
from tests.cg_train.model_small import PAGE, SIZES

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

PACKED = StageRecipe(
    mixture={SampleKind.CAPTION: 1.0, SampleKind.OPEN: 1.0},
    steps=9,
    global_batch=4,
    batching=PackedBatches(tokens=2048, images=3),
    gain_log2=0.5,
    trainable=("projector",),
)
SIGHT = PACKED.model_copy(update={"objective": "sight", "mixture": {SampleKind.CAPTION: 1.0}, "batching": PaddedBatches(micro_batch=2)})


@pytest.fixture
def maker_of(samples_uri: str, annotations_uri: str, model_folder: str) -> Callable[[StageRecipe], BatchMaker]:
    def make(recipe: StageRecipe) -> BatchMaker:
        settings = TrainSettings(precision="float32", tiny=SIZES, stage1=recipe, stage2=recipe)
        learner = load_learner(
            model_folder, recipe=recipe, settings=settings, page=PAGE, annotations_uri=annotations_uri, about={}, device="cpu"
        )
        store = SampleStore([samples_uri])
        return BatchMaker(
            store=store,
            plan=make_plan(store.index, recipe),
            rank=1,
            workers=2,
            batching=recipe.batching,
            lengths=_lengths(recipe.batching, store.index.num_rows),
            seed=recipe.seed,
            gain_log2=recipe.gain_log2,
            collate=learner.collate,
        )

    return make


def as_made(batch: StepBatch) -> StepBatch:
    return batch


def _lengths(batching: Batching, samples: int) -> SampleLengths | None:
    if isinstance(batching, PaddedBatches):
        return None
    return SampleLengths(
        tokens=torch.full((samples,), 300, dtype=torch.int32).numpy(), images=torch.ones(samples, dtype=torch.int32).numpy()
    )


@pytest.mark.parametrize("recipe", [PACKED, SIGHT])
def test_batches_of_actors_are_to_the_bit_those_of_the_own_thread_from_whichever_step(
    maker_of: Callable[[StageRecipe], BatchMaker], recipe: StageRecipe
) -> None:
    from cg_train.feed import streamed

    make, steps = maker_of(recipe), range(2, 9)
    own = [fetch() for fetch in prefetched(make, steps)]
    fed = [fetch() for fetch in streamed(make, steps, as_made, actors=2)]
    assert [batch.step for batch in fed] == [*steps]
    for mine, theirs in zip(own, fed, strict=True):
        assert mine.sample_ids == theirs.sample_ids
        for a, b in zip(mine.micro_batches, theirs.micro_batches, strict=True):
            assert [*a] == [*b]
            assert all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)
    assert _gone()


@dataclasses.dataclass(frozen=True)
class Noted:
    """Makes empty batches, leaves a file for each, fails at one step and mistakes another for a third."""

    folder: Path
    too_long: int = -1
    mistaken: int = -1

    def __call__(self, step: int) -> StepBatch:
        (self.folder / str(step)).touch()
        if step == self.too_long:
            raise UserError(f"sample {step} is too long")
        pixels = {"pixel_values": torch.zeros(4, 1176)}
        return StepBatch(step=step + 10 * (step == self.mistaken), sample_ids=(f"{step}",), micro_batches=(pixels,))


def test_a_users_mistake_is_his_at_its_step_and_a_batch_of_another_step_is_not_trained_on(tmp_path: Path) -> None:
    from cg_train.feed import streamed

    make: Any = Noted(tmp_path, too_long=2, mistaken=4)
    fetches = streamed(make, range(6), as_made, actors=1)
    assert [next(fetches)().step, next(fetches)().step] == [0, 1]
    with pytest.raises(UserError, match=r"^sample 2 is too long$"):
        next(fetches)()
    assert next(fetches)().step == 3
    with pytest.raises(AssertionError, match="step 14 where that of step 4"):
        next(fetches)()
    fetches.close()
    assert _gone()


def test_actors_stay_few_steps_ahead_are_replaced_when_they_die_and_end_when_nobody_wants_more(tmp_path: Path) -> None:
    from cg_train.feed import streamed

    make: Any = Noted(tmp_path)
    fetches = streamed(make, range(60), as_made, actors=1)
    assert next(fetches)().step == 0
    time.sleep(3)
    assert len([*tmp_path.iterdir()]) <= 8, (
        "one is taken; two are with the worker and one on its way; at the actor and in the store are three"
    )
    for step in range(1, 20):
        assert next(fetches)().step == step
    (actor,) = _actors()
    actor.kill()
    for step in range(20, 40):
        assert next(fetches)().step == step
    assert _actors()
    fetches.close()
    assert _gone()
    assert len([*tmp_path.iterdir()]) < 50


def _actors() -> list[psutil.Process]:
    return workers(psutil.Process().pid, "_Maker")


def _gone() -> bool:
    """Whether all actors have ended within a minute; it takes some seconds when the machine is busy."""
    deadline = time.monotonic() + 60
    while _actors() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not _actors()
