"""A damaged file is read with the values of its bytes, with a flag, or refused by name: the first of the benchmark's ten thousand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.edf_mutations import MAKES, MUTATIONS, _outcome, failures, judge, mutated
from cg_data.edf.reader import EdfFile
from tests.cg_data.edf_bytes import make


def test_no_damaged_file_crashes_the_reader_or_gives_wrong_values() -> None:
    verdicts = [judge(seed) for seed in range(1, 201)]
    assert failures(verdicts) == []
    assert {v.kind for v in verdicts} == {mutation.__name__ for mutation in MUTATIONS}
    assert min(sum(v.outcome == outcome for v in verdicts) for outcome in ("right values", "flagged", "refused")) > 20


def test_a_seed_always_gives_the_same_file() -> None:
    assert mutated(7) == mutated(7)
    assert mutated(7)[2] != mutated(8)[2]


def test_a_reader_that_is_off_by_one_sample_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = EdfFile.read_digital
    monkeypatch.setattr(EdfFile, "read_digital", lambda *args: np.roll(right(*args), 1, axis=1))
    seen = [judge(seed).outcome for seed in range(1, 40)]
    assert "wrong values" in seen
    assert "right values" not in seen


def test_a_reader_that_forgets_the_unit_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = EdfFile.read_uv
    monkeypatch.setattr(EdfFile, "read_uv", lambda *args: right(*args) / 1000)
    assert {judge(seed).outcome for seed in range(1, 40)} == {"wrong values", "refused"}


def test_a_reader_that_passes_over_a_gap_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = make(MAKES[2])
    assert _outcome("none", sound, sound) == ("right values", "")
    monkeypatch.setattr(EdfFile, "runs", property(lambda file: ((0, sum(count for _, count, _ in file._index.runs), 0.0),)))
    assert _outcome("none", sound, sound) == ("wrong values", "times of the records")


def test_a_reader_that_moves_a_note_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = make(MAKES[1])
    assert _outcome("none", sound, sound) == ("right values", "")
    moved = [dataclasses.replace(note, onset_s=note.onset_s + 0.01) for note in EdfFile.from_bytes(sound, "a.edf").annotations]
    monkeypatch.setattr(EdfFile, "annotations", property(lambda file: tuple(moved), lambda file, value: None))
    assert _outcome("none", sound, sound) == ("wrong values", "notes")
