"""A teacher is asked once, within bounds; whatever goes wrong is told from an answer, and nothing but structure leaves."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cg_data import storage
from cg_data.analyze.annotate import annotate_truth
from cg_data.errors import ConfigError, UserError
from cg_data.instruct.teacher import HOPELESS, Taught, is_chosen, requests_of, teach, teach_shards
from cg_data.instruct.teacher_endpoint import endpoint_of, wait_asked_for
from cg_data.instruct.teacher_prompts import TEACHER_KINDS
from cg_data.instruct.teacher_store import TeacherStore
from cg_data.records import Annotation, Segment
from cg_data.rows import ANNOTATION_SCHEMA, SEGMENT_SCHEMA, table_of
from cg_data.settings import TeacherSettings
from cg_data.vocabulary import Split
from tests.cg_data.fake_teacher import Reply, Script, completion, fake_teacher, good_answer, refusal, well
from tests.cg_data.test_instruct_samples import page

PAIRS = [(segment, annotate_truth(segment)) for segment in map(page, range(8))]


def settings_of(url: str, **changes: Any) -> TeacherSettings:
    quick = {"model": "m", "backoff_s": 0.01, "timeout_s": 5.0, "retries": 2, "concurrency": 4, "key_variable": "CG_TEST_TEACHER_KEY"}
    return TeacherSettings(url=url, **{**quick, **changes})


def run(
    url: str, folder: Path, pairs: list[tuple[Segment, Annotation]] = PAIRS, **changes: Any
) -> tuple[Taught, TeacherStore, TeacherSettings]:
    settings, store = settings_of(url, **changes), TeacherStore(uri=str(folder))
    taught = asyncio.run(teach(requests_of(pairs, settings), settings=settings, endpoint=endpoint_of(settings), store=store))
    return taught, store, settings


def failing_once(reply: Reply) -> Script:
    """Every request meets `reply` first and an answer then."""
    return lambda request, before: well(request, before) if before else reply


def test_three_kinds_are_asked_about_every_page_and_kept_with_their_tokens_and_cost(tmp_path: Path) -> None:
    with fake_teacher(well) as fake:
        taught, store, settings = run(fake.url, tmp_path, input_price=2.0, output_price=8.0)
    assert (taught.asked, taught.kept, taught.failed.total()) == (24, 0, 0)
    assert (taught.spent.requests, taught.spent.prompt_tokens, taught.spent.completion_tokens) == (24, 2400, 1200)
    assert taught.spent.cost == pytest.approx((2400 * 2 + 1200 * 8) / 1e6)
    assert store.spent() == taught.spent
    kinds = [request.kind for request in requests_of(PAIRS, settings)]
    assert [kinds.count(kind) for kind in TEACHER_KINDS] == [8, 8, 8]
    for request in requests_of(PAIRS, settings):
        exchange = store.get(request.key)
        assert exchange is not None
        assert exchange.messages == request.messages
        assert exchange.answer == good_answer(next(r for r in fake.requests if r.asked == request.messages[-1]["content"]))


def test_a_rerun_asks_nothing_and_a_longer_list_only_what_is_new(tmp_path: Path) -> None:
    with fake_teacher(well) as fake:
        run(fake.url, tmp_path, PAIRS[:5])
        again, *_ = run(fake.url, tmp_path, PAIRS[:5])
        assert (again.asked, again.kept) == (0, 15)
        assert len(fake.requests) == 15
        longer, *_ = run(fake.url, tmp_path, PAIRS)
        assert (longer.asked, longer.kept, len(fake.requests)) == (9, 15, 24)
        other, *_ = run(fake.url, tmp_path, PAIRS[:5], model="another")
        assert other.asked == 15


def test_pages_of_the_same_structure_are_asked_about_once(tmp_path: Path) -> None:
    segment, annotation = PAIRS[0]
    twin = dataclasses.replace(segment, segment_id="twin"), dataclasses.replace(annotation, segment_id="twin")
    with fake_teacher(well) as fake:
        run(fake.url, tmp_path, [PAIRS[0], twin])
        assert len(fake.requests) == 3


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (refusal(429), "status.429"),
        (refusal(500), "status.500"),
        (refusal(503), "status.503"),
        (Reply(status=502, body=b"<html>Bad gateway</html>", headers={"content-type": "text/html"}), "status.502"),
        (Reply(after_s=1.5), "timeout"),
        (Reply(body=b'{"error": {"message": "model overloaded"}}'), "error_body"),
        (completion(None, choices=[]), "error_body"),
        (Reply(body=b"<html>Log in first</html>", headers={"content-type": "text/html"}), "body"),
        (Reply(body=b'{"choices": [{"mess'), "body"),
        (completion(""), "empty"),
        (completion(None), "empty"),
        (completion('{"text": "The page shows', "length"), "cut"),
        (completion("I cannot help with that."), "form"),
        (completion('{"text": 5, "evidence": []}'), "form"),
        (completion(json.dumps({"question": "Which?", "options": ["a", "b", "A. ", "a"], "right": 0, "evidence": []})), "form"),
    ],
)
def test_what_is_no_answer_is_never_taken_for_one_and_asked_again(tmp_path: Path, reply: Reply, fault: str) -> None:
    with fake_teacher(failing_once(reply)) as fake:
        taught, store, settings = run(fake.url, tmp_path, PAIRS[:2], timeout_s=0.5 if fault == "timeout" else 5.0)
    assert (taught.asked, taught.failed.total()) == (6, 0)
    for request in requests_of(PAIRS[:2], settings):
        exchange = store.get(request.key)
        assert exchange is not None
        assert [attempt.fault for attempt in exchange.attempts] == [fault, ""]


@pytest.mark.parametrize(("reply", "fault", "times"), [(refusal(500), "status.500", 3), (completion("no JSON"), "form", 2)])
def test_after_the_last_try_the_rest_goes_on_and_a_rerun_asks_again(tmp_path: Path, reply: Reply, fault: str, times: int) -> None:
    bad = json.dumps(_told(PAIRS[3]), separators=(",", ":"))
    script: Script = lambda request, before: reply if request.asked.endswith(bad) else well(request, before)  # noqa: E731
    with fake_teacher(script) as fake:
        taught, store, settings = run(fake.url, tmp_path)
        assert (taught.asked, dict(taught.failed)) == (21, {fault: 3})
        assert sum(request.asked.endswith(bad) for request in fake.requests) == 3 * times
        fake.script = well
        again, *_ = run(fake.url, tmp_path)
        assert (again.asked, again.kept) == (3, 21)
    exchange = store.get(next(requests_of(PAIRS[3:4], settings)).key)
    assert exchange is not None
    assert [attempt.fault for attempt in exchange.attempts] == [*[fault] * times, ""]
    assert again.spent.requests == 24 + 3 * times


def _told(pair: tuple[Segment, Annotation]) -> dict[str, Any]:
    from cg_data.instruct.facts import facts_of
    from cg_data.instruct.teacher_prompts import context_of

    return json.loads(context_of(facts_of(*pair)).text)


def test_retry_after_is_waited_for_by_all_and_an_endless_one_is_not(tmp_path: Path) -> None:
    with fake_teacher(failing_once(refusal(429, retry_after="0.6"))) as fake:
        run(fake.url, tmp_path, PAIRS[:1], concurrency=1)
        times = [request.at_s for request in fake.requests]
    assert len(times) == 6
    assert all(later - first >= 0.55 for first, later in zip(times[::2], times[1::2], strict=True))
    with fake_teacher(lambda *_: refusal(429, retry_after="3600")) as fake:
        start = time.monotonic()
        taught, *_ = run(fake.url, tmp_path / "b", PAIRS[:2], max_wait_s=1.0)
        assert (taught.asked, len(fake.requests), time.monotonic() - start < 5) == (0, 6, True)


def test_retry_after_may_be_a_date() -> None:
    import email.utils

    import httpx2
    import openai

    def error(said: str) -> openai.APIStatusError:
        response = httpx2.Response(429, headers={"retry-after": said}, request=httpx2.Request("POST", "http://x"))
        return openai.APIStatusError("no", response=response, body=None)

    assert 25 < wait_asked_for(error(email.utils.formatdate(time.time() + 30, usegmt=True))) <= 30
    assert [wait_asked_for(error(said)) for said in ("7", "", "soon", "-3")] == [7, 0, 0, 0]


def test_no_more_requests_are_under_way_than_allowed(tmp_path: Path) -> None:
    slow: Script = lambda request, _: dataclasses.replace(well(request, 0), after_s=0.05)  # noqa: E731
    with fake_teacher(slow) as fake:
        run(fake.url, tmp_path, concurrency=3)
        assert fake.most_under_way == 3


def test_a_budget_of_requests_is_never_passed_not_even_by_retries_and_reruns(tmp_path: Path) -> None:
    with fake_teacher(failing_once(refusal(500))) as fake:
        taught, *_ = run(fake.url, tmp_path, max_requests=11)
        assert taught.stopped_by_budget
        assert len(fake.requests) == taught.spent.requests == 11
        again, store, _ = run(fake.url, tmp_path, max_requests=11)
        assert (again.stopped_by_budget, again.kept, len(fake.requests)) == (True, taught.asked, 11)
        more, *_ = run(fake.url, tmp_path)
        assert not more.stopped_by_budget
        assert more.asked + more.kept == 24
        assert store.spent().requests == len(fake.requests)


def test_a_budget_of_money_is_never_passed(tmp_path: Path) -> None:
    prices = {"input_price": 1000.0, "output_price": 1000.0, "max_tokens": 1000}
    with fake_teacher(well) as fake:
        taught, *_ = run(fake.url, tmp_path, max_cost=6.0, **prices)
    assert taught.stopped_by_budget
    assert 0 < taught.spent.cost <= 6.0
    assert 0 < taught.asked < 24


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_endpoint_that_refuses_key_or_model_ends_the_work_at_once(tmp_path: Path, status: int) -> None:
    with fake_teacher(lambda *_: refusal(status, "who are you?")) as fake:
        with pytest.raises(ConfigError, match=rf"status {status}.*who are you.*Check --teacher-url"):
            run(fake.url, tmp_path)
        assert len(fake.requests) <= 4


def test_a_dead_endpoint_is_not_asked_for_ever(tmp_path: Path) -> None:
    with fake_teacher(well) as fake:
        url = fake.url
    many = [(segment, annotate_truth(segment)) for segment in map(page, range(20))]
    with pytest.raises(UserError, match=rf"{HOPELESS} requests in a row had no answer.*run the same command again"):
        run(url, tmp_path, many, retries=0)


def test_a_redirection_is_not_followed(tmp_path: Path) -> None:
    with fake_teacher(well) as other, fake_teacher(lambda *_: Reply(status=307, headers={"location": other.url})) as fake:
        taught, *_ = run(fake.url, tmp_path, PAIRS[:1])
        assert dict(taught.failed) == {"status.307": 3}
        assert not other.requests


@pytest.mark.parametrize(("name", "then"), [("response_format", None), ("temperature", None), ("max_tokens", "max_completion_tokens")])
def test_a_parameter_that_an_endpoint_refuses_is_left_out_from_then_on(tmp_path: Path, name: str, then: str | None) -> None:
    script: Script = lambda request, _: (  # noqa: E731
        refusal(400, f"Unsupported parameter: '{name}'") if name in request.value else well(request, 0)
    )
    with fake_teacher(script) as fake:
        taught, *_ = run(fake.url, tmp_path, concurrency=1)
        assert (taught.asked, len(fake.requests)) == (24, 25)
        assert name not in fake.requests[-1].value
        assert then is None or then in fake.requests[-1].value


def test_another_bad_request_is_an_error_of_its_item(tmp_path: Path) -> None:
    with fake_teacher(lambda *_: refusal(400, "context too long")) as fake:
        taught, *_ = run(fake.url, tmp_path, PAIRS[:2])
        assert (dict(taught.failed), len(fake.requests)) == ({"status.400": 6}, 6)


def test_the_key_is_sent_and_neither_kept_nor_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-very-secret-1234"
    monkeypatch.setenv("CG_TEST_TEACHER_KEY", key)
    echo: Script = lambda request, before: (  # noqa: E731
        well(request, before) if before else refusal(500, f"bad {request.headers['authorization']}")
    )
    with fake_teacher(echo) as fake:
        run(fake.url, tmp_path, PAIRS[:1])
        assert {request.headers["authorization"] for request in fake.requests} == {f"Bearer {key}"}
        fake.script = lambda request, _: refusal(401, f"bad key {key}")
        with pytest.raises(ConfigError) as raised:
            run(fake.url, tmp_path / "b", PAIRS[:1])
        assert key not in str(raised.value)
        assert key not in repr(endpoint_of(settings_of(fake.url)))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*.json"))
    assert b"[key]" in written
    assert key.encode() not in written


def test_nothing_but_structure_leaves(tmp_path: Path) -> None:
    """Identity, provenance, ids, dates and the signal are planted everywhere; none of it is in any request."""
    planted = {
        "segment_id": "seg-7f3a", "recording_id": "rec-9b1c", "sha256": "deadbeef" * 8, "corpus": "corpus-zebra",
        "subject": "subject-quokka", "filter_version": "filter-yak", "montage": "laplacian", "flags": ("flag-ibis",), "start_s": 86399.25,
    }  # fmt: skip
    pairs = []
    for segment, _ in PAIRS:
        marked = dataclasses.replace(segment, **{**planted, "segment_id": f"seg-7f3a-{segment.segment_id}"})
        pairs.append(
            (marked, dataclasses.replace(annotate_truth(marked), detector_version="detector-lynx", analyser_version="analyser-kudu"))
        )
    assert any(annotation.events for _, annotation in pairs)
    with fake_teacher(well) as fake:
        run(fake.url, tmp_path, pairs)
        assert len(fake.requests) == 24
    secrets = [
        "seg-7f3a",
        "rec-9b1c",
        "deadbeef",
        "zebra",
        "quokka",
        "yak",
        "laplacian",
        "ibis",
        "86399",
        "lynx",
        "kudu",
        "segment",
        "recording",
    ]
    ids = {f.finding_id for _, a in pairs for f in a.findings} | {e.event_id for _, a in pairs for e in a.events}
    assert len(ids) > 20
    for request in fake.requests:
        said = (request.body + json.dumps(dict(request.headers)).encode()).decode()
        told = json.dumps(request.page)
        assert set(request.value) == {"model", "messages", "response_format", "temperature", "max_tokens"}
        assert not [secret for secret in (*secrets[:-2], *ids) if secret in said]
        assert not [secret for secret in secrets if secret in told]
        assert len(told) < 6000, "too long to be structure alone"


def test_only_training_pages_are_asked_about_and_only_their_share() -> None:
    settings = settings_of("http://localhost/v1", share=0.3)
    chosen = [f"s{i}" for i in range(4000) if is_chosen(f"s{i}", Split.TRAIN, settings)]
    assert 0.27 < len(chosen) / 4000 < 0.33
    assert not any(is_chosen(name, split, settings) for name in chosen for split in (Split.VALIDATION, Split.TEST))
    more = settings_of("http://localhost/v1", share=0.6)
    assert all(is_chosen(name, Split.TRAIN, more) for name in chosen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"url": "ftp://localhost/v1"}, "Give http:// or https://"),
        ({"url": "localhost:8000"}, "Give http:// or https://"),
        ({"url": "file:///etc/passwd"}, "Give http:// or https://"),
        ({"url": "http://localhost:99999/v1"}, "not an address"),
        ({"url": "http://me:secret@localhost/v1"}, "leave user and password out"),
        ({"model": ""}, "--teacher-model"),
        ({"url": "http://8.8.8.8/v1", "consent": True}, "Use https"),
        ({"url": "https://8.8.8.8/v1"}, "--teacher-consent"),
        ({"url": "https://[::ffff:8.8.8.8]/v1"}, "--teacher-consent"),
        ({"url": "https://teacher.invalid/v1"}, "--teacher-consent"),
        ({"url": "https://8.8.8.8/v1", "consent": True}, "environment variable CG_TEST_TEACHER_KEY"),
        ({"max_cost": 3.0}, "needs prices"),
    ],
)
def test_an_endpoint_that_is_none_or_unsafe_is_refused_before_anything_is_sent(changes: dict[str, Any], message: str) -> None:
    settings = settings_of("http://localhost:8000/v1").model_copy(update=changes)
    with pytest.raises(ConfigError, match=message) as raised:
        endpoint_of(settings)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "http://127.0.0.1/v1", "http://[::1]:80/v1", "http://192.168.4.7/v1", "http://10.1.2.3/v1"]
)
def test_a_private_endpoint_needs_neither_consent_nor_key(url: str) -> None:
    assert endpoint_of(settings_of(url)).is_private


def _shards(folder: Path) -> list[tuple[str, str]]:
    shards = []
    for number in range(2):
        part = PAIRS[number * 4 : number * 4 + 4]
        places = str(folder / "segments" / f"{number}.parquet"), str(folder / "annotations" / f"{number}.parquet")
        storage.write_table(places[0], table_of([s for s, _ in part], SEGMENT_SCHEMA))
        storage.write_table(places[1], table_of([a for _, a in part], ANNOTATION_SCHEMA))
        shards.append(places)
    return shards


def test_what_leaves_for_where_and_how_much_is_said_before_the_first_request(tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []
    seen: list[tuple[float, float, str]] = []
    with fake_teacher(well) as fake:
        taught = teach_shards(
            _shards(tmp_path),
            settings=settings_of(fake.url, max_requests=100),
            store=TeacherStore(uri=str(tmp_path / "store")),
            say=lambda text: heard.append((text, len(fake.requests))),
            progress=lambda done, total, note="": seen.append((done, total, note)),
        )
        assert taught.asked == len(fake.requests) == 24
    ((text, before),) = heard
    assert before == 0
    assert "up to 24 requests" in text
    assert fake.url.split("/")[2] in text
    assert "No signal, no file name, no subject, no date" in text
    assert seen[-1][:2] == (24, 24)


SCRIPT = """
import asyncio, sys
from pathlib import Path
from tests.cg_data.test_instruct_teacher import run
print("ready", flush=True)
run(sys.argv[1], Path(sys.argv[2]))
"""


def test_a_killed_run_loses_only_what_was_under_way(tmp_path: Path) -> None:
    slow: Script = lambda request, _: dataclasses.replace(well(request, 0), after_s=0.1)  # noqa: E731
    with fake_teacher(slow) as fake:
        root = Path(__file__).parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, fake.url, str(tmp_path)], env=environment, cwd=root)
        deadline = time.monotonic() + 120
        while len(fake.requests) < 10 and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        store, settings = TeacherStore(uri=str(tmp_path)), settings_of(fake.url)
        answered = {
            request.messages[-1]["content"]
            for request in requests_of(PAIRS, settings)
            if (exchange := store.get(request.key)) is not None and exchange.answer is not None
        }
        before = len(fake.requests)
        assert before - len(answered) <= 2 * settings.concurrency
        assert 0 < len(answered) < 24
        taught, *_ = run(fake.url, tmp_path)
        assert (taught.kept, taught.asked) == (len(answered), 24 - len(answered))
        assert not answered.intersection(request.asked for request in fake.requests[before:])
