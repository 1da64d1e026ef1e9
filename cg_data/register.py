"""The register of recordings: what was found in each source file, looked at once and kept, so that a rerun opens only what is new.

A row stands for a file by a keyed hash of its place, size and time; names of files may carry identity and stay with the driver.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from cg_data import storage
from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.source import Source
from cg_data.errors import EdfError, StorageError
from cg_data.formats import open_file
from cg_data.recording import describe
from cg_data.records import Quarantined, Recording, content_id
from cg_data.segments import count_segments
from cg_data.settings import DataSettings

UNREADABLE = "file.unreadable"
"""Reason of a file that could not be read just now: it is looked at again by the next run."""
DUPLICATE = "recording.duplicate"
_NAME = "{file}"
_KEY_DIGITS = 16
_BATCHES = 64
_BATCH_FILES = 64
_BATCH_BYTES = 1 << 30
_RECORDING: TypeAdapter[Recording] = TypeAdapter(Recording)

REGISTER_SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "bytes": pa.int64(),
        "recording_id": pa.string(),
        "sha256": pa.string(),
        "subject": pa.string(),
        "windows": pa.int32(),
        "reason": pa.string(),
        "message": pa.string(),
        "problems": pa.list_(pa.string()),
        "recording": pa.string(),
        "index": pa.binary(),
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A source with its key and its size in bytes."""

    source: Source
    key: str
    bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One row of the register without the recording itself; `shard` is the file that it lies in."""

    key: str
    recording_id: str
    sha256: str
    subject: str
    windows: int
    reason: str
    message: str
    problems: tuple[str, ...]
    shard: str


def listed(sources: Sequence[Source], salt: str) -> list[Listed]:
    """Sources with keys: a file that was changed, or whose label files were, gets another key."""
    places = [(source.uri, *source.label_uris) for source in sources]
    states = iter(storage.states([uri for group in places for uri in group]))
    result = []
    for source, group in zip(sources, places, strict=True):
        own = [next(states) for _ in group]
        text = repr([(uri, state.bytes, state.modified_ns) for uri, state in zip(group, own, strict=True)])
        key = hmac.new(salt.encode(), text.encode(), "sha256").hexdigest()[:_KEY_DIGITS]
        result.append(Listed(source=source, key=key, bytes=own[0].bytes))
    return result


def batches(files: Sequence[Listed]) -> Iterator[list[Listed]]:
    """Work for one task each, in the order of the keys: about 64 tasks, of at most 64 files and, where more than one, 1 GiB."""
    most = min(_BATCH_FILES, -(-len(files) // _BATCHES))
    batch: list[Listed] = []
    for file in sorted(files, key=lambda f: f.key):
        if batch and (len(batch) == most or sum(f.bytes for f in batch) + file.bytes > _BATCH_BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


def unknown(files: Sequence[Listed], known: dict[str, Entry]) -> list[Listed]:
    """Files that are to be looked at: new ones, and those that could not be read the last time."""
    return [file for file in files if file.key not in known or known[file.key].reason == UNREADABLE]


def look_all(files: Sequence[Listed], *, corpus: CorpusName, settings: DataSettings, register_uri: str) -> int:
    """Look at the files of one batch and write their rows; returns how many there are."""
    rows = [look(file, corpus=corpus, settings=settings) for file in files]
    name = content_id("register", [file.key for file in files])
    storage.write_table(storage.join(register_uri, f"{name}.parquet"), pa.Table.from_pylist(rows, schema=REGISTER_SCHEMA))
    return len(rows)


def look(file: Listed, *, corpus: CorpusName, settings: DataSettings) -> dict[str, Any]:
    """Open one file, read its labels and describe it, as a row of the register; `reason` is empty where it is good."""
    row = dict.fromkeys(REGISTER_SCHEMA.names, "") | {"key": file.key, "bytes": file.bytes, "windows": 0, "problems": [], "index": b""}
    try:
        opened = open_file(file.source.uri)
        row["sha256"] = opened.sha256
        found = CORPORA[corpus].labels(file.source, opened)
        recording = describe(opened, source=file.source, corpus=corpus, settings=settings, labels=found.labels)
    except EdfError as error:
        return row | {"reason": error.reason, "message": _anonymous(str(error), file.source.uri)}
    except StorageError as error:
        return row | {"reason": UNREADABLE, "message": _anonymous(str(error), file.source.uri)}
    return row | {
        "recording_id": recording.recording_id,
        "subject": recording.subject,
        "windows": count_segments(recording),
        "problems": [problem.rule for problem in found.problems for _ in range(problem.count)],
        "recording": _RECORDING.dump_json(dataclasses.replace(recording, uri="")).decode(),
        "index": opened.index,
    }


def _anonymous(message: str, uri: str) -> str:
    return message.replace(uri, _NAME).replace(uri.rsplit("/", 1)[-1], _NAME)


def entries(register_uri: str) -> dict[str, Entry]:
    """All rows by key, read without recordings and indices."""
    columns = [field.name for field in dataclasses.fields(Entry) if field.name != "shard"]
    found: dict[str, Entry] = {}
    for shard in storage.list_files(register_uri, ".parquet"):
        for row in storage.read_table(shard, columns).to_pylist():
            if row["key"] not in found or found[row["key"]].reason == UNREADABLE:
                found[row["key"]] = Entry(**{**row, "problems": tuple(row["problems"]), "shard": shard})
    return found


def recordings(register_shard: str, keys: Sequence[str]) -> dict[str, tuple[Recording, bytes]]:
    """Recordings of `keys` with the indices by which their files are opened again."""
    table = storage.read_table(register_shard, ["key", "recording", "index"], [("key", "in", list(keys))])
    return {row["key"]: (_RECORDING.validate_json(row["recording"]), row["index"]) for row in table.to_pylist()}


def good_and_refused(files: Sequence[Listed], known: dict[str, Entry], corpus: str) -> tuple[dict[str, Listed], list[Quarantined]]:
    """Files by recording id, and those that are refused: by their reason, or because their content is that of a file before them."""
    good: dict[str, Listed] = {}
    refused: list[Quarantined] = []
    for file in files:
        entry = known[file.key]
        reason, message = entry.reason, entry.message
        if not reason and entry.recording_id in good:
            first = good[entry.recording_id].source.uri
            reason, message = DUPLICATE, f"{_NAME}: the same recording as {first}; it is read once."
        if reason:
            refused.append(quarantined(file, entry.sha256, corpus, reason, message))
        else:
            good[entry.recording_id] = file
    return good, refused


def quarantined(file: Listed, sha256: str, corpus: str, reason: str, message: str) -> Quarantined:
    """A row of the quarantine list, which the operator reads: here, and only here, the file has its name."""
    uri = file.source.uri
    return Quarantined(uri=uri, sha256=sha256, corpus=corpus, reason=reason, message=message.replace(_NAME, uri.rsplit("/", 1)[-1]))
