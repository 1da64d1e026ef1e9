"""TUEV, the TUH EEG Events Corpus: six classes by channel; official train and eval.

Recordings of the eval set are named after their first event (``bckg_000_a_.edf``); the number is all that is known of the patient.
"""

from __future__ import annotations

import dataclasses
import re

from cg_data.corpora import tuh
from cg_data.corpora.listing import stem_of
from cg_data.corpora.source import Source, one_split_per_subject
from cg_data.marks import Labels
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import Split

_SPLITS = {"train": Split.TRAIN, "eval": Split.TEST}
_NAME = re.compile(r"(?P<subject>\d{8}|[a-z]{8})_\d{8}|[a-z]{4}_(?P<number>\d{3})_a_\d*")


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = tuh.list_edf(uri, "TUEV")
    return one_split_per_subject(_named(tuh.source_of(edf, tree, _SPLITS, _NAME)) for edf in tree.recordings)


def labels(source: Source, file: SignalFile) -> Labels:
    """Spikes and sharp waves, periodic discharges, eye movements, artefacts and background by channel; see `tuh.labels_of`."""
    return tuh.labels_of(source, file)


def _named(source: Source) -> Source:
    match = _NAME.fullmatch(stem_of(source.uri))
    return dataclasses.replace(source, subject=f"eval-{match['number']}") if match and match["number"] else source
