from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from cg_data.errors import ConfigError
from cg_data.vocabulary import SampleKind
from cg_train.plan import Plan, make_plan
from cg_train.recipe import StageRecipe


def _index(counts: dict[SampleKind, int]) -> pa.Table:
    rows = [{"sample_id": f"{kind.value}-{i:03d}", "kind": kind.value} for kind, n in counts.items() for i in range(n)]
    return pa.Table.from_pylist(rows)


INDEX = _index({SampleKind.CAPTION: 30, SampleKind.BINARY: 50, SampleKind.MCQ: 7})


def _recipe(**changes: object) -> StageRecipe:
    defaults = {"mixture": {"caption": 1, "binary": 2}, "steps": 10, "global_batch": 8, "trainable": ("projector",)}
    return StageRecipe.model_validate(defaults | changes)


def _ids(index: pa.Table, plan: Plan) -> list[str]:
    return index.column("sample_id").take(pa.array(plan.rows.ravel())).to_pylist()


def test_the_plan_does_not_depend_on_the_order_of_the_shards() -> None:
    shuffled = INDEX.take(pa.array(np.random.default_rng(0).permutation(INDEX.num_rows)))
    here, there = make_plan(INDEX, _recipe()), make_plan(shuffled, _recipe())
    assert _ids(INDEX, here) == _ids(shuffled, there)
    assert here.fingerprint == there.fingerprint


def test_seed_mixture_and_samples_each_change_the_plan() -> None:
    plans = [
        make_plan(INDEX, _recipe()),
        make_plan(INDEX, _recipe(seed=18)),
        make_plan(INDEX, _recipe(mixture={"caption": 1, "binary": 1})),
        make_plan(INDEX.slice(1), _recipe()),
    ]
    assert len({plan.fingerprint for plan in plans}) == len(plans)


def test_the_plan_is_the_same_on_every_machine() -> None:
    # A literal, because training may continue after an update of NumPy.
    assert _ids(INDEX, make_plan(INDEX, _recipe()))[:3] == ["binary-008", "binary-031", "caption-024"]


def test_kinds_have_their_share_to_one_draw_and_every_sample_comes_once_a_pass() -> None:
    drawn = Counter(_ids(INDEX, make_plan(INDEX, _recipe(steps=30))))
    by_kind = {kind: [n for name, n in drawn.items() if name.startswith(kind)] for kind in ("caption", "binary", "mcq")}
    assert [sum(by_kind[kind]) for kind in ("caption", "binary", "mcq")] == [80, 160, 0]
    assert {*by_kind["caption"]} == {2, 3}
    assert {*by_kind["binary"]} == {3, 4}
    assert (len(by_kind["caption"]), len(by_kind["binary"])) == (30, 50)


def test_an_epoch_of_the_natural_mixture_draws_every_sample_once() -> None:
    plan = make_plan(INDEX, _recipe(mixture={"caption": 30, "binary": 50}, steps=None, epochs=1))
    assert plan.steps == 10
    assert set(Counter(_ids(INDEX, plan)).values()) == {1}


def test_counts_let_in_so_many_samples_of_a_kind_the_same_in_every_pass_and_nested() -> None:
    kinds = {"mixture": {"caption": 20, "binary": 50}, "steps": None, "epochs": 3, "global_batch": 7}
    drawn = Counter(_ids(INDEX, make_plan(INDEX, _recipe(**kinds, counts={"caption": 20}))))
    captions = {name for name in drawn if name.startswith("caption")}
    assert (len(captions), len(drawn)) == (20, 70)
    assert set(drawn.values()) == {3}
    fewer = Counter(_ids(INDEX, make_plan(INDEX, _recipe(**kinds, counts={"caption": 10}))))
    assert {name for name in fewer if name.startswith("caption")} < captions


def test_more_samples_than_there_are_are_refused() -> None:
    with pytest.raises(ConfigError, match="counts: 31 samples of kind caption are asked for, and there are 30"):
        make_plan(INDEX, _recipe(counts={"caption": 31}))
    with pytest.raises(ValueError, match="counts names mcq, which has no weight"):
        _recipe(counts={"mcq": 1})


@pytest.mark.parametrize(
    ("index", "mixture", "message"),
    [
        (INDEX, {"caption": 1, "description": 1}, 'no training sample of kind "description"'),
        (INDEX, {"caption": 0}, "every weight is zero"),
        (pa.concat_tables([INDEX, INDEX.slice(3, 1)]), {"caption": 1}, "caption-003 occurs twice"),
    ],
)
def test_a_mixture_that_cannot_be_drawn_is_refused(index: pa.Table, mixture: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(index, _recipe(mixture=mixture))
