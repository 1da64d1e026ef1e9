"""A sample keeps what the annotation bears out; where its answer is not, it goes, with the claims counted."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

from cg_data.instruct.check import Rejected, claim_counts, grounded_sample, turns_of
from cg_data.instruct.claims import Aspect
from cg_data.instruct.facts import Facts, facts_of
from cg_data.instruct.judge import Ruling
from cg_data.instruct.prompt import page_statement
from cg_data.instruct.samples import samples_of
from cg_data.records import Message, Sample
from cg_data.settings import InstructSettings
from cg_data.vocabulary import SampleKind
from tests.cg_data.grounding_pages import PAGES
from tests.cg_data.random_pages import random_page

FOCAL = PAGES["focal"]
OPTIONS = ("left temporal spikes", "sleep spindles", "K-complexes", "blinks")


@cache
def ours() -> list[tuple[Facts, Sample]]:
    pairs = [random_page(seed) for seed in range(500, 540)]
    made = []
    for segment, annotation in pairs:
        facts = facts_of(segment, annotation)
        made += [(facts, sample) for sample in samples_of(segment, annotation, settings=InstructSettings(), prevalence={})]
    return made


def dialogue(kind: SampleKind, *turns: tuple[str, str], options: tuple[str, ...] = (), right: int = -1) -> Sample:
    """A sample of one of our pages with other words in it."""
    sample = next(sample for _, sample in ours() if sample.kind is SampleKind.CAPTION)
    said = [m for q, a in turns for m in (Message(role="user", content=q), Message(role="assistant", content=a, evidence=("x",)))]
    said[0] = dataclasses.replace(said[0], content=f"{page_statement()} {said[0].content}")
    return dataclasses.replace(sample, kind=kind, messages=tuple(said), options=options, answer_index=right)


def choice(right: int, *options: str) -> Sample:
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))
    return dialogue(
        SampleKind.MCQ, (f"Which of these is seen?\n{lines}", f"{'ABCD'[right]}. {options[right]}"), options=options, right=right
    )


def test_samples_of_our_rules_come_back_as_they_are() -> None:
    assert len(ours()) > 250
    assert [sample for facts, sample in ours() if grounded_sample(sample, facts) is not sample] == []


def test_a_bad_sentence_goes_and_the_rest_stays_with_the_evidence_that_was_found() -> None:
    sample = dialogue(SampleKind.DESCRIPTION, ("Describe.", "Left temporal spikes are seen at 4 s. T3 is flat. P4 is flat."))
    kept = grounded_sample(sample, FOCAL)
    assert isinstance(kept, Sample)
    assert kept.messages[1].content == "Left temporal spikes are seen at 4 s. P4 is flat."
    assert kept.messages[1].evidence != ("x",)
    assert kept.sample_id != sample.sample_id


def test_a_text_of_which_most_is_false_is_rejected_with_its_claims_counted() -> None:
    sample = dialogue(SampleKind.CAPTION, ("Report.", "Right temporal sharp waves. N2 sleep with spindles. P4 is flat."))
    gone = grounded_sample(sample, FOCAL)
    assert isinstance(gone, Rejected)
    assert (gone.reason, gone.kind) == ("most of it is not borne out", SampleKind.CAPTION)
    assert gone.counts[Aspect.STAGE, Ruling.CONTRADICTED] == 1
    assert gone.counts[Aspect.FINDING, Ruling.CONTRADICTED] == 2
    assert gone.counts[Aspect.CHANNEL, Ruling.SUPPORTED] == 1
    assert gone.counts == claim_counts(turns_of(sample, FOCAL))


@pytest.mark.parametrize(
    ("answer", "stays"),
    [
        ("Yes.", True),
        ("Yes. At T3.", True),
        ("Yes. At T4.", "Yes."),
        ("No.", False),
        ("Yes, at T4.", False),
        ("Perhaps.", False),
        ("Certainly. Spikes are seen.", True),
    ],
)
def test_an_answer_stands_or_falls_with_its_first_sentence(answer: str, stays: bool | str) -> None:
    kept = grounded_sample(dialogue(SampleKind.BINARY, ("Are there spikes on this page?", answer)), FOCAL)
    if stays is False:
        assert isinstance(kept, Rejected)
    else:
        assert isinstance(kept, Sample)
        assert kept.messages[1].content == (answer if stays is True else stays)


def test_a_choice_needs_one_right_option_and_no_second() -> None:
    assert isinstance(grounded_sample(choice(0, *OPTIONS), FOCAL), Sample)
    wrong = grounded_sample(choice(1, *OPTIONS), FOCAL)
    assert isinstance(wrong, Rejected)
    assert wrong.reason == "the answer is not borne out"
    two = grounded_sample(choice(0, *OPTIONS[:3], "flat channel"), FOCAL)
    assert isinstance(two, Rejected)
    assert two.reason == "another option is right, too"


def test_a_turn_that_is_not_borne_out_goes_with_its_question() -> None:
    turns = (("Are there blinks?", "Yes."), ("Are there spikes?", "Yes. At T3."), ("Which state?", "N2 sleep"))
    kept = grounded_sample(dialogue(SampleKind.CONVERSATION, *turns), FOCAL)
    assert isinstance(kept, Sample)
    assert [m.content for m in kept.messages] == [f"{page_statement()} Are there spikes?", "Yes. At T3."]
    assert isinstance(grounded_sample(dialogue(SampleKind.CONVERSATION, turns[0], turns[2]), FOCAL), Rejected)
