"""Whether a response of status 200 is an answer. Much that is none comes with that status: errors, half answers, pages of a proxy."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from cg_data.instruct.teacher_answers import FormError, parse_answer
from cg_data.instruct.teacher_budget import Budget
from cg_data.instruct.teacher_prompts import TeacherRequest
from cg_data.instruct.teacher_store import Attempt


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Said(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Said
    finish_reason: str | None = None


class _Completion(BaseModel):
    """What of a chat completion is looked at."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


def judge(request: TeacherRequest, text: str, budget: Budget) -> Attempt:
    """A response of status 200 as an answer, or as what is wrong with it."""
    try:
        completion = _Completion.model_validate_json(text)
    except ValidationError as error:
        return Attempt(fault="body", detail=f"a response of another form ({error.errors()[0]['msg']})", text=text[:2000])
    usage = completion.usage or _Usage()
    counted = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    cost = budget.cost(**counted) if completion.usage else budget.most(request)
    first = completion.choices[0] if completion.choices else None
    content = (first.message.content or "") if first else ""
    fault, detail = "", ""
    if completion.error is not None or first is None:
        fault, detail, content = "error_body", f"an error with status 200: {str(completion.error)[:500]}", text[:2000]
    elif first.finish_reason == "length":
        fault, detail = "cut", "an answer cut at max_tokens"
    elif first.message.refusal or first.finish_reason == "content_filter":
        fault, detail = "declined", f"the model declined: {(first.message.refusal or 'content filter')[:500]}"
    elif not content.strip():
        fault, detail = "empty", "an empty answer"
    else:
        try:
            parse_answer(request.kind, content)
        except FormError as error:
            fault, detail = "form", str(error)[:500]
    return Attempt(fault=fault, detail=detail, text=content, cost=cost, **counted)
