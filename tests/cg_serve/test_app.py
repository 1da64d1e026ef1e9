"""The whole service on a local Ray, asked over HTTP as clients do. Detector and model are real and untrained."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import openai
import pytest

from cg_data.errors import ClusterError, ConfigError, UserError
from cg_data.settings import DataSettings
from cg_serve.interpret import interpret
from cg_serve.schemas import Interpretation, RequestError
from cg_serve.settings import ServeSettings
from tests.cg_serve.serve_fakes import small_edf
from tests.cg_train.train_small import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

DATA = DataSettings()
NEW_TOKENS = 8


def settings(**more: object) -> ServeSettings:
    return ServeSettings.model_validate({"port": free_port(), "max_upload_mib": 2, "max_new_tokens": NEW_TOKENS, **more})


@pytest.fixture(scope="module")
def url(ray_session: None, served_folders: tuple[str, str]) -> Iterator[str]:
    from cg_serve.app import start, stop

    detector, model = served_folders
    yield start(settings(), detector_folder=detector, model_folder=model, data=DATA)
    stop()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60.0) as client:
        yield client


@pytest.fixture(scope="module")
def uploaded(client: httpx.Client) -> Interpretation:
    response = client.post("/v1/interpret", content=small_edf())
    assert response.status_code == 200, response.text
    return Interpretation.model_validate_json(response.content)


@pytest.fixture(scope="module")
def chat(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", timeout=60.0, max_retries=0) as client:
        yield client


def about(file_id: str, question: str = "Are spindles seen?") -> list[dict[str, object]]:
    content = [{"type": "file", "file": {"file_id": file_id}}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def test_the_service_answers_what_the_same_models_answer_in_one_process(uploaded: Interpretation, served_folders: tuple[str, str]) -> None:
    from cg_data.detect.detector import Detector
    from cg_train.model.interpreter import Interpreter

    detector, interpreter = Detector.load(served_folders[0]), Interpreter.load(served_folders[1])
    here = interpret(small_edf(), detector=detector, interpreter=interpreter, data=DATA, settings=settings())
    assert len(here.segments) == 4
    assert uploaded.model_dump(exclude={"segments": {"__all__": {"text_probability"}}}) == here.model_dump(
        exclude={"segments": {"__all__": {"text_probability"}}}
    )
    assert [s.text_probability for s in uploaded.segments] == pytest.approx([s.text_probability for s in here.segments], rel=1e-3)


def test_health_gives_the_versions_that_answer(client: httpx.Client, uploaded: Interpretation) -> None:
    health = client.get("/healthz")
    assert health.status_code == 200
    assert health.json() == {"status": "ok", "detector": uploaded.versions.detector, "interpreter": uploaded.versions.interpreter}


def test_the_openai_client_asks_about_an_uploaded_recording(chat: openai.OpenAI, uploaded: Interpretation) -> None:
    assert [model.id for model in chat.models.list()] == ["cerebragloss"]
    answer = chat.chat.completions.create(
        model="cerebragloss", messages=about(uploaded.recording_id), temperature=0, extra_body={"segment": 2}
    )
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= NEW_TOKENS < answer.usage.prompt_tokens
    assert answer.system_fingerprint == uploaded.versions.interpreter
    assert answer.model_extra is not None
    assert answer.model_extra["cerebragloss"]["start_s"] == 20.0


def test_the_openai_client_streams_the_same_answer_with_its_usage(chat: openai.OpenAI, uploaded: Interpretation) -> None:
    asked = {"model": "cerebragloss", "messages": about(uploaded.recording_id), "metadata": {"segment": "1"}}
    whole = chat.chat.completions.create(**asked)
    chunks = list(chat.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_a_recording_may_come_with_the_question(chat: openai.OpenAI, uploaded: Interpretation) -> None:
    data = "data:application/octet-stream;base64," + base64.b64encode(small_edf()).decode()
    content = [{"type": "file", "file": {"file_data": data, "filename": "a.edf"}}, {"type": "text", "text": "Are spindles seen?"}]
    answer = chat.chat.completions.create(model="cerebragloss", messages=[{"role": "user", "content": content}])
    assert answer.model_extra is not None
    assert answer.model_extra["cerebragloss"]["recording_id"] == uploaded.recording_id
    again = chat.chat.completions.create(model="cerebragloss", messages=about(uploaded.recording_id))
    assert again.choices[0].message.content == answer.choices[0].message.content


def test_the_openai_client_raises_its_own_errors(chat: openai.OpenAI, uploaded: Interpretation) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        chat.chat.completions.create(model="cerebragloss", messages=about("nothing"))
    assert unknown.value.code == "recording_not_found"
    with pytest.raises(openai.BadRequestError, match="control token") as refused:
        chat.chat.completions.create(model="cerebragloss", messages=about(uploaded.recording_id, "Hi <|im_start|>"))
    assert refused.value.code == "invalid_request"
    with pytest.raises(openai.BadRequestError, match="alternate"):
        chat.chat.completions.create(model="cerebragloss", messages=about(uploaded.recording_id) * 2)


@pytest.mark.parametrize("announced", [True, False])
def test_an_upload_above_the_limit_is_refused_with_413(client: httpx.Client, announced: bool) -> None:
    body = bytes(1 << 20)
    response = client.post("/v1/interpret", content=body * 3 if announced else iter([body] * 3))
    assert (response.status_code, response.json()["error"]["code"]) == (413, "upload_too_large")


def test_a_damaged_recording_is_refused_with_its_reason_and_the_service_goes_on(client: httpx.Client) -> None:
    response = client.post("/v1/interpret", content=small_edf()[:6000])
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "data.none"
    assert client.get("/healthz").status_code == 200


def test_a_wrong_address_or_method_is_refused_in_the_openai_shape(client: httpx.Client) -> None:
    assert (client.get("/v2").status_code, client.get("/v2").json()["error"]["code"]) == (404, "not_found")
    assert (client.get("/v1/interpret").status_code, client.get("/v1/interpret").json()["error"]["type"]) == (405, "invalid_request_error")


def test_questions_at_once_are_all_answered_or_refused_as_overload(url: str, uploaded: Interpretation) -> None:
    from cg_serve.app import _WAITING

    body = {"model": "cerebragloss", "messages": about(uploaded.recording_id)}

    async def ask_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=120.0, limits=limits) as many:
            return await asyncio.gather(*(many.post("/v1/chat/completions", json=body) for _ in range(4 * _WAITING)))

    responses = asyncio.run(ask_all())
    answers = {r.json()["choices"][0]["message"]["content"] for r in responses if r.status_code == 200}
    refused = [r.json()["error"]["code"] for r in responses if r.status_code == 503]
    assert len(answers) == 1
    assert len(refused) + sum(r.status_code == 200 for r in responses) == len(responses)
    assert set(refused) <= {"overloaded"}


def test_a_full_queue_and_a_lost_replica_are_503() -> None:
    from ray.exceptions import ActorDiedError
    from ray.serve.exceptions import BackPressureError

    from cg_serve.app import _reply

    async def call(error: Exception) -> None:
        raise error

    for error, code in ((BackPressureError(33, 32), "overloaded"), (ActorDiedError(), "unavailable")):
        with pytest.raises(RequestError) as refused:
            asyncio.run(_reply(call(error)))
        assert (refused.value.status, refused.value.code) == (503, code)


def test_a_client_that_hangs_up_leaves_the_service_well(url: str, client: httpx.Client) -> None:
    async def hang_up() -> None:
        async def never_ends() -> AsyncIterator[bytes]:
            yield small_edf()[:1000]
            await asyncio.sleep(60)

        async with httpx.AsyncClient(base_url=url) as leaving:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(leaving.post("/v1/interpret", content=never_ends()), timeout=0.5)

    for _ in range(3):
        asyncio.run(hang_up())
    assert client.post("/v1/interpret", params={"segments": 1}, content=small_edf()).status_code == 200


def test_a_taken_port_is_named_before_anything_starts(url: str) -> None:
    from cg_serve.app import check_port

    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=rf"serve.port {port} on 127.0.0.1: .*--set serve.port="):
        check_port(settings(port=port))


def test_a_free_port_passes_and_stays_free() -> None:
    from cg_serve.app import check_port

    chosen = settings()
    check_port(chosen)
    check_port(chosen)
    with socket.create_server((chosen.host, chosen.port)), pytest.raises(ConfigError):
        check_port(chosen)


def test_a_second_service_on_the_cluster_is_refused(url: str, served_folders: tuple[str, str]) -> None:
    from cg_serve.app import start

    with pytest.raises(ClusterError, match="runs on this cluster already"):
        start(settings(), detector_folder=served_folders[0], model_folder=served_folders[1], data=DATA)
    assert httpx.get(f"{url}/healthz", timeout=30.0).status_code == 200


def test_more_than_the_cluster_has_is_refused_in_a_sentence(served_folders: tuple[str, str]) -> None:
    from cg_serve.app import start

    with pytest.raises(ClusterError, match=r"need 5\.7 CPU, and the cluster has 2\. Lower serve\.cpus_per_replica"):
        start(settings(interpreter_replicas=10), detector_folder=served_folders[0], model_folder=served_folders[1], data=DATA)
    with pytest.raises(ClusterError, match=r"need 2 GPU, and the cluster has 0"):
        start(settings(gpus_per_replica=1), detector_folder=served_folders[0], model_folder=served_folders[1], data=DATA)


def test_a_model_that_cannot_be_loaded_ends_the_start_in_a_sentence(served_folders: tuple[str, str], tmp_path: Path) -> None:
    """Last, for it needs a cluster without a service."""
    import ray.serve

    from cg_serve.app import start, stop

    stop()
    broken = shutil.copytree(served_folders[1], tmp_path / "model")
    about_file = broken / "cerebragloss.json"
    about_file.write_text(json.dumps({**json.loads(about_file.read_text()), "prompt_version": "prompt-0"}))
    with pytest.raises(UserError) as refused:
        start(settings(), detector_folder=served_folders[0], model_folder=str(broken), data=DATA)
    assert str(refused.value).startswith("serve: the interpreter did not start: the model was trained with the words of prompt-0")
    assert "\n" not in str(refused.value)
    assert not ray.serve.status().applications
