"""Waveforms that a user marked, in a table beside the recording: ``patient1.edf`` with ``patient1.marks.csv``.

The columns ``onset_s``, ``duration_s``, ``channel`` and ``waveform`` are needed, ``reader`` is optional, others are not looked at. Seconds
count from the start of the recording; a channel is an electrode, a derivation ("Fp1-F7"), or empty where a waveform is somewhere on the
page; a reader is a number, for names would be identity. A row with the waveform ``searched:sleep_spindle`` says that spindles were looked
for: on its channel, or on all electrodes; from its onset, or the beginning; for its duration, or to the end. With ``unsure:spike`` a row
is no mark: there may be a spike or not, and nobody is wrong.

In a table without any ``searched`` row each reader has looked for what the reader marked, where the reader marked it: for each waveform on
the channels on which that reader marked it, over the whole recording. Nothing follows for other electrodes: readers mark on the channel
that they look at.
"""

from __future__ import annotations

import csv
import io

from cg_data import storage
from cg_data.corpora.channels import channel_name
from cg_data.marks import Labels, Marks, number, text_of
from cg_data.reference_labels import aside
from cg_data.vocabulary import WAVEFORMS, LabelKind

SUFFIX = ".marks.csv"
_COLUMNS = frozenset({"onset_s", "duration_s", "channel", "waveform"})
_READER_DIGITS = 3


def marks_beside(recording_uri: str) -> str:
    """Where the table of a recording lies if it has one."""
    return recording_uri.rsplit(".", 1)[0] + SUFFIX


def labels_of_csv(uri: str, duration_s: float) -> Labels:
    """Marks and searches in the table at `uri`, for a recording of `duration_s` seconds.

    Raises:
        StorageError: the table cannot be fetched.
    """
    marks = Marks(duration_s)
    rows = _rows(uri)
    if rows is None:
        marks.broken("labels.unreadable_file")
        return marks.gathered()
    for row in rows:
        (_add_aside if row["waveform"].startswith(("searched:", "unsure:")) else _add_mark)(row, marks)
    if not any(row["waveform"].startswith("searched:") for row in rows):
        told = {(label.name, label.channel, label.reader) for label in marks.of_kind(LabelKind.WAVEFORM)}
        for name, channel, reader in told:
            marks.add(LabelKind.SEARCHED, name, 0.0, duration_s, channel=channel, reader=reader)
    return marks.gathered()


def _rows(uri: str) -> list[dict[str, str]] | None:
    """Rows of the table, "" where a field is not there; None where it is no such table."""
    lines = io.StringIO(text_of(storage.read_bytes(uri)), newline=None)
    reader = csv.DictReader(lines, restval="", restkey="", skipinitialspace=True, strict=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        if not _COLUMNS.issubset(reader.fieldnames):
            return None
        rows = [{name: str(value).strip() for name, value in row.items()} for row in reader]
    except csv.Error:  # a quote that never ends would swallow the marks after it
        return None
    return [row for row in rows if any(row.values())]


def _add_mark(row: dict[str, str], marks: Marks) -> None:
    """Keep the mark of a row; where it is lost and does not say of what, it may have been any waveform."""
    waveform, onset_s, duration_s = row["waveform"], number(row["onset_s"]), number(row["duration_s"])
    if waveform and waveform not in WAVEFORMS:
        marks.broken("labels.unknown_term")
        return
    if not waveform or onset_s is None or duration_s is None:
        marks.broken("labels.unreadable_line")
    elif (place := _place(row, marks)) is not None:
        channel, reader = place
        if marks.add(LabelKind.WAVEFORM, waveform, onset_s, onset_s + duration_s, channel=channel, reader=reader):
            return
    marks.lose({waveform} if waveform else WAVEFORMS)


def _add_aside(row: dict[str, str], marks: Marks) -> None:
    """Add what was looked for, or what a reader is not sure of."""
    named, onset_s = aside(row["waveform"]), number(row["onset_s"] or "0")
    duration_s = number(row["duration_s"]) if row["duration_s"] else marks.duration_s - (onset_s or 0.0)
    if named is None:
        marks.broken("labels.unknown_term")
        return
    if onset_s is None or duration_s is None:
        marks.broken("labels.unreadable_line")
    elif (place := _place(row, marks)) is not None:
        channel, reader = place
        if marks.add(*named, onset_s, onset_s + duration_s, channel=channel, reader=reader):
            return
    if named[0] is LabelKind.UNSURE:
        marks.lose({named[1]})


def _place(row: dict[str, str], marks: Marks) -> tuple[str, str] | None:
    """Channel and reader of a row, or None and a problem."""
    channel = channel_name(row["channel"]) if row["channel"] else ""
    reader = row.get("reader", "")
    if channel is None:
        marks.broken("labels.unknown_channel")
    elif reader and not (reader.isascii() and reader.isdigit() and len(reader) <= _READER_DIGITS):
        marks.broken("labels.unknown_reader")
    else:
        return channel, reader
    return None
