"""Recordings of any format that is understood, by URI: EDF by our own reader, others through MNE."""

from __future__ import annotations

from cg_data.edf.index import EdfIndex
from cg_data.edf.reader import EdfFile
from cg_data.edf.source import FileSource
from cg_data.signal_file import SignalFile

SUFFIXES: frozenset[str] = frozenset({".edf", ".bdf", ".vhdr", ".set", ".fif", ".gdf", ".cnt", ".lay"})
"""Endings of the files that `open_file` understands, lower case."""


def is_recording(name: str) -> bool:
    """Whether a file's name says that `open_file` understands it. Later parts of a FIF recording have no names of their own: opening
    them tells (``format.later_part``)."""
    return f".{name.lower().rsplit('.', 1)[-1]}" in SUFFIXES


def open_file(uri: str, index: bytes | None = None) -> SignalFile:
    """The recording at `uri`; with the `index` of an earlier opening, without reading it whole again.

    Raises:
        EdfError: it is refused, or ``file.changed`` where it is not the file that was indexed.
        StorageError: it is not there or cannot be read.
    """
    if is_recording(uri) and not uri.lower().endswith(".edf"):
        from cg_data.foreign import ForeignFile  # MNE takes a second to import, and EDF needs none of it

        return ForeignFile(uri, index)
    source = FileSource(uri)
    return EdfFile(source, None if index is None else EdfIndex.from_bytes(index, source.name))
