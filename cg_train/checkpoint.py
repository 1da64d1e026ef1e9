"""State of a stage in a folder: engine, place in the plan, random generators. What is loaded continues bit for bit on CPU, and on another
number of workers up to rounding.

Ray registers a checkpoint after all workers have reported theirs, and only registered ones are offered for loading: nothing may look for
the newest folder itself, for it may be half written or not registered. What was registered may still have lost bytes since, on a full or
failing disk, so every worker seals its part with the length and hash of each file, and the newest checkpoint that is as it was sealed is
taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cg_data.errors import ConfigError, UserError

_RANDOM = "random-rank{rank}.pt"
_SEAL = "sealed-rank{rank}.json"
_MOST_PROCESSES = 8
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where a stage stands: `step` optimiser steps of the plan named by `fingerprint` are done."""

    step: int
    fingerprint: str


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cg-checkpoint-") as folder:
        yield Path(folder)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Keeper:
    """Where checkpoints go and come from.

    `resume_from` are the merged folders to continue from, newest first, none for a fresh start. Every worker calls `keep` after the same
    steps with the sealed folder of its part, or with None if it has no part; `part` makes that folder, in which nothing may be written
    once it is kept. Every worker calls `settle` before it exports: what was kept may still be on its way, and is there when that returns.
    """

    resume_from: Sequence[Path]
    keep: Callable[[Path | None, int], None]
    part: Callable[[], contextlib.AbstractContextManager[Path]] = _temporary
    settle: Callable[[], None] = lambda: None


def seal(folder: Path, *, rank: int, parts: int) -> None:
    """Note length and SHA-256 of every file of worker `rank`'s part in `folder`; a whole checkpoint has `parts` sealed parts."""
    files = {path.relative_to(folder).as_posix(): _print(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    (folder / _SEAL.format(rank=rank)).write_text(json.dumps({"parts": parts, "files": files}))


def newest_whole(folders: Sequence[Path], *, rank: int, workers: int) -> Path | None:
    """The first of `folders` in which every file is as it was sealed; all workers call it, each reads its share, all get the same.

    Raises:
        UserError: there are folders, and all of them are damaged.
    """
    told: list[str] = []
    for folder in folders:
        found = next((reason for reason in _from_all(_damage(folder, rank, workers)) if reason), None)
        if found is None:
            if told:
                _log.warning("%s: damaged (%s). Training goes on from %s.", folder.parent, "; ".join(told), folder.name)
            return folder
        told.append(f"{folder.name}: {found}")
    if told:
        raise UserError(
            f"{folders[0].parent}: no checkpoint there is whole ({'; '.join(told)}). Delete that folder to train this step anew."
        )
    return None


def _damage(folder: Path, rank: int, workers: int) -> str | None:
    """What is wrong with worker `rank`'s share of the files of a merged folder. A file of several parts must be as one of them has it."""
    sealed: dict[str, list[list[Any]]] = {}
    seals = sorted(folder.glob(_SEAL.format(rank="*")))
    parts: set[int] = set()
    for path in seals:
        try:
            told: Mapping[str, Any] = json.loads(path.read_text())
            parts.add(int(told["parts"]))
            for name, known in told["files"].items():
                sealed.setdefault(name, []).append(known)
        except (OSError, ValueError, KeyError, TypeError) as error:
            return f"{path.name} cannot be read ({error})"
    if parts != {len(seals)}:
        return f"{len(seals)} of {' or '.join(map(str, sorted(parts))) or 'its'} parts are sealed"
    for name in sorted(sealed)[rank::workers]:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _print(path) not in sealed[name]:
            return f"{name} is not as it was written"
    return None


def _print(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _from_all(mine: str | None) -> list[str | None]:
    import torch.distributed as dist

    if not dist.is_initialized():
        return [mine]
    everyones: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(everyones, mine)
    return everyones


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
    seal(folder, rank=dist.get_rank(), parts=dist.get_world_size())


def is_of_other_size(folder: Path, workers: int) -> bool:
    """Whether the merged folder holds optimiser states scattered over another number of workers, which must be put together first."""
    return _parts(folder) != workers and any(folder.rglob("*optim_states.pt"))


def put_together(folder: Path, into: Path) -> None:
    """Write the scattered states of a merged folder as DeepSpeed's universal checkpoint, which any number of workers can load.

    One worker calls it, for all (Lian et al. 2024, "Universal Checkpointing"). `into` is emptied before.

    Raises:
        UserError: DeepSpeed cannot convert it.
    """
    shutil.rmtree(into, ignore_errors=True)
    tag = (folder / "latest").read_text().strip()
    processes = str(min(_MOST_PROCESSES, os.cpu_count() or 1))
    command = [sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    command += ["--input_folder", str(folder / tag), "--output_folder", str(into / tag)]
    command += ["--num_extract_workers", processes, "--num_merge_workers", processes]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(
            f"{folder}: the checkpoint is of {_parts(folder)} workers and cannot be made into one for another number ({last}). "
            f"Set compute.workers to {_parts(folder)}, or delete {folder.parent} to train this step anew."
        )
    shutil.copy(folder / "latest", into / "latest")


def load(engine: Any, folder: Path, *, fingerprint: str, states: Path | None = None) -> Position:
    """Restore engine and random generators from the merged folder of all workers; all workers call it.

    Args:
        states: what `put_together` made of it, where `is_of_other_size`; the engine's configuration must say `load_universal` then.

    Raises:
        ConfigError: the checkpoint belongs to another plan.
    """
    import torch
    import torch.distributed as dist

    rank, workers = dist.get_rank(), dist.get_world_size()
    tag = (folder / "latest").read_text().strip()
    _, client = engine.load_checkpoint(str(states or folder), tag=tag, load_module_strict=False)
    position = Position(**client["position"])
    if position.fingerprint != fingerprint:
        raise ConfigError(
            f"{folder.parent}: the checkpoints there were made with other samples or another recipe. "
            "Choose another --run folder, or delete that folder to train this step anew."
        )
    if _parts(folder) == workers:
        _set_random_state(torch.load(folder / _RANDOM.format(rank=rank), weights_only=False))
    else:  # nobody's generators are those of so many workers: new ones, the same whenever this is loaded
        _seed(f"{fingerprint} {position.step} {rank} of {workers}")
    return position


def _parts(folder: Path) -> int:
    """By how many workers the checkpoint was made."""
    return len(list(folder.glob(_RANDOM.format(rank="*"))))


def _seed(key: str) -> None:
    import torch

    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


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
