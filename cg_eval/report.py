"""report.html: one page that says what a run did and how well, with nothing to load from elsewhere."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from cg_data import storage
from cg_data.instruct.prompt import page_statement
from cg_data.records import Event, Segment
from cg_data.rows import event_from_row, segment_from_row
from cg_eval.pictures import draw_page

EXAMPLES = 6
"""Example pages in a report, at most."""
_QUARANTINE_ROWS = 200
_LOSSES = ("loss", "validation_loss")
_KIND_ORDER = ("binary", "open", "mcq", "description")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepFact:
    """One line of the closing table."""

    name: str
    seconds: float
    counts: Mapping[str, int]
    figure: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReportFacts:
    """What the run folder itself does not say. `corpora` are the names of the folders under ``segments/``, the bench's own first;
    `noise` is what `cg_eval.job.annotation_noise` gave, None where there is no reference."""

    title: str
    preset: str
    corpora: Sequence[str]
    steps: Sequence[StepFact]
    noise: Mapping[str, Any] | None
    versions: Mapping[str, str]
    config_yaml: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A page with what was asked about it: `picture` is a PNG as a data URI."""

    caption: str
    picture: str
    answers: Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The loss of one training step, as points of an SVG polyline on a canvas of 300 x 120.

    `looks` are the losses on the validation set, in order, and `looked` their points on the same scale; both empty where there are none.
    """

    name: str
    points: str
    looks: Sequence[float]
    looked: str
    first: float
    last: float
    low: float
    high: float
    steps: int


def write_report(run_folder_uri: str, facts: ReportFacts) -> None:
    """Write ``report.html`` into the run folder from its products; parts whose products are absent are left out.

    Raises:
        StorageError: the folder cannot be written.
    """
    html = _template().render(
        facts=facts,
        bench=_json_or_none(storage.join(run_folder_uri, "bench", "metrics.json")),
        curves=training_curves(run_folder_uri),
        examples=examples(run_folder_uri, facts.corpora),
        quarantine=_quarantine(run_folder_uri),
        quarantine_rows=_QUARANTINE_ROWS,
    )
    storage.write_bytes(storage.join(run_folder_uri, "report.html"), html.encode())


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": _percent, "words": _words, "duration": _duration, "span": _span, "number": _number}
    return environment.from_string(resources.files("cg_eval").joinpath("report.html.j2").read_text())


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _span(figure: Mapping[str, Any]) -> str:
    """The interval of a figure in per cent, or a dash."""
    return "–" if figure["low"] is None else f"{100 * figure['low']:.1f} to {100 * figure['high']:.1f}"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _json_or_none(uri: str) -> Any:
    return storage.read_json(uri) if storage.exists(uri) else None


def _quarantine(run_folder_uri: str) -> list[dict[str, str]]:
    uri = storage.join(run_folder_uri, "quarantine.parquet")
    rows: list[dict[str, str]] = storage.read_table(uri).to_pylist() if storage.exists(uri) else []
    return [{**row, "name": row["uri"].rsplit("/", 1)[-1]} for row in rows]


def training_curves(run_folder_uri: str) -> list[Curve]:
    """Curves of ``train/<step>/metrics-rank0.jsonl`` (objects with ``step``, ``loss`` and now and then
    ``validation_loss``), in the order base, stage 1, stage 2, others."""
    order = {"base": 0, "stage1": 1, "stage2": 2}
    files = storage.list_files(storage.join(run_folder_uri, "train"), "metrics-rank0.jsonl", recursive=True)
    named = sorted(((f.split("/")[-2], f) for f in files), key=lambda pair: (order.get(pair[0], len(order)), pair[0]))
    curves = (_curve(name, storage.read_bytes(uri).decode()) for name, uri in named)
    return [curve for curve in curves if curve is not None]


def _curve(name: str, lines: str) -> Curve | None:
    rows = [json.loads(line) for line in lines.splitlines() if line.strip()]
    # A resumed training writes the steps since its checkpoint again: the later line stands.
    losses, looks = (dict(sorted({int(row["step"]): float(row[key]) for row in rows if key in row}.items())) for key in _LOSSES)
    if len(losses) < 2:
        return None
    steps, values = [*losses], [*losses.values(), *looks.values()]
    low, high = min(values), max(values)

    def points(figures: Mapping[int, float]) -> str:
        x_of, y_of = 300 / (steps[-1] - steps[0]), 120 / ((high - low) or 1.0)
        return " ".join(f"{x_of * (step - steps[0]):.1f},{y_of * (high - figure):.1f}" for step, figure in figures.items())

    return Curve(
        name=name,
        points=points(losses),
        looks=[*looks.values()],
        looked=points(looks),
        first=losses[steps[0]],
        last=losses[steps[-1]],
        low=low,
        high=high,
        steps=steps[-1],
    )


def examples(run_folder_uri: str, corpora: Sequence[str]) -> list[Example]:
    """Held-out pages with their questions, then pages of any further corpus with what was detected on them."""
    shown = _bench_examples(run_folder_uri, corpora[0]) if corpora else []
    for corpus in corpora[1:]:
        shown += _plain_examples(run_folder_uri, corpus, EXAMPLES // 2)
    return shown


def _bench_examples(run_folder_uri: str, corpus: str) -> list[Example]:
    scores_uri, events_uri = (storage.join(run_folder_uri, "bench", name) for name in ("answers.parquet", "events.parquet"))
    if not (storage.exists(scores_uri) and storage.exists(events_uri)):
        return []
    rows = storage.read_table(scores_uri).to_pylist()
    events = {r["segment_id"]: _events(r["events"]) for r in storage.read_table(events_uri).to_pylist()}
    chosen = choose_pages(rows, EXAMPLES)
    segments = _segments(run_folder_uri, corpus, chosen)
    return [_example(segments[s], events[s], [r for r in rows if r["segment_id"] == s]) for s in chosen if s in segments]


def choose_pages(rows: Iterable[Mapping[str, Any]], count: int) -> list[str]:
    """Segment ids to show: a described page first, then one per topic not yet shown, by id; chosen without a look at what was right."""
    ordered = sorted(rows, key=lambda r: (r["kind"] != "description", r["segment_id"]))
    chosen: dict[str, None] = {}
    topics: set[str] = set()
    for row in ordered:
        if len(chosen) < count and row["topic"] not in topics:
            chosen[row["segment_id"]] = None
            topics |= {r["topic"] for r in ordered if r["segment_id"] == row["segment_id"]}
    for row in ordered:
        if len(chosen) < count:
            chosen[row["segment_id"]] = None
    return list(chosen)


def _events(rows: list[dict[str, Any]]) -> tuple[Event, ...]:
    return tuple(event_from_row(row) for row in rows)


def _segments(run_folder_uri: str, corpus: str, ids: Sequence[str]) -> dict[str, Segment]:
    uri = storage.join(run_folder_uri, "segments", corpus)
    table = storage.read_table(uri, filters=[("segment_id", "in", list(ids))])
    return {row["segment_id"]: segment_from_row(row) for row in table.to_pylist()}


def _example(segment: Segment, events: tuple[Event, ...], rows: list[dict[str, Any]]) -> Example:
    return Example(
        caption=f"Subject {segment.subject}, {segment.start_s:.0f} to {segment.start_s + 10:.0f} s",
        picture=_data_uri(draw_page(segment.eeg_uv, segment.mask, events=events, labels=segment.labels)),
        answers=[_shown(row) for row in _one_of_each(rows)],
    )


def _one_of_each(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first question of each kind and topic, of multiple choice the first of all; descriptions last."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda r: (_KIND_ORDER.index(r["kind"]), r["topic"], r["item_id"])):
        first.setdefault((row["kind"], "" if row["kind"] == "mcq" else row["topic"]), row)
    return list(first.values())


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the bench with its question in two parts, what is asked and what may be chosen."""
    question, *choices = row["question"].removeprefix(page_statement()).strip().splitlines()
    return {**row, "question": question, "choices": " · ".join(choices)}


def _plain_examples(run_folder_uri: str, corpus: str, count: int) -> list[Example]:
    """Pages with the most kinds of waveform among the kept events, one per recording."""
    uri = storage.join(run_folder_uri, "annotations", corpus)
    if not storage.list_files(uri, ".parquet"):
        return []
    rows = storage.read_table(uri, columns=["segment_id", "recording_id", "events"]).to_pylist()
    best: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda r: (-len({e["waveform"] for e in r["events"]}), r["segment_id"])):
        best.setdefault(row["recording_id"], row)
    chosen = list(best.values())[:count]
    segments = _segments(run_folder_uri, corpus, [row["segment_id"] for row in chosen])
    return [_example(segments[row["segment_id"]], _events(row["events"]), []) for row in chosen]


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
