"""HMC, the Haaglanden Medisch Centrum sleep staging database (PhysioNet; Alvarez-Estevez and Rijsman 2021): ``SN001.edf`` and its stages.

Stages are in ``SN001_sleepscoring.txt`` (one line per epoch, comma separated) and the same in ``SN001_sleepscoring.edf`` (EDF+).
"""

from __future__ import annotations

import re

from cg_data import storage
from cg_data.corpora.listing import list_tree, stem_of
from cg_data.corpora.source import Source
from cg_data.edf.reader import read_annotations
from cg_data.edf.tal import Annotation
from cg_data.errors import EdfError
from cg_data.marks import Labels, Marks, number, text_of
from cg_data.reference_labels import labels_of_notes
from cg_data.signal_file import SignalFile

_RECORDING = re.compile(r"SN\d{3}\.edf", re.IGNORECASE)


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`, each of another patient.

    Raises:
        StorageError: there are none.
    """
    tree = list_tree(uri, lambda name: _RECORDING.fullmatch(name) is not None, "HMC (SN001.edf, SN001_sleepscoring.txt, ...)")
    scorings = ("_sleepscoring.txt", "_sleepscoring.edf")
    return [Source(uri=edf, subject=stem_of(edf), label_uris=tree.first(edf[:-4], scorings)) for edf in tree.recordings]


def labels(source: Source, file: SignalFile) -> Labels:
    """Sleep stages of 30 s.

    Raises:
        StorageError: the scoring cannot be fetched.
    """
    marks = Marks(file.runs_s[-1][1])
    if not source.label_uris:
        marks.broken("labels.no_file")
        return marks.gathered()
    (uri,) = source.label_uris
    if uri.endswith(".txt"):
        return labels_of_notes(_read_scoring(uri, marks), marks.duration_s).and_also(marks.gathered())
    try:
        return labels_of_notes(read_annotations(uri), marks.duration_s)
    except EdfError:
        marks.broken("labels.unreadable_file")
        return marks.gathered()


def _read_scoring(uri: str, marks: Marks) -> list[Annotation]:
    """Lines ``date, time, recording onset, duration, annotation, linked channel``."""
    notes = []
    for line in text_of(storage.read_bytes(uri)).splitlines():
        fields = [field.strip() for field in line.split(",")]
        if not line.strip() or fields[0] == "Date":
            continue
        onset_s, duration_s = (number(field) for field in fields[2:4]) if len(fields) >= 5 else (None, None)
        if onset_s is None or duration_s is None:
            marks.broken("labels.unreadable_line")
        else:
            notes.append(Annotation(onset_s=onset_s, duration_s=duration_s, text=fields[4]))
    return notes
