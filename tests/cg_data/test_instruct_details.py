"""Questions about where, when, how many and how fast: right, with false values that are plausible and false, and balanced."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache

import pytest

from cg_data.instruct.detail_questions import BINARY, OPEN, PRESENCE_KINDS, ask_complex_detail, ask_detail, topics
from cg_data.instruct.details import DETAILS, LOOKALIKES, Detail, maximum, near
from cg_data.instruct.facts import Facts, facts_of
from cg_data.instruct.grounding import ground
from cg_data.instruct.questions import Asked, parse_yes_no
from cg_data.instruct.samples import prevalence, samples_of
from cg_data.instruct.wording import KIND_WORDS
from cg_data.records import Sample
from cg_data.settings import InstructSettings
from cg_data.vocabulary import FindingKind, SampleKind
from tests.cg_data.random_pages import random_page

N_PAGES = 400
DETAILED = InstructSettings(captions=0, binaries=0, mcqs=0, complex_mcqs=1, opens=0, descriptions=0, conversations=1, details=6)


@cache
def pages() -> list[Facts]:
    return [facts_of(*random_page(seed)) for seed in range(1000, 1000 + N_PAGES)]


@cache
def asked() -> list[tuple[Facts, SampleKind, Asked]]:
    """Every topic on every page."""
    made = []
    for facts in pages():
        for topic in topics():
            found = ask_detail(facts, topic, random.Random(f"{facts.annotation.segment_id}{topic}"))
            made += [(facts, *found)] if found is not None else []
    return made


def of_kind(kind: SampleKind) -> Iterator[tuple[Facts, Asked]]:
    return ((facts, question) for facts, own, question in asked() if own is kind)


def holds(text: str, facts: Facts, question: str) -> bool:
    return ground(text, facts, question=question).is_clean


def test_every_topic_is_asked_in_every_form_it_can_have() -> None:
    forms = defaultdict(set)
    for _, kind, question in asked():
        forms[question.topic].add(kind)
    assert set(forms) == set(topics())
    two_values = {"polarity", "side", "reactivity"}
    for topic in OPEN:
        assert forms[topic] == {SampleKind.BINARY, SampleKind.OPEN, *([] if topic in two_values else [SampleKind.MCQ])}, topic
    assert all(forms[topic] == {SampleKind.BINARY} for topic in PRESENCE_KINDS)


def test_yes_and_no_are_right_and_the_opposite_is_caught() -> None:
    wrong = []
    for facts, question in of_kind(SampleKind.BINARY):
        said = question.answer.text
        other = "No." if said == "Yes." else "Yes."
        wrong += [(question.question, said)] if not holds(said, facts, question.question) else []
        wrong += [(question.question, other)] if holds(other, facts, question.question) else []
    assert wrong == []


def test_one_option_is_right_and_every_other_is_false() -> None:
    wrong = []
    for facts, question in of_kind(SampleKind.MCQ):
        assert len(set(question.options)) == 4
        right = [option for option in question.options if holds(option, facts, question.question)]
        wrong += [(question.question, right)] if right != [question.options[question.answer_index]] else []
    assert wrong == []


def test_yes_and_no_are_balanced_in_every_topic_of_details() -> None:
    answers: dict[str, Counter[bool | None]] = defaultdict(Counter)
    for seed in range(12):
        for facts in pages():
            for topic in BINARY:
                found = ask_detail(facts, topic, random.Random(f"{seed}{facts.annotation.segment_id}{topic}"))
                if found is not None and found[0] is SampleKind.BINARY:
                    answers[topic][parse_yes_no(found[1].answer.text)] += 1
    for topic, counts in answers.items():
        assert counts.total() > 50, topic
        assert 0.38 < counts[True] / counts.total() < 0.62, (topic, counts)


def test_letters_are_even_and_the_shape_of_options_does_not_tell() -> None:
    places = Counter(question.answer_index for _, question in of_kind(SampleKind.MCQ))
    assert min(places.values()) > 0.8 * places.total() / 4
    longest = [max(question.options, key=len) == question.options[question.answer_index] for _, question in of_kind(SampleKind.MCQ)]
    assert sum(longest) / len(longest) < 0.4


@cache
def samples() -> list[tuple[Facts, Sample]]:
    pairs = [random_page(seed) for seed in range(2000, 2300)]
    shares = prevalence(frozenset(f.kind for f in a.findings) for _, a in pairs)
    return [(facts_of(s, a), x) for s, a in pairs for x in samples_of(s, a, settings=DETAILED, prevalence=shares)]


def test_presence_of_rarer_findings_is_balanced_over_the_corpus() -> None:
    answers: Counter[bool] = Counter()
    for facts, sample in samples():
        if sample.kind is SampleKind.BINARY and sample.topic in PRESENCE_KINDS:
            said = parse_yes_no(sample.messages[-1].content)
            assert said == (sample.topic in facts.kinds)
            answers[bool(said)] += 1
    assert answers.total() > 200
    assert 0.42 < answers[True] / answers.total() < 0.58


def test_conversations_hold_details_too_and_none_with_options() -> None:
    talks = [sample for _, sample in samples() if sample.kind is SampleKind.CONVERSATION]
    assert sum(len(talk.messages) > 2 * 11 for talk in talks) > 0.9 * len(talks)
    assert not any("\nA. " in message.content for talk in talks for message in talk.messages)


def test_combinations_of_details_hold_in_one_option_only() -> None:
    seen = 0
    for facts in pages():
        question = ask_complex_detail(facts, random.Random(facts.annotation.segment_id))
        if question is not None:
            seen += 1
            right = [option for option in question.options if holds(option, facts, question.question)]
            assert right == [question.options[question.answer_index]], question
            parts = Counter(part for option in question.options for part in option.split(", with "))
            assert set(parts.values()) == {2}
    assert seen > 100


def test_no_details_means_none_anywhere() -> None:
    pair = random_page(3)
    with_none = samples_of(*pair, settings=DETAILED.model_copy(update={"details": 0}), prevalence={})
    assert {sample.kind for sample in with_none} <= {SampleKind.COMPLEX_MCQ, SampleKind.CONVERSATION}
    assert "details" not in {sample.topic for sample in with_none}
    (talk,) = [sample for sample in with_none if sample.kind is SampleKind.CONVERSATION]
    assert len(talk.messages) <= 2 * 11


def test_evidence_is_given_for_every_detail_that_rests_on_something_measured() -> None:
    for facts, _, question in asked():
        a = facts.annotation
        known = {e.event_id for e in a.events} | {f.finding_id for f in a.findings} | {d.dipole_id for d in a.dipoles}
        known |= {a.posterior.rhythm_id} if a.posterior else set()
        assert set(question.answer.evidence) <= known
        assert question.answer.evidence or question.topic == "missing" or question.answer.text == "No."


def test_the_homologous_electrode_is_the_first_distractor() -> None:
    assert near("T3", but=(), rng=random.Random(0))[0] == "T4"
    assert near("Cz", but=("C3",), rng=random.Random(0))[0] in {"Fz", "C4", "Pz", "F3", "F4", "P3", "P4"}
    assert "C3" not in near("Cz", but=("C3",), rng=random.Random(0))


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_a_look_alike_is_another_kind_and_has_words(kind: FindingKind) -> None:
    assert kind not in LOOKALIKES[kind]
    assert all(other in KIND_WORDS for other in LOOKALIKES[kind])
    assert len(set(LOOKALIKES[kind])) >= 4


def test_a_detail_depends_on_the_seed_and_the_page_alone() -> None:
    found: list[Detail | None] = [maximum(facts, random.Random(1)) for facts in pages()[:30]]
    assert found == [maximum(facts, random.Random(1)) for facts in pages()[:30]]
    assert len(DETAILS) == len(OPEN) == len(BINARY)
