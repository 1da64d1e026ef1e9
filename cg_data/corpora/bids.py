"""BIDS-EEG (Pernet et al. 2019): ``sub-01/ses-01/eeg/sub-01_ses-01_task-rest_eeg.edf`` with ``_events.tsv`` and ``_channels.tsv``.

Events are read by SzCORE's ``eventType``, by HED tags, or by ``trial_type`` (`cg_data.corpora.bids_terms`), which may also be
``searched:<waveform>`` (`cg_data.reference_labels`). All other text stays in its file. A dataset whose recordings have no event table is
labelled by the annotations inside them, like a plain folder.
"""

from __future__ import annotations

import csv
import io
import re

from cg_data import storage
from cg_data.corpora.bids_terms import Term, terms_of
from cg_data.corpora.channels import channel_name
from cg_data.corpora.listing import Tree, list_tree, name_of
from cg_data.corpora.source import Source
from cg_data.marks import Labels, Marks, number, text_of
from cg_data.reference_labels import labels_of_notes
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import ArtefactCode, LabelKind, Stage

_RECORDING = re.compile(r"(?P<subject>sub-[0-9A-Za-z]+)_(?:\w+-[0-9A-Za-z]+_)*eeg\.(?:edf|bdf|set|vhdr)", re.IGNORECASE)
_TERM_COLUMNS = ("eventType", "HED", "trial_type")
_EVERYWHERE = frozenset({"", "all", "n/a"})


def sources(uri: str) -> list[Source]:
    """Recordings of the dataset at `uri`; derivatives and source data are not looked at.

    Raises:
        StorageError: there are none.
    """
    tree = list_tree(uri, lambda name: _RECORDING.fullmatch(name) is not None, "a BIDS dataset (sub-01/eeg/sub-01_..._eeg.edf)")
    inside = [file for file in tree.recordings if not re.search(r"/(derivatives|sourcedata)/", file[len(uri) :])]
    participants = _participants(tree)
    return [_source(file, tree, participants) for file in inside]


def labels(source: Source, file: SignalFile) -> Labels:
    """Events of the tables beside the recording, and channels marked bad.

    Raises:
        StorageError: a table cannot be fetched.
    """
    marks = Marks(file.runs_s[-1][1])
    events = [uri for uri in source.label_uris if uri.endswith("_events.tsv")]
    for uri in events:
        for row in _rows(uri, marks, "onset"):
            if not _add_event(row, terms := _terms(row), marks):
                marks.lose(name for kind, name in terms if kind in (LabelKind.WAVEFORM, LabelKind.UNSURE))
    for uri in source.label_uris:
        if uri not in events:
            _add_bad_channels(uri, marks)
    own = Labels() if events else labels_of_notes(file.annotations, marks.duration_s)
    return own.and_also(marks.gathered())


def _source(file: str, tree: Tree, participants: frozenset[str] | None) -> Source:
    match = _RECORDING.fullmatch(name_of(file))
    assert match is not None  # that is how the tree was listed
    stem_uri = file[: file.rindex("_")]
    unknown = participants is not None and match["subject"] not in participants
    return Source(
        uri=file,
        subject=match["subject"],
        label_uris=tree.present(f"{stem_uri}_events.tsv", f"{stem_uri}_channels.tsv"),
        problems=("source.not_in_participants",) if unknown else (),
    )


def _participants(tree: Tree) -> frozenset[str] | None:
    tables = tree.present(storage.join(tree.uri, "participants.tsv"))
    if not tables:
        return None
    rows = csv.DictReader(io.StringIO(text_of(storage.read_bytes(tables[0]))), delimiter="\t")
    return frozenset(row.get("participant_id") or "" for row in rows)


def _rows(uri: str, marks: Marks, needed: str) -> list[dict[str, str]]:
    """Rows of a table; one without the column `needed` is no such table."""
    reader = csv.DictReader(io.StringIO(text_of(storage.read_bytes(uri))), delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
    if needed not in (reader.fieldnames or []):
        marks.broken("labels.unreadable_file")
        return []
    return [{str(key): str(value).strip() for key, value in row.items()} for row in reader]


def _terms(row: dict[str, str]) -> list[Term]:
    return next((found for column in _TERM_COLUMNS if (found := terms_of(row.get(column, "")))), [])


def _add_event(row: dict[str, str], terms: list[Term], marks: Marks) -> bool:
    """Add the labels of an event and say whether all of them are kept."""
    onset_s, duration = number(row["onset"]), row.get("duration", "n/a")
    duration_s = 0.0 if duration in _EVERYWHERE else number(duration)
    if onset_s is None or duration_s is None:
        marks.broken("labels.unreadable_line")
        return False
    channels = _channels(row.get("channels") or row.get("channel", ""))
    if not terms:
        marks.broken("labels.unknown_term")
    kept = True
    for kind, name in terms:
        stop_s = marks.duration_s if kind is LabelKind.SEARCHED and duration_s == 0 else onset_s + duration_s
        for channel in channels:
            if channel is None:
                marks.broken("labels.unknown_channel")
                kept = False
            elif name != Stage.UNKNOWN:
                kept &= marks.add(kind, name, onset_s, stop_s, channel=channel)
    return kept


def _channels(text: str) -> list[str | None]:
    """Channels of an event; the whole page where it names none or all."""
    return [""] if text in _EVERYWHERE else [channel_name(name) for name in text.split(",")]


def _add_bad_channels(uri: str, marks: Marks) -> None:
    for row in _rows(uri, marks, "name"):
        channel = channel_name(row["name"])
        if row.get("status") == "bad" and channel is not None:
            marks.add(LabelKind.ARTEFACT_CODE, ArtefactCode.BAD_CHANNEL, 0.0, marks.duration_s, channel=channel)
