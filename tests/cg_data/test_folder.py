"""A folder is listed as the user would expect, and an unsuitable one is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from cg_data.corpora.folder import list_recordings
from cg_data.errors import UserError


def test_recordings_of_all_subfolders_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b.edf", "A.EDF", "sub/c.edf", "notes.txt", "._b.edf", "sub/d.bdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_recordings(str(tmp_path)) == [f"{tmp_path}/{name}" for name in ("A.EDF", "b.edf", "sub/c.edf", "sub/d.bdf")]
    assert list_recordings(str(tmp_path / "b.edf")) == [str(tmp_path / "b.edf")]


def test_an_unsuitable_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the folder is empty"):
        list_recordings(str(tmp_path))
    (tmp_path / "readme.txt").touch()
    for place, fault in (
        (tmp_path, "no recording here"),
        (tmp_path / "readme.txt", "no recording here"),
        (tmp_path / "x", "no such folder"),
    ):
        with pytest.raises(UserError, match=fault):
            list_recordings(str(place))
