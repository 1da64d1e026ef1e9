"""cg_eval.bench: what is asked, and how answers are marked."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cg_data.records import Sample, Segment
from cg_data.settings import InstructSettings
from cg_data.vocabulary import SampleKind
from cg_eval import bench, metrics
from cg_eval.baselines import Majority
from cg_eval.settings import EvalSettings

SETTINGS = EvalSettings(resamples=200, description_segments=6, batch=5)


@pytest.fixture(scope="module")
def items(segments: list[Segment]) -> list[Sample]:
    return bench.build_items(segments, SETTINGS, InstructSettings())


@pytest.fixture(scope="module")
def majority(items: list[Sample]) -> Majority:
    return Majority.learn(bench.question_of(item) for item in items)


def _marked(items: list[Sample], segments: list[Segment], majority: Majority, interpreter: Any) -> list[dict[str, Any]]:
    pages = {segment.segment_id: segment for segment in segments}
    answers = bench.answer_items(interpreter, items, pages, majority, SETTINGS)
    rows: list[dict[str, Any]] = bench.score(items, answers, majority).to_pylist()
    return rows


def _knowing(item: Sample) -> tuple[Callable[[str], str], Callable[[str, Sequence[str]], int]]:
    """Reply and preference of an interpreter that knows this item."""
    truth = bench.truth_of(item)
    return lambda _: item.messages[-1].content, lambda _, options: next(i for i, o in enumerate(options) if o.endswith(truth))


def test_yes_and_no_are_asked_equally_often_about_each_topic(items: list[Sample]) -> None:
    counts = Counter((i.topic, bench.read_truth(i)) for i in items if i.kind is SampleKind.BINARY)
    topics = {topic for topic, _ in counts}
    assert "sleep_spindle" in topics
    assert all(counts[topic, "yes"] == counts[topic, "no"] > 0 for topic in topics)


def test_all_kinds_are_asked_and_descriptions_are_bounded(items: list[Sample]) -> None:
    counts = Counter(item.kind for item in items)
    assert set(counts) == set(bench.BENCH_KINDS)
    assert counts[SampleKind.DESCRIPTION] == 6


def test_the_right_option_stands_at_every_place(items: list[Sample]) -> None:
    assert {item.answer_index for item in items if item.kind is SampleKind.MCQ} == {0, 1, 2, 3}


def test_items_do_not_depend_on_the_order_of_segments(segments: list[Segment], items: list[Sample]) -> None:
    again = bench.build_items(segments[::-1], SETTINGS, InstructSettings())
    assert [i.sample_id for i in again] == [i.sample_id for i in items]


def test_fewer_segments_can_be_asked_about(segments: list[Segment]) -> None:
    few = bench.build_items(segments, EvalSettings(max_segments=7), InstructSettings())
    assert 0 < len({item.segment_id for item in few}) <= 7


def test_the_letter_line_of_the_right_option_is_the_reply_that_was_trained(items: list[Sample]) -> None:
    for item in (i for i in items if i.kind is SampleKind.MCQ):
        assert bench.letter_lines(item)[item.answer_index] == item.messages[-1].content


def test_the_open_prompt_of_a_choice_question_shows_no_option(items: list[Sample]) -> None:
    for item in (i for i in items if i.kind is SampleKind.MCQ):
        asked = bench.open_prompt(item)[-1].content
        assert asked.endswith("?")
        assert not any(option in asked for option in item.options)
        assert item.messages[0].content.startswith(asked)


def test_an_interpreter_that_knows_everything_is_right_in_every_column(
    items: list[Sample], segments: list[Segment], majority: Majority, fake_interpreter: Any
) -> None:
    for item in items[:60]:
        (row,) = _marked([item], segments, majority, fake_interpreter(*_knowing(item)))
        assert row["parsed"]
        if item.kind is SampleKind.DESCRIPTION:
            assert (row["correct"], row["rouge_1"], row["rouge_l"]) == (None, 1.0, 1.0)
            continue
        assert row["correct"]
        if item.kind in (SampleKind.MCQ, SampleKind.OPEN):
            assert row["option_correct"]
            assert row["option_correct_per_token"]
        if item.kind is SampleKind.MCQ:
            assert row["letter_correct"]


def test_what_cannot_be_read_is_wrong_not_left_out(
    items: list[Sample], segments: list[Segment], majority: Majority, fake_interpreter: Any
) -> None:
    closed = [i for i in items if i.kind in (SampleKind.BINARY, SampleKind.MCQ)]
    rows = _marked(closed, segments, majority, fake_interpreter(lambda _: "perhaps", lambda _q, _o: 0))
    assert len(rows) == len(closed)
    assert not any(row["parsed"] or row["correct"] for row in rows)


def test_always_yes_is_right_half_the_time(items: list[Sample], segments: list[Segment], majority: Majority, fake_interpreter: Any) -> None:
    binary = [i for i in items if i.kind is SampleKind.BINARY]
    rows = _marked(binary, segments, majority, fake_interpreter(lambda _: "Yes.", lambda _q, _o: 0))
    assert sum(row["correct"] for row in rows) * 2 == len(rows)


def test_likelihood_can_be_right_where_the_letter_is_wrong(
    items: list[Sample], segments: list[Segment], majority: Majority, fake_interpreter: Any
) -> None:
    item = next(i for i in items if i.kind is SampleKind.MCQ)
    wrong = (item.answer_index + 1) % 4
    _, prefer = _knowing(item)
    (row,) = _marked([item], segments, majority, fake_interpreter(lambda _: f"{bench.LETTERS[wrong]}.", prefer))
    assert (row["correct"], row["option_correct"]) == (False, True)


def test_pages_are_answered_in_batches_in_the_order_of_the_items(
    items: list[Sample], segments: list[Segment], majority: Majority, fake_interpreter: Any
) -> None:
    interpreter: Any = fake_interpreter(lambda question: question, lambda _q, _o: 0)
    pages = {segment.segment_id: segment for segment in segments}
    answers = bench.answer_items(interpreter, items, pages, majority, SETTINGS)
    assert [a.text for a in answers] == [i.messages[-2].content for i in items]
    assert max(interpreter.batches) == SETTINGS.batch
    assert sum(interpreter.batches) == len(items)


def test_an_answer_beside_another_item_is_refused(items: list[Sample], majority: Majority) -> None:
    other = bench.ItemAnswer(item_id="another", text="Yes.", probability=1.0)
    with pytest.raises(ValueError, match="stands beside item"):
        bench.score(items[:1], [other], majority)


def test_the_summary_says_above_only_with_the_whole_interval(items: list[Sample], segments: list[Segment], majority: Majority) -> None:
    binary = [i for i in items if i.kind is SampleKind.BINARY]
    truths = {i.sample_id: i.messages[-1].content for i in binary}
    blind = [bench.ItemAnswer(item_id=i.sample_id, text="Yes.", probability=0.9) for i in binary]
    seeing = [dataclasses.replace(a, text=truths[a.item_id]) for a in blind]
    figures = [metrics.summarise(bench.score(binary, a, majority), None, SETTINGS) for a in (blind, seeing)]
    assert [f["scores"][0]["above"] for f in figures] == [False, True]
    assert figures[1]["scores"][0]["accuracy"]["value"] == 1.0
    assert figures[0]["balanced_accuracy"]["value"] == 0.5
    assert figures[0]["calibration"]["binary"]["ece"]["value"] == pytest.approx(0.4)
