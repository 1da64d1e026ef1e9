"""Shapes of the HTTP interface: what comes in, what goes out, and how a refusal looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_serializer, model_validator

from cg_data.errors import UserError
from cg_data.vocabulary import Band, EventSource, Family, FindingKind, Region, Stage, Waveform

MODEL_NAME = "cerebragloss"
DISCLAIMER = "Draft for a reader, never a diagnosis. Research use only."


class RequestError(UserError):
    """A request that is refused: `status` is the HTTP status, `code` the stable, machine-readable name, `param` the field at fault."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def __reduce__(self) -> tuple[type[RequestError], tuple[int, str, str, str | None]]:
        return (type(self), (self.status, self.code, str(self), self.param))


class Answered(BaseModel):
    """Base of what the service sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FoundEvent(Answered):
    """One waveform on one channel; `onset_s` counts from the start of the segment."""

    waveform: Waveform
    channel: str
    onset_s: float
    duration_s: float
    score: float
    probability: float
    source: EventSource


class RemovedEvent(Answered):
    event: FoundEvent
    rule: str


class Rhythm(Answered):
    region: Region
    band: Band
    dominant_hz: float
    amplitude_uv: float = Field(description="half peak to peak")


class StatedFinding(Answered):
    """A measured statement with its evidence: `value` beside the `threshold` it passed, both in `unit`."""

    kind: FindingKind
    family: Family
    channels: tuple[str, ...]
    onset_s: float
    duration_s: float
    value: float
    threshold: float
    unit: str


class InterpretedSegment(Answered):
    index: int = Field(description="number of the segment in the recording, from 0")
    start_s: float
    flags: tuple[str, ...] = Field(description="what the reader of the file accepted although it departs from the standard")
    events: tuple[FoundEvent, ...]
    removed: tuple[RemovedEvent, ...]
    background: tuple[Rhythm, ...]
    findings: tuple[StatedFinding, ...]
    stage: Stage | None = Field(description="as annotated in the file; never measured")
    text: str
    text_probability: float


class Versions(Answered):
    """Where the answer comes from."""

    detector: str
    analyser: str
    interpreter: str
    prompt: str
    filter: str


class Interpretation(Answered):
    """Answer of ``POST /v1/interpret``. `recording_id` is a content hash, to be used as ``file_id`` in a chat."""

    recording_id: str
    total_segments: int = Field(description="segments in the recording; no more than `segments` of them are in this answer")
    segments: tuple[InterpretedSegment, ...]
    versions: Versions
    research_use_only: Literal[True] = True
    disclaimer: str = DISCLAIMER


class Health(Answered):
    status: Literal["ok"] = "ok"
    detector: str
    interpreter: str


class ErrorDetail(Answered):
    message: str
    type: str
    code: str
    param: str | None = None


class ErrorBody(Answered):
    """Every refusal and failure, in the OpenAI shape."""

    error: ErrorDetail


class FileReference(BaseModel):
    """A recording: `file_id` from ``/v1/interpret``, or `file_data`, a base64 data URL of the EDF file."""

    model_config = ConfigDict(extra="forbid")

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = Field(default=None, description="not used: names may carry identity")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file_id is None) == (self.file_data is None):
            raise ValueError("give exactly one of file_id and file_data")
        return self


class ContentPart(BaseModel):
    """One part of a message. `type` is "text" or "file"; `cg_serve.chat` refuses the others by name."""

    type: str
    text: str | None = None
    file: FileReference | None = None


def _kind_of_content(value: object) -> str:
    return "text" if isinstance(value, str) else "parts"


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Annotated[str, Tag("text")] | Annotated[list[ContentPart], Tag("parts")], Discriminator(_kind_of_content)]


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """``POST /v1/chat/completions``: the OpenAI request, as far as it makes sense here; unknown parameters are refused.

    Answers are generated greedily, so equal questions get equal answers: `temperature` and `top_p` are accepted only at 0 and 1, and
    `seed` and `user` change nothing.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: list[ChatMessage] = Field(min_length=1)
    segment: int | None = Field(default=None, ge=0, description="number of the segment asked about; default: metadata.segment, else 0")
    metadata: dict[str, str] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    seed: int | None = None
    user: str | None = None

    @field_validator("temperature")
    @classmethod
    def _greedy(cls, value: float | None) -> float | None:
        if value not in (None, 0):
            raise ValueError("answers are generated greedily, without sampling; give 0 or leave it out")
        return value

    @field_validator("top_p", "n")
    @classmethod
    def _only_one(cls, value: float | None) -> float | None:
        if value not in (None, 1):
            raise ValueError("one answer is generated greedily; give 1 or leave it out")
        return value


class Spoken(Answered):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(Answered):
    index: Literal[0] = 0
    message: Spoken
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Usage(Answered):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class About(Answered):
    """What the answer is about and how sure the model is of its words; beyond the OpenAI shape."""

    recording_id: str
    segment: int
    start_s: float
    probability: float
    research_use_only: Literal[True] = True
    disclaimer: str = DISCLAIMER


class Completion(Answered):
    """Answer of ``POST /v1/chat/completions``; `system_fingerprint` is the version of the interpreter."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str = MODEL_NAME
    system_fingerprint: str
    choices: tuple[Choice, ...]
    usage: Usage
    cerebragloss: About


class Delta(Answered):
    """What an event adds to the answer; what it does not add is not sent."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer
    def _added(self) -> dict[str, str]:
        return {name: value for name, value in (("role", self.role), ("content", self.content)) if value is not None}


class ChunkChoice(Answered):
    index: Literal[0] = 0
    delta: Delta
    finish_reason: Literal["stop", "length"] | None = None


class CompletionChunk(Answered):
    """One event of a streamed answer. The last with a choice carries `cerebragloss`."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str = MODEL_NAME
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None
    cerebragloss: About | None = None


class ServedModel(Answered):
    id: str = MODEL_NAME
    object: Literal["model"] = "model"
    created: int
    owned_by: str = MODEL_NAME


class ModelList(Answered):
    """Answer of ``GET /v1/models``."""

    object: Literal["list"] = "list"
    data: tuple[ServedModel, ...]


def refused(faults: Sequence[Mapping[str, Any]]) -> RequestError:
    """400 for what pydantic's `errors()` found: all faults in one sentence, each with the name of its field; values are not repeated."""
    named = [(".".join(str(part) for part in fault["loc"]) or "body", fault["msg"]) for fault in faults]
    return RequestError(400, "invalid_request", "; ".join(f"{name}: {message}" for name, message in named) + ".", named[0][0])
