"""The files of a corpus's tree, listed once, so that 100,000 recordings find their label files without asking the store."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pyarrow import fs

from cg_data import storage
from cg_data.errors import StorageError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """URIs below `uri`: `recordings` in order, and `files` of every kind."""

    uri: str
    recordings: tuple[str, ...]
    files: frozenset[str]

    def present(self, *uris: str) -> tuple[str, ...]:
        """Those of `uris` that exist, in the order given."""
        return tuple(uri for uri in uris if uri in self.files)

    def first(self, stem_uri: str, suffixes: tuple[str, ...]) -> tuple[str, ...]:
        """The first of `stem_uri` + suffix that exists, as a tuple of one or none."""
        return self.present(*(stem_uri + suffix for suffix in suffixes))[:1]


def list_tree(uri: str, is_recording: Callable[[str], bool], what: str) -> Tree:
    """All files below the folder `uri`; `is_recording` looks at a file's name alone, `what` says what is expected there.

    Raises:
        StorageError: there is no such folder, it cannot be read, or no recording is in it.
    """
    filesystem, path = storage.resolve(uri)
    try:
        kind = filesystem.get_file_info(path).type
        files = storage.list_files(uri, recursive=True) if kind == fs.FileType.Directory else []
    except OSError as error:
        raise StorageError(f"{uri}: the folder cannot be read ({error}).") from error
    if kind != fs.FileType.Directory:
        raise StorageError(f"{uri}: no such folder. Give the folder that holds {what}.")
    recordings = tuple(file for file in files if is_recording(name_of(file)))
    if not recordings:
        raise StorageError(f"{uri}: no recording found among {len(files):,} files. Give the folder that holds {what}.")
    return Tree(uri=uri, recordings=recordings, files=frozenset(files))


def name_of(uri: str) -> str:
    """File name of a URI."""
    return uri.rsplit("/", 1)[-1]


def stem_of(uri: str) -> str:
    """File name of a URI without its last suffix."""
    return name_of(uri).rsplit(".", 1)[0]


def folder_of(uri: str) -> str:
    """URI of the folder that holds a file."""
    return uri.rsplit("/", 1)[0]
