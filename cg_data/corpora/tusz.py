"""TUSZ, the TUH EEG Seizure Corpus: seizures by channel and for the whole page, with their types; official train, dev and eval."""

from __future__ import annotations

from cg_data.corpora import tuh
from cg_data.corpora.source import Source, one_split_per_subject
from cg_data.marks import Labels
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import Split

_SPLITS = {"train": Split.TRAIN, "dev": Split.VALIDATION, "dev_test": Split.VALIDATION, "eval": Split.TEST}


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = tuh.list_edf(uri, "TUSZ")
    return one_split_per_subject(tuh.source_of(edf, tree, _SPLITS) for edf in tree.recordings)


def labels(source: Source, file: SignalFile) -> Labels:
    """Seizures and background; see `tuh.labels_of`."""
    return tuh.labels_of(source, file)
