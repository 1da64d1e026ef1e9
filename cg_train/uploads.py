"""Checkpoints on their way to Ray Train's storage and back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_POLL_S = 0.05


@contextlib.contextmanager
def registered_folders() -> Iterator[list[Path]]:
    """The checkpoints that Ray registered and still keeps, newest first, as local folders."""
    import ray.train

    with contextlib.ExitStack() as opened:
        kept = reversed(ray.train.get_all_reported_checkpoints())
        yield [Path(opened.enter_context(reported.checkpoint.as_directory())) for reported in kept]


def checkpoint_name(label: str, step: str) -> str:
    return f"checkpoint-{label}-{step}"


class Uploads:
    """A worker's parts of checkpoints on their way to Ray, which merges the parts of all and registers them as one; one at a time, while
    training goes on."""

    def __init__(self) -> None:
        self._sent: Path | None = None

    def keep(self, label: str, registered: Sequence[str], folder: Path | None, step: int) -> None:
        """Send `folder`, after the one before has arrived.

        A group that died before its checkpoint was registered leaves parts behind: those of as many workers are written over, those of
        another number must not get between these. One that is made anew because it was damaged gets a name of its own too, for Ray will
        delete the folder of the damaged one.
        """
        import ray.train

        while self._sent is not None and self._sent.exists():  # Ray deletes it then; if it cannot be sent, Ray ends this process
            time.sleep(_POLL_S)
        self._sent = folder
        name = checkpoint_name(label, f"{step:08d}-of-{ray.train.get_context().get_world_size()}")
        while name in registered:
            name += "-again"
        ray.train.report(
            {"step": step},
            checkpoint=None if folder is None else ray.train.Checkpoint.from_directory(str(folder)),
            checkpoint_dir_name=name,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )
