"""Sleep-EDF expanded (PhysioNet; Kemp et al. 2000): cassette and telemetry nights, ``SC4001E0-PSG.edf`` with ``SC4001EC-Hypnogram.edf``.

The name says the subject (``SC400`` of ``SC4001E0``: study, subject 00, then the night); a hypnogram has its night's first seven letters
and the initial of its scorer as the eighth.
"""

from __future__ import annotations

import re

from cg_data.corpora.listing import folder_of, list_tree, name_of
from cg_data.corpora.source import Source
from cg_data.edf.reader import read_annotations
from cg_data.errors import EdfError
from cg_data.marks import Labels, Marks
from cg_data.reference_labels import labels_of_notes
from cg_data.signal_file import SignalFile

_RECORDING = re.compile(r"(?P<night>(?P<subject>S[CT][47]\d\d)\d\w)\w-PSG\.edf")
_HYPNOGRAM = re.compile(r"(?P<night>S[CT][47]\d\d\d\w)\w-Hypnogram\.edf")


def sources(uri: str) -> list[Source]:
    """Nights below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = list_tree(uri, lambda name: _RECORDING.fullmatch(name) is not None, "Sleep-EDF (sleep-cassette, sleep-telemetry)")
    scorings: dict[tuple[str, str], list[str]] = {}
    for file in sorted(tree.files):
        if (match := _HYPNOGRAM.fullmatch(name_of(file))) is not None:
            scorings.setdefault((folder_of(file), match["night"]), []).append(file)
    found = []
    for edf in tree.recordings:
        match = _RECORDING.fullmatch(name_of(edf))
        assert match is not None  # that is how the tree was listed
        night = scorings.get((folder_of(edf), match["night"]), [])
        found.append(Source(uri=edf, subject=match["subject"], label_uris=tuple(night[:1])))
    return found


def labels(source: Source, file: SignalFile) -> Labels:
    """Sleep stages (Rechtschaffen and Kales, stages 3 and 4 as N3).

    Raises:
        StorageError: the hypnogram cannot be fetched.
    """
    duration_s = file.runs_s[-1][1]
    marks = Marks(duration_s)
    if not source.label_uris:
        marks.broken("labels.no_file")
        return marks.gathered()
    try:
        return labels_of_notes(read_annotations(source.label_uris[0]), duration_s)
    except EdfError:
        marks.broken("labels.unreadable_file")
        return marks.gathered()
