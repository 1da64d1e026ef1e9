"""TUEP, the TUH EEG Epilepsy Corpus: the patient of each recording has epilepsy or not; seizures are marked in later versions.

No official splits. A patient is in one of the two folders.
"""

from __future__ import annotations

from cg_data.corpora import tuh
from cg_data.corpora.source import Source
from cg_data.marks import Labels
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import ClinicalClass

_CLASSES = {
    folder: diagnosis
    for word, diagnosis in (("epilepsy", ClinicalClass.EPILEPSY), ("no_epilepsy", ClinicalClass.NO_EPILEPSY))
    for folder in (word, f"{word}_edf", f"00_{word}", f"01_{word}")
}
"""Folder names of all versions: ``epilepsy``, ``no_epilepsy_edf``, ``00_epilepsy``, ``01_no_epilepsy``."""


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = tuh.list_edf(uri, "TUEP")
    return [tuh.with_class(tuh.source_of(edf, tree, {}), _CLASSES) for edf in tree.recordings]


def labels(source: Source, file: SignalFile) -> Labels:
    """The diagnosis, from the folder, and what label files mark; see `tuh.labels_of`."""
    return tuh.labels_of(source, file, _CLASSES)
