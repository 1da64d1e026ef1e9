"""What the manifest names is committed; the rest of a killed run is planned anew or thrown away."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from cg_data import manifest, storage
from cg_data.errors import StorageError
from cg_data.manifest import Shard
from cg_data.packing import Piece


def write(folder: Path, name: str, rows: int = 3) -> Shard:
    written = storage.write_table(str(folder / name), pa.table({"x": list(range(rows))}))
    piece = Piece(recording_id="r", start=0, stop=rows)
    return Shard(name=name, rows=rows, bytes=written.bytes, sha256=written.sha256, pieces=(piece,), counts={"events": 2})


def test_a_manifest_gives_back_what_was_committed(tmp_path: Path) -> None:
    shards = [write(tmp_path, name) for name in ("b.parquet", "a.parquet")]
    manifest.write_manifest(str(tmp_path), shards)
    assert manifest.read_manifest(str(tmp_path)) == {shard.name: shard for shard in shards}
    assert manifest.committed(str(tmp_path)) == [f"{tmp_path}/a.parquet", f"{tmp_path}/b.parquet"]


def test_readers_of_the_whole_folder_do_not_see_it(tmp_path: Path) -> None:
    manifest.write_manifest(str(tmp_path), [write(tmp_path, "a.parquet")])
    assert len(pd.read_parquet(tmp_path)) == 3


def test_nothing_committed_is_told_with_the_way_out(tmp_path: Path) -> None:
    assert manifest.read_manifest(str(tmp_path)) == {}
    with pytest.raises(StorageError, match="no shards here"):
        manifest.committed(str(tmp_path))


def test_strays_go_and_planned_or_committed_shards_stay(tmp_path: Path) -> None:
    manifest.write_manifest(str(tmp_path), [write(tmp_path, "committed.parquet")])
    write(tmp_path, "planned.parquet")
    write(tmp_path, "stray.parquet")
    half = tmp_path / f".half.parquet.{'0' * 32}"
    half.write_bytes(b"half a shard")
    (tmp_path / ".keep").write_bytes(b"someone else's")
    assert manifest.drop_strays(str(tmp_path), ["planned.parquet", "missing.parquet"]) == {"planned.parquet", "committed.parquet"}
    assert {p.name for p in tmp_path.iterdir()} == {"planned.parquet", "committed.parquet", manifest.NAME, ".keep"}


def test_a_missing_an_unknown_and_a_changed_file_are_each_named(tmp_path: Path) -> None:
    shards = [write(tmp_path, name) for name in ("a.parquet", "b.parquet", "c.parquet", "d.parquet")]
    manifest.write_manifest(str(tmp_path), shards[:3])
    (tmp_path / "a.parquet").unlink()
    assert manifest.problems_of(str(tmp_path)) == [
        "a.parquet: named in the manifest, but not there",
        "d.parquet: there, but not in the manifest",
    ]
    data = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (tmp_path / "c.parquet").write_bytes(data + b"x")
    assert manifest.changed(str(tmp_path), shards[1]) == "b.parquet: its SHA-256 is not that of the manifest"
    assert manifest.changed(str(tmp_path), shards[2]).startswith(f"c.parquet: {len(data) + 1} bytes")
    assert manifest.changed(str(tmp_path), write(tmp_path, "e.parquet")) == ""
