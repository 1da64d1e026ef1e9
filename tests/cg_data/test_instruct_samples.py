"""Dialogues: deterministic, balanced, bound to evidence, with exactly one right option."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import numpy as np
import pytest

from cg_data.analyze.annotate import annotate_truth, present_kinds
from cg_data.instruct.captions import caption
from cg_data.instruct.descriptions import description
from cg_data.instruct.facts import STATES, facts_of, locate
from cg_data.instruct.prompt import SYSTEM_PROMPT, page_statement
from cg_data.instruct.questions import BINARY_KINDS, CHOICE_KINDS, OPEN_TOPICS, keep_probability, parse_choice, parse_yes_no
from cg_data.instruct.samples import prevalence, samples_of
from cg_data.instruct.wording import KIND_WORDS
from cg_data.records import Annotation, Label, Sample, Segment
from cg_data.settings import InstructSettings
from cg_data.vocabulary import CHANNELS, FindingKind, LabelKind, SampleKind, Split

SETTINGS = InstructSettings(binaries=3, opens=2, mcqs=2, complex_mcqs=1, details=0)
PLACES = {
    "sleep_spindle": ("C3", "Cz", "C4"),
    "k_complex": ("Fz", "Cz"),
    "spike": ("T3", "T5"),
    "spike_or_sharp_and_slow_wave": CHANNELS,
    "positive_sharp_transient": ("Fp1", "Fp2"),
    "high_frequency_noise": ("T4",),
    "negative_square_wave": ("F7",),
}
SHARES = (0.25, 0.12, 0.1, 0.05, 0.3, 0.4, 0.1)


def page(index: int) -> Segment:
    """A page of quiet noise whose labels are drawn at random: states, waveforms, a flat channel now and then."""
    rng = random.Random(index)
    labels = [Label(kind=LabelKind.STAGE, name=rng.choice(("wake", "n2", "n3")), onset_s=0.0, duration_s=10.0)]
    if labels[0].name == "wake":
        labels.append(Label(kind=LabelKind.EYES, name=rng.choice(("open", "closed")), onset_s=0.0, duration_s=10.0))
    for (name, channels), share in zip(PLACES.items(), SHARES, strict=True):
        if rng.random() < share:
            onset_s = rng.uniform(1, 8)
            labels += [Label(kind=LabelKind.WAVEFORM, name=name, onset_s=onset_s, duration_s=0.8, channel=c) for c in channels]
    if rng.random() < 0.1:
        labels.append(Label(kind=LabelKind.ARTEFACT, name="flat_channel", onset_s=0.0, duration_s=10.0, channel="P4"))
    return Segment(
        segment_id=f"segment-{index}",
        recording_id=f"recording-{index % 20}",
        sha256="0" * 64,
        corpus="test",
        subject=f"subject-{index % 20}",
        split=Split.TRAIN,
        start_s=10.0 * index,
        montage="average",
        sfreq_recorded_hz=200.0,
        filter_version="f",
        flags=(),
        mask=np.ones(19, dtype=np.bool_),
        eeg_steps=np.random.default_rng(index).normal(0, 60, (19, 2000)).astype(np.int16),
        labels=tuple(labels),
    )


@pytest.fixture(scope="module")
def pages() -> list[tuple[Segment, Annotation]]:
    segments = [page(index) for index in range(300)]
    return [(segment, annotate_truth(segment)) for segment in segments]


@pytest.fixture(scope="module")
def shares(pages: list[tuple[Segment, Annotation]]) -> dict[FindingKind, float]:
    return prevalence(present_kinds(annotation) for _, annotation in pages)


@pytest.fixture(scope="module")
def samples(pages: list[tuple[Segment, Annotation]], shares: dict[FindingKind, float]) -> list[tuple[Annotation, Sample]]:
    return [(a, sample) for s, a in pages for sample in samples_of(s, a, settings=SETTINGS, prevalence=shares)]


def texts(sample: Sample) -> tuple[object, ...]:
    return sample.sample_id, sample.kind, sample.topic, sample.messages, sample.options, sample.answer_index


def test_samples_depend_on_the_seed_and_on_nothing_else(pages, shares) -> None:
    forward = [texts(x) for s, a in pages[:20] for x in samples_of(s, a, settings=SETTINGS, prevalence=shares)]
    backward = [[texts(x) for x in samples_of(s, a, settings=SETTINGS, prevalence=shares)] for s, a in pages[:20][::-1]]
    assert forward == [x for part in backward[::-1] for x in part]
    other = SETTINGS.model_copy(update={"seed": 12})
    assert forward != [texts(x) for s, a in pages[:20] for x in samples_of(s, a, settings=other, prevalence=shares)]


def test_more_of_one_kind_changes_no_other_kind(pages, shares) -> None:
    segment, annotation = pages[0]
    few = samples_of(segment, annotation, settings=InstructSettings(mcqs=1), prevalence=shares)
    many = samples_of(segment, annotation, settings=InstructSettings(mcqs=3, captions=4), prevalence=shares)
    for kind in (SampleKind.BINARY, SampleKind.OPEN, SampleKind.CONVERSATION):
        assert [x.messages for x in few if x.kind == kind] == [x.messages for x in many if x.kind == kind]


def test_every_open_topic_is_asked_alone(samples) -> None:
    assert {sample.topic for _, sample in samples if sample.kind == SampleKind.OPEN} == set(OPEN_TOPICS)


def test_sample_ids_are_unique(samples) -> None:
    ids = [sample.sample_id for _, sample in samples]
    assert len(set(ids)) == len(ids)


def test_every_kind_is_made_and_turns_alternate(samples) -> None:
    assert {sample.kind for _, sample in samples} == set(SampleKind) - {SampleKind.GENERAL}
    for _, sample in samples:
        roles = [message.role for message in sample.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert [page_statement() in m.content for m in sample.messages] == [True] + [False] * (len(roles) - 1)


def test_evidence_is_found_in_the_annotation_and_a_no_has_none(samples) -> None:
    for annotation, sample in samples:
        known = {e.event_id for e in annotation.events} | {f.finding_id for f in annotation.findings}
        known |= {d.dipole_id for d in annotation.dipoles}
        for message in sample.messages:
            assert set(message.evidence) <= known
            if message.content in ("No.", "none"):
                assert message.evidence == ()
            if message.content.startswith("Yes."):
                assert message.evidence


def test_yes_and_no_are_right_and_balanced_over_the_corpus(samples) -> None:
    answers: dict[str, Counter[bool]] = {}
    for annotation, sample in samples:
        if sample.kind == SampleKind.BINARY:
            said = parse_yes_no(sample.messages[-1].content)
            assert said == bool(present_kinds(annotation) & set(BINARY_KINDS[sample.topic]))
            answers.setdefault(sample.topic, Counter())[said] += 1
    total = sum(answers.values(), Counter())
    assert 0.42 < total[True] / total.total() < 0.58
    for topic in ("sleep_spindle", "blink", "muscle", "epileptiform"):
        assert 0.35 < answers[topic][True] / answers[topic].total() < 0.65, topic


def test_a_kind_that_never_occurs_is_never_asked_alone(samples) -> None:
    assert "electrode_fault" not in {sample.topic for _, sample in samples if sample.kind == SampleKind.BINARY}


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.8])
def test_keeping_makes_both_answers_equally_frequent(share: float) -> None:
    assert share * keep_probability(True, share) == pytest.approx((1 - share) * keep_probability(False, share))


def test_exactly_one_option_is_true(samples) -> None:
    kinds = {KIND_WORDS[kind]: kind for kind in CHOICE_KINDS}
    for annotation, sample in samples:
        if sample.kind != SampleKind.MCQ:
            continue
        assert len(set(sample.options)) == len(sample.options) == 4
        right = sample.options[sample.answer_index]
        assert sample.messages[-1].content == f"{'ABCD'[sample.answer_index]}. {right}"
        if sample.topic == "stage":
            assert set(sample.options) <= set(STATES)
        else:
            assert [option for option in sample.options if kinds[option] in present_kinds(annotation)] == [right]


def test_only_one_combination_holds_in_both_parts(samples) -> None:
    kinds = {KIND_WORDS[kind]: kind for kind in CHOICE_KINDS}
    for annotation, sample in samples:
        if sample.kind == SampleKind.COMPLEX_MCQ:
            right = sample.options[sample.answer_index].split(", with ")
            holds = [
                o for o in sample.options if o.split(", with ")[0] == right[0] and kinds[o.split(", with ")[1]] in present_kinds(annotation)
            ]
            assert holds == [sample.options[sample.answer_index]]
            parts = Counter(part for option in sample.options for part in option.split(", with "))
            assert set(parts.values()) == {2}


def test_the_options_alone_do_not_give_the_answer_away(samples) -> None:
    """Without the page, choosing the option that is most often right must stay far below the one in two that plain drawing allowed."""
    asked = [sample for _, sample in samples if sample.kind == SampleKind.MCQ and sample.topic != "stage"]
    offered = Counter(option for sample in asked for option in sample.options)
    right = Counter(sample.options[sample.answer_index] for sample in asked)
    assert sum(offered[KIND_WORDS[kind]] for kind in (FindingKind.SHARP_WAVE, FindingKind.ELECTRODE_FAULT)) < 0.03 * offered.total()
    assert max(right[option] / offered[option] for option in offered) < 0.5


def test_the_place_of_the_right_option_is_even(samples) -> None:
    places = Counter(sample.answer_index for _, sample in samples if sample.kind == SampleKind.MCQ)
    assert min(places.values()) > 0.7 * places.total() / 4


def test_a_conversation_asks_every_yes_no_topic_once(samples) -> None:
    for _, sample in samples:
        if sample.kind == SampleKind.CONVERSATION:
            answers = [m.content for m in sample.messages if m.role == "assistant"]
            assert sum(parse_yes_no(answer) is not None for answer in answers) == len(BINARY_KINDS)


WORDS = {"sleep_spindle": "spindle", "k_complex": "K-complex", "blink": "blink", "muscle": "muscle", "flat_channel": "flat channel"}


def test_a_text_names_only_what_the_annotation_holds(pages) -> None:
    for index, (segment, annotation) in enumerate(pages):
        facts = facts_of(segment, annotation)
        said = (caption(facts).text + description(facts, random.Random(index)).text).lower()
        for topic, word in WORDS.items():
            assert (word.lower() in said) == bool(present_kinds(annotation) & set(BINARY_KINDS[topic])), said
        if not present_kinds(annotation) & set(BINARY_KINDS["epileptiform"]):
            assert "spike" not in said
            assert "sharp" not in said


def test_text_carries_no_provenance(samples) -> None:
    for _, sample in samples[:200]:
        said = " ".join(message.content for message in sample.messages)
        assert not any(name in said for name in (sample.subject, sample.recording_id, sample.segment_id, sample.corpus))


def test_missing_electrodes_are_named_in_the_caption(pages) -> None:
    segment, annotation = pages[0]
    mask = segment.mask.copy()
    mask[[7, 18]] = False
    assert "Missing channels: T3 and O2; average reference." in caption(facts_of(dataclasses.replace(segment, mask=mask), annotation)).text


@pytest.mark.parametrize(
    ("channels", "maximum", "place"),
    [
        (("T3", "T5", "F7"), "T3", "left temporal"),
        (("C4",), "C4", "right central"),
        (("Fz", "Cz"), "Fz", "midline frontal"),
        (("O1", "O2"), "O1", "bilateral posterior"),
        (CHANNELS, "Fz", "generalised"),
    ],
)
def test_fields_are_placed_by_side_and_region(channels: tuple[str, ...], maximum: str, place: str) -> None:
    assert locate(channels, maximum, 19) == place


def test_the_system_prompt_is_one_short_sentence() -> None:
    assert len(SYSTEM_PROMPT.split()) <= 25
    assert SYSTEM_PROMPT.count(".") == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("Yes. At C3.", True), ("yes, at C3", True), (" No.", False), ("**No**", False), ("None", None), ("", None), ("Yesterday", None)],
)
def test_yes_and_no_are_read_from_the_first_word(text: str, value: bool | None) -> None:
    assert parse_yes_no(text) is value


OPTIONS = ("spikes", "wake, eyes open", "wake", "sleep spindles")


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B. wake, eyes open", 1),
        ("(d)", 3),
        ("Answer: C", 2),
        ("A", 0),
        ("A sleep spindles run", 3),
        ("Sleep spindles are seen.", 3),
        ("wake, eyes open", 1),
        ("spikes and sleep spindles", None),
        ("H. nothing", None),
        ("", None),
    ],
)
def test_choices_are_read_by_letter_or_by_words(text: str, index: int | None) -> None:
    assert parse_choice(text, OPTIONS) == index
