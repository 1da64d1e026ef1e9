"""The files that make up one recording of a format that MNE reads, and what MNE passes over in them without a word."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mne
from pyarrow import fs

from cg_data import storage
from cg_data.errors import EdfError, StorageError

_CHUNK_BYTES = 16 << 20
_LONGEST_HEADER_BYTES = 4 << 20
_NAMED_FILES = {
    ".vhdr": re.compile(rb"^(?:DataFile|MarkerFile)[ \t]*=[ \t]*(.+?)[ \t]*\r?$", re.MULTILINE),
    ".lay": re.compile(rb"^File[ \t]*=[ \t]*(.+?)[ \t]*\r?$", re.MULTILINE),
}
_FIRST_OF_SPLIT = re.compile(r"_split-01(?=[_.][^/]*$)")
_PREVIOUS_FILE = re.compile(r"FIFF_REF_ROLE .*= \[1\]")
_SAMPLE_TIMES = re.compile(rb"^\[SampleTimes\]\s*$((?:\s*^[0-9]+=[0-9.]+[ \t]*\r?$)*)", re.MULTILINE)
_CLOCK_SLACK_S = 0.5
"""How far the clock of a Persyst recording may differ from the count of its samples between two of its entries."""


def parts_of(uri: str) -> list[str]:
    """The files that may belong to a recording by their names: itself first, then those of them that exist.

    Raises:
        EdfError: ``format.companion``: a file that the header names is missing or elsewhere.
        StorageError: the recording itself is not there or cannot be read.
    """
    suffix = _suffix(uri)
    if suffix in _NAMED_FILES:
        return _named(uri, suffix)
    stem = uri[: -len(suffix)]
    if suffix == ".set":
        return [uri, *(part for part in (f"{stem}.fdt",) if storage.exists(part))]
    if suffix != ".fif":
        return [uri]
    parts, number = [uri], 1
    while storage.exists(later := f"{stem}-{number}{uri[-len(suffix) :]}"):
        parts.append(later)
        number += 1
    number = 2
    while _FIRST_OF_SPLIT.search(uri) and storage.exists(later := _FIRST_OF_SPLIT.sub(f"_split-{number:02d}", uri)):
        parts.append(later)
        number += 1
    return parts


def parts_read(uris: Sequence[str], local: Path, read: Sequence[object]) -> list[str]:
    """Those of `uris` that belong to the recording at `local`, by the paths that MNE reads for it.

    Raises:
        EdfError: ``format.companion``: MNE would read a file that is none of them.
    """
    paths = [Path(os.path.abspath(str(path))) for path in read]  # noqa: PTH100 - links are not followed: their targets have other names
    here, names = Path(os.path.abspath(local)).parent, {_name(uri) for uri in uris}  # noqa: PTH100
    if any(path.parent != here or path.name not in names for path in paths):
        raise EdfError(
            "format.companion",
            f"{_name(uris[0])}: its data lie in a file of another name or in another folder. Put them beside it, under its own name.",
        )
    if _suffix(uris[0]) != ".fif":
        return list(uris)
    return [uri for uri in uris if _name(uri) in {path.name for path in paths}]


def refuse_what_mne_passes_over(uri: str, local: Path) -> None:
    """Interruptions that MNE would read as contiguous signal, and the later part of a recording, which the first one holds.

    Raises:
        EdfError: ``format.discontinuous`` or ``format.later_part``.
    """
    suffix, name = _suffix(uri), _name(uri)
    if (suffix == ".bdf" and _head(uri)[192:197] == b"BDF+D") or (suffix == ".lay" and _skips(_head(uri))):
        raise EdfError("format.discontinuous", f"{name}: the recording was interrupted, and MNE does not tell when. Convert it to EDF+D.")
    if suffix == ".fif":
        tags = mne.io.show_fiff(local, output=list, read_limit=64, verbose="ERROR")
        if any(_PREVIOUS_FILE.search(tag) for tag in tags):
            raise EdfError("format.later_part", f"{name}: this is a later part of a recording in several files; it is read with the first.")


def size_of(uri: str) -> int:
    filesystem, path = storage.resolve(uri)
    info = filesystem.get_file_info(path)
    if info.type != fs.FileType.File:
        raise StorageError(f"{uri}: no such file.")
    return int(info.size)


def sha256_of(uris: Sequence[str]) -> str:
    """Over the bytes of all files, one after the other."""
    digest = hashlib.sha256()
    for uri in uris:
        filesystem, path = storage.resolve(uri)
        with filesystem.open_input_stream(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def local_copy(uris: Sequence[str]) -> tuple[tempfile.TemporaryDirectory[str] | None, Path]:
    """The recording's own file on this machine; the folder holds a copy of what lies elsewhere."""
    filesystem, path = storage.resolve(uris[0])
    if isinstance(filesystem, fs.LocalFileSystem):
        return None, Path(path)
    folder = tempfile.TemporaryDirectory(prefix="cg-recording-")
    for uri in uris:
        source, path = storage.resolve(uri)
        fs.copy_files(path, f"{folder.name}/{_name(uri)}", source_filesystem=source, destination_filesystem=fs.LocalFileSystem())
    return folder, Path(folder.name) / _name(uris[0])


def _named(uri: str, suffix: str) -> list[str]:
    """The recording and the files that its header names."""
    base = _name(uri).rsplit(".", 1)[0]
    parts = [uri]
    for match in _NAMED_FILES[suffix].finditer(_head(uri)):
        companion = match[1].decode("utf-8", "replace").replace("$b", base)
        if suffix == ".lay":
            companion = companion.rsplit("/", 1)[-1]  # Persyst writes the path of where it was exported, and MNE looks beside the header
        place = f"{uri.rsplit('/', 1)[0]}/{companion}" if "/" in uri else companion
        if not companion or re.search(r"[/\\]|^[.]", companion) or not storage.exists(place):
            raise EdfError(
                "format.companion",
                f"{_name(uri)}: the file that it names as its data is not in the same folder, or is named with a path. "
                "Put them together, and let the header name it without a path.",
            )
        parts.append(place)
    return parts


def _skips(head: bytes) -> bool:
    """Whether the clock of a Persyst header (``sample=seconds of the day``) runs otherwise than its samples."""
    rate, section = re.search(rb"^SamplingRate[ \t]*=[ \t]*([0-9.]+)", head, re.MULTILINE), _SAMPLE_TIMES.search(head)
    if rate is None or section is None:
        return False
    entries = [(int(a), float(b)) for a, b in re.findall(rb"([0-9]+)=([0-9.]+)", section[1])]
    gaps_s = ((t - s) % 86_400 - (j - i) / float(rate[1]) for (i, s), (j, t) in itertools.pairwise(entries))
    return any(abs(gap_s) > _CLOCK_SLACK_S for gap_s in gaps_s)


def _head(uri: str) -> bytes:
    filesystem, path = storage.resolve(uri)
    try:
        with filesystem.open_input_stream(path) as file:
            return bytes(file.read(_LONGEST_HEADER_BYTES))
    except FileNotFoundError as error:
        raise StorageError(f"{uri}: no such file.") from error
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read ({error}).") from error


def _name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]


def _suffix(uri: str) -> str:
    return f".{uri.rsplit('.', 1)[-1].lower()}"
