"""Which samples are consumed at which step, decided before training starts.

The plan is a pure function of the seed, the mixture and the set of sample ids with their kinds: neither the order of the shards nor
the number of workers enters it. Randomness comes from raw 64-bit Philox words (Salmon et al. 2011), whose stream NumPy guarantees, and
not from NumPy's distributions, which may change between versions.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cg_data.errors import ConfigError
from cg_data.records import content_id
from cg_data.vocabulary import SampleKind
from cg_train.recipe import StageRecipe


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`rows` is int64 `(steps, global_batch)`: rows of the index table. `fingerprint` is a content hash of the planned ids in order."""

    rows: npt.NDArray[np.int64]
    fingerprint: str

    @property
    def steps(self) -> int:
        return len(self.rows)


def make_plan(index: pa.Table, recipe: StageRecipe) -> Plan:
    """The order of consumption of the samples in `index` (columns sample_id, kind; one row per sample).

    Each kind gets its share of the draws by weight, exact to one draw, at places shuffled over the whole plan. Within a kind the
    samples are shuffled anew for every pass, and each is drawn once per pass. An epoch is as many draws as there are samples of the
    mixture's kinds, or as many of them as `counts` lets in.

    Raises:
        ConfigError: a kind of the mixture has no samples or fewer than `counts` asks for, all weights are zero, or a sample occurs twice.
    """
    by_kind = _rows_by_kind(index, recipe)
    steps = recipe.steps or _steps_of_epochs(by_kind, recipe)
    draws = steps * recipe.global_batch
    kinds = list(by_kind)
    counts = _apportion(np.array([recipe.mixture[kind] for kind in kinds]), draws)
    order = np.repeat(np.arange(len(kinds)), counts)[_shuffled(draws, recipe.seed, "kinds")]
    rows = np.empty(draws, dtype=np.int64)
    for number, kind in enumerate(kinds):
        rows[order == number] = _passes(by_kind[kind], int(counts[number]), recipe.seed, kind)
    ids = index.column("sample_id").take(pa.array(rows)).to_pylist()
    return Plan(rows=rows.reshape(steps, recipe.global_batch), fingerprint=content_id("plan", recipe.global_batch, ids))


def fixed_rows(index: pa.Table, recipe: StageRecipe, samples: int) -> npt.NDArray[np.int64]:
    """Rows of at most `samples` samples of `index` in the proportions of the mixture, `(n,)`; a pure function of the seed and the ids.

    A kind that has fewer gives what it has. More samples hold those that fewer do.
    """
    ids = np.asarray(index.column("sample_id").to_pylist(), dtype=np.str_)
    order = np.argsort(ids, kind="stable")
    kinds = np.asarray(index.column("kind").to_pylist(), dtype=np.str_)[order]
    wanted = sorted(kind for kind, weight in recipe.mixture.items() if weight > 0)
    counts = _apportion(np.array([recipe.mixture[kind] for kind in wanted]), samples)
    chosen = [_first(order[kinds == kind.value], int(count), recipe.seed, kind) for kind, count in zip(wanted, counts, strict=True)]
    return np.concatenate(chosen).astype(np.int64)


def _first(rows: npt.NDArray[np.int64], count: int, seed: int, kind: SampleKind) -> npt.NDArray[np.int64]:
    """`count` of `rows`, in their order, or all where there are not as many."""
    return rows[np.sort(_shuffled(len(rows), seed, "count", kind.value)[:count])]


def _rows_by_kind(index: pa.Table, recipe: StageRecipe) -> dict[SampleKind, npt.NDArray[np.int64]]:
    """Rows of each kind with a positive weight, kinds by name and rows by sample id, so that the layout of the shards is forgotten."""
    wanted = sorted(kind for kind, weight in recipe.mixture.items() if weight > 0)
    if not wanted:
        raise ConfigError("mixture: every weight is zero. Give at least one kind of sample a positive weight.")
    ids = np.asarray(index.column("sample_id").to_pylist(), dtype=np.str_)
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice):
        raise ConfigError(f"sample {ids[order][twice[0]]} occurs twice in the samples folder. Make the samples step again.")
    kinds = np.asarray(index.column("kind").to_pylist(), dtype=np.str_)[order]
    found = {kind: order[kinds == kind.value].astype(np.int64) for kind in wanted}
    for kind, rows in found.items():
        if not len(rows):
            raise ConfigError(
                f'mixture: there is no training sample of kind "{kind}". Take it out of the mixture or have such samples written.'
            )
    return {kind: _chosen(rows, kind, recipe) for kind, rows in found.items()}


def _chosen(rows: npt.NDArray[np.int64], kind: SampleKind, recipe: StageRecipe) -> npt.NDArray[np.int64]:
    """As many of a kind's `rows`, by sample id, as `recipe.counts` says; a smaller number takes some of those that a larger one takes."""
    count = recipe.counts.get(kind, len(rows))
    if count > len(rows):
        raise ConfigError(
            f"counts: {count} samples of kind {kind.value} are asked for, and there are {len(rows)} for training. "
            f"Set counts.{kind.value} to at most {len(rows)}, or have more such samples written."
        )
    return _first(rows, count, recipe.seed, kind)


def _steps_of_epochs(by_kind: Mapping[SampleKind, npt.NDArray[np.int64]], recipe: StageRecipe) -> int:
    assert recipe.epochs is not None
    samples = sum(len(rows) for rows in by_kind.values())
    return max(1, round(recipe.epochs * samples / recipe.global_batch))


def _apportion(weights: npt.NDArray[np.float64], draws: int) -> npt.NDArray[np.int64]:
    """`draws` split in proportion to `weights` by the method of the largest remainder (ties to the first)."""
    exact = weights / weights.sum() * draws
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(-(exact - counts), kind="stable")[: draws - int(counts.sum())]
    counts[largest] += 1
    return counts


def _passes(rows: npt.NDArray[np.int64], draws: int, seed: int, kind: SampleKind) -> npt.NDArray[np.int64]:
    """The first `draws` of endless passes over `rows`, each pass in an order of its own."""
    passes = -(-draws // len(rows))
    orders = [rows[_shuffled(len(rows), seed, kind.value, number)] for number in range(passes)]
    return np.concatenate(orders)[:draws] if orders else rows[:0]


def _shuffled(length: int, *key: object) -> npt.NDArray[np.int64]:
    """A permutation of 0..length-1 that depends on `key` alone."""
    return np.argsort(random_words(length, *key), kind="stable").astype(np.int64)


def random_words(length: int, *key: object) -> npt.NDArray[np.uint64]:
    """`length` random 64-bit words that depend on `key` alone."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    words: npt.NDArray[np.uint64] = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(length)
    return words
