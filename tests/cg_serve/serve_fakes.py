"""A detector and an interpreter that answer at once, the rooms behind the HTTP interface without Ray, and a small recording."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.errors import UserError
from cg_data.records import Annotation, Event, Message, Segment
from cg_data.vocabulary import EventSource, Waveform
from cg_serve.interpret import Said, annotate_pages, answer
from cg_serve.recordings import Pages, RecordingStore
from cg_serve.schemas import Health
from tests.cg_data.edf_bytes import Spec, make

IDENTITY = "4711 F 01-JAN-1960 Erika_Mustermann"
SECONDS = 45
PAGES = 4


def small_edf(seconds: int = SECONDS) -> bytes:
    """An EDF+ file with a patient in its header; a last stretch below ten seconds makes no page."""
    return make(Spec(n_records=seconds, patient=IDENTITY, plus="EDF+C"))


class FakeDetector:
    """One spike at Fz on each page."""

    version = "detector-1"

    def detect(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]:
        event = Event(
            event_id="e",
            waveform=Waveform.SPIKE,
            channel="Fz",
            onset_s=2.0,
            duration_s=0.15,
            score=0.8,
            probability=0.8,
            source=EventSource.DETECTOR,
        )
        return [(event,) for _ in eeg_uv]


class FakeInterpreter:
    """Answers with the question, in as many tokens as it has words; remembers what it was asked. Refuses the word <|im_start|>."""

    version = "interpreter-1"

    def __init__(self) -> None:
        self.asked: list[list[list[Message]]] = []

    def answer(
        self,
        eeg_uv: npt.NDArray[np.float32],
        mask: npt.NDArray[np.bool_],
        dialogues: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
    ) -> list[Any]:
        assert eeg_uv.shape == (len(dialogues), 19, 2000)
        assert mask.shape == (len(dialogues), 19)
        self.asked.append([list(dialogue) for dialogue in dialogues])
        if any("<|im_start|>" in message.content for dialogue in dialogues for message in dialogue):
            raise UserError("messages: the text holds <|im_start|>, a control token of the model. Take it out.")
        words = [dialogue[-1].content.split()[:max_new_tokens] for dialogue in dialogues]
        return [types.SimpleNamespace(text=" ".join(of_it), probability=0.5, tokens=len(of_it)) for of_it in words]

    def prompt_tokens(self, dialogue: Sequence[Message]) -> int:
        return sum(len(message.content.split()) for message in dialogue)


class FakeRooms:
    """`cg_serve.api.Rooms` in one process; set `fault` to have every question fail with it."""

    def __init__(self) -> None:
        self.interpreter = FakeInterpreter()
        self.fault: Exception | None = None
        self.uploads: list[Pages] = []
        self._store = RecordingStore(max_recordings=2, max_segments=8)

    async def annotate(self, pages: Pages) -> tuple[Annotation, ...]:
        return annotate_pages(pages, FakeDetector())

    async def answer(self, segments: Sequence[Segment], dialogues: Sequence[Sequence[Message]], *, max_new_tokens: int) -> list[Said]:
        if self.fault is not None:
            raise self.fault
        return answer(segments, dialogues, interpreter=self.interpreter, max_new_tokens=max_new_tokens)

    async def keep(self, pages: Pages) -> None:
        self.uploads.append(pages)
        self._store.keep(pages)

    async def segment(self, recording_id: str, index: int) -> Segment:
        return self._store.segment(recording_id, index)

    async def health(self) -> Health:
        return Health(detector=FakeDetector.version, interpreter=FakeInterpreter.version)
