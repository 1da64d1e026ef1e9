"""A user's folder of recordings, labelled by the annotations inside them if at all; the embedded synthetic corpus is one too."""

from __future__ import annotations

from pyarrow import fs

from cg_data import storage
from cg_data.corpora.source import Source
from cg_data.errors import StorageError
from cg_data.formats import SUFFIXES, is_recording
from cg_data.marks import Labels
from cg_data.reference_labels import labels_of_notes
from cg_data.signal_file import SignalFile


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`; only their headers tell the patient.

    Raises:
        StorageError: see `list_recordings`.
    """
    return [Source(uri=recording) for recording in list_recordings(uri)]


def labels(source: Source, file: SignalFile) -> Labels:
    """What the file's own annotations say, by the allow-list of `cg_data.reference_labels`."""
    return labels_of_notes(file.annotations, file.runs_s[-1][1])


def list_recordings(uri: str) -> list[str]:
    """Sorted URIs of the recordings in the folder `uri` and its subfolders, by the endings of `cg_data.formats`.

    `uri` may also be one such file. Only the name is looked at: a file that turns out to be something else is refused, with its reason,
    when it is opened.

    Raises:
        StorageError: there is no such folder, it cannot be read, or no recording is in it.
    """
    filesystem, path = storage.resolve(uri)
    try:
        kind = filesystem.get_file_info(path).type
        if kind == fs.FileType.File and is_recording(uri):
            return [uri]
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
    return found
