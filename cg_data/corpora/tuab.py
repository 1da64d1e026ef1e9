"""TUAB, the TUH EEG Abnormal Corpus: each recording is normal or abnormal as a whole; official train and eval."""

from __future__ import annotations

from cg_data.corpora import tuh
from cg_data.corpora.source import Source, one_split_per_subject
from cg_data.marks import Labels
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import ClinicalClass, Split

_SPLITS = {"train": Split.TRAIN, "eval": Split.TEST}
_CLASSES = {"normal": ClinicalClass.NORMAL, "abnormal": ClinicalClass.ABNORMAL}


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = tuh.list_edf(uri, "TUAB")
    return one_split_per_subject(tuh.with_class(tuh.source_of(edf, tree, _SPLITS), _CLASSES) for edf in tree.recordings)


def labels(source: Source, file: SignalFile) -> Labels:
    """Normal or abnormal, from the folder; see `tuh.labels_of`."""
    return tuh.labels_of(source, file, _CLASSES)
