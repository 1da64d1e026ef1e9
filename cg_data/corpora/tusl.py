"""TUSL, the TUH EEG Slowing Corpus: slowing, seizures and complex background; no official splits."""

from __future__ import annotations

from cg_data.corpora import tuh
from cg_data.corpora.source import Source
from cg_data.marks import Labels
from cg_data.signal_file import SignalFile


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = tuh.list_edf(uri, "TUSL")
    return [tuh.source_of(edf, tree, {}) for edf in tree.recordings]


def labels(source: Source, file: SignalFile) -> Labels:
    """Slowing, seizures and background; see `tuh.labels_of`."""
    return tuh.labels_of(source, file)
