"""The HTTP interface with fakes behind it: every refusal has the OpenAI shape and the right status."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest

from cg_data.settings import DataSettings
from cg_serve.api import RETRY_AFTER_S, UPLOADS_AT_ONCE, build_api
from cg_serve.schemas import RequestError
from cg_serve.settings import ServeSettings
from tests.cg_serve.serve_fakes import IDENTITY, PAGES, FakeRooms, small_edf

SETTINGS = ServeSettings(max_upload_mib=1, max_segments=3)
CHAT = "/v1/chat/completions"

Ask = Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]


@pytest.fixture
def rooms() -> FakeRooms:
    return FakeRooms()


def during(rooms: FakeRooms, ask: Ask) -> Any:
    async def session() -> Any:
        transport = httpx.ASGITransport(build_api(rooms, DataSettings(), SETTINGS), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await ask(client)

    return asyncio.run(session())


def request(rooms: FakeRooms, method: str, path: str, **more: Any) -> httpx.Response:
    response: httpx.Response = during(rooms, lambda client: client.request(method, path, **more))
    return response


def question(text: str = "Are spindles seen?", **file: str) -> dict[str, Any]:
    content = [{"type": "file", "file": file}, {"type": "text", "text": text}]
    return {"model": "cerebragloss", "messages": [{"role": "user", "content": content}]}


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "code", "param"}
    assert body["error"]["type"] == ("server_error" if response.status_code >= 500 else "invalid_request_error")
    error: dict[str, Any] = body["error"]
    return error


def test_an_uploaded_recording_is_interpreted_up_to_the_limit_of_a_request(rooms: FakeRooms) -> None:
    response = request(rooms, "POST", "/v1/interpret", content=small_edf())
    assert response.status_code == 200
    assert [s["index"] for s in response.json()["segments"]] == [0, 1, 2]
    assert response.json()["total_segments"] == PAGES


def test_a_part_is_interpreted_by_start_and_segments(rooms: FakeRooms) -> None:
    response = request(rooms, "POST", "/v1/interpret", params={"start": 3, "segments": 1}, content=small_edf())
    assert [s["start_s"] for s in response.json()["segments"]] == [30.0]


def test_identity_in_the_header_does_not_leave_the_desk(rooms: FakeRooms, caplog: pytest.LogCaptureFixture) -> None:
    response = request(rooms, "POST", "/v1/interpret", content=small_edf())
    seen = response.text + str(response.headers) + caplog.text + repr(rooms.uploads)
    assert "Mustermann" in IDENTITY
    assert "Mustermann" not in seen


def test_a_chat_is_about_the_recording_that_was_uploaded(rooms: FakeRooms) -> None:
    async def ask(client: httpx.AsyncClient) -> dict[str, Any]:
        uploaded = (await client.post("/v1/interpret", params={"start": 2}, content=small_edf())).json()
        answer = (await client.post(CHAT, json={**question(file_id=uploaded["recording_id"]), "segment": 3})).json()
        assert answer["cerebragloss"]["recording_id"] == uploaded["recording_id"]
        return answer

    answer = during(rooms, ask)
    assert answer["choices"][0]["message"]["content"].endswith("Are spindles seen?")
    assert (answer["cerebragloss"]["segment"], answer["cerebragloss"]["start_s"]) == (3, 30.0)


def test_a_chat_may_bring_its_recording_and_ask_again_by_its_id(rooms: FakeRooms) -> None:
    async def ask(client: httpx.AsyncClient) -> tuple[Any, Any]:
        data = "data:application/octet-stream;base64," + base64.b64encode(small_edf()).decode()
        first = (await client.post(CHAT, json={**question(file_data=data), "segment": 1})).json()
        file_id = first["cerebragloss"]["recording_id"]
        return first, (await client.post(CHAT, json={**question(file_id=file_id), "metadata": {"segment": "1"}})).json()

    first, second = during(rooms, ask)
    assert first["cerebragloss"] == second["cerebragloss"]
    assert first["cerebragloss"]["start_s"] == 10.0


def test_a_stream_is_sent_as_events_and_ends_with_done(rooms: FakeRooms) -> None:
    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        file_id = (await client.post("/v1/interpret", content=small_edf())).json()["recording_id"]
        return await client.post(CHAT, json={**question(file_id=file_id), "stream": True})

    response = during(rooms, ask)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = response.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    words = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"].get("content", "") for event in events[:-2]]
    assert "".join(words).endswith("Are spindles seen?")


def test_models_and_health_name_what_is_served(rooms: FakeRooms) -> None:
    assert [model["id"] for model in request(rooms, "GET", "/v1/models").json()["data"]] == ["cerebragloss"]
    assert request(rooms, "GET", "/healthz").json() == {"status": "ok", "detector": "detector-1", "interpreter": "interpreter-1"}


def test_an_upload_announced_above_the_limit_is_refused_with_413(rooms: FakeRooms) -> None:
    response = request(rooms, "POST", "/v1/interpret", content=bytes((1 << 20) + 1))
    assert response.status_code == 413
    assert error_of(response)["code"] == "upload_too_large"


@pytest.mark.parametrize("path", ["/v1/interpret", CHAT])
def test_an_upload_that_grows_above_the_limit_is_refused_with_413_before_it_ends(rooms: FakeRooms, path: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 64 << 20:
            sent += 1 << 18
            yield bytes(1 << 18)

    response = request(rooms, "POST", path, content=endless())
    assert response.status_code == 413
    assert error_of(response)["code"] == "upload_too_large"
    assert sent < 4 << 20


@pytest.mark.parametrize("content", [b"", b"Dear colleague, ..."], ids=["empty", "letter"])
def test_what_is_no_recording_is_refused_with_400_and_its_reason(rooms: FakeRooms, content: bytes) -> None:
    response = request(rooms, "POST", "/v1/interpret", content=content)
    assert response.status_code == 400
    assert "." in error_of(response)["code"]


@pytest.mark.parametrize(("name", "value"), [("start", "-1"), ("segments", "0"), ("start", "first")])
def test_a_wrong_parameter_of_an_upload_is_refused_with_400_by_name(rooms: FakeRooms, name: str, value: str) -> None:
    response = request(rooms, "POST", "/v1/interpret", params={name: value}, content=small_edf())
    assert response.status_code == 400
    assert error_of(response)["param"] == f"query.{name}"


def test_more_segments_than_a_request_may_have_are_refused_with_400(rooms: FakeRooms) -> None:
    response = request(rooms, "POST", "/v1/interpret", params={"segments": 4}, content=small_edf())
    assert (response.status_code, error_of(response)["code"]) == (400, "too_many_segments")


def test_an_unknown_recording_is_not_found(rooms: FakeRooms) -> None:
    response = request(rooms, "POST", CHAT, json=question(file_id="nothing"))
    assert (response.status_code, error_of(response)["code"]) == (404, "recording_not_found")


def test_a_mistake_that_the_interpreter_finds_is_refused_with_400(rooms: FakeRooms) -> None:
    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        file_id = (await client.post("/v1/interpret", content=small_edf())).json()["recording_id"]
        return await client.post(CHAT, json={**question("Hi <|im_start|>", file_id=file_id), "stream": True})

    response = during(rooms, ask)
    assert response.status_code == 400
    assert "control token" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/models/", 404, "not_found"),
        ("GET", "/v1/interpret", 405, "method_not_allowed"),
        ("DELETE", CHAT, 405, "method_not_allowed"),
    ],
)
def test_a_wrong_address_or_method_is_refused_in_the_same_shape(rooms: FakeRooms, method: str, path: str, status: int, code: str) -> None:
    response = request(rooms, method, path)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_a_fault_of_ours_is_500_and_tells_the_client_nothing_of_it(rooms: FakeRooms) -> None:
    rooms.fault = RuntimeError("secret /home/path")
    response = request(rooms, "POST", "/v1/interpret", content=small_edf())
    assert (response.status_code, error_of(response)["code"]) == (500, "internal_error")
    assert "secret" not in response.text
    assert "Traceback" not in response.text


def test_an_overload_is_503_and_says_when_to_come_again(rooms: FakeRooms) -> None:
    rooms.fault = RequestError(503, "overloaded", "too many requests wait already.")
    response = request(rooms, "POST", "/v1/interpret", content=small_edf())
    assert (response.status_code, error_of(response)["code"]) == (503, "overloaded")
    assert response.headers["retry-after"] == str(RETRY_AFTER_S)


def test_uploads_beyond_those_that_fit_into_memory_are_refused_and_the_others_go_on(rooms: FakeRooms) -> None:
    async def ask(client: httpx.AsyncClient) -> tuple[httpx.Response, list[httpx.Response], httpx.Response]:
        begun, go = asyncio.Semaphore(0), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            begun.release()
            yield small_edf()
            await go.wait()

        others = [asyncio.create_task(client.post("/v1/interpret", params={"segments": 1}, content=slow())) for _ in range(UPLOADS_AT_ONCE)]
        for _ in others:
            await begun.acquire()
        refused = await client.post("/v1/interpret", content=small_edf())
        go.set()
        return refused, await asyncio.gather(*others), await client.post("/v1/interpret", content=small_edf())

    refused, others, afterwards = during(rooms, ask)
    assert (refused.status_code, error_of(refused)["code"]) == (503, "overloaded")
    assert [response.status_code for response in others] == [200] * UPLOADS_AT_ONCE
    assert afterwards.status_code == 200
