"""Steps are done once, go on after a kill, and never mix two configurations."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from cg_data import storage
from cg_data.errors import ConfigError, StorageError
from cluster.config import RunConfig, read_preset, resolve_config
from cluster.display import Display
from cluster.pipeline import Step, Work, alone, run_steps
from cluster.runfolder import RunFolder, StepResult, check_space


def config(*sets: str) -> RunConfig:
    return resolve_config(read_preset("tiny"), list(sets))


@dataclasses.dataclass
class Road:
    """Two steps that note their runs; the second can be made to die half-way."""

    folder: RunFolder
    ran: list[str]
    dies: bool = False

    def steps(self) -> list[Step]:
        first = Step(
            name="one", title="One", needs=(), settings=lambda c: c.data.synthetic.seed, owns=("one",), run=alone(self.one), uses_ray=False
        )
        return [first, dataclasses.replace(first, name="two", needs=("one",), settings=lambda c: 0, owns=("two",), run=alone(self.two))]

    def one(self, work: Work) -> StepResult:
        self.ran.append("one")
        storage.write_bytes(work.folder.at("one", "a"), b"1")
        return StepResult(counts={"files": 1}, figure="fine", products={"one": "one"})

    def two(self, work: Work) -> StepResult:
        self.ran.append("two")
        if not storage.exists(work.folder.at("two", "part")):
            storage.write_bytes(work.folder.at("two", "part"), b"half")
            if self.dies:
                raise RuntimeError("killed")
        return StepResult(counts={}, figure="fine", products={"two": "two"})

    def go(self, settings: RunConfig, names: list[str] | None = None) -> None:
        road = self.steps()
        wanted = [step for step in road if names is None or step.name in names]
        display = Display(Console(file=io.StringIO()))
        run_steps(wanted, road=road, config=settings, folder=self.folder, display=display, session=nullcontext)


@pytest.fixture
def road(tmp_path: Path) -> Road:
    return Road(RunFolder(uri=str(tmp_path / "run")), [])


def test_a_second_run_does_nothing_again(road: Road) -> None:
    road.go(config())
    road.go(config())
    assert road.ran == ["one", "two"]


def test_run_json_names_every_product(road: Road) -> None:
    road.go(config())
    run = storage.read_json(road.folder.at("run.json"))
    assert run["products"] == {"one": "one", "two": "two"}
    assert [step["name"] for step in run["steps"]] == ["one", "two"]


def test_a_step_that_died_finds_its_own_remains(road: Road) -> None:
    road.dies = True
    with pytest.raises(RuntimeError):
        road.go(config())
    road.go(config())
    assert road.ran == ["one", "two", "two"]
    assert storage.read_bytes(road.folder.at("two", "part")) == b"half"


def test_remains_of_other_settings_are_cleared(road: Road) -> None:
    storage.write_bytes(road.folder.at("one", "stale"), b"old")
    storage.write_bytes(road.folder.at(".started", "one"), b"another fingerprint")
    road.go(config())
    assert not storage.exists(road.folder.at("one", "stale"))


def test_finished_steps_of_other_settings_are_refused_not_overwritten(road: Road) -> None:
    road.go(config())
    with pytest.raises(ConfigError, match="other settings"):
        road.go(config("data.synthetic.seed=99"))
    assert road.ran == ["one", "two"]


def test_a_change_that_touches_no_step_is_accepted(road: Road) -> None:
    road.go(config())
    road.go(config("serve.port=9000"))
    assert road.ran == ["one", "two"]


def test_a_step_whose_ground_is_missing_says_what_to_run(road: Road) -> None:
    with pytest.raises(ConfigError, match="two builds on one"):
        road.go(config(), ["two"])


def test_two_commands_never_work_in_one_folder(road: Road) -> None:
    with road.folder.locked(), pytest.raises(StorageError, match="another cg command"), RunFolder(uri=road.folder.uri).locked():
        pass


def test_a_full_disk_is_said_before_anything_starts(road: Road) -> None:
    with road.folder.locked(), pytest.raises(StorageError, match="MiB free, but this run needs"):
        check_space(road.folder, 2**60)


def test_a_run_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"), RunFolder(uri=str(tmp_path / "file" / "run")).locked():
        pass


class Relay:
    """Three steps that are done by one call, which notes what it was asked for; it can be made to die before the last."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.calls, self.dies = folder, list[list[str]](), False

    def run(self, works: Sequence[Work]) -> Iterator[StepResult]:
        self.calls.append([work.step for work in works])
        for work in works:
            if self.dies and work is works[-1]:
                raise RuntimeError("killed")
            storage.write_bytes(work.folder.at(work.step, "a"), b"1")
            work.progress(1, 1)
            yield StepResult(counts={}, figure=work.step, products={work.step: work.step})

    def go(self) -> None:
        road = [
            Step(name=n, title=n, needs=(), settings=lambda c: 0, owns=(n,), run=self.run, uses_ray=False) for n in ("one", "two", "three")
        ]
        display = Display(Console(file=io.StringIO()))
        run_steps(road, road=road, config=config(), folder=self.folder, display=display, session=nullcontext)


def test_steps_in_a_row_that_share_their_run_are_done_by_one_call_and_each_is_kept(tmp_path: Path) -> None:
    relay = Relay(RunFolder(uri=str(tmp_path / "run")))
    relay.dies = True
    with pytest.raises(RuntimeError):
        relay.go()
    assert list(relay.folder.finished()) == ["one", "two"]
    relay.dies = False
    relay.go()
    assert relay.calls == [["one", "two", "three"], ["three"]]
    assert list(relay.folder.finished()) == ["one", "two", "three"]
    assert [step.result.figure for step in relay.folder.finished().values()] == ["one", "two", "three"]
