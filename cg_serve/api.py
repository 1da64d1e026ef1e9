"""The HTTP interface over whatever does the work (`Rooms`): addresses, limits, refusals. It knows no Ray.

Recordings are read here in threads of this process, so that a file's bytes go no further: the other rooms see cleaned segments.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Annotated, Protocol

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cg_data.errors import EdfError, UserError
from cg_data.records import Annotation, Message, Segment
from cg_data.settings import DataSettings
from cg_serve.chat import Asked, completion_of, read_question, stream_of, too_large
from cg_serve.interpret import Said, batches, interpretation_of, read_pages, report_dialogue
from cg_serve.recordings import Pages
from cg_serve.schemas import DISCLAIMER, Completion, ErrorBody, ErrorDetail, Health, Interpretation, ModelList, RequestError, ServedModel
from cg_serve.schemas import refused as refused_fields
from cg_serve.settings import ServeSettings

UPLOADS_AT_ONCE = 8
"""Bodies that are received and read at the same time; each may hold `max_upload_mib` in memory."""
RETRY_AFTER_S = 2
_MIB = 1 << 20
_WORDS_BYTES = _MIB
"""Room in the body of a chat beside the recording."""


class Rooms(Protocol):
    """What the interface needs done. A user's mistake is raised as `UserError`, an overload or an outage as `RequestError` 503."""

    async def annotate(self, pages: Pages) -> Sequence[Annotation]: ...

    async def answer(
        self, segments: Sequence[Segment], dialogues: Sequence[Sequence[Message]], *, max_new_tokens: int
    ) -> Sequence[Said]: ...

    async def keep(self, pages: Pages) -> None: ...

    async def segment(self, recording_id: str, index: int) -> Segment: ...

    async def health(self) -> Health: ...


class Desk:
    """The endpoints."""

    def __init__(self, rooms: Rooms, data: DataSettings, settings: ServeSettings) -> None:
        self._rooms, self._data, self._settings = rooms, data, settings
        self._uploads = 0
        self._started = int(time.time())

    async def interpret(
        self, request: Request, start: Annotated[int, Query(ge=0)] = 0, segments: Annotated[int | None, Query(ge=1)] = None
    ) -> Interpretation:
        """Interpret `segments` segments of the EDF file in the body, from number `start`; without `segments`, as many as are allowed."""
        with self._upload():
            edf = await _read_body(request, self._settings.max_upload_mib * _MIB, self._settings.max_upload_mib)
            pages = await self._read(edf, start, segments)
            del edf
        await self._rooms.keep(pages)
        annotations = await self._rooms.annotate(pages)
        said: list[Said] = []
        for some in batches(pages.segments):
            dialogues = [report_dialogue()] * len(some)
            said += await self._rooms.answer(some, dialogues, max_new_tokens=self._settings.max_new_tokens)
        return interpretation_of(pages, annotations, said)

    async def chat(self, request: Request) -> Response:
        """Answer a question about one segment of an uploaded recording, in the OpenAI shape."""
        with self._upload():
            body = await _read_body(request, self._settings.max_upload_mib * _MIB // 3 * 4 + _WORDS_BYTES, self._settings.max_upload_mib)
            asked = await asyncio.to_thread(read_question, body, self._settings)
            del body
            segment = await self._segment_of(asked)
        (said,) = await self._rooms.answer([segment], [asked.dialogue], max_new_tokens=asked.max_new_tokens)
        completion = completion_of(asked, said, segment)
        if asked.stream:
            return StreamingResponse(stream_of(completion, include_usage=asked.include_usage), media_type="text/event-stream")
        return JSONResponse(completion.model_dump(mode="json"))

    async def models(self) -> ModelList:
        return ModelList(data=(ServedModel(created=self._started),))

    async def health(self) -> Health:
        """Versions of detector and interpreter; 503 while one of them is away."""
        return await self._rooms.health()

    async def _segment_of(self, asked: Asked) -> Segment:
        if asked.edf is None:
            return await self._rooms.segment(str(asked.file_id), asked.segment)
        pages = await self._read(asked.edf, asked.segment, 1)
        await self._rooms.keep(pages)
        return pages.segments[0]

    async def _read(self, edf: bytes, start: int, count: int | None) -> Pages:
        return await asyncio.to_thread(read_pages, edf, start=start, count=count, data=self._data, max_segments=self._settings.max_segments)

    @contextlib.contextmanager
    def _upload(self) -> Iterator[None]:
        """One of the `UPLOADS_AT_ONCE` bodies in memory."""
        if self._uploads >= UPLOADS_AT_ONCE:
            raise RequestError(503, "overloaded", f"{UPLOADS_AT_ONCE} uploads are being read already. Send it again in a moment.")
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1


async def _read_body(request: Request, limit_bytes: int, max_upload_mib: int) -> bytes:
    """The whole body, given up as soon as it is announced or seen to be above the limit."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise too_large(max_upload_mib)
    chunks: list[bytes] = []
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit_bytes:
            raise too_large(max_upload_mib)
        chunks.append(chunk)
    return b"".join(chunks)


def build_api(rooms: Rooms, data: DataSettings, settings: ServeSettings) -> FastAPI:
    """The application. Its pages of documentation are off, for they load scripts from elsewhere; ``/openapi.json`` is there."""
    api = FastAPI(title="CerebraGloss", description=DISCLAIMER, docs_url=None, redoc_url=None, redirect_slashes=False)
    desk = Desk(rooms, data, settings)
    edf = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}
    chat = {"requestBody": {"required": True, "content": {"application/json": {}}}}
    api.add_api_route("/v1/interpret", desk.interpret, methods=["POST"], openapi_extra=edf)
    api.add_api_route("/v1/chat/completions", desk.chat, methods=["POST"], openapi_extra=chat, responses={200: {"model": Completion}})
    api.add_api_route("/v1/models", desk.models, methods=["GET"])
    api.add_api_route("/healthz", desk.health, methods=["GET"])
    for kind, handler in _HANDLERS.items():
        api.add_exception_handler(kind, handler)
    return api


def _refusal(status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = ErrorBody(error=ErrorDetail(message=message, type=kind, code=code, param=param))
    return JSONResponse(body.model_dump(mode="json"), status_code=status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    """A user's mistake, or 503."""
    if isinstance(error, RequestError):
        headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else None
        return _refusal(error.status, error.code, str(error), param=error.param, headers=headers)
    return _refusal(400, error.reason if isinstance(error, EdfError) else "invalid_request", str(error))


async def _wrong_fields(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    return await _refused(request, refused_fields(faults))


async def _wrong_address(request: Request, error: Exception) -> Response:
    """404 and 405 of the framework."""
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return _refusal(status, status.name.lower(), f"{status.phrase}: see /openapi.json for the addresses and methods.", headers=headers)


async def _gone(request: Request, error: Exception) -> Response:
    """The client hung up while it sent; nobody reads this."""
    return _refusal(400, "disconnected", "the body ended before it was whole.")


async def _failed(request: Request, error: Exception) -> Response:
    """A fault of ours. Starlette raises it again after this is sent, so that it is logged."""
    return _refusal(500, "internal_error", "the service failed on this request; its log says why.")


_HANDLERS = {
    UserError: _refused,
    RequestValidationError: _wrong_fields,
    HTTPException: _wrong_address,
    ClientDisconnect: _gone,
    Exception: _failed,
}
