"""What a chat request asks, what is refused by name, and how the answer is sent."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from cg_data.instruct.prompt import first_turn
from cg_data.records import Message
from cg_data.settings import DataSettings
from cg_serve.chat import LONGEST_DIALOGUE, Asked, completion_of, read_question, stream_of
from cg_serve.interpret import Said, read_pages
from cg_serve.schemas import MODEL_NAME, Completion, RequestError
from cg_serve.settings import ServeSettings
from tests.cg_serve.serve_fakes import small_edf

FILE = {"type": "file", "file": {"file_id": "abc"}}
QUESTION = {"type": "text", "text": "Are spindles seen?"}
SETTINGS = ServeSettings(max_new_tokens=100, max_upload_mib=1)


def user(*parts: object) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def body(*messages: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"model": MODEL_NAME, "messages": list(messages) or [user(FILE, QUESTION)], **more}).encode()


def data_url(data: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(data).decode()


def asked(*messages: dict[str, Any], **more: Any) -> Asked:
    return read_question(body(*messages, **more), SETTINGS)


def refusal(request: bytes) -> RequestError:
    with pytest.raises(RequestError) as refused:
        read_question(request, SETTINGS)
    return refused.value


def test_the_first_question_gets_the_page_statement_and_later_ones_do_not() -> None:
    said = {"role": "assistant", "content": "Yes."}
    question = asked(user(QUESTION, FILE), said, {"role": "user", "content": "Where?"})
    assert question.dialogue == (
        Message(role="user", content=first_turn("Are spindles seen?")),
        Message(role="assistant", content="Yes."),
        Message(role="user", content="Where?"),
    )
    assert (question.file_id, question.edf, question.segment, question.stream) == ("abc", None, 0, False)


def test_a_developer_speaks_as_the_system() -> None:
    question = asked({"role": "developer", "content": "Be brief."}, user(FILE, QUESTION))
    assert [turn.role for turn in question.dialogue] == ["system", "user"]
    assert question.dialogue[0].content == "Be brief."


@pytest.mark.parametrize(
    ("more", "number"),
    [({}, 0), ({"segment": 3}, 3), ({"metadata": {"segment": "5"}}, 5), ({"segment": 3, "metadata": {"segment": "5"}}, 3)],
)
def test_the_segment_is_named_at_the_top_or_in_the_metadata(more: dict[str, Any], number: int) -> None:
    assert asked(**more).segment == number


@pytest.mark.parametrize(
    ("more", "limit"),
    [({}, 100), ({"max_tokens": 7}, 7), ({"max_completion_tokens": 5, "max_tokens": 9}, 5), ({"max_tokens": 100_000}, 100)],
)
def test_the_lowest_limit_of_tokens_holds(more: dict[str, Any], limit: int) -> None:
    assert asked(**more).max_new_tokens == limit


def test_a_recording_may_come_with_the_question() -> None:
    part = {"type": "file", "file": {"file_data": data_url(b"EDF bytes"), "filename": "Mustermann.edf"}}
    question = asked(user(part, QUESTION))
    assert (question.edf, question.file_id) == (b"EDF bytes", None)


def test_a_recording_mentioned_again_is_the_same_recording() -> None:
    question = asked(user(FILE, QUESTION), {"role": "assistant", "content": "Yes."}, user(FILE, QUESTION))
    assert question.file_id == "abc"


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "refusal"])
def test_pictures_sounds_and_addresses_are_refused_by_name(kind: str) -> None:
    error = refusal(body(user(FILE, QUESTION, {"type": kind, kind: {"url": "http://127.0.0.1:1/secret"}})))
    assert (error.status, error.code, error.param) == (400, "unsupported_content", "messages.0.content.2")
    assert kind in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize("file_data", ["https://example.org/a.edf", "file:///etc/passwd", "data:text/plain,abc", "data:;base64,a"])
def test_a_recording_is_taken_as_base64_only(file_data: str) -> None:
    error = refusal(body(user({"type": "file", "file": {"file_data": file_data}}, QUESTION)))
    assert (error.status, error.code, error.param) == (400, "invalid_file_data", "file_data")


def test_a_recording_above_the_limit_is_refused_with_413() -> None:
    error = refusal(body(user({"type": "file", "file": {"file_data": data_url(bytes((1 << 20) + 1))}}, QUESTION)))
    assert error.status == 413
    assert "1 MiB" in str(error)


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        ([user(QUESTION)], "recording_missing", "no recording"),
        ([user(FILE, {"type": "file", "file": {"file_id": "other"}}, QUESTION)], "several_recordings", "one recording"),
        ([user(FILE)], "empty_message", "messages.0.content"),
        ([user(FILE, {"type": "text", "text": "  \n"})], "empty_message", "messages.0.content"),
        ([{"role": "system", "content": [FILE, QUESTION]}, user(QUESTION)], "misplaced_file", "turn of the user"),
        ([user(FILE, {"type": "text"})], "invalid_request", "messages.0.content.1"),
        ([user({"type": "file"}, QUESTION)], "invalid_request", "needs the field file"),
        ([user(FILE, {"type": "text", "text": "a" * (LONGEST_DIALOGUE + 1)})], "dialogue_too_long", str(LONGEST_DIALOGUE)),
    ],
)
def test_a_dialogue_without_question_or_recording_is_refused(messages: list[dict[str, Any]], code: str, words: str) -> None:
    error = refusal(body(*messages))
    assert (error.status, error.code) == (400, code)
    assert words in str(error)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"top_p": 0.5}, "top_p"),
        ({"n": 2}, "n"),
        ({"tools": []}, "tools"),
        ({"segment": -1}, "segment"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"metadata": {"segment": "-2"}}, "metadata.segment"),
        ({"metadata": {"segment": "²"}}, "metadata.segment"),
    ],
)
def test_a_parameter_that_is_not_honoured_is_refused_by_name(more: dict[str, Any], field: str) -> None:
    error = refusal(body(**more))
    assert (error.status, error.code, error.param) == (400, "invalid_request", field)
    assert str(error).startswith(f"{field}: ")


def test_a_fault_in_a_part_is_named_once_by_its_place() -> None:
    error = refusal(body(user({"type": "file", "file": {}}, QUESTION)))
    assert str(error) == "messages.0.content.parts.0.file: Value error, give exactly one of file_id and file_data."


def test_a_body_that_is_no_json_is_refused() -> None:
    assert refusal(b"\xff\xfe").code == "invalid_request"
    assert refusal(b"").code == "invalid_request"


def test_another_model_is_not_found() -> None:
    error = refusal(body().replace(MODEL_NAME.encode(), b"gpt-x"))
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


def completion(tokens: int = 4, limit: int = 100) -> Completion:
    pages = read_pages(small_edf(), start=2, count=1, data=DataSettings(), max_segments=4)
    said = Said(text='Spindles: "yes" – µV.', probability=0.5, tokens=tokens, prompt_tokens=9, interpreter_version="v1")
    return completion_of(asked(segment=2, max_tokens=limit), said, pages.segments[0])


def test_an_answer_says_what_it_is_about_and_counts_its_tokens() -> None:
    answer = completion()
    assert answer.usage.model_dump() == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert (answer.cerebragloss.segment, answer.cerebragloss.start_s, answer.cerebragloss.probability) == (2, 20.0, 0.5)
    assert (answer.system_fingerprint, answer.choices[0].finish_reason) == ("v1", "stop")
    assert answer.id != completion().id


def test_an_answer_as_long_as_allowed_counts_as_cut() -> None:
    assert completion(tokens=4, limit=4).choices[0].finish_reason == "length"


def events(include_usage: bool) -> tuple[Completion, list[dict[str, Any]]]:
    whole = completion()
    lines = list(stream_of(whole, include_usage=include_usage))
    assert all(line.startswith("data: ") and line.endswith("\n\n") and line.count("\n") == 2 for line in lines)
    assert lines[-1] == "data: [DONE]\n\n"
    return whole, [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_stream_adds_up_to_the_answer() -> None:
    whole, chunks = events(include_usage=False)
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == whole.choices[0].message.content
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]
    assert {chunk["id"] for chunk in chunks} == {whole.id}
    assert chunks[-1]["cerebragloss"] == whole.cerebragloss.model_dump()
    assert all(chunk["usage"] is None for chunk in chunks)


def test_usage_comes_last_in_a_stream_that_asks_for_it() -> None:
    whole, chunks = events(include_usage=True)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole.usage.model_dump()
    assert asked(stream=True, stream_options={"include_usage": True}).include_usage
    assert not asked(stream=True).include_usage
