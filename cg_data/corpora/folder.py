"""A user's folder of recordings, labelled by annotations inside them and tables beside them; the embedded synthetic corpus is one too."""

from __future__ import annotations

from pyarrow import fs

from cg_data import storage
from cg_data.corpora.marks_csv import labels_of_csv, marks_beside
from cg_data.corpora.source import Source
from cg_data.errors import StorageError
from cg_data.formats import SUFFIXES, is_recording
from cg_data.marks import Labels
from cg_data.reference_labels import labels_of_notes
from cg_data.signal_file import SignalFile


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`, with the table of marks that lies beside each (`cg_data.corpora.marks_csv`); only headers tell the patient.

    Raises:
        StorageError: see `list_recordings`.
    """
    recordings, files = _listed(uri)
    tables = {recording: marks_beside(recording) for recording in recordings}
    return [Source(uri=recording, label_uris=(table,) if table in files else ()) for recording, table in tables.items()]


def labels(source: Source, file: SignalFile) -> Labels:
    """What the file's own annotations say, by the allow-list of `cg_data.reference_labels`, and the table beside it.

    Raises:
        StorageError: the table cannot be fetched.
    """
    duration_s = file.runs_s[-1][1]
    found = labels_of_notes(file.annotations, duration_s)
    for uri in source.label_uris:
        found = found.and_also(labels_of_csv(uri, duration_s))
    return found


def list_recordings(uri: str) -> list[str]:
    """Sorted URIs of the recordings in the folder `uri` and its subfolders, by the endings of `cg_data.formats`.

    `uri` may also be one such file. Only the name is looked at: a file that turns out to be something else is refused, with its reason,
    when it is opened.

    Raises:
        StorageError: there is no such folder, it cannot be read, or no recording is in it.
    """
    return _listed(uri)[0]


def _listed(uri: str) -> tuple[list[str], frozenset[str]]:
    """Recordings as `list_recordings` gives them, and all files beside them."""
    filesystem, path = storage.resolve(uri)
    try:
        kind = filesystem.get_file_info(path).type
        if kind == fs.FileType.File and is_recording(uri):
            return [uri], frozenset(filter(storage.exists, [marks_beside(uri)]))
        names = storage.list_files(uri, recursive=True) if kind == fs.FileType.Directory else []
    except OSError as error:
        raise StorageError(f"{uri}: the folder cannot be read ({error}).") from error
    if kind == fs.FileType.NotFound:
        raise StorageError(f"{uri}: no such folder. Give the folder that holds your recordings.")
    found = [name for name in names if is_recording(name)]
    if not found:
        what = "the folder is empty" if not names and kind == fs.FileType.Directory else "no recording here"
        others = ", ".join(sorted(SUFFIXES - {".edf"}))
        raise StorageError(f"{uri}: {what}. Give a folder that holds EDF files (.edf) or others that are read ({others}).")
    return found, frozenset(names)
