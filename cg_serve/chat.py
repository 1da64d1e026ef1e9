"""A chat in the OpenAI shape, as plain functions: what a request asks, and how its answer is sent."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import time
import uuid
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from cg_data.instruct.prompt import first_turn
from cg_data.records import Message, Segment
from cg_serve.interpret import Said
from cg_serve.schemas import (
    MODEL_NAME,
    About,
    ChatMessage,
    ChatRequest,
    Choice,
    ChunkChoice,
    Completion,
    CompletionChunk,
    ContentPart,
    Delta,
    FileReference,
    RequestError,
    Spoken,
    Usage,
    refused,
)
from cg_serve.settings import ServeSettings

LONGEST_DIALOGUE = 20_000
"""Characters of all turns together; the model reads a page and some sentences."""
_DATA_URL = "data:"
_BASE64 = ";base64,"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A dialogue about segment number `segment` of a recording: one that is kept (`file_id`), or the bytes of an EDF file (`edf`)."""

    dialogue: tuple[Message, ...]
    file_id: str | None
    edf: bytes | None
    segment: int
    max_new_tokens: int
    stream: bool
    include_usage: bool


def read_question(body: bytes, settings: ServeSettings) -> Asked:
    """What the body of a chat request asks.

    Raises:
        RequestError: 400, the request is none, asks for what is not done here, or is about no recording or several; 404, another model;
            413, the recording in it is larger than `max_upload_mib`.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise refused(error.errors(include_url=False)) from None
    if request.model != MODEL_NAME:
        raise RequestError(404, "model_not_found", f"model: {request.model[:64]!r} is not served here. Ask {MODEL_NAME!r}.", "model")
    dialogue, files = _read_messages(request.messages)
    file = _only_one(files)
    return Asked(
        dialogue=dialogue,
        file_id=file.file_id,
        edf=None if file.file_data is None else _decode(file.file_data, settings.max_upload_mib),
        segment=_segment_number(request),
        max_new_tokens=_token_limit(request, settings),
        stream=bool(request.stream),
        include_usage=request.stream_options is not None and request.stream_options.include_usage,
    )


def _read_messages(messages: list[ChatMessage]) -> tuple[tuple[Message, ...], list[FileReference]]:
    """The turns in words, the page statement before the first question, and the recordings that they mention."""
    turns: list[Message] = []
    files: list[FileReference] = []
    unasked = True
    for number, message in enumerate(messages):
        where = f"messages.{number}.content"
        text, mentioned = (message.content, []) if isinstance(message.content, str) else _read_parts(message.content, where)
        if not text.strip():
            raise RequestError(400, "empty_message", f"{where}: there are no words in this turn. Ask something.", where)
        if mentioned and message.role != "user":
            raise RequestError(400, "misplaced_file", f"{where}: a recording belongs in a turn of the user.", where)
        files += mentioned
        if message.role == "user" and unasked:
            text, unasked = first_turn(text), False
        turns.append(Message(role="system" if message.role == "developer" else message.role, content=text))
    if sum(len(turn.content) for turn in turns) > LONGEST_DIALOGUE:
        raise RequestError(
            400, "dialogue_too_long", f"messages: more than {LONGEST_DIALOGUE} characters. Leave earlier turns out.", "messages"
        )
    return tuple(turns), files


def _read_parts(parts: Iterable[ContentPart], where: str) -> tuple[str, list[FileReference]]:
    texts: list[str] = []
    files: list[FileReference] = []
    for number, part in enumerate(parts):
        name = f"{where}.{number}"
        if part.type == "text" and part.text is not None:
            texts.append(part.text)
        elif part.type == "file" and part.file is not None:
            files.append(part.file)
        elif part.type in ("text", "file"):
            raise RequestError(400, "invalid_request", f"{name}: a part of type {part.type} needs the field {part.type}.", name)
        else:
            raise RequestError(
                400,
                "unsupported_content",
                f"{name}: {part.type[:64]!r} is not read here, and no address is ever fetched. "
                "Give the EDF file in a part of type file, words in parts of type text.",
                name,
            )
    return "\n".join(texts), files


def _only_one(files: list[FileReference]) -> FileReference:
    """The recording of a dialogue; a client that repeats its earlier turns mentions it again."""
    if not files:
        raise RequestError(
            400,
            "recording_missing",
            "messages: no recording. Add a part of type file with the file_id that /v1/interpret gave, or with file_data.",
            "messages",
        )
    if any((file.file_id, file.file_data) != (files[0].file_id, files[0].file_data) for file in files):
        raise RequestError(400, "several_recordings", "messages: a dialogue is about one recording. Ask about each in its own.", "messages")
    return files[0]


def _decode(file_data: str, max_upload_mib: int) -> bytes:
    head, comma, coded = file_data.partition(_BASE64)
    if not head.startswith(_DATA_URL) or not comma:
        raise RequestError(
            400,
            "invalid_file_data",
            "file_data: not a base64 data URL. Write data:application/octet-stream;base64,... with the bytes of the EDF file; "
            "no address is ever fetched.",
            "file_data",
        )
    try:
        edf = base64.b64decode(coded, validate=True)
    except binascii.Error as error:
        raise RequestError(400, "invalid_file_data", f"file_data: not valid base64 ({error}). Encode it again.", "file_data") from None
    if len(edf) > max_upload_mib << 20:
        raise too_large(max_upload_mib)
    return edf


def too_large(max_upload_mib: int) -> RequestError:
    return RequestError(413, "upload_too_large", f"the upload is larger than {max_upload_mib} MiB. Cut the recording (max_upload_mib).")


def _segment_number(request: ChatRequest) -> int:
    if request.segment is not None:
        return request.segment
    text = (request.metadata or {}).get("segment", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise RequestError(400, "invalid_request", "metadata.segment: not a number of a segment. Write 0 or more.", "metadata.segment")
    return int(text)


def _token_limit(request: ChatRequest, settings: ServeSettings) -> int:
    """The least of what the client allows and what the service does."""
    return min(n for n in (request.max_completion_tokens, request.max_tokens, settings.max_new_tokens) if n is not None)


def completion_of(asked: Asked, said: Said, segment: Segment) -> Completion:
    """The answer as it is sent. An answer of exactly `max_new_tokens` counts as cut, though its end may just have fitted."""
    cut = said.tokens >= asked.max_new_tokens
    return Completion(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        system_fingerprint=said.interpreter_version,
        choices=(Choice(message=Spoken(content=said.text), finish_reason="length" if cut else "stop"),),
        usage=Usage(prompt_tokens=said.prompt_tokens, completion_tokens=said.tokens, total_tokens=said.prompt_tokens + said.tokens),
        cerebragloss=About(recording_id=segment.recording_id, segment=asked.segment, start_s=segment.start_s, probability=said.probability),
    )


def stream_of(completion: Completion, *, include_usage: bool) -> Iterator[str]:
    """A completion as server-sent events: role, words, why it ended, the usage if it is wanted, and ``[DONE]``.

    Answers are some sentences long and come in one piece: they are decoded together with others, and only a whole one can still be
    refused with a status of its own.
    """
    choice = completion.choices[0]
    choices = [
        ChunkChoice(delta=Delta(role="assistant", content="")),
        ChunkChoice(delta=Delta(content=choice.message.content)),
        ChunkChoice(delta=Delta(), finish_reason=choice.finish_reason),
    ]
    for one in choices:
        yield _event(_chunk(completion, (one,), about=completion.cerebragloss if one.finish_reason else None))
    if include_usage:
        yield _event(_chunk(completion, (), usage=completion.usage))
    yield "data: [DONE]\n\n"


def _chunk(
    completion: Completion, choices: tuple[ChunkChoice, ...], *, usage: Usage | None = None, about: About | None = None
) -> CompletionChunk:
    return CompletionChunk(
        id=completion.id,
        created=completion.created,
        system_fingerprint=completion.system_fingerprint,
        choices=choices,
        usage=usage,
        cerebragloss=about,
    )


def _event(chunk: CompletionChunk) -> str:
    return f"data: {chunk.model_dump_json()}\n\n"
