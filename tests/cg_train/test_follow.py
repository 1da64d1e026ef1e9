"""MLflow becomes equal to the journals, whatever it did while they were written, and training never waits for it."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cg_data.errors import StorageError
from cg_train import follow
from cg_train.follow import Filler, Following, fill_now, tracked
from cg_train.tracking import (
    Journal,
    TrackingSettings,
    client_of,
    ensure_database,
    figures_journal,
    metrics_journal,
    now_ms,
    system_journal,
)
from tests.cg_train.test_stage import WORDS, job_of, run

__all__ = ["job_of"]
pytestmark = pytest.mark.slow


def sqlite(folder: Path) -> TrackingSettings:
    return TrackingSettings(uri=f"sqlite:///{folder}/mlflow.db", artifacts_uri=f"file://{folder}/mlartifacts", config={"seed": 17})


def declare(folder: Path, steps: int = 0, **more: Any) -> Any:
    """A training of `steps` journalled steps."""
    for step in range(1, steps + 1):
        metrics_journal(folder, 0).append({"step": step, "time_ms": 1000 + step, "loss": 1.0 / step, "mfu": None, "note": "text"})
    return tracked(folder, name=folder.name, params={"recipe": {"steps": 3}}, tags={"git": {"commit": "abc"}}, config={"seed": 17}, **more)


def journalled(journal: Journal) -> dict[str, list[tuple[int, float, int]]]:
    figures: dict[str, list[tuple[int, float, int]]] = {}
    for line in journal.read():
        for name, value in line.items():
            if name not in ("step", "time_ms") and isinstance(value, int | float):
                figures.setdefault(name, []).append((line["step"], value, line["time_ms"]))
    return figures


def the_run(tracking: TrackingSettings, name: str) -> Any:
    (run,) = client_of(tracking).search_runs([ensure_database(tracking)], f"attributes.run_name = '{name}'")
    return run


def held(tracking: TrackingSettings, name: str) -> dict[str, list[tuple[int, float, int]]]:
    """All that MLflow holds of a run, figure by figure, in order of steps: one that it has twice stands there twice."""
    run, client = the_run(tracking, name), client_of(tracking)
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    return {key: sorted((one.step, one.value, one.timestamp) for one in history) for key, history in histories.items()}


@pytest.fixture
def refusing() -> Iterator[str]:
    with socket.socket() as bound:  # and never listens
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:  # the system accepts, nobody reads
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("kind", ["refusing", "silent_server"])
def test_a_stage_trains_and_ends_without_an_mlflow_that_is_down_or_hangs_and_all_is_filled_in_later(
    kind: str,
    request: pytest.FixtureRequest,
    job_of: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    undisturbed, job, root = job_of(WORDS, "undisturbed"), job_of(WORDS, "words"), tmp_path / "train"
    run(undisturbed)
    asked_by: list[str] = []
    send = requests.Session.send

    def noted(self: requests.Session, *arguments: Any, **named: Any) -> requests.Response:
        asked_by.append(threading.current_thread().name)
        return send(self, *arguments, **named)

    monkeypatch.setattr(requests.Session, "send", noted)
    monkeypatch.setattr(follow, "PATIENCE_S", 0.5)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    down = TrackingSettings(uri=request.getfixturevalue(kind), artifacts_uri=f"file://{tmp_path}/mlartifacts")
    with caplog.at_level(logging.WARNING, logger="cg_train.follow"), Following(down, root), declare(root / "words"):
        while not asked_by:  # MLflow is being asked while the stage trains
            time.sleep(0.05)
        run(job)
    assert set(asked_by) == {"MLflow"}
    assert [record.message.split(" cannot")[0] for record in caplog.records if record.name == "cg_train.follow"] == [
        f"MLflow at {down.uri}"
    ]
    mine, expected = (metrics_journal(Path(one.work_folder), 0) for one in (job, undisturbed))
    assert [line["loss"] for line in mine.read()] == [line["loss"] for line in expected.read()]
    with pytest.raises(StorageError, match=r"MLflow at http.* cannot be used"):
        fill_now(down, root)

    back = sqlite(tmp_path)
    assert fill_now(back, root) == {"words": sum(map(len, journalled(mine).values()))}
    assert held(back, "words") == journalled(mine)
    assert {"loss", "data_wait_s", "memory_bytes"} <= held(back, "words").keys()
    assert fill_now(back, root) == {"words": 0}
    assert held(back, "words") == journalled(mine)
    assert the_run(back, "words").info.status == "FINISHED"


def test_a_server_that_comes_back_while_training_goes_on_gets_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follow, "POLL_S", 0.1)
    monkeypatch.setattr(follow, "PATIENCE_S", 120.0)
    place = tmp_path / "store"
    place.write_text("no folder")
    following = Following(sqlite(place), tmp_path / "train")
    with caplog.at_level(logging.WARNING, logger="cg_train.follow"), following, declare(tmp_path / "train" / "words", steps=3):
        while not caplog.records:
            time.sleep(0.05)
        place.unlink()
        place.mkdir()
        metrics_journal(tmp_path / "train" / "words", 0).append({"step": 4, "time_ms": now_ms(), "loss": 0.1})
    assert held(sqlite(place), "words") == journalled(metrics_journal(tmp_path / "train" / "words", 0))


def test_two_that_fill_in_at_once_and_a_batch_sent_again_leave_each_figure_once(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "words"
    with declare(folder):
        one, other = (Filler(sqlite(tmp_path), tmp_path / "train") for _ in range(2))
        assert one.fill() == other.fill() == {"words": 0}  # both know that MLflow holds nothing
        with declare(folder, steps=3):
            assert one.fill() == other.fill() == {"words": 3}
    assert held(sqlite(tmp_path), "words") == journalled(metrics_journal(folder, 0))


def test_more_figures_than_a_server_takes_at_once_arrive_though_it_fails_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "_METRICS_AT_ONCE", 7)
    folder, tracking = tmp_path / "train" / "words", sqlite(tmp_path)
    with declare(folder, steps=30):
        filler = Filler(tracking, tmp_path / "train")
        client, batches = client_of(tracking), []

        def failing(run_id: str, metrics: Any = (), **named: Any) -> None:
            batches.append(len(metrics))
            if sum(batches) > 20:
                raise ConnectionError("gone")
            client.log_batch(run_id, metrics=metrics, **named)

        filler._experiment_id, filler._client = ensure_database(tracking), client_of(tracking)
        monkeypatch.setattr(filler._client, "log_batch", failing)
        with pytest.raises(ConnectionError):
            filler.fill()
    assert fill_now(tracking, tmp_path / "train") == {"words": 16}
    assert held(tracking, "words") == journalled(metrics_journal(folder, 0))


def test_a_continued_training_is_one_run_in_which_no_step_stands_twice(tmp_path: Path) -> None:
    folder, tracking = tmp_path / "train" / "words", sqlite(tmp_path)
    with contextlib.suppress(RuntimeError), declare(folder, steps=3):
        fill_now(tracking, tmp_path / "train")
        raise RuntimeError("killed")
    fill_now(tracking, tmp_path / "train")
    first = the_run(tracking, "words")
    assert first.info.status == "FAILED"
    journal = metrics_journal(folder, 0)
    journal.cut(2)
    for step in (3, 4):
        journal.append({"step": step, "time_ms": 5000 + step, "loss": 1.0 / step})
    with tracked(folder, name="words", params={"recipe": {"steps": 4}}, tags={"git": {"commit": "def"}}, config={"seed": 17}):
        fill_now(tracking, tmp_path / "train")
        assert the_run(tracking, "words").info.status == "RUNNING"
    fill_now(tracking, tmp_path / "train")
    again = the_run(tracking, "words")
    assert (again.info.run_id, again.info.status) == (first.info.run_id, "FINISHED")
    assert again.info.start_time == first.info.start_time
    assert [(step, value) for step, value, _ in held(tracking, "words")["loss"]] == [(step, 1.0 / step) for step in (1, 2, 3, 4)]
    assert again.data.params == {"recipe.steps": "3"}  # as it began
    assert again.data.tags["git.commit"] == "def"


def test_configuration_final_figures_files_and_what_the_machine_did_are_there_too(tmp_path: Path) -> None:
    folder, tracking = tmp_path / "train" / "detector", sqlite(tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "metrics.json").write_text("{}")
    with declare(folder, steps=1, artifacts=str(tmp_path / "weights")):
        figures_journal(folder).append({"step": 0, "time_ms": 1, "validation.map50": 0.5})
        for node in ("one", "two"):
            system_journal(folder, node).append({"step": 1, "time_ms": 1, f"system/{node}/cpu_utilization_percentage": 50.0})
    assert fill_now(tracking, tmp_path / "train") == {"detector": 4}
    assert fill_now(tracking, tmp_path / "train") == {"detector": 0}
    run, client = the_run(tracking, "detector"), client_of(tracking)
    assert run.data.metrics["validation.map50"] == 0.5
    assert {name for name in run.data.metrics if name.startswith("system/")} == {
        f"system/{n}/cpu_utilization_percentage" for n in ("one", "two")
    }
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"config.json", "weights"}
    assert [file.path for file in client.list_artifacts(run.info.run_id, "weights")] == ["weights/metrics.json"]


def test_a_run_that_was_made_twice_because_an_answer_was_lost_becomes_one(tmp_path: Path) -> None:
    tracking = sqlite(tmp_path)
    with declare(tmp_path / "train" / "words", steps=2):
        fill_now(tracking, tmp_path / "train")
        tags = the_run(tracking, "words").data.tags
        client_of(tracking).create_run(ensure_database(tracking), run_name="words", tags={"cerebragloss.key": tags["cerebragloss.key"]})
    fill_now(tracking, tmp_path / "train")
    assert held(tracking, "words") == journalled(metrics_journal(tmp_path / "train" / "words", 0))
