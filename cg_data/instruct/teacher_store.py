"""Every request to a teacher and every answer, one file each, under the content hash of the request.

A file appears whole, when its request has come to an end: a process killed at any moment loses what was under way and nothing else, and
any number of processes may read. What was answered once is never asked again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cg_data import storage
from cg_data.errors import StorageError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One HTTP request: `fault` is empty where `text` is an answer, else the stable name of what went wrong, with `detail` for a person.

    Tokens are those that the endpoint counted, or zero; `cost` is in the currency of the prices.
    """

    fault: str = ""
    detail: str = ""
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A request and all attempts at it, the last one first to look at."""

    key: str
    kind: str
    version: str
    model: str
    messages: tuple[Mapping[str, str], ...]
    attempts: tuple[Attempt, ...]

    @property
    def answer(self) -> str | None:
        """What was answered, or None if nothing was."""
        last = self.attempts[-1]
        return None if last.fault else last.text


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What requests have cost."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0

    def plus(self, attempt: Attempt) -> Spent:
        return Spent(
            requests=self.requests + 1,
            prompt_tokens=self.prompt_tokens + attempt.prompt_tokens,
            completion_tokens=self.completion_tokens + attempt.completion_tokens,
            cost=self.cost + attempt.cost,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TeacherStore:
    """A folder of exchanges, 256 folders wide."""

    uri: str

    def at(self, key: str) -> str:
        return storage.join(self.uri, key[:2], f"{key}.json")

    def get(self, key: str) -> Exchange | None:
        """The exchange under `key`, or None.

        Raises:
            StorageError: the file is not of this store's making.
        """
        where = self.at(key)
        return _exchange(where, storage.read_json(where)) if storage.exists(where) else None

    def put(self, exchange: Exchange) -> None:
        storage.write_json(self.at(exchange.key), dataclasses.asdict(exchange))

    def spent(self) -> Spent:
        """The sum over all attempts in the store."""
        total = Spent()
        for where in storage.list_files(self.uri, ".json", recursive=True):
            for attempt in _exchange(where, storage.read_json(where)).attempts:
                total = total.plus(attempt)
        return total


def _exchange(where: str, value: Any) -> Exchange:
    try:
        return Exchange(**{**value, "messages": tuple(value["messages"]), "attempts": tuple(Attempt(**a) for a in value["attempts"])})
    except (TypeError, KeyError) as error:
        raise StorageError(f"{where}: this is no exchange with a teacher. Give data.teacher.store a folder of its own.") from error
