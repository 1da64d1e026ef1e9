"""CHB-MIT Scalp EEG (PhysioNet; Shoeb 2009): ``chb01/chb01_03.edf`` with the seizures of all files in ``chb01/chb01-summary.txt``."""

from __future__ import annotations

import dataclasses
import re

from cg_data import storage
from cg_data.corpora.listing import folder_of, list_tree, name_of
from cg_data.corpora.source import Source
from cg_data.marks import Labels, Marks, text_of
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import LabelKind, SeizureType

_RECORDING = re.compile(r"(?P<case>chb\d\d)[a-h]?_\d+\+?\.edf")
_SAME_PERSON = {"chb21": "chb01"}
"""Case 21 is the girl of case 01, a year and a half later."""
_COUNT = re.compile(r"Number of Seizures in File:\s*(\d+)", re.IGNORECASE)
_EDGE = re.compile(r"Seizure\s*(?:\d+)?\s*(?P<edge>Start|End) Time:\s*(?P<time>\d+)\s*(?:seconds|secs?)?", re.IGNORECASE)


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = list_tree(uri, lambda name: _RECORDING.fullmatch(name) is not None, "CHB-MIT (the folders chb01, chb02, ...)")
    found = []
    for edf in tree.recordings:
        case = name_of(edf)[:5]
        summary = tree.present(f"{folder_of(edf)}/{case}-summary.txt")
        found.append(Source(uri=edf, subject=_SAME_PERSON.get(case, case), label_uris=summary))
    return found


def labels(source: Source, file: SignalFile) -> Labels:
    """Seizures.

    Raises:
        StorageError: the summary cannot be fetched.
    """
    marks = Marks(file.runs_s[-1][1])
    if not source.label_uris:
        marks.broken("labels.no_file")
        return marks.gathered()
    entry = _entry(text_of(storage.read_bytes(source.label_uris[0])), name_of(source.uri))
    if entry is None:
        marks.broken("labels.no_entry")
    else:
        _add_seizures(entry, marks)
    return marks.gathered()


@dataclasses.dataclass(kw_only=True, slots=True)
class _Entry:
    """What a summary says of one file: seizures as counted there, and the edges given, in seconds."""

    count: int = 0
    edges: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    unreadable: int = 0


def _entry(summary: str, name: str) -> _Entry | None:
    entry: _Entry | None = None
    inside = False
    for line in summary.splitlines():
        if line.startswith("File Name:"):
            inside = line.partition(":")[2].strip() == name
            entry = (entry or _Entry()) if inside else entry
        elif inside and entry is not None and "seizure" in line.lower():
            if (count := _COUNT.fullmatch(line.strip())) is not None:
                entry.count += int(count[1])
            elif (edge := _EDGE.fullmatch(line.strip())) is not None:
                entry.edges.append((edge["edge"].lower(), float(edge["time"])))
            else:
                entry.unreadable += 1
    return entry


def _add_seizures(entry: _Entry, marks: Marks) -> None:
    onset_s: float | None = None
    seizures = 0
    for edge, time_s in entry.edges:
        if edge == "start":
            marks.broken("labels.unpaired_mark", onset_s is not None)
            onset_s = time_s
        elif onset_s is None:
            marks.broken("labels.unpaired_mark")
        else:
            marks.add(LabelKind.SEIZURE, SeizureType.SEIZURE, onset_s, time_s)
            seizures, onset_s = seizures + 1, None
    marks.broken("labels.unpaired_mark", onset_s is not None)
    marks.broken("labels.unreadable_line", entry.unreadable)
    marks.broken("labels.count_differs", seizures != entry.count)
