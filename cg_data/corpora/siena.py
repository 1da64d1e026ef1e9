"""Siena Scalp EEG (PhysioNet; Detti et al. 2020): ``PN00/PN00-1.edf``, seizures by clock time in ``PN00/Seizures-list-PN00.txt``.

The lists were typed by hand. Times have points or colons and a stray blank now and then; a file name may have the letter O for a zero
(``PNO6-1.edf``) or lack its number (``PN01.edf``, ``PN11-.edf``: the first recording); a second seizure of a file does not repeat when
the registration started. A seizure that ends long after the recording is not kept: its end is a slip of the pen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cg_data import storage
from cg_data.corpora.listing import folder_of, list_tree, name_of
from cg_data.corpora.source import Source
from cg_data.marks import Labels, Marks, text_of
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import LabelKind, SeizureType

_RECORDING = re.compile(r"(?P<patient>PN\d\d)-[\d.]+\.edf", re.IGNORECASE)
_LISTED = re.compile(r"file name:\s*PN(?P<patient>[\dO]{2})-?(?P<number>[\d.]*?)\.edf.*", re.IGNORECASE)
_TIME = re.compile(r"(?P<what>registration start|registration end|(?:seizure )?start|(?:seizure )?end) time:(?P<clock>.*)", re.IGNORECASE)
_CLOCK = re.compile(r"(\d{1,2})[.:](\d{1,2})[.:](\d{1,2})")
_DAY_S = 86_400


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`.

    Raises:
        StorageError: there are none.
    """
    tree = list_tree(uri, lambda name: _RECORDING.fullmatch(name) is not None, "the Siena corpus (the folders PN00, PN01, ...)")
    found = []
    for edf in tree.recordings:
        patient = name_of(edf)[:4]
        found.append(Source(uri=edf, subject=patient, label_uris=tree.present(f"{folder_of(edf)}/Seizures-list-{patient}.txt")))
    return found


def labels(source: Source, file: SignalFile) -> Labels:
    """Seizures; a recording that the list does not name has none.

    Raises:
        StorageError: the list cannot be fetched.
    """
    marks = Marks(file.runs_s[-1][1])
    if not source.label_uris:
        marks.broken("labels.no_file")
        return marks.gathered()
    zero_s: int | None = None
    onset_s: int | None = None
    for what, clock_s in _times(text_of(storage.read_bytes(source.label_uris[0])), name_of(source.uri)):
        if clock_s is None:
            marks.broken("labels.unreadable_line")
        elif what == "registration start":
            zero_s = clock_s
        elif what == "start":
            onset_s = clock_s
        elif what == "end":
            if zero_s is None or onset_s is None:
                marks.broken("labels.unpaired_mark")
            else:
                start_s = (onset_s - zero_s) % _DAY_S
                marks.add(LabelKind.SEIZURE, SeizureType.SEIZURE, start_s, start_s + (clock_s - onset_s) % _DAY_S)
            onset_s = None
    marks.broken("labels.unpaired_mark", onset_s is not None)
    return marks.gathered()


def _times(text: str, name: str) -> Iterator[tuple[str, int | None]]:
    """What and when (seconds of the day, None where that cannot be read), from the parts of the list about one file."""
    inside = False
    for line in text.splitlines():
        if (listed := _LISTED.fullmatch(line.strip())) is not None:
            inside = f"PN{listed['patient'].upper().replace('O', '0')}-{listed['number'] or 1}.edf" == name
        elif inside and (match := _TIME.fullmatch(line.strip())) is not None:
            yield match["what"].lower().removeprefix("seizure "), _seconds(match["clock"])


def _seconds(clock: str) -> int | None:
    match = _CLOCK.fullmatch(clock.replace(" ", ""))
    if match is None:
        return None
    hours, minutes, seconds = (int(part) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds if hours < 24 and minutes < 60 and seconds < 60 else None
