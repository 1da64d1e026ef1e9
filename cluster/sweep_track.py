"""Ablations in MLflow: a run for each with what it changed and what came of it, above the runs of the stages that it trained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from cg_data import storage
from cg_train.follow import run_ids_of
from cg_train.tracking import TrackingSettings, ensure_database, quiet
from cluster.sweep import Trial

_LOG = logging.getLogger(__name__)
_NOTE = "tracking.json"
PARENT_TAG = "mlflow.parentRunId"
"""By which MLflow shows a run below another."""


def track_trials(trials: Sequence[Trial], figures: Mapping[str, Mapping[str, float]], tracking: TrackingSettings) -> None:
    """Write the runs of `trials`, those with `figures` (by the name of the trial) as finished, the others as failed; again changes nothing.

    Whatever MLflow does wrong is said once; the table and the run folders have it all.
    """
    try:
        experiment_id = ensure_database(tracking)
        quiet()
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=tracking.uri)
        for trial in trials:
            _track(client, experiment_id, trial, figures.get(trial.name))
    except Exception as error:  # noqa: BLE001 - whatever fails in the tracking store, the sweep is done
        _LOG.warning("MLflow at %s failed, the ablations are not in it: %s", tracking.uri, error)


def _track(client: Any, experiment_id: str, trial: Trial, figures: Mapping[str, float] | None) -> None:
    from mlflow.entities import Metric, Param, RunTag

    note = trial.folder.at(_NOTE)
    if storage.exists(note):
        run_id = storage.read_json(note)["run_id"]
    else:
        run_id = client.create_run(experiment_id, run_name=trial.name).info.run_id
        storage.write_json(note, {"run_id": run_id})
    if dict(client.get_run(run_id).data.metrics) != dict(figures or {}):
        client.log_batch(run_id, metrics=[Metric(name, value, 0, 0) for name, value in (figures or {}).items()])
    client.log_batch(
        run_id,
        params=[Param("sets", " ".join(trial.sets))],
        tags=[RunTag("ablation", trial.name), RunTag("about", trial.about), RunTag("base", trial.base.uri)],
    )
    client.set_terminated(run_id, "FAILED" if figures is None else "FINISHED")
    for stage_run in _stage_runs(client, experiment_id, trial):
        client.log_batch(stage_run, tags=[RunTag(PARENT_TAG, run_id), RunTag("ablation", trial.name)])


def _stage_runs(client: Any, experiment_id: str, trial: Trial) -> list[str]:
    """Runs of the stages that were trained for `trial`, not of those that it shares with its run."""
    folders = sorted(path for path in (trial.folder.path / "train").glob("*") if not path.is_symlink())
    return [run_id for folder in folders for run_id in run_ids_of(client, experiment_id, folder)]
