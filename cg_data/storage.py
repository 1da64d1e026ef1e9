"""Products by URI through pyarrow.fs: a path, ``file://``, ``s3://``, ``gs://``. Writes are atomic: a reader sees all or nothing."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from cg_data.errors import StorageError

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}")


def resolve(uri: str) -> tuple[fs.FileSystem, str]:
    """File system and path of `uri`; a relative path counts from the working directory.

    Raises:
        StorageError: the scheme is unknown or the store refuses.
    """
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).absolute())
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, OSError) as error:
        raise StorageError(f"{uri}: not a place that can be opened ({error}). Use a path, file://, s3:// or gs://.") from error
    return filesystem, path


def join(uri: str, *parts: str) -> str:
    return "/".join((uri.rstrip("/"), *parts))


def exists(uri: str) -> bool:
    filesystem, path = resolve(uri)
    return bool(filesystem.get_file_info(path).type != fs.FileType.NotFound)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """Size and time of change of a file; zeros where there is none."""

    bytes: int
    modified_ns: int


def states(uris: Sequence[str]) -> list[FileState]:
    """States of many files, asked for in one call for each file system."""
    by_system: dict[str, tuple[fs.FileSystem, list[int], list[str]]] = {}
    for position, uri in enumerate(uris):
        scheme = uri.split("://", 1)[0] if "://" in uri else ""
        if scheme not in by_system:
            by_system[scheme] = (resolve(uri)[0], [], [])
        by_system[scheme][1].append(position)
        by_system[scheme][2].append(resolve(uri)[1])
    found = [FileState(bytes=0, modified_ns=0)] * len(uris)
    for filesystem, positions, paths in by_system.values():
        for position, info in zip(positions, filesystem.get_file_info(paths), strict=True):
            found[position] = FileState(bytes=info.size or 0, modified_ns=info.mtime_ns or 0)
    return found


def list_files(uri: str, suffix: str = "", *, recursive: bool = False) -> list[str]:
    """URIs of the files in the folder `uri` whose names end in `suffix`, sorted; temporary files of unfinished writes are left out.

    An absent folder has no files.
    """
    filesystem, path = resolve(uri)
    infos = filesystem.get_file_info(fs.FileSelector(path, recursive=recursive, allow_not_found=True))
    names = [i.path[len(path) :].lstrip("/") for i in infos if i.type == fs.FileType.File]
    kept = (n for n in names if n.endswith(suffix) and not n.rsplit("/", 1)[-1].startswith("."))
    return [join(uri, name) for name in sorted(kept)]


def write_bytes(uri: str, data: bytes | pa.Buffer) -> None:
    """Write `data` under a hidden name beside `uri`, then move it into place.

    Raises:
        StorageError: no space, no permission.
    """
    write_stream(uri, [data])


def write_stream(uri: str, chunks: Iterable[bytes | pa.Buffer]) -> None:
    """As `write_bytes`, of data that need not be in memory together. Where making a chunk fails, nothing is left behind."""
    filesystem, path = resolve(uri)
    folder, _, name = path.rpartition("/")
    hidden = f"{folder}/.{name}.{uuid.uuid4().hex}"
    try:
        filesystem.create_dir(folder, recursive=True)
        with filesystem.open_output_stream(hidden) as stream:
            for chunk in chunks:
                stream.write(chunk)
        filesystem.move(hidden, path)
    except OSError as error:
        raise storage_error(uri, error) from error
    except Exception:
        filesystem.delete_file(hidden)
        raise


def storage_error(uri: str, error: OSError) -> StorageError:
    """An operating-system error as a sentence that says what to do."""
    if error.errno == errno.ENOSPC or "No space left" in str(error):
        return StorageError(f"{uri}: the disk is full. Free some space or choose another --run folder, then run the same command again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"{uri}: no permission to write there. Choose another --run folder.")
    return StorageError(f"{uri}: cannot be written ({error}).")


def read_bytes(uri: str) -> bytes:
    """The bytes at `uri`.

    Raises:
        StorageError: there is nothing, or it cannot be read.
    """
    filesystem, path = resolve(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError as error:
        raise StorageError(f"{uri}: no such file.") from error
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read ({error}).") from error


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


_ROW_GROUP_BYTES = 1 << 20
"""Decoded size of a row group: what a reader decodes to reach one row (training reads single samples in planned order)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What was written: rows, bytes and the SHA-256 of the file."""

    rows: int
    bytes: int
    sha256: str


def write_table(uri: str, table: pa.Table) -> Written:
    """Write one Parquet file (zstd), atomically."""
    return write_parts(uri, table.schema, [table])


def write_parts(uri: str, schema: pa.Schema, parts: Iterable[pa.Table]) -> Written:
    """Write one Parquet file (zstd), atomically, of tables that need not be in memory together."""
    sink, rows = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(sink, schema, compression="zstd", compression_level=1) as writer:
        for part in parts:
            writer.write_table(part, row_group_size=max(1, part.num_rows * _ROW_GROUP_BYTES // max(1, part.nbytes)))
            rows += part.num_rows
    data = sink.getvalue()
    write_bytes(uri, data)
    return Written(rows=rows, bytes=data.size, sha256=hashlib.sha256(data).hexdigest())


def read_table(uri: str, columns: list[str] | None = None, filters: list[tuple[str, str, object]] | None = None) -> pa.Table:
    """Read one Parquet file, or all of a folder in order of their names.

    Raises:
        StorageError: there is nothing to read.
    """
    filesystem, path = resolve(uri)
    if filesystem.get_file_info(path).type == fs.FileType.Directory:
        parts = list_files(uri, ".parquet")
        if not parts:
            raise StorageError(f"{uri}: no Parquet file in this folder.")
        return pa.concat_tables([read_table(part, columns, filters) for part in parts])
    try:
        return pq.read_table(path, columns=columns, filters=filters, filesystem=filesystem, partitioning=None)
    except FileNotFoundError as error:
        raise StorageError(f"{uri}: no such file.") from error


def clear_unfinished(uri: str) -> None:
    """Remove the hidden files that killed writers left in the folder `uri`. Only for who holds the folder alone.

    Raises:
        StorageError: `uri` is a file.
    """
    filesystem, path = resolve(uri)
    if filesystem.get_file_info(path).type == fs.FileType.File:
        raise StorageError(f"{uri}: a file lies where a folder is to be. Move it away, or choose another --run folder.")
    for info in filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True)):
        if info.type == fs.FileType.File and _UNFINISHED.fullmatch(info.base_name):
            filesystem.delete_file(info.path)


def delete(uri: str) -> None:
    """Remove the file or folder at `uri`, if there is one."""
    filesystem, path = resolve(uri)
    kind = filesystem.get_file_info(path).type
    if kind == fs.FileType.Directory:
        filesystem.delete_dir(path)
    elif kind == fs.FileType.File:
        filesystem.delete_file(path)


def local_path(uri: str) -> Path:
    """The path of `uri` on this machine, for libraries that know only paths (weights, Hugging Face folders, SQLite).

    Raises:
        StorageError: `uri` is not on a mounted file system.
    """
    filesystem, path = resolve(uri)
    if not isinstance(filesystem, fs.LocalFileSystem):
        raise StorageError(f"{uri}: models and tracking need a mounted file system (a local or shared folder) in this version.")
    return Path(os.fspath(path))
