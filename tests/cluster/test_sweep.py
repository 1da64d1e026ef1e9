"""Ablations change the training of a run and nothing else, share with it what is alike, and are told in one table."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from cg_data import storage
from cg_data.errors import ClusterError, ConfigError
from cg_data.intervals import Interval
from cg_data.vocabulary import SampleKind
from cg_eval.comparison import Compared
from cluster.config import RunConfig, read_preset, resolve_config
from cluster.pipeline import fingerprints
from cluster.road import road_of
from cluster.runfolder import FinishedStep, RunFolder, StepResult
from cluster.sweep import Ablation, Sweep, Trial, at_once, read_sweep, share, trial_of
from cluster.sweep_run import write_error
from cluster.sweep_view import Row, show, write_table
from tests.cluster.test_cli import refuses

DATA = ("corpus", "segments", "detector", "annotations", "samples")


def config(preset: str = "tiny", *sets: str) -> RunConfig:
    return resolve_config(read_preset(preset), list(sets))


def marks(settings: RunConfig) -> dict[str, str]:
    return fingerprints(road_of(settings), settings)


@pytest.mark.parametrize(("sweep", "preset"), [("paper", "qwen2.5-vl-3b"), ("paper", "qwen2.5-vl-7b"), ("tiny", "tiny")])
def test_every_ablation_of_ours_leaves_the_data_and_the_questions_of_its_run_as_they_are(sweep: str, preset: str) -> None:
    run = config(preset)
    for ablation in read_sweep(sweep).ablations:
        changed = ablation.applied(run)
        assert {name: marks(changed)[name] for name in DATA} == {name: marks(run)[name] for name in DATA}
        assert changed.evaluate == run.evaluate


def test_the_papers_ablations_are_what_they_say() -> None:
    by_name = {one.name: one.applied(config("qwen2.5-vl-3b")).train for one in read_sweep("paper").ablations}
    assert [by_name[f"stage1-{epochs}"].stage1.epochs for epochs in ("0.05", "0.1", "0.2")] == [0.05, 0.1, 0.2]
    taught = {SampleKind.DESCRIPTION, SampleKind.COMPLEX_MCQ, SampleKind.CONVERSATION}
    full = config("qwen2.5-vl-3b").train.stage2.mixture
    assert {kind for kind in full if not by_name["no-teacher"].stage2.mixture[kind]} == taught
    assert {kind for kind in full if not by_name["no-captions"].stage2.mixture[kind]} == {SampleKind.CAPTION}
    assert [by_name[name].source.rpartition("-VL-")[2] for name in ("3b", "7b")] == ["3B-Instruct", "7B-Instruct"]
    adapters = [by_name[f"lora-{rank}"].stage2.lora for rank in (8, 16, 64)]
    assert [(lora.rank, lora.alpha / lora.rank) for lora in adapters if lora] == [(8, 2), (16, 2), (64, 2)]


def test_another_preset_gives_its_training_settings_but_not_its_detector_and_machine() -> None:
    run = config("qwen2.5-vl-3b", "train.detector.epochs=7", "train.compute.workers=2", "evaluate.batch=3")
    changed = Ablation(name="big", about="7B", preset="qwen2.5-vl-7b-lora", sets=("train.stage2.lora.rank=4",)).applied(run)
    assert changed.train.source.endswith("7B-Instruct")
    assert changed.train.stage2.lora is not None
    assert changed.train.stage2.lora.rank == 4
    assert (changed.train.detector, changed.train.compute, changed.evaluate) == (run.train.detector, run.train.compute, run.evaluate)


@pytest.mark.parametrize(
    ("ablations", "said"),
    [
        ([{"name": "base", "about": "x", "sets": ["train.zero_stage=1"]}], "base is the run itself"),
        ([{"name": "A/b", "about": "x", "sets": ["train.zero_stage=1"]}], "should match pattern"),
        ([{"name": "a", "about": "x"}], "a changes nothing"),
        ([{"name": "a", "about": "x", "sets": ["data.test_fraction=0.5"]}], "changes more than the training of the model"),
        ([{"name": "a", "about": "x", "sets": ["train.detector.epochs=2"]}], "changes more than the training of the model"),
        ([{"name": "a", "about": "x", "sets": ["train.zero_stage=1"]}] * 2, "two ablations are named a"),
        ([{"name": "a", "about": "x", "set": ["train.zero_stage=1"]}], "ablations.0.set"),
        ([], "at least 1 item"),
    ],
)
def test_what_is_not_a_sweep_is_refused_by_name(tmp_path: Path, ablations: list[dict[str, Any]], said: str) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"ablations": ablations}))
    with pytest.raises(ConfigError, match=said):
        read_sweep(str(tmp_path / "own.yaml"))


def test_a_sweep_that_is_not_there_and_an_ablation_that_is_not_in_it() -> None:
    with pytest.raises(ConfigError, match="did you mean paper"):
        read_sweep("papier")
    with pytest.raises(ConfigError, match="no such file"):
        read_sweep("nowhere.yaml")
    with pytest.raises(ConfigError, match="did you mean lora-8"):
        read_sweep("paper").only(["lora8"])
    assert [one.name for one in read_sweep("paper").only(["lora-8", "no-captions"])] == ["no-captions", "lora-8"]


def test_a_change_that_a_configuration_cannot_take_names_its_ablation() -> None:
    with pytest.raises(ConfigError, match=r"ablation odd: configuration: unknown key train\.stage2\.lr"):
        Ablation(name="odd", about="x", sets=("train.stage2.lr=1",)).applied(config())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--only", "no-captions,lora9"), "no ablation is named 'lora9': did you mean lora-8?"),
        (("--sweep", "papper"), "did you mean paper?"),
        (("--sweep", "odd.yaml"), "ablation odd: configuration: unknown key train.stage3"),
    ],
)
def test_a_mistake_is_said_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.yaml").write_text("ablations: [{name: odd, about: x, sets: [train.stage3.steps=1]}]")
    assert said in refuses(capsys, monkeypatch, "train", "sweep", "--preset", "tiny", *options)
    assert not (tmp_path / "runs").exists()


def trial(base: RunFolder, *sets: str, name: str = "one") -> Trial:
    return trial_of(Ablation(name=name, about="x", sets=sets), config(), base, "sqlite:///nowhere.db")


@pytest.fixture
def base(tmp_path: Path) -> RunFolder:
    """The folder of a run that has done all up to its bench, with a file in each place."""
    folder, done = RunFolder(uri=str(tmp_path / "run")), marks(config())
    for step in road_of(config()):
        if step.name in ("champion", "report", "service"):
            continue
        for place in step.owns:
            file = folder.path / place if "." in place else folder.path / place / "file"
            storage.write_bytes(str(file), step.name.encode())
        result = StepResult(counts={}, figure="", products={})
        folder.record(FinishedStep(name=step.name, fingerprint=done[step.name], inputs="", seconds=1.0, result=result))
    return folder


def test_what_is_alike_is_shared_by_reference_and_what_is_not_is_left_to_do(base: RunFolder) -> None:
    one = trial(base, "train.stage2.mixture.caption=0")
    share(one)
    assert list(one.folder.finished()) == [*DATA, "sight", "base", "stage1"]
    assert storage.read_bytes(one.folder.at("samples", "synthetic", "file")) == b"samples"
    assert storage.read_bytes(one.folder.at("models", "stage1", "file")) == b"stage1"
    assert not storage.exists(one.folder.at("models", "stage2"))
    copied = [path for path in one.folder.path.rglob("*") if path.is_file() and not path.is_symlink() and path.name == "file"]
    assert [path for path in copied if path.resolve().is_relative_to(one.folder.path.resolve())] == []
    assert not one.is_done()


def test_a_trial_that_is_the_run_itself_has_nothing_to_do(base: RunFolder) -> None:
    same = trial(base, "train.stage1.steps=10")
    share(same)
    assert same.is_done()
    assert storage.read_bytes(same.folder.at("bench", "metrics.json")) == b"bench"


def test_what_is_no_longer_alike_is_no_longer_shared_and_stays_as_it_is_in_the_run(base: RunFolder) -> None:
    share(trial(base, "train.stage2.mixture.caption=0"))
    other = trial(base, "train.stage1.steps=11")
    share(other)
    assert not storage.exists(other.folder.at("models", "stage1"))
    storage.delete(other.folder.at("models", "stage1"))  # as a step does before it begins
    assert storage.read_bytes(base.at("models", "stage1", "file")) == b"stage1"
    assert storage.exists(other.folder.at("models", "base", "file"))


def test_a_folder_that_is_moved_with_its_run_still_has_what_it_shares(base: RunFolder, tmp_path: Path) -> None:
    share(trial(base, "train.stage2.mixture.caption=0"))
    base.path.rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "sweep" / "one" / "segments" / "synthetic" / "file").read_bytes() == b"segments"


@pytest.mark.parametrize(
    ("sets", "offered", "expected"),
    [
        (["train.compute.workers=2"], {"CPU": 2.0}, 1),
        (["train.compute.workers=1"], {"CPU": 2.0}, 2),
        (["train.compute.workers=1", "train.compute.feed_actors=1"], {"CPU": 3.0}, 1),
        (["train.compute.workers=4"], {"CPU": 2.0}, 1),
        (["train.compute.workers=8", "train.compute.gpu=true"], {"CPU": 64.0, "GPU": 16.0}, 2),
        (["train.compute.workers=8", "train.compute.least_workers=4", "train.compute.gpu=true"], {"CPU": 64.0, "GPU": 8.0}, 1),
        (["train.compute.workers=8", "train.compute.gpu=true"], {"CPU": 8.0, "GPU": 16.0}, 1),
    ],
)
def test_no_more_trials_train_at_once_than_find_room_for_their_workers(
    base: RunFolder, sets: list[str], offered: dict[str, float], expected: int
) -> None:
    small = trial(base, "train.compute.workers=1", name="small")
    assert at_once([trial(base, *sets), small], offered) == expected


def _interval(value: float) -> Interval:
    return Interval(value=value, low=value - 0.1, high=value + 0.1)


def _row(name: str, value: float, difference: float, train_s: float, tokens: int) -> Row:
    scores = {"open": Compared(figure=_interval(value), difference=_interval(difference))}
    return Row(name=name, about="a | b", scores=scores, train_s=train_s, tokens=tokens)


ROWS = [
    _row("base", 0.5, 0.0, 9.0, 70),
    _row("more", 0.7, 0.2, 80.0, 7000),
    Row(name="odd", about="a", scores={}, train_s=0.0, tokens=0, reason="[train] is wrong | mend it"),
]


def test_the_table_tells_figures_differences_cost_and_what_failed_and_why(tmp_path: Path) -> None:
    stream = io.StringIO()
    show(ROWS, Console(file=stream, width=120))
    said = stream.getvalue()
    for text in ("0.70 [0.60, 0.80]", "+0.20 [+0.10, +0.30]", "1:20 min", "7,000", "failed", "odd: [train] is wrong | mend it"):
        assert text in said
    assert "yes/no" not in said
    folder = RunFolder(uri=str(tmp_path))
    write_table(ROWS, folder)
    base, more, odd = csv.DictReader(io.StringIO(storage.read_bytes(folder.at("sweep", "comparison.csv")).decode()))
    assert float(more["open difference value"]) == 0.2
    assert (float(more["train_s"]), int(more["tokens"]), more["failed because"]) == (80.0, 7000, "")
    assert (odd["failed because"], odd["open value"], odd["tokens"]) == ("[train] is wrong | mend it", "", "")
    assert float(base["open value"]) == 0.5
    table = storage.read_bytes(folder.at("sweep", "comparison.md")).decode().splitlines()[2:]
    assert len({line.count("|") for line in table}) == 1
    assert "0.700 [0.600, 0.800]; +0.200 [+0.100, +0.300]" in table[3]
    assert "failed: [train] is wrong / mend it" in table[4]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ClusterError("too few GPUs. Add some."), "too few GPUs. Add some."),
        (RuntimeError("deep\nin the end: 7"), "in the end: 7 (all of it: "),
    ],
)
def test_a_failure_is_kept_as_one_line_and_as_a_whole(base: RunFolder, error: Exception, said: str) -> None:
    one = trial(base, "train.stage1.steps=11")
    assert one.failure() == ""
    try:
        raise error
    except Exception as raised:  # noqa: BLE001 - whatever it is
        write_error(one, raised)
    assert one.failure().startswith(said)
    assert "Traceback" in storage.read_bytes(one.folder.at("error.txt")).decode()


def test_a_sweep_is_a_value() -> None:
    assert Sweep.model_validate(read_sweep("tiny").model_dump()) == read_sweep("tiny")
