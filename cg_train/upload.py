"""Checkpoints on Ray Train: uploaded while training goes on, registered in the order of their steps. Knows Ray, as `cg_train.job` does.

Each worker has at most one part on its own disk, which goes when it is uploaded or cannot be. What a killed group left there, and in the
run folder without being registered, the next group takes away when it starts.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cg_data import storage
from cg_data.errors import StorageError
from cg_data.records import content_id
from cg_train.checkpoint import Keeper

if TYPE_CHECKING:
    import ray.train


@contextlib.contextmanager
def registered_checkpoints() -> Iterator[list[Path]]:
    """The checkpoints that Ray registered and still keeps, newest first, as local folders; every worker calls it before it trains."""
    import ray.train

    context = ray.train.get_context()
    with contextlib.ExitStack() as opened:
        kept = reversed(ray.train.get_all_reported_checkpoints())
        folders = [Path(opened.enter_context(reported.checkpoint.as_directory())) for reported in kept]
        if context.get_local_rank() == 0:
            for left in Path(tempfile.gettempdir()).glob(_part_name("*")):
                shutil.rmtree(left)
        if context.get_world_rank() == 0:
            for other in _run_folder().glob(_checkpoint_name("*", "*")):
                if other.name not in {folder.name for folder in folders}:
                    shutil.rmtree(other)
        yield folders


def keeper_of(label: str, folders: Sequence[Path]) -> Keeper:
    """Goes on from those of `registered_checkpoints` that are named after `label`, and names its own so."""
    mine = [folder for folder in folders if folder.name.startswith(_checkpoint_name(label, ""))]
    keep = functools.partial(_report, label, [folder.name for folder in mine])
    return Keeper(resume_from=mine, keep=keep, part=_part, settle=_settle)


def _checkpoint_name(label: str, step: str) -> str:
    return f"checkpoint-{label}-{step}"


def _run_folder() -> Path:
    """Of Ray Train, where the checkpoints are."""
    import ray.train

    return Path(ray.train.get_context().get_storage().experiment_fs_path)


def _part_name(rank: str) -> str:
    """Of a worker's part in the folder for temporary files: the same in every group of this run, so that the next one finds it."""
    return f"cg-checkpoint-{content_id('part', str(_run_folder()))}-{rank}"


@contextlib.contextmanager
def _part() -> Iterator[Path]:
    """An empty folder for this worker's part, once the one before is registered. It goes when it is uploaded, or cannot be written."""
    import ray.train

    _settle()
    folder = Path(tempfile.gettempdir(), _part_name(str(ray.train.get_context().get_world_rank())))
    if folder.exists():  # Ray skips a report when it resizes the group
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder)
        raise


def _settle() -> None:
    """Wait until Ray has registered what this worker has reported. If an upload fails, Ray ends the worker here."""
    import ray.train

    ray.train.get_all_reported_checkpoints(consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED)


def _report(label: str, registered: Sequence[str], folder: Path | None, step: int) -> None:
    """Hand this worker's part of a checkpoint to Ray, which merges the parts of all and registers them as one.

    A group that died before its checkpoint was registered leaves parts behind: those of another number of workers must not get between
    these, should they come late. One that is made anew because it was damaged gets a name of its own too, for Ray will delete the folder
    of the damaged one.
    """
    import ray.train

    part = None if folder is None else ray.train.Checkpoint.from_directory(str(folder))
    name = _checkpoint_name(label, f"{step:08d}-of-{ray.train.get_context().get_world_size()}")
    while name in registered:
        name += "-again"
    ray.train.report(
        {"step": step},
        checkpoint=part,
        checkpoint_dir_name=name,
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
        checkpoint_upload_fn=_upload,
    )


def _upload(part: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
    """Ray's copy into the run folder, in a thread of its own; what it raises ends the group. Ray alone would leave the part if that fails.

    Raises:
        StorageError: the run folder is full, or not there.
    """
    import ray.train

    try:
        return ray.train.get_context().get_storage().persist_current_checkpoint(part, name)
    except OSError as error:
        raise storage.storage_error(str(_run_folder()), error) from error
    except RuntimeError as error:  # Ray misses its mark there
        raise StorageError(f"{_run_folder()}: the checkpoint cannot be written, the folder is not what it was. Is it mounted?") from error
    finally:
        shutil.rmtree(part.path)
