"""State of a stage in a folder: engine, place in the plan, random generators. What is loaded continues bit for bit on CPU.

Whether a folder is complete is not decided here: Ray registers a checkpoint after all workers have reported theirs, and only registered
ones are offered for loading. Nothing may look for the newest folder itself, for it may be half written or not registered.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cg_data.errors import ConfigError

_RANDOM = "random-rank{rank}.pt"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a stage stands: `step` optimiser steps of the plan named by `fingerprint` are done, by `workers` workers."""

    step: int
    fingerprint: str
    workers: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Keeper:
    """Where checkpoints go and come from.

    `resume_from` is the merged folder to continue from, None for a fresh start. Every worker calls `keep` after the same steps with the
    folder of its part, or with None if it has no part.
    """

    resume_from: Path | None
    keep: Callable[[Path | None, int], None]


def save(engine: Any, folder: Path, position: Position) -> None:
    """Write this worker's part of the state into `folder`; all workers call it, each may have a folder of its own.

    Frozen parameters are left out: they are those of the model that the stage started from.
    """
    import torch
    import torch.distributed as dist

    engine.save_checkpoint(
        str(folder),
        tag=f"step{position.step:08d}",
        client_state={"position": dataclasses.asdict(position)},
        exclude_frozen_parameters=True,
    )
    torch.save(_random_state(), folder / _RANDOM.format(rank=dist.get_rank()))


def load(engine: Any, folder: Path, *, fingerprint: str, workers: int) -> Position:
    """Restore engine and random generators from the merged folder of all workers.

    Raises:
        ConfigError: the checkpoint belongs to another plan or to another number of workers.
    """
    import torch
    import torch.distributed as dist

    _check(folder, workers)
    tag = (folder / "latest").read_text().strip()
    _, client = engine.load_checkpoint(str(folder), tag=tag, load_module_strict=False)
    position = Position(**client["position"])
    if position.fingerprint != fingerprint:
        raise ConfigError(
            f"{folder.parent}: the checkpoints there were made with other samples or another recipe. "
            "Choose another --run folder, or delete that folder to train this step anew."
        )
    _set_random_state(torch.load(folder / _RANDOM.format(rank=dist.get_rank()), weights_only=False))
    return position


def _check(folder: Path, workers: int) -> None:
    """DeepSpeed cannot load a state at another number of workers; say so before it does, in words that name the setting."""
    saved = len(list(folder.glob(_RANDOM.format(rank="*"))))
    if saved != workers:
        raise ConfigError(
            f"{folder.parent}: the checkpoints there were made by {saved} workers, and compute.workers is {workers}. "
            f"Set compute.workers to {saved}, or delete that folder to train this step anew."
        )


def _random_state() -> dict[str, Any]:
    import torch

    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def _set_random_state(state: dict[str, Any]) -> None:
    import torch

    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
