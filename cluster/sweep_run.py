"""Ablations on Ray Tune: each trial does the steps that it does not share with its run, through the same runner as any command.

A trial is a driver: its process holds nothing but a sliver of the head node, and what it starts (Ray Train's workers, the actors of the
bench) takes CPUs and GPUs as it would for a command of its own. So no driver holds what its own workers wait for, and two CPUs are enough.
"""

from __future__ import annotations

import logging
import os
import shutil
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from ray import cluster_resources, tune
from ray.tune.progress_reporter import TrialProgressCallback
from rich.console import Console

from cg_data import storage
from cg_data.progress import Progress, silent
from cluster.display import Display
from cluster.pipeline import run_steps
from cluster.runfolder import RunFolder
from cluster.sweep import ERROR, Trial, at_once, share

_DRIVER = {"node:__internal_head__": 0.001}
"""What a trial's own process takes. With a part of a CPU, two workers of one CPU each would wait for ever on a machine of two."""
_LOG = "log.txt"
_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the old one can be told to be silent
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths of a configuration count from where the command was given
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command as it ends the others
}


def run_trials(trials: Sequence[Trial], sweep_folder: RunFolder, progress: Progress) -> None:
    """Do all `trials`, as many side by side as there is room for; Ray must be up.

    Of one that fails error.txt in its folder says why, and the others go on.
    """
    os.environ.update(_QUIET)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    by_name = {trial.name: trial for trial in trials}

    def trainable(config: dict[str, str]) -> None:
        run_trial(by_name[config["ablation"]])

    state = sweep_folder.at(".tune")
    shutil.rmtree(storage.local_path(state), ignore_errors=True)  # what is done is known by the trials' own folders
    tuner = tune.Tuner(
        tune.with_resources(trainable, tune.PlacementGroupFactory([_DRIVER])),
        param_space={"ablation": tune.grid_search(list(by_name))},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=at_once(trials, cluster_resources()), trial_dirname_creator=lambda trial: trial.config["ablation"]
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(storage.local_path(state).absolute()),
            verbose=0,
            callbacks=[_Ended(len(trials), progress)],
        ),
    )
    for result in tuner.fit():
        if result.error is not None:
            write_error(by_name[result.config["ablation"]], result.error)


def write_error(trial: Trial, error: BaseException) -> None:
    """Keep why a trial failed: a line for the table (the user's mistake in its own words, else the last line of it), then all of it."""
    from cluster.cli import user_error_in  # which knows all commands, this one too

    mistake = user_error_in(error)
    lines = str(mistake or error).strip().splitlines() or [type(error).__name__]
    reason = lines[0] if mistake else f"{lines[-1]} (all of it: {trial.folder.at(ERROR)})"
    whole = "".join(traceback.format_exception(error))
    storage.write_bytes(trial.folder.at(ERROR), f"{reason}\n\n{whole}".encode())


def run_trial(trial: Trial) -> None:
    """The steps that `trial` does not share with its run, in the process that calls; what is shown of them goes to its log.txt.

    Raises:
        Exception: whatever a step raises.
    """
    with trial.folder.locked():
        storage.delete(trial.folder.at(ERROR))
        share(trial)
        with (trial.folder.path / _LOG).open("a", buffering=1) as stream:
            run_steps(
                trial.steps(),
                road=trial.steps(),
                config=trial.config,
                folder=trial.folder,
                display=Display(Console(file=stream, highlight=False, width=200)),
                session=nullcontext,
            )


class _Ended(TrialProgressCallback):
    """Tells of trials that end, well or not, in place of Tune's own callback of this kind."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._done, self._progress = total, 0, progress

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes itself down with its callbacks, and a display cannot be."""
        return {"_total": self._total, "_done": self._done, "_progress": silent}

    def on_trial_result(self, *_: Any, **__: Any) -> None:
        pass

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._tell(trial, "done")

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
        self._tell(trial, "failed")

    def _tell(self, trial: Any, how: str) -> None:
        self._done += 1
        self._progress(self._done, self._total, f"{trial.config['ablation']} {how}")
