"""From the bytes of an EDF file to the interpretation of its segments, as plain functions: no HTTP, no Ray.

The service runs them in its deployments; `interpret` runs all of them in one process, for a notebook.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cg_data.analyze.annotate import annotate
from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.instruct.prompt import PROMPT_VERSION, first_turn
from cg_data.instruct.wording import CAPTION_QUESTIONS
from cg_data.recording import describe
from cg_data.records import Annotation, Event, Finding, Message, Segment
from cg_data.segments import count_segments, segments_of
from cg_data.settings import DataSettings
from cg_data.vocabulary import FAMILY_OF, Stage
from cg_serve import schemas
from cg_serve.recordings import Pages
from cg_serve.schemas import Interpretation, InterpretedSegment, RequestError, Versions
from cg_serve.settings import ServeSettings

CORPUS = "upload"
ANSWERED_AT_ONCE = 8
"""Pages given to the interpreter in one call: a chat waits for one such batch at most."""
_NAME = "the recording"
"""Stands for the file's name in messages: names may carry identity."""


class FindsEvents(Protocol):
    """What is needed of `cg_data.detect.detector.Detector`."""

    @property
    def version(self) -> str: ...

    def detect(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]: ...


class AnswersQuestions(Protocol):
    """What is needed of `cg_train.model.interpreter.Interpreter`; its answers have `text`, `probability` and `tokens`."""

    @property
    def version(self) -> str: ...

    def prompt_tokens(self, dialogue: Sequence[Message]) -> int: ...

    def answer(
        self,
        eeg_uv: npt.NDArray[np.float32],
        mask: npt.NDArray[np.bool_],
        dialogues: Sequence[Sequence[Message]],
        *,
        max_new_tokens: int,
    ) -> Sequence[Any]: ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """An answer of the interpreter, free of torch, so that the ingress need not import it."""

    text: str
    probability: float
    tokens: int
    prompt_tokens: int
    interpreter_version: str


def read_pages(edf: bytes, *, start: int, count: int | None, data: DataSettings, max_segments: int) -> Pages:
    """Check an EDF file and clean `count` segments from number `start` (by default all, at most `max_segments`).

    Raises:
        EdfError: the file is no EDF, damaged, or has too few electrodes.
        RequestError: 400, more segments are asked for than a request may have, or `start` is behind the last.
    """
    if count is not None and count > max_segments:
        raise RequestError(400, "too_many_segments", f"segments: {count} asked for; at most {max_segments} a request. Ask in several.")
    file = EdfFile.from_bytes(edf, _NAME)
    recording = describe(file, source=Source(uri=""), corpus=CORPUS, settings=data)
    total = count_segments(recording)
    if start >= total:
        raise RequestError(400, "segment_out_of_range", f"segment {start} asked for; the recording has {total} of them (0 to {total - 1}).")
    stop = min(total, start + (count or max_segments))
    segments = tuple(segments_of(file, recording, start=start, stop=stop))
    return Pages(recording_id=recording.recording_id, total=total, start=start, segments=segments)


def annotate_pages(pages: Pages, detector: FindsEvents) -> tuple[Annotation, ...]:
    """Events, background and findings of each segment."""
    found = detector.detect(*signals_of(pages.segments))
    return tuple(annotate(s, events, detector_version=detector.version) for s, events in zip(pages.segments, found, strict=True))


def signals_of(segments: Sequence[Segment]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Microvolts `(n, 19, 2000)` and masks `(n, 19)`."""
    return np.stack([s.eeg_uv for s in segments]), np.stack([s.mask for s in segments])


def answer(
    segments: Sequence[Segment], dialogues: Sequence[Sequence[Message]], *, interpreter: AnswersQuestions, max_new_tokens: int
) -> list[Said]:
    """The interpreter's answer to each dialogue about the segment at its place.

    Raises:
        UserError: a dialogue that does not alternate, is empty or holds control tokens.
    """
    answers = interpreter.answer(*signals_of(segments), dialogues, max_new_tokens=max_new_tokens)
    return [
        Said(
            text=a.text,
            probability=a.probability,
            tokens=a.tokens,
            prompt_tokens=interpreter.prompt_tokens(dialogue),
            interpreter_version=interpreter.version,
        )
        for a, dialogue in zip(answers, dialogues, strict=True)
    ]


def report_dialogue() -> list[Message]:
    """The question whose answer is the text of a segment."""
    return [Message(role="user", content=first_turn(CAPTION_QUESTIONS[0]))]


def batches(segments: Sequence[Segment]) -> list[Sequence[Segment]]:
    return [segments[i : i + ANSWERED_AT_ONCE] for i in range(0, len(segments), ANSWERED_AT_ONCE)]


def interpret(
    edf: bytes,
    *,
    detector: FindsEvents,
    interpreter: AnswersQuestions,
    data: DataSettings,
    settings: ServeSettings,
    start: int = 0,
    count: int | None = None,
) -> Interpretation:
    """All of it in one process.

    Raises:
        EdfError, RequestError: see `read_pages`.
    """
    pages = read_pages(edf, start=start, count=count, data=data, max_segments=settings.max_segments)
    annotations = annotate_pages(pages, detector)
    said: list[Said] = []
    for some in batches(pages.segments):
        dialogues = [report_dialogue()] * len(some)
        said += answer(some, dialogues, interpreter=interpreter, max_new_tokens=settings.max_new_tokens)
    return interpretation_of(pages, annotations, said)


def interpretation_of(pages: Pages, annotations: Sequence[Annotation], said: Sequence[Said]) -> Interpretation:
    """The answer as it is sent: nothing in it names or stands for the patient."""
    return Interpretation(
        recording_id=pages.recording_id,
        total_segments=pages.total,
        segments=tuple(
            _interpreted(index, segment, annotation, text)
            for (index, segment), annotation, text in zip(pages.numbered(), annotations, said, strict=True)
        ),
        versions=Versions(
            detector=annotations[0].detector_version,
            analyser=annotations[0].analyser_version,
            interpreter=said[0].interpreter_version,
            prompt=PROMPT_VERSION,
            filter=pages.segments[0].filter_version,
        ),
    )


def _interpreted(index: int, segment: Segment, annotation: Annotation, said: Said) -> InterpretedSegment:
    return InterpretedSegment(
        index=index,
        start_s=segment.start_s,
        flags=segment.flags,
        events=tuple(_event(e) for e in annotation.events),
        removed=tuple(schemas.RemovedEvent(event=_event(r.event), rule=r.rule) for r in annotation.removed),
        background=tuple(
            schemas.Rhythm(region=r.region, band=r.band, dominant_hz=r.dominant_hz, amplitude_uv=r.amplitude_uv)
            for r in annotation.background
        ),
        findings=tuple(_finding(f) for f in annotation.findings),
        stage=None if annotation.stage == Stage.UNKNOWN else annotation.stage,
        text=said.text,
        text_probability=said.probability,
    )


def _event(event: Event) -> schemas.FoundEvent:
    return schemas.FoundEvent(
        waveform=event.waveform,
        channel=event.channel,
        onset_s=event.onset_s,
        duration_s=event.duration_s,
        score=event.score,
        probability=event.probability,
        source=event.source,
    )


def _finding(finding: Finding) -> schemas.StatedFinding:
    return schemas.StatedFinding(
        kind=finding.kind,
        family=FAMILY_OF[finding.kind],
        channels=finding.channels,
        onset_s=finding.onset_s,
        duration_s=finding.duration_s,
        value=finding.value,
        threshold=finding.threshold,
        unit=finding.unit,
    )
