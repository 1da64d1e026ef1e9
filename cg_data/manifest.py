"""The manifest of a folder of shards: what was committed, with counts and hashes.

Shards come first, the manifest last and in one piece: what it names is committed, what it does not name is the rest of a run that was
killed. The next run plans the same shards anew, keeps those that are there, and deletes what is not in its plan.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

from pydantic import TypeAdapter

from cg_data import storage
from cg_data.errors import StorageError
from cg_data.packing import Piece

NAME = "_manifest.json"
"""The underscore keeps it out of the sight of Parquet readers that take a whole folder."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One committed file. `pieces` say what a segment shard covers; `counts` what is in it (events, samples of a kind)."""

    name: str
    rows: int
    bytes: int
    sha256: str
    pieces: tuple[Piece, ...] = ()
    counts: dict[str, int] = dataclasses.field(default_factory=dict)


_SHARDS: TypeAdapter[list[Shard]] = TypeAdapter(list[Shard])


def read_manifest(folder_uri: str) -> dict[str, Shard]:
    """Committed shards of a folder by name; none where nothing was committed yet."""
    where = storage.join(folder_uri, NAME)
    if not storage.exists(where):
        return {}
    return {shard.name: shard for shard in _SHARDS.validate_json(storage.read_bytes(where))}


def write_manifest(folder_uri: str, shards: Iterable[Shard]) -> None:
    """Commit `shards`, and nothing else, as the content of a folder."""
    ordered = sorted(shards, key=lambda shard: shard.name)
    storage.write_bytes(storage.join(folder_uri, NAME), _SHARDS.dump_json(ordered, indent=1))


def committed(folder_uri: str) -> list[str]:
    """URIs of the committed shards of a folder, by name.

    Raises:
        StorageError: nothing was committed there.
    """
    shards = read_manifest(folder_uri)
    if not shards:
        raise StorageError(f"{folder_uri}: no shards here. Run the step that makes them first (`cg data`).")
    return [storage.join(folder_uri, name) for name in sorted(shards)]


def drop_strays(folder_uri: str, planned: Iterable[str]) -> set[str]:
    """Delete files that are neither committed nor planned; returns the names of planned shards that are there already."""
    storage.clear_unfinished(folder_uri)
    keep, there = {*planned, *read_manifest(folder_uri)}, set()
    for uri in storage.list_files(folder_uri, ".parquet"):
        name = uri.rsplit("/", 1)[-1]
        if name in keep:
            there.add(name)
        else:
            storage.delete(uri)
    return there


def problems_of(folder_uri: str) -> list[str]:
    """Where a folder and its manifest differ: missing, unknown or changed files, named one by one."""
    shards = read_manifest(folder_uri)
    there = {uri.rsplit("/", 1)[-1] for uri in storage.list_files(folder_uri, ".parquet")}
    problems = [f"{name}: named in the manifest, but not there" for name in sorted(shards.keys() - there)]
    return problems + [f"{name}: there, but not in the manifest" for name in sorted(there - shards.keys())]


def changed(folder_uri: str, shard: Shard) -> str:
    """What is wrong with the bytes of a shard, or ""."""
    data = storage.read_bytes(storage.join(folder_uri, shard.name))
    if len(data) != shard.bytes:
        return f"{shard.name}: {len(data)} bytes, the manifest says {shard.bytes}"
    return "" if hashlib.sha256(data).hexdigest() == shard.sha256 else f"{shard.name}: its SHA-256 is not that of the manifest"
