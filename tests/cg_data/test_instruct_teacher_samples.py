"""A teacher's answers become samples as far as the annotation bears them out; the worked examples it is shown bear themselves out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cg_data.analyze.annotate import annotate_truth, event_findings
from cg_data.analyze.background import finding
from cg_data.analyze.cleaning import EventGroup
from cg_data.instruct.facts import Facts, facts_of
from cg_data.instruct.grounding import ground
from cg_data.instruct.teacher_examples import EPILEPSY, SLEEP, Example
from cg_data.instruct.teacher_prompts import SYSTEM, TEACHER_KINDS, TEACHER_VERSION, context_of, example_of, request_of
from cg_data.instruct.teacher_samples import TOPIC, Taken, taught_samples
from cg_data.instruct.teacher_store import Attempt, Exchange, TeacherStore
from cg_data.records import Annotation, Dipole, Event, PosteriorRhythm, RegionRhythm, Segment
from cg_data.settings import TeacherSettings
from cg_data.vocabulary import (
    FINDING_OF_WAVEFORM,
    Band,
    EventSource,
    Eyes,
    FindingKind,
    Montage,
    Orientation,
    Polarity,
    Region,
    SampleKind,
    SampleSource,
    Side,
    Split,
    Stage,
    Waveform,
)
from tests.cg_data.test_instruct_samples import page

SETTINGS = TeacherSettings(url="http://localhost/v1", model="m")
WAVEFORM_OF = {
    "sleep spindle": Waveform.SLEEP_SPINDLE,
    "k complex": Waveform.K_COMPLEX,
    "sharp wave": Waveform.SHARP_WAVE,
    "blink": Waveform.POSITIVE_SHARP_TRANSIENT,
}
STATES = {"N2 sleep": (Stage.N2, Eyes.UNKNOWN), "wake, eyes closed": (Stage.WAKE, Eyes.CLOSED)}


def facts_from(told: Mapping[str, Any]) -> Facts:
    """The facts behind a page as it is told to a teacher."""
    groups, events = [], []
    for group in told["events"]:
        waveform, span_s = WAVEFORM_OF[group["kind"]], round(group["to_s"] - group["from_s"], 3)
        members = [
            Event(
                event_id=f"{group['ref']}-{channel}",
                waveform=waveform,
                channel=channel,
                onset_s=group["from_s"],
                duration_s=span_s,
                score=1.0,
                probability=1.0,
                source=EventSource.READER,
            )
            for channel in group["at"]
        ]
        events += members
        groups.append(
            EventGroup(
                kind=FINDING_OF_WAVEFORM[waveform],
                waveform=waveform,
                channels=tuple(group["at"]),
                onset_s=group["from_s"],
                duration_s=span_s,
                maximum=group["maximum"],
                event_ids=tuple(e.event_id for e in members),
            )
        )
    measured = [
        finding("page", FindingKind(f["kind"].replace(" ", "_")), tuple(f["at"]), 6.0, 5.0, "uV", (f["from_s"], f["to_s"] - f["from_s"]))
        for f in told["findings"]
    ]
    stage, eyes = STATES[told["state"]]
    annotation = Annotation(
        segment_id="page",
        recording_id="recording",
        corpus="test",
        subject="subject",
        split=Split.TRAIN,
        start_s=0.0,
        events=tuple(events),
        removed=(),
        background=tuple(
            RegionRhythm(region=Region(r["region"]), band=Band(r["band"]), dominant_hz=r["hz"], amplitude_uv=r["uv"], alpha_uv=0.0)
            for r in told["background"]
        ),
        posterior=_posterior(told["posterior_rhythm"]),
        dipoles=tuple(map(_dipole, told["dipoles"])),
        findings=(*measured, *event_findings("page", events)),
        stage=stage,
        eyes=eyes,
        seizure=told["seizure"],
        detector_version="d",
        analyser_version="a",
    )
    kinds = frozenset(f.kind for f in annotation.findings)
    return Facts(montage=Montage.AVERAGE, annotation=annotation, kinds=kinds, groups=tuple(groups), missing=tuple(told["not_recorded"]))


def _posterior(told: Mapping[str, Any] | None) -> PosteriorRhythm | None:
    if told is None:
        return None
    return PosteriorRhythm(
        rhythm_id="rhythm",
        channels=("P3", "Pz", "P4", "O1", "O2"),
        frequency_hz=told["hz"],
        peak_ratio=20.0,
        amplitude_uv=told["uv"],
        left_hz=told["hz"],
        right_hz=told["hz"],
        left_uv=told["uv"],
        right_uv=told["uv"],
        symmetric=told["symmetric"],
        reactivity=None,
    )


def _dipole(told: Mapping[str, Any]) -> Dipole:
    return Dipole(
        dipole_id=told["ref"],
        kind=FindingKind(told["kind"].replace(" ", "_")),
        onset_s=told["peak_s"] - 0.1,
        duration_s=0.2,
        peak_s=told["peak_s"],
        maximum=told["maximum"],
        polarity=Polarity(told["polarity"]),
        amplitude_uv=told["uv"],
        field=tuple(told["field"]),
        side=Side(told["side"]),
        region=Region(told["region"]),
        longitudinal_reversal=told["phase_reversal"][0],
        transverse_reversal="",
        end_of_chain=False,
        orientation=Orientation(told["orientation"]),
        opposite="",
        opposite_uv=0.0,
        event_ids=(),
    )


EXAMPLES = pytest.mark.parametrize("example", [SLEEP, EPILEPSY], ids=["sleep", "epilepsy"])


@EXAMPLES
def test_an_example_is_told_as_pages_are_and_names_what_is_on_it(example: Example) -> None:
    facts = facts_from(example.page)
    context = context_of(facts)
    assert json.loads(context.text) == example.page
    assert example_of(facts) is example
    turns = example.answers[SampleKind.CONVERSATION]["turns"]
    for answer in (example.answers[SampleKind.DESCRIPTION], example.answers[SampleKind.COMPLEX_MCQ], *turns):
        assert set(answer["evidence"]) <= set(context.ids)


@EXAMPLES
def test_every_sentence_of_an_example_is_borne_out_by_its_page(example: Example) -> None:
    facts = facts_from(example.page)
    turns = example.answers[SampleKind.CONVERSATION]["turns"]
    said = [(example.answers[SampleKind.DESCRIPTION]["text"], "")] + [(turn["answer"], turn["question"]) for turn in turns]
    for text, question in said:
        grounded = ground(text, facts, question=question)
        assert [(v.sentence, v.verdict) for v in grounded.verdicts if v.verdict.value != "supported"] == []
    choice = example.answers[SampleKind.COMPLEX_MCQ]
    clean = [ground(option, facts, question=choice["question"]).is_clean for option in choice["options"]]
    assert clean == [index == choice["right"] for index in range(4)]


def test_an_epileptic_page_gets_the_epileptic_example_and_any_other_that_of_sleep() -> None:
    shown = {request_of(kind, facts_from(e.page), SETTINGS).messages[1]["content"] for e in (SLEEP, EPILEPSY) for kind in TEACHER_KINDS}
    assert len(shown) == 6
    quiet = facts_from({**EPILEPSY.page, "events": [], "dipoles": [], "findings": EPILEPSY.page["findings"][:1]})
    assert example_of(quiet) is SLEEP
    assert example_of(facts_from({**SLEEP.page, "seizure": True})) is EPILEPSY


def spoken_page() -> tuple[Segment, Annotation]:
    """A training page of the synthetic corpus whose state is known and which shows an event."""
    for number in range(40):
        segment = page(number)
        annotation = annotate_truth(segment)
        if segment.split == Split.TRAIN and annotation.stage != Stage.UNKNOWN and annotation.events:
            return segment, annotation
    raise AssertionError("no such page")


SEGMENT, ANNOTATION = spoken_page()
FACTS = facts_of(SEGMENT, ANNOTATION)
TOLD = json.loads(context_of(FACTS).text)
STATE = f"The page shows {TOLD['state']}."
WRONG = "The page shows REM sleep."
FALSE = ("Spike-and-slow-wave complexes are seen at 3.0 s at O2.", "A burst of lambda waves follows.", "There is a seizure.")


def taught(tmp_path: Path, kind: SampleKind, answer: Mapping[str, Any]) -> Taken:
    """What comes of one answer, where the other kinds have none."""
    store, request = TeacherStore(uri=str(tmp_path)), request_of(kind, FACTS, SETTINGS)
    attempts = (Attempt(text=json.dumps(answer)),)
    store.put(Exchange(key=request.key, kind=kind, version=TEACHER_VERSION, model="m", messages=request.messages, attempts=attempts))
    return taught_samples(SEGMENT, ANNOTATION, settings=SETTINGS, store=store)


def test_a_description_becomes_a_sample_with_evidence_and_its_origin(tmp_path: Path) -> None:
    event = TOLD["events"][0]
    made = taught(tmp_path, SampleKind.DESCRIPTION, {"text": STATE, "evidence": [event["ref"], "e99"]})
    (sample,) = made.samples
    assert (sample.kind, sample.source, sample.topic, sample.segment_id) == (
        SampleKind.DESCRIPTION,
        SampleSource.LLM,
        TOPIC,
        SEGMENT.segment_id,
    )
    assert sample.messages[-1].content == STATE
    known = {f.finding_id for f in ANNOTATION.findings} | {e.event_id for e in ANNOTATION.events}
    assert set(context_of(FACTS).ids[event["ref"]]) <= set(sample.messages[-1].evidence) <= known
    assert TEACHER_VERSION in sample.prompt_version
    assert sample.prompt_version.endswith(" m")
    assert made.counts == {"answers": 1, "unanswered": 2, "sentences dropped": 0}


def test_a_sentence_that_is_not_borne_out_is_dropped_and_counted(tmp_path: Path) -> None:
    made = taught(tmp_path, SampleKind.DESCRIPTION, {"text": f"{STATE} {FALSE[0]}", "evidence": []})
    (sample,) = made.samples
    assert sample.messages[-1].content == STATE
    assert made.counts["sentences dropped"] == 1


def _choice(right: str, others: tuple[str, str, str]) -> dict[str, Any]:
    return {"question": "What does the page show?", "options": [others[0], others[1], right, others[2]], "right": 2, "evidence": []}


def test_a_question_keeps_its_options_and_its_right_answer_under_another_letter(tmp_path: Path) -> None:
    made = taught(tmp_path, SampleKind.COMPLEX_MCQ, _choice(STATE, (WRONG, FALSE[0], FALSE[2])))
    (sample,) = made.samples
    assert sorted(sample.options) == sorted([STATE, WRONG, FALSE[0], FALSE[2]])
    assert sample.options[sample.answer_index] == STATE
    letter = "ABCD"[sample.answer_index]
    assert sample.messages[-1].content == f"{letter}. {STATE}"
    assert f"{letter}. {STATE}" in sample.messages[-2].content.splitlines()


def test_unsupported_turns_go_with_their_questions(tmp_path: Path) -> None:
    absent = "There are no lateral eye movements."
    turns = [("What is the state?", STATE), ("Is there a seizure?", FALSE[2]), ("Are there lateral eye movements?", absent)]
    answer = {"turns": [{"question": q, "answer": a, "evidence": []} for q, a in turns]}
    made = taught(tmp_path, SampleKind.CONVERSATION, answer)
    (sample,) = made.samples
    assert [m.content for m in sample.messages if m.role == "assistant"] == [STATE, absent]
    assert not any("seizure" in m.content for m in sample.messages)
    assert made.counts["sentences dropped"] == 1


@pytest.mark.parametrize(
    ("kind", "answer", "reason"),
    [
        (SampleKind.DESCRIPTION, {"text": f"{STATE} {' '.join(FALSE)}", "evidence": []}, "most of it is not borne out"),
        (SampleKind.DESCRIPTION, {"text": "A page of ten seconds.", "evidence": []}, "most of it is not borne out"),
        (SampleKind.COMPLEX_MCQ, _choice(WRONG, (STATE, FALSE[0], FALSE[2])), "the right option is not borne out"),
        (
            SampleKind.COMPLEX_MCQ,
            _choice(STATE, ("There are no lateral eye movements.", FALSE[0], FALSE[2])),
            "another option may be right, too",
        ),
        (
            SampleKind.CONVERSATION,
            {"turns": [{"question": "State?", "answer": STATE, "evidence": []}, {"question": "Fits?", "answer": FALSE[2], "evidence": []}]},
            "fewer than 2 answers are borne out",
        ),
    ],
)
def test_an_answer_that_rests_on_what_is_not_there_is_rejected_and_counted(
    tmp_path: Path, kind: SampleKind, answer: Mapping[str, Any], reason: str
) -> None:
    made = taught(tmp_path, kind, answer)
    assert made.samples == ()
    assert made.counts[f"rejected: {kind.value}: {reason}"] == 1


def test_a_page_that_was_not_chosen_or_answered_has_no_samples(tmp_path: Path) -> None:
    store = TeacherStore(uri=str(tmp_path))
    assert taught_samples(SEGMENT, ANNOTATION, settings=SETTINGS, store=store).counts == {"unanswered": 3}
    never = SETTINGS.model_copy(update={"share": 1e-12})
    assert taught_samples(SEGMENT, ANNOTATION, settings=never, store=store).counts == {}


def test_the_system_prompt_names_the_standards_and_forbids_inventions() -> None:
    for said in ("ACNS", "IFCN", "Say nothing that this JSON does not hold"):
        assert said in SYSTEM
