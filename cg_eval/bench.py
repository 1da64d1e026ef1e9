"""The bench: questions about held-out pages with known truth, put to an interpreter and marked.

Plain functions; `cg_eval.job` spreads them over a cluster. Multiple choice is marked in three ways, for a small model may know the answer
without having learnt to bind it to a letter: the generated answer, the likelihood of each letter's line under the same prompt, and the
likelihood of each option's text under the question without its options. Open questions are marked by the generated words and by the
likelihood of every answer that the topic had in training.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cg_data.analyze.annotate import annotate_truth, present_kinds
from cg_data.instruct.questions import ANY_ANSWER_TOPIC, LETTERS, parse_choice
from cg_data.instruct.samples import prevalence, samples_of
from cg_data.records import Message, Sample, Segment, content_id
from cg_data.settings import InstructSettings
from cg_data.vocabulary import SampleKind
from cg_eval import metrics
from cg_eval.baselines import Majority, Question, normalise, yes_or_no
from cg_eval.settings import EvalSettings

if TYPE_CHECKING:
    from cg_train.model.interpreter import Interpreter

BENCH_KINDS = (SampleKind.BINARY, SampleKind.OPEN, SampleKind.MCQ, SampleKind.DESCRIPTION)
CLOSED_SET = 12
"""Answers of a topic, the most frequent in training, among which the likelihood may choose in open questions."""

SCORE_SCHEMA = pa.schema(
    {
        "item_id": pa.string(),
        "segment_id": pa.string(),
        "subject": pa.string(),
        "kind": pa.string(),
        "topic": pa.string(),
        "question": pa.string(),
        "truth": pa.string(),
        "answer": pa.string(),
        "parsed": pa.bool_(),
        "correct": pa.bool_(),
        "probability": pa.float64(),
        "majority_answer": pa.string(),
        "majority_correct": pa.bool_(),
        "chance": pa.float64(),
        "options": pa.list_(pa.string()),
        "letter_log_probabilities": pa.list_(pa.float64()),
        "letter_correct": pa.bool_(),
        "option_log_probabilities": pa.list_(pa.float64()),
        "option_tokens": pa.list_(pa.int32()),
        "option_correct": pa.bool_(),
        "option_correct_per_token": pa.bool_(),
        "rouge_1": pa.float64(),
        "rouge_l": pa.float64(),
        "majority_rouge_1": pa.float64(),
        "majority_rouge_l": pa.float64(),
    }
)
"""One row per item. `correct` is null for descriptions (they have ROUGE), false for an answer that cannot be read (`parsed` false).
The likelihood columns are null where a kind has no such score."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ItemAnswer:
    """What an interpreter said to one item. Log probabilities are natural, of the whole option; empty where nothing was to choose."""

    item_id: str
    text: str
    probability: float
    letter_log_probabilities: tuple[float, ...] = ()
    option_log_probabilities: tuple[float, ...] = ()
    option_tokens: tuple[int, ...] = ()


def build_items(segments: Iterable[Segment], settings: EvalSettings, instruct: InstructSettings) -> list[Sample]:
    """Questions about held-out segments from their reference labels, ordered by segment and id; the same input gives the same items.

    Yes and no are asked equally often about each topic (the surplus is dropped by hash); a topic with one of them only is not asked.
    """
    chosen = _first_by_hash(segments, settings.max_segments, settings.seed)
    described = {s.segment_id for s in _first_by_hash(chosen, settings.description_segments, settings.seed + 1)}
    annotations = [annotate_truth(segment) for segment in chosen]
    shares = prevalence(present_kinds(annotation) for annotation in annotations)
    asked = instruct.model_copy(update=_counts(settings))
    items: list[Sample] = []
    for segment, annotation in zip(chosen, annotations, strict=True):
        samples = samples_of(segment, annotation, settings=asked, prevalence=shares)
        items += [s for s in samples if _is_asked(s, described)]
    return sorted(_balanced(items, settings.seed), key=lambda s: (s.segment_id, s.sample_id))


def _is_asked(sample: Sample, described: Set[str]) -> bool:
    if sample.kind is SampleKind.DESCRIPTION:
        return sample.segment_id in described
    return sample.kind in BENCH_KINDS and sample.topic != ANY_ANSWER_TOPIC


def _first_by_hash(segments: Iterable[Segment], count: int | None, seed: int) -> list[Segment]:
    return sorted(segments, key=lambda s: content_id(seed, s.segment_id))[:count]


def _counts(settings: EvalSettings) -> dict[str, int]:
    many = settings.items_per_segment
    return {"captions": 0, "conversations": 0, "complex_mcqs": 0, "binaries": many, "mcqs": many, "opens": many, "descriptions": 1}


def _balanced(items: list[Sample], seed: int) -> list[Sample]:
    """All items but the surplus of yes or of no in each topic of the binary questions."""
    groups: defaultdict[str, dict[str | None, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    kept = [item for item in items if item.kind is not SampleKind.BINARY]
    for item in items:
        if item.kind is SampleKind.BINARY:
            groups[item.topic][yes_or_no(truth_of(item))].append(item)
    for answers in groups.values():
        n = min(len(answers["yes"]), len(answers["no"]))
        for side in ("yes", "no"):
            kept += sorted(answers[side], key=lambda s: content_id(seed, s.sample_id))[:n]
    return kept


def truth_of(sample: Sample) -> str:
    """The right answer in words: the option's text for multiple choice, the last turn otherwise."""
    return sample.options[sample.answer_index] if sample.options else sample.messages[-1].content


def question_of(sample: Sample) -> Question:
    return Question(kind=sample.kind, topic=sample.topic, truth=truth_of(sample))


def answer_items(
    interpreter: Interpreter, items: Sequence[Sample], segments: Mapping[str, Segment], majority: Majority, settings: EvalSettings
) -> list[ItemAnswer]:
    """Put `items` to the interpreter, questions of one kind in batches of `settings.batch`. The answers keep the order of the items."""
    answers: dict[str, ItemAnswer] = {}
    for kind in BENCH_KINDS:
        of_kind = [item for item in items if item.kind is kind]
        for start in range(0, len(of_kind), settings.batch):
            batch = of_kind[start : start + settings.batch]
            for item, said in zip(batch, _generate(interpreter, batch, segments, settings), strict=True):
                answers[item.sample_id] = _with_likelihoods(interpreter, item, segments[item.segment_id], majority, said)
    return [answers[item.sample_id] for item in items]


def _generate(interpreter: Interpreter, batch: Sequence[Sample], segments: Mapping[str, Segment], settings: EvalSettings) -> Any:
    pages = [segments[item.segment_id] for item in batch]
    return interpreter.answer(
        np.stack([page.eeg_uv for page in pages]),
        np.stack([page.mask for page in pages]),
        [item.messages[:-1] for item in batch],
        max_new_tokens=settings.max_new_tokens,
    )


def _with_likelihoods(interpreter: Interpreter, item: Sample, page: Segment, majority: Majority, said: Any) -> ItemAnswer:
    letters: tuple[float, ...] = ()
    if item.kind is SampleKind.MCQ:
        lines = interpreter.option_scores(page.eeg_uv, page.mask, item.messages[:-1], letter_lines(item))
        letters = tuple(float(line.log_probability) for line in lines)
    options = candidates(item, majority)
    scores = interpreter.option_scores(page.eeg_uv, page.mask, open_prompt(item), options) if options else []
    return ItemAnswer(
        item_id=item.sample_id,
        text=said.text,
        probability=float(said.probability),
        letter_log_probabilities=letters,
        option_log_probabilities=tuple(float(s.log_probability) for s in scores),
        option_tokens=tuple(int(s.tokens) for s in scores),
    )


def candidates(item: Sample, majority: Majority) -> tuple[str, ...]:
    """Answers whose likelihoods are compared: the options, or an open topic's answers in training; none for other kinds."""
    return majority.answers(item.kind, item.topic, CLOSED_SET) if item.kind is SampleKind.OPEN else item.options


def letter_lines(item: Sample) -> tuple[str, ...]:
    """The reply that each option would have had as the right one."""
    return tuple(f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False))


def open_prompt(item: Sample) -> tuple[Message, ...]:
    """The item's turns with the lines of options cut from the question."""
    *before, question = item.messages[:-1]
    return (*before, dataclasses.replace(question, content=question.content.partition(f"\n{LETTERS[0]}. ")[0]))


def score(items: Sequence[Sample], answers: Sequence[ItemAnswer], majority: Majority) -> pa.Table:
    """Mark `answers` (one per item, same order) against the truth and beside the majority answer, as a table of `SCORE_SCHEMA`."""
    rows = [_mark(item, answer, majority) for item, answer in zip(items, answers, strict=True)]
    return pa.Table.from_pylist(rows, schema=SCORE_SCHEMA)


def _mark(item: Sample, answer: ItemAnswer, majority: Majority) -> dict[str, Any]:
    if item.sample_id != answer.item_id:
        raise ValueError(f"answer to {answer.item_id} stands beside item {item.sample_id}")
    truth = truth_of(item)
    usual = majority.answer(item.kind, item.topic, item.options)
    row: dict[str, Any] = {
        "item_id": item.sample_id,
        "segment_id": item.segment_id,
        "subject": item.subject,
        "kind": item.kind.value,
        "topic": item.topic,
        "question": item.messages[-2].content,
        "truth": truth,
        "answer": answer.text,
        "probability": answer.probability,
        "majority_answer": usual,
    }
    if item.kind is SampleKind.DESCRIPTION:
        return row | {"parsed": bool(answer.text.strip())} | _rouge_columns(truth, answer.text, usual or "")
    said = read_answer(item, answer.text)
    row |= {
        "parsed": said is not None,
        "correct": said is not None and said == read_truth(item),
        "majority_correct": usual is not None and normalise(usual) == read_truth(item),
    }
    return row | _likelihood_columns(item, answer, majority)


def read_truth(item: Sample) -> str:
    """The truth as `read_answer` would return it."""
    truth = truth_of(item)
    return (yes_or_no(truth) or normalise(truth)) if item.kind is SampleKind.BINARY else normalise(truth)


def read_answer(item: Sample, text: str) -> str | None:
    """A generated answer in comparable form, or None where it is none: neither yes nor no, neither a letter nor an option, or empty."""
    if item.kind is SampleKind.BINARY:
        return yes_or_no(text)
    if not item.options:
        return normalise(text) or None
    index = parse_choice(text, item.options)
    return None if index is None else normalise(item.options[index])


def _rouge_columns(truth: str, text: str, usual: str) -> dict[str, float]:
    (one, longest), (usual_one, usual_longest) = metrics.rouge(truth, text), metrics.rouge(truth, usual)
    return {"rouge_1": one, "rouge_l": longest, "majority_rouge_1": usual_one, "majority_rouge_l": usual_longest}


def _likelihood_columns(item: Sample, answer: ItemAnswer, majority: Majority) -> dict[str, Any]:
    options = candidates(item, majority)
    columns: dict[str, Any] = {
        "options": list(options),
        "letter_log_probabilities": list(answer.letter_log_probabilities),
        "option_log_probabilities": list(answer.option_log_probabilities),
        "option_tokens": list(answer.option_tokens),
    }
    if item.kind is SampleKind.BINARY:
        return columns | {"chance": 0.5}
    truth = read_truth(item)
    right = [normalise(option) == truth for option in options]
    if answer.letter_log_probabilities:
        columns |= {"chance": 1 / len(options), "letter_correct": right[int(np.argmax(answer.letter_log_probabilities))]}
    if options:
        raw = np.array(answer.option_log_probabilities)
        per_token = raw / np.maximum(answer.option_tokens, 1)
        columns |= {"option_correct": right[int(np.argmax(raw))], "option_correct_per_token": right[int(np.argmax(per_token))]}
    else:
        columns |= {"option_correct": False, "option_correct_per_token": False}
    return columns
