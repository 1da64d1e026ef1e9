"""TUAR, the TUH EEG Artifact Corpus: eye movement, chewing, shivering, muscle and electrode artefacts by channel, and seizures.

Version 3 has a table beside each recording and a second one for its seizures; versions 1 and 2 have one table for each montage
(``csv/labels_01_tcp_ar.csv``). No official splits.
"""

from __future__ import annotations

import dataclasses

from cg_data.corpora import tuh
from cg_data.corpora.listing import Tree, name_of
from cg_data.corpora.source import Source
from cg_data.marks import Labels
from cg_data.signal_file import SignalFile

_TABLES = {f"labels_{montage}.csv": montage for montage in ("01_tcp_ar", "02_tcp_le", "03_tcp_ar_a", "04_tcp_le_a")}


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = tuh.list_edf(uri, "TUAR")
    tables = {_TABLES[name_of(file)]: file for file in sorted(tree.files) if name_of(file) in _TABLES}
    return [_source(edf, tree, tables) for edf in tree.recordings]


def labels(source: Source, file: SignalFile) -> Labels:
    """Artefacts and seizures; see `tuh.labels_of`."""
    return tuh.labels_of(source, file)


def _source(edf: str, tree: Tree, tables: dict[str, str]) -> Source:
    source = tuh.source_of(edf, tree, {})
    table = tables.get(tuh.innermost(edf, tables) or "")
    return source if source.label_uris or table is None else dataclasses.replace(source, label_uris=(table,))
