"""Ray Data feeds a worker: actors make its batches, ahead of it and in the order of the plan.

Each worker has a dataset of its own, a row of which is a step. It begins at the step of the checkpoint that the worker has loaded, and its
actors end with it, so neither a restart nor another number of workers leaves anything behind. What the actors make is what the worker's own
thread would make (`cg_train.batches.made_here`), to the bit; a user's mistake comes as a row, at its step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pyarrow as pa
import ray
import ray.data
import torch
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

from cg_data.errors import UserError
from cg_train.batches import BatchMaker, Finish, StepBatch, prefetched
from cg_train.model.pixels import to_shades, to_values

_READY = 2
"""Batches that may lie in the object store for each worker, beside those that its actors are at and those that it has taken."""
_PAUSE_S = 0.1
_NO_STEP = -1
"""Follows the last step, more often than it can be asked for. Actors that have nothing left to do Ray Data lets go by counting references,
of which the last batch can hold one for ever; those that have, it kills when the dataset is closed."""
_STEP, _PART, _PIXELS = "step", "part", "pixel_values"


def streamed(make: BatchMaker, steps: range, finish: Finish, *, actors: int) -> Generator[Callable[[], StepBatch], None, None]:
    """For each step a function that waits for its batch, while `actors` actors of one CPU each make the next ones.

    Raises:
        AssertionError: by such a function, if the batch is not of its step.
        ray.exceptions.RayError: by such a function, if what an actor does is not a user's mistake.
    """
    if not steps:
        return
    blocks = iter(_dataset(make, steps, actors).iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))

    def take(step: int) -> StepBatch:
        batch = _unpacked(next(blocks))
        if batch.step != step:
            raise AssertionError(f"Ray Data brought the batch of step {batch.step} where that of step {step} was due")
        return finish(batch)

    with contextlib.closing(blocks), contextlib.closing(prefetched(take, steps)) as batches:
        yield from batches


def _dataset(make: BatchMaker, steps: range, actors: int) -> ray.data.Dataset:
    """A block for each step, so that any actor that is free takes the next one."""
    rows = [{_STEP: step} for step in [*steps, *[_NO_STEP] * (actors + 2 * _READY + 4)]]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = True
    context.set_config(ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, _NotTooFarAhead])
    return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Maker,
        fn_constructor_args=(ray.put(make),),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
    )


class _NotTooFarAhead(BackpressurePolicy):
    """Bounds what lies in the object store by batches; Ray Data's own policies know bytes, of the whole store."""

    def can_add_input(self, op: Any) -> bool:
        if not isinstance(op, ActorPoolMapOperator):
            return True
        ahead = op.num_active_tasks() + self._topology[op].total_enqueued_output_blocks()
        if ahead < op.get_max_concurrency_limit() + _READY:
            return True
        if not op.num_active_tasks():
            time.sleep(_PAUSE_S)  # Ray Data's loop waits for tasks alone: with none at work it would turn round on the worker's core
        return False


class _Maker:
    """The actor."""

    def __init__(self, make: ray.ObjectRef) -> None:
        torch.set_num_threads(1)
        self._make: BatchMaker = ray.get(make)

    def __call__(self, block: pa.Table) -> pa.Table:
        (step,) = block.column(_STEP).to_pylist()
        if step == _NO_STEP:
            return pa.table({_PART: pa.array([b""], pa.large_binary())})
        try:
            return _packed(self._make(step))
        except UserError as error:
            return _packed(error)


def _packed(made: StepBatch | UserError) -> pa.Table:
    """One column of bytes, which Ray's object store holds and shares as they are: a pickle, then the arrays that it refers to."""
    arrays: list[pickle.PickleBuffer] = []
    told = made if isinstance(made, UserError) else dataclasses.replace(made, micro_batches=tuple(map(_arrays, made.micro_batches)))
    head = pickle.dumps(told, protocol=5, buffer_callback=arrays.append)
    return pa.table({_PART: pa.array([head, *(array.raw() for array in arrays)], pa.large_binary())})


def _arrays(batch: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Pictures as bytes where nothing is lost by it."""
    shades = to_shades(batch[_PIXELS])
    return {name: tensor.numpy() for name, tensor in (batch if shades is None else {**batch, _PIXELS: shades}).items()}


def _unpacked(block: pa.Table) -> StepBatch:
    """Raises:
    UserError: that is what the actor met.
    """
    head, *arrays = block.column(_PART).combine_chunks()
    made = pickle.loads(head.as_buffer(), buffers=[array.as_buffer() for array in arrays])
    if isinstance(made, UserError):
        raise made
    return dataclasses.replace(made, micro_batches=tuple(map(_tensors, made.micro_batches)))


def _tensors(batch: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Copies: what lies in the object store is not to be written, nor kept longer than it must."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in batch.items()}
    shades = tensors[_PIXELS]
    return {**tensors, _PIXELS: to_values(shades)} if shades.dtype == torch.uint8 else tensors
