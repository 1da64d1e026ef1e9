"""The service: asked once over HTTP at the end of a run, or kept up by `cg serve`."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import httpx

from cg_data import storage
from cg_data.corpora.folder import list_recordings
from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.errors import ConfigError, EdfError
from cg_data.instruct.prompt import first_turn
from cg_data.instruct.wording import CAPTION_QUESTIONS
from cg_data.shards import read_segments
from cg_data.vocabulary import SEGMENT_S, SampleKind
from cluster.config import RunConfig
from cluster.display import Display
from cluster.pipeline import Step, Work, alone
from cluster.runfolder import RunFolder, StepResult
from cluster.steps_data import SYNTHETIC, shown_corpus, sources_of
from cluster.steps_train import tracking_of

PLAIN_QUESTION = CAPTION_QUESTIONS[0]
_TIMEOUT_S = 300.0


def service_step(corpus: str) -> Step:
    return Step(
        name="service" if corpus == SYNTHETIC else f"{corpus}-service",
        title="One answer over HTTP",
        needs=("champion",) if corpus == SYNTHETIC else ("champion", f"{corpus}-segments"),
        settings=lambda config: config.serve.model_dump(include={"max_new_tokens", "max_segments"}),
        owns=("service",),
        run=alone(partial(_ask_once, corpus=corpus)),
    )


def start_service(config: RunConfig, folder: RunFolder, tracking: Any) -> str:
    """Start the champion beside the detector in the current Ray session and return the URL."""
    from cg_serve.app import start
    from cg_train.tracking import champion_folder

    model = champion_folder(tracking, name=config.tracking.model_name)
    return start(config.serve, detector_folder=folder.at("detector"), model_folder=str(model), data=config.data)


def check_servable(config: RunConfig, folder: RunFolder) -> None:
    """Refuse before anything starts.

    Raises:
        ConfigError: the run folder has no champion yet.
        UserError: the port is in use.
    """
    from cg_serve.app import check_port

    if "champion" not in folder.finished():
        raise ConfigError(f"{folder.uri}: no champion to serve yet. Run `cg run` (or `cg eval`) on this folder first.")
    check_port(config.serve)


def serve_forever(config: RunConfig, folder: RunFolder, display: Display) -> None:
    """Serve until interrupted."""
    from cg_serve.app import stop

    url = start_service(config, folder, tracking_of(config, folder))
    display.say(f"Serving at {url} (POST /v1/interpret, POST /v1/chat/completions). Ctrl-C stops it.")
    try:
        while True:
            time.sleep(3600)
    finally:
        stop()


def _ask_once(work: Work, corpus: str) -> StepResult:
    from cg_serve.app import stop

    path, index, question, truth = _synthetic_case(work) if corpus == SYNTHETIC else _users_case(work)
    url = start_service(work.config, work.folder, tracking_of(work.config, work.folder))
    try:
        answer = ask(url, storage.read_bytes(path), index, question)
    finally:
        stop()
    picture = draw_answer(answer["page"], path, index, work)
    storage.write_bytes(work.folder.at("service", "page.png"), picture)
    storage.write_json(work.folder.at("service", "answer.json"), {"segment": index, "question": question, "truth": truth, **answer})
    beside = f'truth: "{truth}"' if truth else "no reference for this recording"
    return StepResult(
        counts={"answers": 1},
        figure=f'"{question}" answered "{answer["answer"]}" ({beside}); page in {work.folder.at("service", "page.png")}',
        products={"service": "service"},
    )


def ask(url: str, edf: bytes, index: int, question: str) -> dict[str, Any]:
    """Upload a recording, have one segment interpreted, and ask about it, as any client would."""
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S) as client:
        interpreted = client.post(
            "/v1/interpret", content=edf, params={"start": index, "segments": 1}, headers={"Content-Type": "application/octet-stream"}
        )
        interpreted.raise_for_status()
        seen = interpreted.json()
        content = [{"type": "file", "file": {"file_id": seen["recording_id"]}}, {"type": "text", "text": question}]
        body = {"model": "cerebragloss", "messages": [{"role": "user", "content": content}], "segment": index}
        said = client.post("/v1/chat/completions", json=body)
        said.raise_for_status()
    return {"answer": said.json()["choices"][0]["message"]["content"], "page": seen["segments"][0]}


def _synthetic_case(work: Work) -> tuple[str, int, str, str]:
    """A held-out segment with the most planted events, and an open bench question about it with its truth."""
    rows = storage.read_table(work.folder.at("bench", "items.parquet"), columns=["sample_id", "segment_id", "kind", "messages"]).to_pylist()
    asked = [row for row in rows if row["kind"] == SampleKind.OPEN]
    wanted = {row["segment_id"] for row in asked}
    segments = [s for s in read_segments(work.folder.at("segments", SYNTHETIC)) if s.segment_id in wanted]
    segment = max(segments, key=lambda s: (len(s.labels), s.segment_id))
    item = min((row for row in asked if row["segment_id"] == segment.segment_id), key=lambda row: row["sample_id"])
    question, truth = (message["content"] for message in item["messages"][-2:])
    for path in list_recordings(work.folder.at("corpus")):
        if EdfFile.open(path).sha256 == segment.sha256:
            return path, round(segment.start_s / SEGMENT_S), question.removeprefix(first_turn("")), truth
    raise ConfigError(f"{work.folder.at('corpus')}: the recording of the held-out segment is gone. Use a new --run folder.")


def _users_case(work: Work) -> tuple[str, int, str, str]:
    """The first segment of the first usable recording of the user's corpus."""
    corpus = shown_corpus(work.config)
    known = {s.sha256 for s in read_segments(work.folder.at("segments", corpus))}
    for source in sources_of(work.config, work.folder, corpus):
        try:
            if EdfFile.open(source.uri).sha256 in known:
                return source.uri, 0, PLAIN_QUESTION, ""
        except EdfError:
            continue
    raise ConfigError(f"{work.config.corpora[corpus]}: the recordings of this run are gone. Use a new --run folder.")


def draw_answer(page: dict[str, Any], path: str, index: int, work: Work) -> bytes:
    """The page that the service saw, with the boxes that it answered with, as PNG."""
    from cg_data.recording import describe
    from cg_data.rows import event_from_row
    from cg_data.segments import segments_of
    from cg_eval.pictures import draw_page

    edf = EdfFile.open(path)
    recording = describe(edf, source=Source(uri=path), corpus=SYNTHETIC, settings=work.config.data)
    (segment,) = segments_of(edf, recording, start=index, stop=index + 1)
    events = [event_from_row({"event_id": "", **event}) for event in page["events"]]
    return draw_page(segment.eeg_uv, segment.mask, events=events, labels=segment.labels)
