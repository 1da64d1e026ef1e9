"""Ray Serve around the service: the only file here that knows Ray.

Four deployments: the desk (HTTP, reads recordings), the store of recordings, detectors and interpreters. Store and desk have one replica
each: a recording is then wherever it is looked for. A user's mistake is returned by replicas as a value, for an exception would be logged
as a fault. Every process imports this file, so what only some of them need (torch above all) is imported where it is used.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import ray
import ray.serve
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.schema import LoggingConfig

from cg_data.errors import ClusterError, ConfigError, UserError
from cg_data.records import Annotation, Message, Segment
from cg_data.settings import DataSettings
from cg_serve.recordings import Pages, RecordingStore
from cg_serve.schemas import Health, RequestError
from cg_serve.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from cg_serve.interpret import Said

NAME = "cerebragloss"
DETECTOR, INTERPRETER, STORE, DESK = "detector", "interpreter", "store", "desk"
_START_LIMIT_S = 900.0
"""A large model is read from slow storage for minutes."""
_STOP_LIMIT_S = 60.0
_POLL_S = 0.25
_SMALL_CPUS = 0.1
"""Of the desk and of the store, which mostly wait."""
_WAITING = 32
"""Calls that may wait for a detector or an interpreter; more are refused with 503."""
_AT_THE_DESK = 256
_QUIET = LoggingConfig(log_level="ERROR", enable_access_log=False)
_EXCEPTION_NAME = re.compile(r"^[\w.]+: ")
T = TypeVar("T")


class DetectorReplica:
    def __init__(self, folder: str, device: str) -> None:
        _one_thread(device)
        from cg_data.detect.detector import Detector

        self._detector = Detector.load(folder, device)

    def version(self) -> str:
        return self._detector.version

    def annotate(self, pages: Pages) -> tuple[Annotation, ...]:
        from cg_serve.interpret import annotate_pages

        return annotate_pages(pages, self._detector)


class InterpreterReplica:
    def __init__(self, folder: str, device: str) -> None:
        _one_thread(device)
        from cg_train.model.interpreter import Interpreter

        self._interpreter = Interpreter.load(folder, device)

    def version(self) -> str:
        return self._interpreter.version

    def answer(self, segments: Sequence[Segment], dialogues: Sequence[Sequence[Message]], max_new_tokens: int) -> list[Said] | UserError:
        from cg_serve.interpret import answer

        try:
            return answer(segments, dialogues, interpreter=self._interpreter, max_new_tokens=max_new_tokens)
        except UserError as error:
            return error


class StoreReplica:
    """Its methods are coroutines that never wait, so that they run one after another."""

    def __init__(self, max_recordings: int, max_segments: int) -> None:
        self._store = RecordingStore(max_recordings=max_recordings, max_segments=max_segments)

    async def keep(self, pages: Pages) -> None:
        self._store.keep(pages)

    async def segment(self, recording_id: str, index: int) -> Segment | UserError:
        try:
            return self._store.segment(recording_id, index)
        except UserError as error:
            return error


@ray.serve.ingress()
class DeskReplica:
    """The HTTP interface; Serve asks it for its application when it starts."""

    def __init__(self, store: Any, detector: Any, interpreter: Any, data: DataSettings, settings: ServeSettings) -> None:
        self._rooms = _Replicas(store, detector, interpreter)
        self._data, self._settings = data, settings

    def __serve_build_asgi_app__(self) -> FastAPI:
        from cg_serve.api import build_api

        return build_api(self._rooms, self._data, self._settings)


class _Replicas:
    """`cg_serve.api.Rooms` behind handles of deployments."""

    def __init__(self, store: Any, detector: Any, interpreter: Any) -> None:
        self._store, self._detector, self._interpreter = store, detector, interpreter
        self._versions: tuple[str, str] | None = None

    async def annotate(self, pages: Pages) -> Sequence[Annotation]:
        annotations: Sequence[Annotation] = await _reply(self._detector.annotate.remote(pages))
        return annotations

    async def answer(self, segments: Sequence[Segment], dialogues: Sequence[Sequence[Message]], *, max_new_tokens: int) -> Sequence[Said]:
        said: Sequence[Said] = await _reply(self._interpreter.answer.remote(segments, dialogues, max_new_tokens))
        return said

    async def keep(self, pages: Pages) -> None:
        await _reply(self._store.keep.remote(pages))

    async def segment(self, recording_id: str, index: int) -> Segment:
        segment: Segment = await _reply(self._store.segment.remote(recording_id, index))
        return segment

    async def health(self) -> Health:
        """Serve asks every replica for its health; the versions never change, and asking again would wait behind the model's work."""
        away = await asyncio.to_thread(_away)
        if away:
            raise RequestError(503, "unhealthy", f"{' and '.join(away)}: not ready. Ask again in a moment.")
        if self._versions is None:
            self._versions = (await _reply(self._detector.version.remote()), await _reply(self._interpreter.version.remote()))
        return Health(detector=self._versions[0], interpreter=self._versions[1])


async def _reply(call: Awaitable[T | UserError]) -> T:
    """What a replica returned.

    Raises:
        UserError: the replica returned it.
        RequestError: 503, too many calls wait already, or the replica is gone.
    """
    try:
        result = await call
    except BackPressureError:
        raise RequestError(503, "overloaded", "too many requests wait already. Send it again in a moment.") from None
    except (ActorDiedError, ActorUnavailableError, DeploymentUnavailableError):
        raise RequestError(503, "unavailable", "a part of the service went away and is being started again. Send it again.") from None
    if isinstance(result, UserError):
        raise result
    return result


def _one_thread(device: str) -> None:
    """Replicas share the CPUs; one thread also keeps results repeatable."""
    import torch

    if device == "cpu":
        torch.set_num_threads(1)


def start(settings: ServeSettings, *, detector_folder: str, model_folder: str, data: DataSettings) -> str:
    """Start the service on the Ray that the caller has joined.

    Args:
        detector_folder: as `cg_data.detect.detector.save_detector` wrote it.
        model_folder: as `cg_train.model.export.export_folder` wrote it.

    Returns:
        The base URL, once the service answers there.

    Raises:
        UserError: the port is in use, the cluster is too small or runs another service, or a replica does not start.
    """
    check_port(settings)
    _check_resources(settings)
    if ray.serve.status().proxies or ray.serve.status().applications:
        raise ClusterError("a Ray Serve runs on this cluster already. Stop it (`serve shutdown`) or use another cluster.")
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    application = _application(settings, _absolute(detector_folder), _absolute(model_folder), data)
    try:
        ray.serve.start(proxy_location="HeadOnly", http_options={"host": settings.host, "port": settings.port}, logging_config=_QUIET)
        target = ray.serve.RunTarget(application, name=NAME, route_prefix="/", logging_config=_QUIET)
        ray.serve.run_many([target], wait_for_applications_running=False)
        _wait_until_answering(_base_url(settings), time.monotonic() + _START_LIMIT_S)
    except BaseException as error:
        stop()
        if isinstance(error, TimeoutError):
            raise ClusterError("serve: Ray's HTTP proxy did not start within a minute. Is the machine overloaded?") from error
        raise
    return _base_url(settings)


def stop() -> None:
    """Stop the service, if one runs; its recordings are forgotten."""
    controller = _controller()
    if controller is None:
        return
    # `serve.shutdown` alone waits in a call that dies with the controller, and Ray reports that on the terminal as a fault.
    ray.get(controller.graceful_shutdown.remote(wait=False))
    deadline_s = time.monotonic() + _STOP_LIMIT_S
    while _controller() is not None and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    ray.serve.shutdown()


def _controller() -> Any:
    """Serve's own actor, None where Serve does not run."""
    try:
        return ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return None


def check_port(settings: ServeSettings) -> None:
    """Raises:
    ConfigError: somebody listens at the port already, or the host is none of this machine.
    """
    try:
        with socket.create_server((settings.host, settings.port), family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET):
            return
    except OSError as error:
        raise ConfigError(
            f"serve.port {settings.port} on {settings.host}: cannot be listened on ({error.strerror or error}). "
            "Stop what uses it, or choose another with --set serve.port=8124."
        ) from None


def _check_resources(settings: ServeSettings) -> None:
    """Raises:
    ClusterError: the cluster never had what the replicas ask for, so they would wait for ever.
    """
    offered = ray.cluster_resources()
    replicas = settings.detector_replicas + settings.interpreter_replicas
    wanted = {"CPU": replicas * settings.cpus_per_replica + 2 * _SMALL_CPUS, "GPU": replicas * settings.gpus_per_replica}
    for resource, amount in wanted.items():
        if offered.get(resource, 0.0) < amount:
            raise ClusterError(
                f"serve: {replicas} replicas and the desk need {amount:g} {resource}, and the cluster has {offered.get(resource, 0.0):g}. "
                f"Lower serve.{resource.lower()}s_per_replica or the replicas, or start a larger cluster."
            )


def _application(settings: ServeSettings, detector_folder: str, model_folder: str, data: DataSettings) -> Any:
    device = "cuda" if settings.gpus_per_replica else "cpu"
    model = {
        "ray_actor_options": {"num_cpus": settings.cpus_per_replica, "num_gpus": settings.gpus_per_replica},
        "max_ongoing_requests": 1,
        "max_queued_requests": _WAITING,
        "max_constructor_retry_count": 1,
    }
    small = {"ray_actor_options": {"num_cpus": _SMALL_CPUS}, "max_ongoing_requests": _AT_THE_DESK, "num_replicas": 1}
    deploy = ray.serve.deployment
    detector = deploy(DetectorReplica, name=DETECTOR, num_replicas=settings.detector_replicas, **model)
    interpreter = deploy(InterpreterReplica, name=INTERPRETER, num_replicas=settings.interpreter_replicas, **model)
    store = deploy(StoreReplica, name=STORE, **small).bind(settings.max_recordings, settings.max_segments)
    return deploy(DeskReplica, name=DESK, **small).bind(
        store, detector.bind(detector_folder, device), interpreter.bind(model_folder, device), data, settings
    )


def _absolute(uri: str) -> str:
    """Replicas have another working folder."""
    return uri if "://" in uri else str(Path(uri).absolute())


def _base_url(settings: ServeSettings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _away() -> list[str]:
    """Deployments that have no running replica, as Serve's controller sees it."""
    deployments = ray.serve.status().applications[NAME].deployments
    return [name for name, deployment in deployments.items() if not deployment.replica_states.get("RUNNING")]


def _wait_until_answering(url: str, deadline_s: float) -> None:
    """Raises:
    ClusterError: a replica failed, or the service did not come up in time.
    """
    with httpx.Client(base_url=url, trust_env=False, timeout=10.0) as client:
        while time.monotonic() < deadline_s:
            application = ray.serve.status().applications[NAME]
            if application.status == "DEPLOY_FAILED":
                raise ClusterError(_why_failed(application))
            if application.status == "RUNNING" and _answers(client):
                return
            time.sleep(_POLL_S)
    waiting = " and ".join(_away()) or "the HTTP proxy"
    raise ClusterError(f"serve: {waiting} did not start within {_START_LIMIT_S:g} s. Is the cluster busy with other work?")


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


def _why_failed(application: Any) -> str:
    """Serve reports a failed deployment with a traceback as text; its last line is the error, a sentence where the user can mend it."""
    failed = {name: deployment.message for name, deployment in application.deployments.items() if deployment.status == "DEPLOY_FAILED"}
    name, message = next(iter(failed.items()), ("service", application.message))
    last = (message.strip().splitlines() or ["no reason is known"])[-1]
    return f"serve: the {name} did not start: {_EXCEPTION_NAME.sub('', last)}"
