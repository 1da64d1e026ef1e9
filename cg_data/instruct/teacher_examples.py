"""The worked examples that a teacher model is shown: one page of sleep, one of epilepsy, and an answer of each kind to both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cg_data.vocabulary import SampleKind


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A page as `cg_data.instruct.teacher_prompts.context_of` tells it, and good answers about it."""

    page: Mapping[str, Any]
    answers: Mapping[SampleKind, Mapping[str, Any]]


SLEEP = Example(
    page={
        "state": "N2 sleep",
        "seizure": False,
        "not_recorded": [],
        "background": [
            {"region": "frontal", "band": "delta", "hz": 1.6, "uv": 38},
            {"region": "central", "band": "theta", "hz": 4.8, "uv": 31},
            {"region": "temporal", "band": "theta", "hz": 4.6, "uv": 22},
            {"region": "posterior", "band": "delta", "hz": 2.1, "uv": 27},
        ],
        "posterior_rhythm": None,
        "findings": [
            {"ref": "f1", "kind": "delta activity", "at": ["F3", "Fz", "F4"], "from_s": 0.0, "to_s": 10.0},
            {"ref": "f2", "kind": "theta activity", "at": ["C3", "Cz", "C4", "T3", "T4", "T5", "T6"], "from_s": 0.0, "to_s": 10.0},
            {"ref": "f3", "kind": "muscle", "at": ["T3"], "from_s": 0.0, "to_s": 10.0},
        ],
        "events": [
            {"ref": "e1", "kind": "sleep spindle", "at": ["F3", "Fz", "F4", "C3", "Cz", "C4"], "from_s": 2.1, "to_s": 3.0, "maximum": "Cz"},
            {"ref": "e2", "kind": "k complex", "at": ["F3", "Fz", "F4", "C3", "Cz", "C4"], "from_s": 5.6, "to_s": 6.5, "maximum": "Fz"},
            {"ref": "e3", "kind": "sleep spindle", "at": ["C3", "Cz", "C4"], "from_s": 6.4, "to_s": 7.2, "maximum": "C3"},
        ],
        "dipoles": [],
    },
    answers={
        SampleKind.DESCRIPTION: {
            "text": (
                "The page shows N2 sleep. "
                "There is theta activity over the central and temporal regions. "
                "The dominant frontal frequency is 1.6 Hz, in the delta band. "
                "Sleep spindles are seen at 2.1 s, maximal at Cz, and at 6.4 s, maximal at C3. "
                "A K-complex occurs at 5.6 s with its maximum at Fz. "
                "There are no epileptiform discharges. "
                "Muscle artefact is present at T3."
            ),
            "evidence": ["f2", "f1", "e1", "e3", "e2", "f3"],
        },
        SampleKind.COMPLEX_MCQ: {
            "question": "Which statement joins the state of this page correctly with the transient at 5.6 s?",
            "options": [
                "The page shows N3 sleep, and a K-complex is seen at 5.6 s with its maximum at Fz.",
                "The page shows N2 sleep, and a K-complex is seen at 5.6 s with its maximum at Fz.",
                "The page shows N2 sleep, and a sharp wave is seen at 5.6 s with its maximum at T4.",
                "The page shows wakefulness, and a blink is seen at 5.6 s with its maximum at Fp1.",
            ],
            "right": 1,
            "evidence": ["e2"],
        },
        SampleKind.CONVERSATION: {
            "turns": [
                {
                    "question": "What do you notice first on this page?",
                    "answer": "A K-complex is seen at 5.6 s, with its maximum at Fz.",
                    "evidence": ["e2"],
                },
                {
                    "question": "Does anything accompany it?",
                    "answer": "Sleep spindles are seen at 6.4 s, maximal at C3. Sleep spindles are also seen at 2.1 s, maximal at Cz.",
                    "evidence": ["e3", "e1"],
                },
                {
                    "question": "Which state do these transients speak for?",
                    "answer": "The page shows N2 sleep, with sleep spindles and a K-complex.",
                    "evidence": ["e1", "e2", "e3"],
                },
                {
                    "question": "Could the sharp contours be epileptiform?",
                    "answer": "There are no epileptiform discharges on this page.",
                    "evidence": [],
                },
            ]
        },
    },
)

EPILEPSY = Example(
    page={
        "state": "wake, eyes closed",
        "seizure": False,
        "not_recorded": ["Fz"],
        "background": [
            {"region": "frontal", "band": "delta", "hz": 2.4, "uv": 29},
            {"region": "central", "band": "alpha", "hz": 9.6, "uv": 18},
            {"region": "temporal", "band": "delta", "hz": 2.2, "uv": 41},
            {"region": "posterior", "band": "alpha", "hz": 9.4, "uv": 33},
        ],
        "posterior_rhythm": {"ref": "p1", "hz": 9.4, "uv": 33, "symmetric": True},
        "findings": [
            {"ref": "f1", "kind": "alpha rhythm", "at": ["P3", "Pz", "P4", "O1", "O2"], "from_s": 0.0, "to_s": 10.0},
            {"ref": "f2", "kind": "delta activity", "at": ["T3", "T5"], "from_s": 0.0, "to_s": 10.0},
        ],
        "events": [
            {"ref": "e1", "kind": "blink", "at": ["Fp1", "Fp2"], "from_s": 1.2, "to_s": 1.5, "maximum": "Fp1"},
            {
                "ref": "e2",
                "kind": "sharp wave",
                "at": ["F7", "T3", "T5"],
                "from_s": 4.0,
                "to_s": 4.2,
                "maximum": "T3",
                "place": "left temporal",
            },
            {"ref": "e3", "kind": "sharp wave", "at": ["T3", "T5"], "from_s": 7.8, "to_s": 8.0, "maximum": "T3", "place": "left temporal"},
        ],
        "dipoles": [
            {
                "ref": "d1",
                "kind": "sharp wave",
                "peak_s": 4.1,
                "maximum": "T3",
                "polarity": "negative",
                "uv": 92,
                "field": ["F7", "T3", "T5"],
                "side": "left",
                "region": "temporal",
                "phase_reversal": ["T3"],
                "orientation": "radial",
            }
        ],
    },
    answers={
        SampleKind.DESCRIPTION: {
            "text": (
                "Fz was not recorded. "
                "The page shows wakefulness with the eyes closed. "
                "The posterior dominant rhythm is 9.4 Hz with an amplitude of 33 µV. "
                "There is delta activity at T3 and T5. "
                "Left temporal sharp waves are seen at 4.0 s and at 7.8 s, maximal at T3. "
                "The sharp wave at 4.0 s shows a phase reversal at T3. "
                "There are no sleep spindles and no K-complexes. "
                "A blink is seen at 1.2 s at Fp1 and Fp2."
            ),
            "evidence": ["p1", "f2", "e2", "e3", "d1", "e1"],
        },
        SampleKind.COMPLEX_MCQ: {
            "question": "Which statement describes both the background and the discharges of this page correctly?",
            "options": [
                "There is an alpha rhythm posteriorly, with left temporal sharp waves maximal at T3.",
                "There is an alpha rhythm posteriorly, with right temporal sharp waves maximal at T4.",
                "There is theta activity posteriorly, with left temporal sharp waves maximal at T3.",
                "There is an alpha rhythm posteriorly, with generalised spike-and-slow-wave complexes maximal at Cz.",
            ],
            "right": 0,
            "evidence": ["f1", "p1", "e2", "e3"],
        },
        SampleKind.CONVERSATION: {
            "turns": [
                {
                    "question": "Which abnormality stands out on this page?",
                    "answer": "Left temporal sharp waves are seen at 4.0 s and at 7.8 s, maximal at T3.",
                    "evidence": ["e2", "e3"],
                },
                {
                    "question": "Does the polarity across the chain support that place?",
                    "answer": "The sharp wave at 4.0 s shows a phase reversal at T3.",
                    "evidence": ["d1"],
                },
                {
                    "question": "Is there anything else over the same region?",
                    "answer": "There is delta activity at T3 and T5.",
                    "evidence": ["f2"],
                },
                {
                    "question": "How is the background elsewhere?",
                    "answer": "The posterior dominant rhythm is 9.4 Hz. An alpha rhythm is seen posteriorly.",
                    "evidence": ["p1", "f1"],
                },
                {
                    "question": "Is the patient asleep?",
                    "answer": "The page shows wakefulness with the eyes closed. There are no sleep spindles.",
                    "evidence": [],
                },
            ]
        },
    },
)
