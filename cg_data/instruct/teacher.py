"""Asking a teacher model behind an OpenAI-compatible endpoint: bounded, patient, within a budget, and nothing twice.

Plain asyncio. What leaves is what `cg_data.instruct.teacher_prompts` makes of an annotation; answers end in a `TeacherStore`, from which
`cg_data.instruct.teacher_samples` makes samples without asking again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

import openai

from cg_data import storage
from cg_data.errors import ConfigError, UserError
from cg_data.instruct.facts import facts_of
from cg_data.instruct.teacher_budget import Budget
from cg_data.instruct.teacher_endpoint import Endpoint, client_of, endpoint_of, fault_of, wait_asked_for
from cg_data.instruct.teacher_judge import judge
from cg_data.instruct.teacher_prompts import SCHEMAS, TEACHER_KINDS, TEACHER_VERSION, TeacherRequest, request_of
from cg_data.instruct.teacher_store import Attempt, Exchange, Spent, TeacherStore
from cg_data.progress import Progress, silent
from cg_data.records import Annotation, Segment, content_id
from cg_data.settings import TeacherSettings
from cg_data.shards import read_annotations, read_segments
from cg_data.vocabulary import Split

HOPELESS = 20
"""So many requests in a row without an answer, and asking ends: the endpoint is down, or not what it is taken for."""
TRANSIENT = frozenset({"timeout", "connection", "status.408", "status.409", "status.429"})
"""Faults after which the same request is sent again; 5xx are among them."""
FATAL = frozenset({"status.401", "status.402", "status.403", "status.404"})
"""Faults that every further request would meet, too."""
OPTIONAL = ("response_format", "temperature", "max_tokens")
"""Parameters that some endpoints refuse; they are left out (or, the last, named differently) from then on."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """What became of the requests: answers now and before, faults of those that have none, and whether the budget ended the work."""

    asked: int
    kept: int
    failed: Counter[str]
    stopped_by_budget: bool
    spent: Spent


def is_chosen(segment_id: str, split: Split, settings: TeacherSettings) -> bool:
    """Whether a segment is among those that are asked about: training segments, `share` of them by content."""
    return split == Split.TRAIN and int(content_id("teacher", settings.seed, segment_id), 16) < settings.share * 2**64


def requests_of(pairs: Iterable[tuple[Segment, Annotation]], settings: TeacherSettings) -> Iterator[TeacherRequest]:
    """One request of each kind about every chosen segment."""
    for segment, annotation in pairs:
        if is_chosen(segment.segment_id, segment.split, settings):
            facts = facts_of(segment, annotation)
            for kind in TEACHER_KINDS:
                yield request_of(kind, facts, settings)


async def teach(
    requests: Iterable[TeacherRequest],
    *,
    settings: TeacherSettings,
    endpoint: Endpoint,
    store: TeacherStore,
    progress: Callable[[Taught], None] = lambda _: None,
) -> Taught:
    """Ask what the store does not hold yet.

    Raises:
        ConfigError: the endpoint refuses the key or does not know the model.
        UserError: `HOPELESS` requests in a row had no answer. Whatever was answered is in the store.
    """
    async with client_of(endpoint, settings) as client:
        teacher = _Teacher(client, settings, endpoint, store, await asyncio.to_thread(store.spent))
        waiting = iter(requests)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(settings.concurrency):
                    group.create_task(teacher.work(waiting, progress))
        except BaseExceptionGroup as group_error:
            mistakes, rest = group_error.split(UserError)
            if mistakes is None or rest is not None:
                raise
            raise mistakes.exceptions[0] from None
    return teacher.taught


def teach_shards(
    shards: Sequence[tuple[str, str]],
    *,
    settings: TeacherSettings,
    store: TeacherStore,
    say: Callable[[str], None],
    progress: Progress = silent,
) -> Taught:
    """Ask about every chosen page of `shards`, each the URIs of its segments and of its annotations.

    Before the first request, `say` is told what leaves, for where, and how much.

    Raises:
        UserError: see `endpoint_of` and `teach`.
    """
    endpoint = endpoint_of(settings)
    total = len(TEACHER_KINDS) * sum(_count_chosen(annotations, settings) for _, annotations in shards)
    pairs = (pair for s, a in shards for pair in zip(read_segments(s), read_annotations(a), strict=True))
    requests = requests_of(pairs, settings)
    first = next(requests, None)
    if first is not None:
        say(disclosure(endpoint, settings, first, total))

    def follow(taught: Taught) -> None:
        failed = taught.failed.total()
        note = f"{taught.asked} answered, {failed} not, {taught.kept} kept"
        progress(taught.asked + taught.kept + failed, total, note)

    waiting = itertools.chain([] if first is None else [first], requests)
    return asyncio.run(teach(waiting, settings=settings, endpoint=endpoint, store=store, progress=follow))


def _count_chosen(annotations_uri: str, settings: TeacherSettings) -> int:
    rows = storage.read_table(annotations_uri, ["segment_id", "split"]).to_pylist()
    return sum(is_chosen(row["segment_id"], Split(row["split"]), settings) for row in rows)


def disclosure(endpoint: Endpoint, settings: TeacherSettings, first: TeacherRequest, total: int) -> str:
    """What leaves, for where, and how much."""
    size = sum(len(message["content"].encode()) for message in first.messages)
    limits = [f"at most {settings.max_requests:,} requests"] if settings.max_requests is not None else []
    limits += [f"at most {settings.max_cost:g} in cost"] if settings.max_cost is not None else []
    return (
        f"Teacher: up to {total:,} requests of about {size / 1000:.1f} kB each go to {endpoint.host} "
        f"({'a private address' if endpoint.is_private else 'NOT a private address'}), model {settings.model}"
        f"{' (' + ', '.join(limits) + ')' if limits else ''}. What leaves is the structure of annotations: state, findings, events with "
        "channels and seconds within the page, background, dipoles. No signal, no file name, no subject, no date. "
        "What was answered before is not asked again."
    )


class _Teacher:
    def __init__(self, client: Any, settings: TeacherSettings, endpoint: Endpoint, store: TeacherStore, spent: Spent) -> None:
        self._client, self._settings, self._endpoint, self._store = client, settings, endpoint, store
        self._budget = Budget(settings, spent)
        self._seen: set[str] = set()
        self._refused: set[str] = set()
        self._open_at = 0.0
        self._asked, self._kept, self._failed, self._in_a_row = 0, 0, Counter[str](), 0
        self._stopped = False

    @property
    def taught(self) -> Taught:
        return Taught(
            asked=self._asked, kept=self._kept, failed=self._failed.copy(), stopped_by_budget=self._stopped, spent=self._budget.spent
        )

    async def work(self, waiting: Iterator[TeacherRequest], progress: Callable[[Taught], None]) -> None:
        """Ask one request after the other; several of these share the iterator."""
        for request in waiting:
            if request.key in self._seen:
                continue  # two pages of the same structure
            self._seen.add(request.key)
            earlier = await asyncio.to_thread(self._store.get, request.key)
            if earlier is not None and earlier.answer is not None:
                self._kept += 1
            elif self._stopped:
                return
            else:
                await self._ask(request, () if earlier is None else earlier.attempts)
            progress(self.taught)

    async def _ask(self, request: TeacherRequest, earlier: tuple[Attempt, ...]) -> None:
        attempts = [attempt async for attempt in self._attempts(request)]
        if not attempts:
            return
        exchange = Exchange(
            key=request.key,
            kind=request.kind.value,
            version=TEACHER_VERSION,
            model=self._settings.model,
            messages=request.messages,
            attempts=(*earlier, *attempts),
        )
        await asyncio.to_thread(self._store.put, exchange)
        last = attempts[-1]
        if not last.fault:
            self._asked += 1
            self._in_a_row = 0
            return
        self._failed[last.fault] += 1
        self._in_a_row += 1
        if last.fault in FATAL:
            raise ConfigError(
                f"teacher {self._endpoint.host}: {last.detail}. "
                f"Check --teacher-url, --teacher-model and the key in ${self._settings.key_variable}."
            )
        if self._in_a_row >= HOPELESS:
            raise UserError(
                f"teacher {self._endpoint.host}: {HOPELESS} requests in a row had no answer, the last because of {last.detail}. "
                "What was answered is kept: run the same command again when the endpoint is well."
            )

    async def _attempts(self, request: TeacherRequest) -> AsyncIterator[Attempt]:
        """One attempt after the other until there is an answer, patience is at an end, or the budget."""
        retries, asks = 0, 0
        while True:
            while (closed_s := self._open_at - time.monotonic()) > 0:
                await asyncio.sleep(closed_s)
            if not self._budget.reserve(request):
                self._stopped = True
                return
            attempt, wait_s = await self._send(request)
            self._budget.settle(request, attempt)
            yield attempt
            if not attempt.fault:
                return
            if attempt.fault.startswith("parameter."):
                continue  # left out from now on
            if attempt.fault in TRANSIENT or attempt.fault.startswith("status.5"):
                retries += 1
                if retries > self._settings.retries or wait_s > self._settings.max_wait_s:
                    return
                backoff_s = min(self._settings.backoff_s * 2 ** (retries - 1), self._settings.max_wait_s)
                await asyncio.sleep(max(wait_s, backoff_s * random.uniform(0.5, 1.0)))
                continue
            asks += 1
            if asks > self._settings.reasks or attempt.fault.startswith("status."):
                return

    async def _send(self, request: TeacherRequest) -> tuple[Attempt, float]:
        """One HTTP request, and how long the endpoint wants to be left alone before the next."""
        body = self._body(request)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                raw = await self._client.chat.completions.with_raw_response.create(**body)
        except (openai.OpenAIError, TimeoutError) as error:
            fault, detail = fault_of(error)
            wait_s = wait_asked_for(error)
            if wait_s <= self._settings.max_wait_s:
                self._open_at = max(self._open_at, time.monotonic() + wait_s)
            named = next((name for name in OPTIONAL if name in body and name in detail), None)
            if named is not None and fault in ("status.400", "status.422"):
                self._refused.add(named)
                fault = f"parameter.{named}"
            return Attempt(fault=fault, detail=self._endpoint.without_key(detail)), wait_s
        return judge(request, self._endpoint.without_key(raw.text), self._budget), 0.0

    def _body(self, request: TeacherRequest) -> dict[str, Any]:
        schema = {"name": request.kind.value, "schema": SCHEMAS[request.kind], "strict": True}
        optional: dict[str, Any] = {
            "response_format": {"type": "json_schema", "json_schema": schema},
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
        }
        body: dict[str, Any] = {"model": self._settings.model, "messages": list(request.messages)}
        body |= {name: value for name, value in optional.items() if name not in self._refused}
        return body | ({"max_completion_tokens": self._settings.max_tokens} if "max_tokens" in self._refused else {})
