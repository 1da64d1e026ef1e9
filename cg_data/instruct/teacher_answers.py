"""From a teacher's answer to a sample: the form is checked first, then every statement is held against the annotation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cg_data.instruct.general import CONTROL_TOKEN
from cg_data.instruct.questions import LETTERS, N_OPTIONS
from cg_data.vocabulary import SampleKind


class FormError(Exception):
    """An answer that is not of the form asked for."""


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, str_strip_whitespace=True, str_min_length=1)

    @field_validator("*")
    @classmethod
    def _plain(cls, value: object) -> object:
        """Raises:
        ValueError: text that a tokenizer would take for a control token.
        """
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and CONTROL_TOKEN.search(text):
                raise ValueError("holds a control token")
        return value


class DescriptionAnswer(_Form):
    text: str
    evidence: list[str]


class ChoiceAnswer(_Form):
    question: str
    options: list[str] = Field(min_length=N_OPTIONS, max_length=N_OPTIONS)
    right: Literal[0, 1, 2, 3]
    evidence: list[str]

    @field_validator("options")
    @classmethod
    def _distinct(cls, options: list[str]) -> list[str]:
        plain = {" ".join(re.sub(r"\W+", " ", option).casefold().split()) for option in options}
        if len(plain) < N_OPTIONS or "" in plain:
            raise ValueError("options must be four different statements")
        if any(re.match(rf"\(?[{LETTERS[:N_OPTIONS]}][.):]\s", option) for option in options):
            raise ValueError("options must not begin with letters")
        return options


class TurnAnswer(_Form):
    question: str
    answer: str
    evidence: list[str]


class ConversationAnswer(_Form):
    turns: list[TurnAnswer] = Field(min_length=2, max_length=8)


FORMS: Mapping[SampleKind, type[_Form]] = {
    SampleKind.DESCRIPTION: DescriptionAnswer,
    SampleKind.COMPLEX_MCQ: ChoiceAnswer,
    SampleKind.CONVERSATION: ConversationAnswer,
}
_FENCE = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


def parse_answer(kind: SampleKind, text: str) -> DescriptionAnswer | ChoiceAnswer | ConversationAnswer:
    """The answer in its form. A fence of Markdown around the JSON, which models without response formats like to draw, is no fault.

    Raises:
        FormError: it is no JSON, or of another form.
    """
    plain = text.strip()
    fenced = _FENCE.match(plain)
    try:
        return FORMS[kind].model_validate_json(plain if fenced is None else fenced[1])  # type: ignore[return-value]
    except ValidationError as error:
        first: Sequence[object] = error.errors()[0]["loc"]
        where = ".".join(str(part) for part in first)
        raise FormError(f"{where or 'answer'}: {error.errors()[0]['msg']}") from error
