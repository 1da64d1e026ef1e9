"""What a teacher model is told of a page, and how it is asked: the annotation as compact JSON, one worked example, the task.

Only structure is told: state, findings, grouped events, background, dipoles. There is no way from here to the signal, the recording, the
subject, a date, a file name or an id of ours; entries have references of their own ("e1"), which count from one on every page.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from cg_data.analyze.cleaning import EventGroup
from cg_data.instruct.facts import Facts, locate, state
from cg_data.instruct.teacher_examples import EPILEPSY, SLEEP, Example
from cg_data.records import Dipole, Finding, content_id
from cg_data.settings import TeacherSettings
from cg_data.vocabulary import CHANNELS, FAMILY_OF, FINDING_OF_WAVEFORM, N_CHANNELS, Family, FindingKind, SampleKind

TEACHER_VERSION = "teacher-1"
"""Goes up with any change of what a teacher is told or asked; answers to another version are not used."""
TEACHER_KINDS = (SampleKind.DESCRIPTION, SampleKind.COMPLEX_MCQ, SampleKind.CONVERSATION)
"""Asked about every chosen page, hence 1 : 1 : 1 (CerebraGloss, ICLR 2026)."""

SYSTEM = """\
You write training texts for a model that learns to read clinical EEG. Each text is about one page: ten seconds, nineteen electrodes of
the 10-20 system. You do not see the page. You are given everything that is known of it, as JSON:
- "state": vigilance, or "unknown"; "seizure": whether the page lies within a seizure; "not_recorded": missing electrodes
- "background": per region the band with most power, its peak frequency in Hz and the amplitude (half peak-to-peak) in microvolts
  A region's band is worth a word only where "findings" has activity of that band there; elsewhere it is chance, and stays unsaid
- "posterior_rhythm": the posterior dominant rhythm, or null where there is none
- "findings": activity and artefacts with electrodes, from second to second of the page
- "events": waveforms, grouped over electrodes and time, with the electrode of the greatest voltage ("maximum")
- "dipoles": how epileptiform discharges lie on the scalp: field, polarity, phase reversal

Rules:
1. Say nothing that this JSON does not hold. No history, age, medication, aetiology, diagnosis, advice or guess; no other numbers.
2. Findings and events that are not listed are absent. You may say so. An unknown state stays unsaid.
3. Use the terms of the ACNS Standardized Critical Care EEG Terminology (2021) and of the IFCN glossary (2017): "posterior dominant
   rhythm", "sleep spindles", "K-complexes", "sharp waves", "spike-and-slow-wave complexes", "phase reversal", "maximal at". A single
   word such as "seizure", "focal" or "generalised" must follow from the JSON. Name electrodes exactly as they are given.
4. Write as a reader who looks at the page. Never mention JSON, an annotation, a detector, a score or a reference such as "e1".
5. Every statement is a whole sentence that can be understood alone and checked: what, where, when. A yes or no says of what.
6. "evidence" lists the references of the entries on which an answer rests, and none for what is absent.
7. Answer with one JSON object of the form that is asked for, and with nothing else."""

TASKS: Mapping[SampleKind, str] = {
    SampleKind.DESCRIPTION: """\
Describe this page as the descriptive part of a report would, in 4 to 9 sentences of continuous prose: state and background first, then
sleep events, epileptiform discharges with field and maximum, artefacts last, and what of these is absent.
Form: {"text": string, "evidence": [reference, ...]}""",
    SampleKind.COMPLEX_MCQ: """\
Write one multiple-choice question that can only be answered by joining at least two things on this page (for example state and event,
field and polarity, rhythm and artefact). Give four different options of similar length, each a whole statement about this page. Exactly
one is right. Each of the others contradicts the JSON in one plausible point: the other side, a neighbouring region, another band, a
waveform that looks alike, another state. No "all of the above" or "none of the above", no letters before options.
Form: {"question": string, "options": [string, string, string, string], "right": 0 | 1 | 2 | 3, "evidence": [reference, ...]}""",
    SampleKind.CONVERSATION: """\
Write a conversation of 3 to 5 turns between a trainee, who asks about this page, and a reader, who answers in one to three sentences.
Begin with what is most conspicuous, let questions follow from answers, and ask at least once about something that is absent.
Form: {"turns": [{"question": string, "answer": string, "evidence": [reference, ...]}, ...]}""",
}

_TEXT = {"type": "string"}
_REFERENCES = {"type": "array", "items": {"type": "string"}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


SCHEMAS: Mapping[SampleKind, dict[str, Any]] = {
    SampleKind.DESCRIPTION: _object(text=_TEXT, evidence=_REFERENCES),
    SampleKind.COMPLEX_MCQ: _object(
        question=_TEXT, options={"type": "array", "items": _TEXT}, right={"type": "integer", "enum": [0, 1, 2, 3]}, evidence=_REFERENCES
    ),
    SampleKind.CONVERSATION: _object(
        turns={"type": "array", "items": _object(question=_TEXT, answer=_TEXT, evidence=_REFERENCES)},
    ),
}
"""The forms of answers as JSON schemas, within what "strict" endpoints accept."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What is told of a page: `text` is JSON, `ids` the ids of events and findings behind each of its references."""

    text: str
    ids: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TeacherRequest:
    """A question to a teacher. `key` is the content hash of model, version and all that is sent."""

    key: str
    kind: SampleKind
    messages: tuple[Mapping[str, str], ...]


def context_of(facts: Facts) -> Context:
    """The page's structure, and nothing else: every field is named here."""
    annotation = facts.annotation
    vigilance = state(facts)
    grouped = {FINDING_OF_WAVEFORM[e.waveform] for e in annotation.events}
    measured = [f for f in annotation.findings if f.kind not in grouped]
    ids: dict[str, tuple[str, ...]] = {}
    told = {
        "state": "unknown" if vigilance is None else vigilance.text,
        "seizure": annotation.seizure,
        "not_recorded": list(facts.missing),
        "background": [
            {"region": r.region.value, "band": r.band.value, "hz": round(r.dominant_hz, 1), "uv": round(r.amplitude_uv)}
            for r in annotation.background
        ],
        "posterior_rhythm": _posterior(facts, ids),
        "findings": [_finding(f, _refer(ids, "f", (f.finding_id,))) for f in measured],
        "events": [_group(g, facts, _refer(ids, "e", (*_finding_ids(facts, g.kind), *g.event_ids))) for g in facts.groups],
        "dipoles": [_dipole(d, _refer(ids, "d", (d.dipole_id, *d.event_ids))) for d in annotation.dipoles],
    }
    return Context(text=json.dumps(told, separators=(",", ":")), ids=ids)


def _refer(ids: dict[str, tuple[str, ...]], letter: str, of: tuple[str, ...]) -> str:
    reference = f"{letter}{1 + sum(name.startswith(letter) for name in ids)}"
    ids[reference] = of
    return reference


def _finding_ids(facts: Facts, kind: FindingKind) -> tuple[str, ...]:
    return tuple(f.finding_id for f in facts.annotation.findings if f.kind == kind)


def _named(kind: FindingKind) -> str:
    return kind.value.replace("_", " ")


def _posterior(facts: Facts, ids: dict[str, tuple[str, ...]]) -> dict[str, Any] | None:
    rhythm = facts.annotation.posterior
    if rhythm is None:
        return None
    told: dict[str, Any] = {"ref": _refer(ids, "p", (rhythm.rhythm_id,)), "hz": round(rhythm.frequency_hz, 1)}
    told |= {"uv": round(rhythm.amplitude_uv), "symmetric": rhythm.symmetric}
    return told if rhythm.reactivity is None else told | {"closed_over_open_eyes_power": round(rhythm.reactivity, 1)}


def _finding(f: Finding, reference: str) -> dict[str, Any]:
    where = "all" if len(f.channels) == N_CHANNELS else list(f.channels)
    return {
        "ref": reference,
        "kind": _named(f.kind),
        "at": where,
        "from_s": round(f.onset_s, 1),
        "to_s": round(f.onset_s + f.duration_s, 1),
    }


def _group(g: EventGroup, facts: Facts, reference: str) -> dict[str, Any]:
    told = {"ref": reference, "kind": _named(g.kind), "at": list(g.channels), "from_s": round(g.onset_s, 1)}
    told |= {"to_s": round(g.onset_s + g.duration_s, 1), "maximum": g.maximum}
    if FAMILY_OF[g.kind] == Family.EPILEPTIFORM:
        told["place"] = locate(g.channels, g.maximum, len(CHANNELS) - len(facts.missing))
    return told


def _dipole(d: Dipole, reference: str) -> dict[str, Any]:
    told: dict[str, Any] = {"ref": reference, "kind": _named(d.kind), "peak_s": round(d.peak_s, 1), "maximum": d.maximum}
    told |= {
        "polarity": d.polarity.value,
        "uv": round(d.amplitude_uv),
        "field": list(d.field),
        "side": d.side.value,
        "region": d.region.value,
    }
    reversal = [name for name in dict.fromkeys((d.longitudinal_reversal, d.transverse_reversal)) if name]
    told |= {"phase_reversal": reversal, "orientation": d.orientation.value}
    return told | {"opposite_pole": d.opposite} if d.opposite else told


def example_of(facts: Facts) -> Example:
    """The worked example nearest to the page: epilepsy where it shows discharges or a seizure, else sleep."""
    epileptic = facts.annotation.seizure or any(FAMILY_OF[kind] == Family.EPILEPTIFORM for kind in facts.kinds)
    return EPILEPSY if epileptic else SLEEP


def request_of(kind: SampleKind, facts: Facts, settings: TeacherSettings) -> TeacherRequest:
    """One question about one page, with an example of its kind."""
    example = example_of(facts)
    messages = (
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": _asked(kind, json.dumps(example.page, separators=(",", ":")))},
        {"role": "assistant", "content": json.dumps(example.answers[kind])},
        {"role": "user", "content": _asked(kind, context_of(facts).text)},
    )
    key = content_id(TEACHER_VERSION, settings.model, settings.temperature, settings.max_tokens, messages)
    return TeacherRequest(key=key, kind=kind, messages=messages)


def _asked(kind: SampleKind, page: str) -> str:
    return f"{TASKS[kind]}\n\nPage:\n{page}"
