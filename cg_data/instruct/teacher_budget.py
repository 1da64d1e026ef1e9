"""What asking a teacher may cost, and what it has cost."""

from __future__ import annotations

from cg_data.instruct.teacher_prompts import TeacherRequest
from cg_data.instruct.teacher_store import Attempt, Spent
from cg_data.settings import TeacherSettings


class Budget:
    """Requests and money, reserved before a request leaves, so that the bounds hold with any number under way."""

    def __init__(self, settings: TeacherSettings, spent: Spent) -> None:
        self._settings, self.spent = settings, spent
        self._requests_under_way, self._cost_under_way = 0, 0.0

    def reserve(self, request: TeacherRequest) -> bool:
        """False where the request could lead beyond the budget."""
        most = self.most(request)
        requests, cost = self.spent.requests + self._requests_under_way, self.spent.cost + self._cost_under_way
        if self._settings.max_requests is not None and requests + 1 > self._settings.max_requests:
            return False
        if self._settings.max_cost is not None and cost + most > self._settings.max_cost:
            return False
        self._requests_under_way += 1
        self._cost_under_way += most
        return True

    def settle(self, request: TeacherRequest, attempt: Attempt) -> None:
        self._requests_under_way -= 1
        self._cost_under_way -= self.most(request)
        self.spent = self.spent.plus(attempt)

    def most(self, request: TeacherRequest) -> float:
        """The most that a request can cost: two bytes a token are fewer than any text of ours has, and the longest answer."""
        sent = sum(len(message["content"].encode()) for message in request.messages) / 2
        return (sent * self._settings.input_price + self._settings.max_tokens * self._settings.output_price) / 1e6

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self._settings.input_price + completion_tokens * self._settings.output_price) / 1e6
