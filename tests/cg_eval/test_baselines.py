"""cg_eval.baselines: the majority answer is what a model must beat, so it must be neither too weak nor too clever."""

from __future__ import annotations

from cg_data.vocabulary import SampleKind
from cg_eval.baselines import Majority, Question, normalise, yes_or_no


def _asked(kind: SampleKind, topic: str, truth: str, times: int) -> list[Question]:
    return [Question(kind=kind, topic=topic, truth=truth)] * times


def test_answers_compare_without_case_space_and_full_stop() -> None:
    assert normalise("  N2  sleep.\n") == normalise("n2 sleep") == "n2 sleep"


def test_only_a_first_word_is_yes_or_no() -> None:
    assert [yes_or_no(t) for t in ("Yes. At C3.", "no", "None", "There is, yes", "")] == ["yes", "no", None, None, None]


def test_the_majority_answer_is_learnt_per_topic() -> None:
    majority = Majority.learn(
        _asked(SampleKind.BINARY, "blink", "Yes. At Fp1.", 3) + _asked(SampleKind.BINARY, "blink", "No.", 2)
        + _asked(SampleKind.BINARY, "muscle", "No.", 1)
    )  # fmt: skip
    assert majority.answer(SampleKind.BINARY, "blink") == "yes"
    assert majority.answer(SampleKind.BINARY, "muscle") == "no"
    assert majority.answer(SampleKind.BINARY, "unseen") is None


def test_the_topic_of_a_choice_question_does_not_give_its_answer_away() -> None:
    """The topic is the right option's kind: counted by it, the baseline would always be right."""
    majority = Majority.learn(_asked(SampleKind.MCQ, "blink", "blinks", 5) + _asked(SampleKind.MCQ, "spike", "spikes", 2))
    assert majority.answer(SampleKind.MCQ, "spike", ("spikes", "blinks", "flat channel")) == "blinks"
    assert majority.answer(SampleKind.MCQ, "spike", ("spikes", "flat channel")) == "spikes"
    assert majority.answer(SampleKind.MCQ, "flat_channel", ("flat channel", "muscle artefact")) is None


def test_answers_of_a_topic_come_by_frequency_and_are_bounded() -> None:
    majority = Majority.learn(
        _asked(SampleKind.OPEN, "stage", "N2 sleep", 2) + _asked(SampleKind.OPEN, "stage", "REM sleep", 1)
        + _asked(SampleKind.OPEN, "stage", "N3 sleep", 3)
    )  # fmt: skip
    assert majority.answers(SampleKind.OPEN, "stage", 2) == ("N3 sleep", "N2 sleep")
