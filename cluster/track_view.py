"""`cg train track`: MLflow gets what it missed of a run folder's journals."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from cg_data.errors import ConfigError
from cg_train.follow import fill_now
from cluster.config import RunConfig
from cluster.runfolder import RunFolder
from cluster.steps_train import tracking_of


def fill_in(config: RunConfig, folder: RunFolder, console: Console) -> None:
    """Fill in MLflow, and say of each training how many figures it lacked.

    Raises:
        ConfigError: there is no such run folder.
        StorageError: MLflow cannot be written, or a command that does so itself is at work in the folder.
    """
    if not folder.path.exists():
        raise ConfigError(f"{folder.uri}: no such run folder. Name one with --run.")
    tracking = tracking_of(config, folder)
    with folder.locked():
        filled = fill_now(tracking, folder.path.absolute() / "train")
    for name, figures in filled.items():
        console.print(escape(f"{name}: {f'{figures:,} figures filled in' if figures else 'nothing was missing'}"), soft_wrap=True)
    console.print(escape(f"{tracking.uri} has all of {len(filled)} trainings in {folder.uri}."), soft_wrap=True)
