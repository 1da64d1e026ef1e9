from __future__ import annotations

from pathlib import Path

import pytest

from cg_train.tracking import CHAMPION, Journal, TrackingSettings, champion_folder, register_champion


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


def test_the_newest_whole_line_is_found_when_the_journal_was_cut_and_has_become_longer_again_with_other_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    assert journal.last() is None
    for step in (1, 2):
        journal.append(_line(step))
    with (tmp_path / "j.jsonl").open("a") as stream:
        stream.write('{"step"')
    assert journal.last() == _line(2)
    journal.cut(1)
    assert journal.last() == _line(1)
    longer = {**_line(2), "note": "x" * 2**17}
    journal.append(longer)
    assert journal.last() == longer


def test_what_comes_after_a_step_is_found_from_the_end_of_a_long_journal_as_by_reading_all_of_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    assert journal.read_after(0) == []
    for step in range(1, 400):
        journal.append({"step": step, "note": "x" * (3 * step)})
    with (tmp_path / "j.jsonl").open("a") as stream:
        stream.write('{"step": 400, "no')
    assert (tmp_path / "j.jsonl").stat().st_size > 3 * 2**16
    for step in (-1, 0, 1, 2, 57, 398, 399, 500):
        assert journal.read_after(step) == [line for line in journal.read() if line["step"] > step]


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
