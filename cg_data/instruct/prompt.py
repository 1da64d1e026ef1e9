"""The prompt: the same words before every question, in training, on the bench and in the service."""

from __future__ import annotations

PROMPT_VERSION = "prompt-2"
"""Goes up with any change of the system prompt, of the page statement or of the wording of questions and answers."""

SYSTEM_PROMPT = "You read one page of clinical EEG and answer briefly, as a draft for the reader."
"""One sentence: a tiny model reads it at every step."""


def page_statement() -> str:
    """What the picture is, the same for every page."""
    return "EEG page, 10 s, 19 channels."


def first_turn(question: str) -> str:
    """A first user turn: the page statement, then the question."""
    return f"{page_statement()} {question}"
