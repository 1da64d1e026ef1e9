from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cg_train.tracking import CHAMPION, Journal, Tracker, TrackingSettings, champion_folder, ensure_database, register_champion


def _tracking(folder: Path) -> TrackingSettings:
    return TrackingSettings(uri=f"sqlite:///{folder}/mlflow.db", artifacts_uri=f"file://{folder}/mlartifacts")


def _line(step: int) -> dict[str, object]:
    return {"step": step, "loss": 1.0 / step, "note": "text"}


def test_a_journal_that_was_cut_short_goes_on_after_the_checkpoint(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    for step in (1, 2, 3):
        journal.append(_line(step))
    with (tmp_path / "j.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert [line["step"] for line in journal.read()] == [1, 2, 3]
    journal.cut(2)
    journal.append(_line(3))
    assert journal.read() == [_line(1), _line(2), _line(3)]


def test_a_reader_that_follows_a_journal_gets_whole_lines_once_and_notices_a_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    assert journal.read_from(0) == ([], 0)
    journal.append(_line(1))
    lines, offset = journal.read_from(0)
    assert lines == [_line(1)]
    with (tmp_path / "j.jsonl").open("a") as stream:
        stream.write('{"step"')
    assert journal.read_from(offset) == ([], offset)
    journal.cut(0)
    assert journal.read_from(offset) == ([], 0)


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["loss", "loss_box"])
def test_a_continued_training_goes_on_in_its_run_logs_no_step_twice_and_keeps_its_figures_and_files(tmp_path: Path, figure: str) -> None:
    from mlflow import MlflowClient

    def _line(step: int) -> dict[str, object]:
        return {"step": step, figure: 1.0 / step}

    tracking = _tracking(tmp_path)
    first = Tracker(tracking, folder=tmp_path, name="stage1", config={"recipe": {"steps": 3}})
    first.log([_line(1), _line(2)])
    second = Tracker(tracking, folder=tmp_path, name="stage1", config={})
    second.log([_line(2), _line(3)])
    second.finish("FINISHED")
    (tmp_path / "detector").mkdir()
    (tmp_path / "detector" / "metrics.json").write_text("{}")
    second.keep({"validation.map50": 0.5}, tmp_path / "detector")
    client = MlflowClient(tracking_uri=tracking.uri)
    (run,) = client.search_runs([ensure_database(tracking)])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"recipe.steps": "3"}
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, figure)] == [1, 2, 3]
    assert run.data.metrics["validation.map50"] == 0.5
    assert [file.path for file in client.list_artifacts(run.info.run_id, "detector")] == ["detector/metrics.json"]


def test_a_tracking_store_that_fails_is_said_once_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    tracking = TrackingSettings(uri=f"sqlite:///{tmp_path}/file/mlflow.db", artifacts_uri=f"file://{tmp_path}")
    tracker = Tracker(tracking, folder=tmp_path, name="stage1", config={})
    with caplog.at_level(logging.WARNING, logger="cg_train.tracking"):
        tracker.log([_line(1)])
        tracker.log([_line(2)])
        tracker.finish("FINISHED")
    assert [record.message[:9] for record in caplog.records if record.name == "cg_train.tracking"] == ["MLflow at"]


@pytest.mark.slow
def test_the_champion_is_found_by_its_alias_and_registering_it_again_changes_nothing(tmp_path: Path) -> None:
    tracking = _tracking(tmp_path)
    for number, fingerprint in enumerate(("a", "a", "b")):
        model = tmp_path / f"model{number}"
        model.mkdir()
        (model / "config.json").write_text(str(number))
        version = register_champion(
            tracking, name="cerebragloss", folder=model, fingerprint=fingerprint, metrics={"mcq": 0.5}, config={"seed": 1}
        )
        assert version == ("1" if fingerprint == "a" else "2")
        held = champion_folder(tracking, name="cerebragloss")
        assert (held / "config.json").read_text() == ("0" if fingerprint == "a" else "2")
        assert held.is_relative_to(tmp_path / "mlartifacts")
    assert CHAMPION == "champion"
