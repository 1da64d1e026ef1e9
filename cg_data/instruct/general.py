"""General data: LLaVA-style lists of pictures and dialogues (Liu et al. 2023) as `general` samples, item by item.

An item is ``{"image": "folder/name.jpg", "conversations": [{"from": "human", "value": "<image>\\n..."}, {"from": "gpt", ...}]}``,
or text alone without ``image``. What breaks a rule is refused by name and the rest goes on. Pictures stay the files that they are.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from pyarrow import fs

from cg_data import storage
from cg_data.errors import ConfigError, StorageError
from cg_data.records import Message, Quarantined, Sample, content_id
from cg_data.rows import QUARANTINE_SCHEMA, ROWS_VERSION, SAMPLE_SCHEMA, table_of
from cg_data.settings import GeneralSettings
from cg_data.vocabulary import SEGMENT_SAMPLES, SampleKind, SampleSource, Split

GENERAL = "general"
"""Corpus and topic of the samples."""
GENERAL_VERSION = "general-1"
"""Goes up with any change of what an item becomes."""
GENERAL_SYSTEM_PROMPT = "You are a helpful assistant."
"""Qwen's own: a dialogue about a photograph does not begin with a promise to read EEG."""
_PNG = b"\x89PNG\r\n\x1a\n"
MAX_ASPECT_RATIO = 200
"""Longer pictures are refused by Qwen2.5-VL's image processor."""

CONTROL_TOKEN = re.compile(r"<\|[^<>|]*\|>")
"""What Qwen's tokenizer may take for a control token."""

_MARK = "<image>"
_ROLES = {"human": "user", "gpt": "assistant"}
_UNREADABLE = (OSError, EOFError, ValueError, SyntaxError, TypeError, IndexError, struct.error, zlib.error)
"""What Pillow raises on damaged files."""


class _RefusedError(Exception):
    """An item that breaks a rule: the rule's stable name and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GeneralShard:
    """Some items of a list in JSON, each as (position in the list, position of the first item equal to it, item)."""

    name: str
    items: str


def read_items(uri: str) -> list[Any]:
    """The items of a list in JSON.

    Raises:
        StorageError: there is no such file.
        ConfigError: it is no JSON, no list, or empty.
    """
    try:
        items = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise ConfigError(f"{uri}: not valid JSON ({error}). Give a LLaVA-style list of items.") from error
    if not isinstance(items, list) or not items:
        raise ConfigError(f"{uri}: a list with at least one item is needed. Give a LLaVA-style list of items.")
    return items


def plan_shards(items: Sequence[Any], items_per_shard: int) -> Iterator[GeneralShard]:
    """The list cut by count. A shard's name follows from its content, so that a shard of another list is never taken for it."""
    first: dict[str, int] = {}
    for start in range(0, len(items), items_per_shard):
        part = [(place, first.setdefault(_key(items[place]), place), items[place]) for place in range(start, len(items))[:items_per_shard]]
        yield GeneralShard(name=f"{start:07d}-{content_id(GENERAL_VERSION, ROWS_VERSION, part)}.parquet", items=json.dumps(part))


def _key(item: Any) -> str:
    """Identity of an item: its picture's name and its words."""
    return content_id(item.get("image"), item.get("conversations")) if isinstance(item, dict) else content_id(item)


def write_shard(shard: GeneralShard, *, out_uri: str, refused_uri: str, settings: GeneralSettings) -> None:
    """Write the samples of a shard, and before them what of it was refused; nothing is done again where they are."""
    if storage.exists(storage.join(out_uri, shard.name)):
        return
    samples, refused = [], []
    for place, first, item in json.loads(shard.items):
        try:
            if first != place:
                raise _RefusedError("item.twice", f"the same picture and words as item {first}.")
            samples.append(_sample(item, settings))
        except _RefusedError as error:
            uri = f"{settings.json_file}#{place:07d}"
            message = f"item {place} of {settings.json_file}: {error}"
            refused.append(Quarantined(uri=uri, sha256="", corpus=GENERAL, reason=error.reason, message=message))
    storage.write_table(storage.join(refused_uri, shard.name), table_of(refused, QUARANTINE_SCHEMA))
    storage.write_table(storage.join(out_uri, shard.name), table_of(samples, SAMPLE_SCHEMA))


def _sample(item: Any, settings: GeneralSettings) -> Sample:
    if not isinstance(item, dict):
        raise _RefusedError("item.type", f"an object is needed, not {_shown(item)}.")
    spoken = _turns(item.get("conversations"), settings.max_characters)
    marks = [i for i, turn in enumerate(spoken) for _ in range(turn.content.count(_MARK))]
    picture = _picture(item.get("image"), marks, settings)
    turns = [dataclasses.replace(turn, content=turn.content.replace(_MARK, "").strip()) for turn in spoken]
    if not all(turn.content for turn in turns):
        raise _RefusedError("turn.empty", "a turn says nothing.")
    messages = (Message(role="system", content=GENERAL_SYSTEM_PROMPT), *turns)
    picture_id = "" if picture is None else content_id(picture.hex())
    return Sample(
        sample_id=content_id(GENERAL, GENERAL_VERSION, _key(item), picture_id),
        segment_id=picture_id,
        recording_id="",
        corpus=GENERAL,
        subject="",
        split=Split.TRAIN,
        kind=SampleKind.GENERAL,
        topic=GENERAL,
        messages=messages,
        options=(),
        answer_index=-1,
        source=SampleSource.GENERAL,
        prompt_version=GENERAL_VERSION,
        detector_version="",
        mask=np.zeros(0, dtype=np.bool_),
        eeg_steps=np.zeros((0, SEGMENT_SAMPLES), dtype=np.int16),
        picture=picture,
    )


def _turns(conversations: Any, max_characters: int) -> list[Message]:
    if not isinstance(conversations, list) or not all(isinstance(turn, dict) for turn in conversations):
        raise _RefusedError("turns.type", "conversations must be a list of objects.")
    turns = []
    for turn in conversations:
        role, value = turn.get("from"), turn.get("value")
        if not isinstance(role, str) or role not in _ROLES:
            raise _RefusedError("turn.role", f'unknown speaker {_shown(role)}; "human" and "gpt" are known.')
        if not isinstance(value, str):
            raise _RefusedError("turn.value", f"a turn's value must be text, not {_shown(value)}.")
        turns.append(Message(role=_ROLES[role], content=value))
    if not turns or [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise _RefusedError("turns.order", "turns must alternate, begin with the human and end with gpt.")
    text = "".join(turn.content for turn in turns)
    if len(text) > max_characters:
        raise _RefusedError("text.too_long", f"{len(text)} characters, more than data.general.max_characters = {max_characters}.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _RefusedError("text.unicode", "the text holds half a character (a lone surrogate).")
    if (held := CONTROL_TOKEN.search(text)) is not None:
        raise _RefusedError("text.control_token", f"the text holds {held[0]}, which may be a control token of the model.")
    return turns


def _picture(image: Any, marks: list[int], settings: GeneralSettings) -> bytes | None:
    """The bytes of an item's picture; None for text alone. `marks` are the turns that hold the mark of a picture."""
    if isinstance(image, list) or len(marks) > 1:
        raise _RefusedError("image.several", "more than one picture; one is what a sample can hold.")
    if image is None:
        if marks:
            raise _RefusedError("image.not_given", f"a turn holds {_MARK}, but the item names no picture.")
        return None
    if not isinstance(image, str) or not image or not image.isprintable():
        raise _RefusedError("image.type", f"image must be a path inside the folder of pictures, not {_shown(image)}.")
    if marks != [0]:
        raise _RefusedError("image.not_marked", f"the first turn must hold {_MARK} where there is a picture, and no other turn may.")
    data = _read(image, settings)
    _check_picture(image, data, settings.max_picture_pixels)
    return data


def _read(image: str, settings: GeneralSettings) -> bytes:
    uri = _inside(image, settings.images_folder)
    filesystem, path = storage.resolve(uri)
    info = filesystem.get_file_info(path)
    if info.type != fs.FileType.File:
        raise _RefusedError("image.missing", f"there is no picture {_shown(image)} in {settings.images_folder}.")
    if info.size > settings.max_picture_bytes:
        limit = settings.max_picture_bytes
        raise _RefusedError("image.bytes", f"{_shown(image)} has {info.size} bytes, more than data.general.max_picture_bytes = {limit}.")
    try:
        return storage.read_bytes(uri)
    except StorageError as error:
        raise _RefusedError("image.unreadable", str(error)) from error


def _inside(image: str, folder: str) -> str:
    """Where the picture lies; never outside the folder, also not by way of a symbolic link."""
    windows = PureWindowsPath(image)
    if "://" in image or image.startswith("data:"):
        raise _RefusedError("image.url", f"{_shown(image)} is an address. Nothing is fetched: put the picture into the folder.")
    if image.startswith(("/", "\\")) or windows.drive or ".." in (*PurePosixPath(image).parts, *windows.parts):
        raise _RefusedError("image.outside", f"{_shown(image)} leads out of the folder of pictures.")
    uri = storage.join(folder, image)
    filesystem, path = storage.resolve(uri)
    if isinstance(filesystem, fs.LocalFileSystem):
        root = storage.local_path(folder).resolve()
        if not Path(path).resolve().is_relative_to(root):
            raise _RefusedError("image.outside", f"{_shown(image)} leads out of the folder of pictures.")
    return uri


def open_picture(data: bytes) -> ImageFile:
    """A JPEG or PNG, its size known and its pixels not yet decoded.

    Not by `Image.open`: in a process that has imported Ultralytics that is another function, which answers a damaged picture by installing
    a package.

    Raises:
        OSError, ValueError, SyntaxError and whatever else Pillow raises for a damaged picture.
    """
    return (PngImageFile if data.startswith(_PNG) else JpegImageFile)(io.BytesIO(data))


def _check_picture(image: str, data: bytes, max_pixels: int) -> None:
    """Decode the whole picture once, after its size is known to be harmless."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels is the bound here
            with open_picture(data) as picture:
                width, height = picture.size
                if width * height <= max_pixels and max(width, height) <= MAX_ASPECT_RATIO * min(width, height):
                    picture.load()
    except Image.DecompressionBombError as error:
        raise _RefusedError("image.pixels", f"{_shown(image)}: {error}") from error
    except _UNREADABLE as error:
        raise _RefusedError("image.unreadable", f"{_shown(image)} is no JPEG or PNG that can be read ({_shown(str(error))}).") from error
    if width * height > max_pixels:
        limit = f"data.general.max_picture_pixels = {max_pixels}"
        raise _RefusedError("image.pixels", f"{_shown(image)} has {width} x {height} pixels, more than {limit}.")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise _RefusedError(
            "image.shape", f"{_shown(image)} has {width} x {height} pixels: one side is over {MAX_ASPECT_RATIO} times the other."
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
