"""An OpenAI-compatible endpoint on this machine that answers, or misbehaves, as a test wants."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    after_s: float = 0.0


def completion(content: str | None, finish_reason: str = "stop", **more: Any) -> Reply:
    """A chat completion, 100 tokens in and 50 out."""
    value = {
        "id": "x",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        **more,
    }
    return Reply(body=json.dumps(value).encode())


def refusal(status: int, message: str = "no", **headers: str) -> Reply:
    return Reply(status=status, body=json.dumps({"error": {"message": message}}).encode(), headers=headers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    path: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float

    @property
    def value(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def asked(self) -> str:
        """The last message."""
        return self.value["messages"][-1]["content"]

    @property
    def page(self) -> dict[str, Any]:
        """The page that is told of."""
        return json.loads(self.asked.rsplit("Page:\n", 1)[1])


Script = Callable[[Request, int], Reply]
"""What to reply to a request that has come so many times before."""


class FakeTeacher:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.most_under_way = 0
        self._under_way = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def _handler(fake: FakeTeacher) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = Request(
                    path=self.path, headers={name.lower(): value for name, value in self.headers.items()}, body=body, at_s=time.monotonic()
                )
                with fake._lock:
                    before = sum(earlier.asked == request.asked for earlier in fake.requests)
                    fake.requests.append(request)
                    fake._under_way += 1
                    fake.most_under_way = max(fake.most_under_way, fake._under_way)
                try:
                    reply = fake.script(request, before)
                    time.sleep(reply.after_s)
                finally:
                    with fake._lock:
                        fake._under_way -= 1
                self.send_response(reply.status)
                self.send_header("content-type", reply.headers.get("content-type", "application/json"))
                for name, value in reply.headers.items():
                    if name != "content-type":
                        self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def fake_teacher(script: Script) -> Iterator[FakeTeacher]:
    fake = FakeTeacher(script)
    fake.start()
    try:
        yield fake
    finally:
        fake.stop()


def good_answer(request: Request) -> str:
    """An answer of the form asked for that repeats the page's state and one thing that is on it."""
    page = request.page
    shown = f"The page shows {page['state']}."
    absent = "There are no lateral eye movements."
    if '"options"' in request.asked:
        options = [shown, "The page shows REM sleep.", "There is a flat channel at Cz.", "There are generalised spikes."]
        return json.dumps({"question": "What does the whole page show?", "options": options, "right": 0, "evidence": []})
    if '"turns"' in request.asked:
        turns = [("What is the state?", shown), ("Are there lateral eye movements?", absent)]
        return json.dumps({"turns": [{"question": q, "answer": a, "evidence": []} for q, a in turns]})
    events = [f"{event['kind']} at {event['maximum']}" for event in page["events"][:1]]
    evidence = [event["ref"] for event in page["events"][:1]]
    text = " ".join([shown, *(re.sub(r"^", "There is a ", event) + "." for event in events), absent])
    return json.dumps({"text": text, "evidence": evidence})


def well(request: Request, _: int) -> Reply:
    return completion(good_answer(request))
