from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from cg_data.errors import ConfigError, UserError
from cg_data.instruct.prompt import PROMPT_VERSION
from cg_data.records import Message
from cg_data.vocabulary import SampleKind
from cg_train.model import interpreter as interpreter_module
from cg_train.model.interpreter import Answer, Interpreter, OptionScore
from cg_train.model.load import LoadedModel
from tests.cg_train.model_small import PAGE, SAMPLES, by_processor, load, pages_of, turns

SIGNALS = np.stack([sample.eeg_uv for sample in SAMPLES])
MASKS = np.stack([sample.mask for sample in SAMPLES])
MASKS[1, 8] = MASKS[2, 8:] = False
DIALOGUES: list[Sequence[Message]] = [sample.messages[:1] for sample in SAMPLES]
DIALOGUES[3] = turns("Is F8 flat?", "No", "Describe the page.")
DIALOGUES[4] = turns("Sag es auf Deutsch.", "Describe it?", first="system")
LIMIT = 16
"""More tokens than an answer that was learnt has."""
OPTIONS = ["Yes", "No", "A rhythm at Fp1.", "Fp1", "50 µV 🧠"]


@pytest.fixture(scope="module")
def loaded(taught_folder: str) -> LoadedModel:
    return load(taught_folder)


@pytest.fixture
def interpreter(loaded: LoadedModel) -> Interpreter:
    return Interpreter(loaded)


@torch.inference_mode()
def _generated(loaded: LoadedModel, rows: Sequence[int], max_new_tokens: int) -> list[Answer]:
    """Greedy answers by plain transformers, with the probability of each token as `generate` reports it."""
    pages = pages_of(SIGNALS[list(rows)], MASKS[list(rows)])
    inputs = by_processor(loaded.processor, [DIALOGUES[row] for row in rows], pages, with_answer=False)
    out = loaded.model.generate(
        **inputs, do_sample=False, max_new_tokens=max_new_tokens, return_dict_in_generate=True, output_scores=True, use_cache=True
    )
    new = out.sequences[:, inputs["input_ids"].shape[1] :]
    gains = loaded.model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
    end, answers = loaded.tokenizer.eos_token_id, []
    for ids, of_them in zip(new.tolist(), gains.tolist(), strict=True):
        length = ids.index(end) + 1 if end in ids else len(ids)
        text = loaded.tokenizer.decode(ids[:length], skip_special_tokens=True)
        answers.append(Answer(text=text, probability=math.prod(math.exp(gain) for gain in of_them[:length]) ** (1 / length), tokens=length))
    return answers


@torch.inference_mode()
def _scored_slowly(
    loaded: LoadedModel,
    eeg_uv: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    dialogue: Sequence[Message],
    options: Sequence[str],
) -> list[OptionScore]:
    """One full pass of plain transformers for each option, over the dialogue with the option in it."""
    page, scores = pages_of(eeg_uv[None], mask[None]), []
    start = by_processor(loaded.processor, [dialogue], page, with_answer=False)["input_ids"].shape[1]
    for option in options:
        answered = [*dialogue, Message(role="assistant", content=option)]
        inputs = by_processor(loaded.processor, [answered], page, with_answer=True)
        ids = inputs["input_ids"][0]
        assert loaded.tokenizer.decode(ids[start:]) == f"{option}<|im_end|>\n"
        log_probabilities = loaded.model(**inputs).logits[0].log_softmax(-1)
        stop = len(ids) - 1  # the line end after the answer is no part of it
        total = sum(float(log_probabilities[place - 1, ids[place]]) for place in range(start, stop))
        scores.append(OptionScore(log_probability=total, tokens=stop - start))
    return scores


def _assert_same(ours: Sequence[Answer], theirs: Sequence[Answer]) -> None:
    assert [(one.text, one.tokens) for one in ours] == [(one.text, one.tokens) for one in theirs]
    assert [one.probability for one in ours] == pytest.approx([one.probability for one in theirs], rel=1e-4)


def _assert_scores(ours: Sequence[OptionScore], theirs: Sequence[OptionScore]) -> None:
    assert [one.tokens for one in ours] == [one.tokens for one in theirs]
    assert [one.log_probability for one in ours] == pytest.approx([one.log_probability for one in theirs], abs=1e-3, rel=1e-4)


def test_answers_are_those_of_plain_transformers(interpreter: Interpreter, loaded: LoadedModel) -> None:
    ours = interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=LIMIT)
    assert len({one.tokens for one in ours}) > 2
    assert len({one.text for one in ours}) > 2
    assert "No" in {one.text for one in ours}
    _assert_same(ours, _generated(loaded, range(len(SAMPLES)), LIMIT))
    assert [one.text for one in ours] == [one.text.strip() for one in ours]


def test_what_was_learnt_from_a_page_is_read_off_it_again(interpreter: Interpreter) -> None:
    captions = [row for row, sample in enumerate(SAMPLES) if sample.kind is SampleKind.CAPTION]
    question = SAMPLES[0].messages[:1]
    answers = interpreter.answer(SIGNALS[captions], np.ones((4, 19), dtype=np.bool_), [question] * 4, max_new_tokens=LIMIT)
    assert [one.text for one in answers] == [SAMPLES[row].messages[1].content for row in captions]


def test_an_answer_alone_is_the_answer_in_company(interpreter: Interpreter, loaded: LoadedModel) -> None:
    together = interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=LIMIT)
    alone = [
        Interpreter(loaded).answer(SIGNALS[[row]], MASKS[[row]], DIALOGUES[row : row + 1], max_new_tokens=LIMIT)[0]
        for row in range(len(SAMPLES))
    ]
    _assert_same(together, alone)


def test_more_dialogues_than_are_read_at_once_keep_their_order(interpreter: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=6)
    scores = interpreter.option_scores_batch(SIGNALS, MASKS, DIALOGUES, [OPTIONS[:2]] * len(DIALOGUES))
    monkeypatch.setattr(interpreter_module, "_DIALOGUES_AT_ONCE", 5)
    _assert_same(interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=6), at_once)
    in_parts = interpreter.option_scores_batch(SIGNALS, MASKS, DIALOGUES, [OPTIONS[:2]] * len(DIALOGUES))
    for ours, theirs in zip(in_parts, scores, strict=True):
        _assert_scores(ours, theirs)


def test_equal_input_gives_equal_answers_to_the_last_bit(interpreter: Interpreter, loaded: LoadedModel) -> None:
    first = interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=LIMIT)
    assert interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=LIMIT) == first  # its pages are in memory by now
    assert Interpreter(loaded).answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=LIMIT) == first


@pytest.mark.parametrize("limit", [1, 3])
def test_a_long_answer_is_cut_at_the_limit(interpreter: Interpreter, loaded: LoadedModel, limit: int) -> None:
    whole = interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=LIMIT)
    cut = interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=limit)
    assert [one.tokens for one in cut] == [min(one.tokens, limit) for one in whole]
    assert all(of_all.text.startswith(one.text) for one, of_all in zip(cut, whole, strict=True))
    assert any(one.text != of_all.text for one, of_all in zip(cut, whole, strict=True))
    _assert_same(cut, _generated(loaded, range(len(SAMPLES)), limit))


def test_the_probability_is_the_geometric_mean_over_the_tokens_of_the_answer(interpreter: Interpreter) -> None:
    for row in (0, 1, 2):
        answer = interpreter.answer(SIGNALS[[row]], MASKS[[row]], [DIALOGUES[row]], max_new_tokens=LIMIT)[0]
        score = interpreter.option_scores(SIGNALS[row], MASKS[row], DIALOGUES[row], [answer.text])[0]
        assert answer.tokens == score.tokens < LIMIT
        assert answer.probability == pytest.approx(math.exp(score.log_probability / score.tokens), rel=1e-4)
        assert 0 < answer.probability < 1


@pytest.mark.parametrize("row", [0, 2, 3, 4])
def test_options_are_scored_as_by_one_full_pass_for_each(interpreter: Interpreter, loaded: LoadedModel, row: int) -> None:
    ours = interpreter.option_scores(SIGNALS[row], MASKS[row], DIALOGUES[row], OPTIONS)
    assert len({one.tokens for one in ours}) > 2
    _assert_scores(ours, _scored_slowly(loaded, SIGNALS[row], MASKS[row], DIALOGUES[row], OPTIONS))


def test_a_batch_of_options_is_scored_as_one_by_one(interpreter: Interpreter) -> None:
    rows = [0, 1, 3, 4]
    options = [OPTIONS, OPTIONS[3:], [], OPTIONS[1:2]]
    together = interpreter.option_scores_batch(SIGNALS[rows], MASKS[rows], [DIALOGUES[row] for row in rows], options)
    assert [len(scores) for scores in together] == [5, 2, 0, 1]
    for row, of_one, scores in zip(rows, options, together, strict=True):
        _assert_scores(scores, interpreter.option_scores(SIGNALS[row], MASKS[row], DIALOGUES[row], of_one))


def test_no_options_have_no_scores(interpreter: Interpreter) -> None:
    assert interpreter.option_scores(SIGNALS[0], MASKS[0], DIALOGUES[0], []) == []
    assert interpreter.option_scores_batch(SIGNALS[:0], MASKS[:0], [], []) == []
    assert interpreter.answer(SIGNALS[:0], MASKS[:0], [], max_new_tokens=3) == []


def test_answers_that_exclude_each_other_share_a_probability_of_one(interpreter: Interpreter) -> None:
    letters = [chr(code) for code in itertools.chain(range(ord("A"), ord("Z") + 1), range(ord("a"), ord("z") + 1))]
    scores = interpreter.option_scores(SIGNALS[0], MASKS[0], DIALOGUES[0], letters)
    assert {one.tokens for one in scores} == {2}
    assert 0 < sum(math.exp(one.log_probability) for one in scores) < 1


def test_the_page_decides_with_the_mask_about_the_scores(interpreter: Interpreter) -> None:
    def total(eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> float:
        return interpreter.option_scores(eeg_uv, mask, DIALOGUES[0], ["A rhythm at Fp1."])[0].log_probability

    all_there = np.ones(19, dtype=np.bool_)
    one_gone = np.arange(19) != 8
    both = SIGNALS[0] + SIGNALS[3]  # a rhythm at Fp1 and one at C3
    assert total(SIGNALS[0], all_there) - total(SIGNALS[3], all_there) > 1
    assert total(both, one_gone) - total(both, all_there) > 0.1
    assert total(both, one_gone) == total(SIGNALS[0], one_gone)


def test_a_page_is_looked_at_once_for_all_questions_about_it(interpreter: Interpreter, loaded: LoadedModel) -> None:
    looked = []
    handle = loaded.model.model.visual.register_forward_hook(lambda *_: looked.append(1))
    try:
        pages = np.array([0, 3, 0])  # samples 0 to 2 are about one segment
        first = interpreter.answer(SIGNALS[pages], MASKS[pages], [DIALOGUES[0]] * 3, max_new_tokens=3)
        interpreter.option_scores(SIGNALS[3], MASKS[3], DIALOGUES[3], OPTIONS)
        assert len(looked) == 2
    finally:
        handle.remove()
    assert first[0].text == first[2].text


def test_pages_that_fall_out_of_memory_are_looked_at_again(
    interpreter: Interpreter, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = interpreter.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=6)
    monkeypatch.setattr(interpreter_module, "_PAGES_KEPT", 1)
    forgetful = Interpreter(loaded)
    for _ in range(2):
        assert forgetful.answer(SIGNALS, MASKS, DIALOGUES, max_new_tokens=6) == expected
    assert len(forgetful._seen) == 1


def test_the_length_of_a_question_is_that_of_what_the_processor_makes_of_it(interpreter: Interpreter, loaded: LoadedModel) -> None:
    for row in (0, 3, 4):
        page = pages_of(SIGNALS[[row]], MASKS[[row]])
        inputs = by_processor(loaded.processor, [DIALOGUES[row]], page, with_answer=False)
        assert interpreter.prompt_tokens(DIALOGUES[row]) == inputs["input_ids"].shape[1]


def test_a_dialogue_that_ends_with_the_assistant_is_refused(interpreter: Interpreter) -> None:
    with pytest.raises(UserError, match="end with the user"):
        interpreter.answer(SIGNALS[:1], MASKS[:1], [turns("Flat?", "No")], max_new_tokens=3)


def test_no_gradients_are_kept(loaded: LoadedModel) -> None:
    with_gradients = []
    training = loaded.model.train()
    training.requires_grad_(True)
    handle = training.lm_head.register_forward_hook(lambda _, __, out: with_gradients.append(out.requires_grad or training.training))
    try:
        interpreter = Interpreter(loaded)
        interpreter.answer(SIGNALS[:2], MASKS[:2], DIALOGUES[:2], max_new_tokens=2)
        interpreter.option_scores(SIGNALS[0], MASKS[0], DIALOGUES[0], OPTIONS)
    finally:
        handle.remove()
    assert with_gradients
    assert not any(with_gradients)
    assert not any(seen.requires_grad for seen in interpreter._seen.values())


def test_an_exported_folder_is_loaded_in_single_precision_with_page_and_version(taught_folder: str) -> None:
    interpreter = Interpreter.load(taught_folder)
    assert interpreter.page == PAGE
    assert len(interpreter.version) == 12
    answer = interpreter.answer(SIGNALS[1:2], MASKS[1:2], DIALOGUES[1:2], max_new_tokens=LIMIT)[0]
    assert answer.text == "No"


def _with(loaded: LoadedModel, **changes: Any) -> LoadedModel:
    assert loaded.about is not None
    return dataclasses.replace(loaded, about=loaded.about.model_copy(update=changes))


def test_a_model_that_does_not_name_its_page_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ConfigError, match=r"does not say with which page it was trained \(no cerebragloss\.json\)"):
        Interpreter(dataclasses.replace(loaded, about=None))


def test_a_model_of_other_words_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ConfigError, match=rf"trained with the words of prompt-0, this version speaks {PROMPT_VERSION}\. Train it again"):
        Interpreter(_with(loaded, prompt_version="prompt-0"))


def test_a_model_of_a_page_that_does_not_divide_into_tokens_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="do not divide into 28-pixel tokens"):
        Interpreter(_with(loaded, page=PAGE.model_copy(update={"multiple_of": 1})))
