"""Reference labels from EDF+ annotations, by an allow-list: free text of a clinical file may carry identity, so all else is dropped.

Read are ``<waveform>@@<signal label>`` (the EDF+ convention for a mark on one channel), ``artefact:<finding>@@<signal label>``,
``Sleep stage W|N1|N2|N3|R`` (EDF+ standard texts; 1 to 4 of Rechtschaffen and Kales too), ``Eyes open``, ``Eyes closed``, ``seizure``, and
``seizure starts`` with ``seizure ends``. A stage or a state of the eyes without a duration lasts until the next one.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from cg_data.edf.labels import electrode_of
from cg_data.edf.tal import Annotation
from cg_data.records import Label
from cg_data.vocabulary import FAMILY_OF, Eyes, Family, FindingKind, LabelKind, Stage, Waveform

SEIZURE = "seizure"
_STAGES = {
    "W": Stage.WAKE, "N1": Stage.N1, "N2": Stage.N2, "N3": Stage.N3, "R": Stage.REM,
    "1": Stage.N1, "2": Stage.N2, "3": Stage.N3, "4": Stage.N3,
}  # fmt: skip
_STAGE = re.compile(r"sleep stage (W|R|N?[123]|4)", re.IGNORECASE)
_EYES = re.compile(r"eyes[ -]?(open|closed)", re.IGNORECASE)
_SEIZURE_EDGE = re.compile(
    r"seizure\s*(?:#\s*\d+)?\s*(?:(?P<start>starts?|onset|begins?)|(?P<stop>ends?|stops?|offset))\b.*", re.IGNORECASE
)
_ARTEFACTS = frozenset(kind.value for kind in FindingKind if FAMILY_OF[kind] is Family.ARTEFACT)
_STATES = frozenset({LabelKind.STAGE, LabelKind.EYES})


def reference_labels(annotations: Iterable[Annotation], duration_s: float) -> tuple[Label, ...]:
    """Labels of a recording of `duration_s` seconds, by onset."""
    notes = sorted(annotations, key=lambda note: note.onset_s)
    labels = [label for note in notes if (label := _label(note)) is not None]
    labels = _closed_states(labels, duration_s) + _seizures(notes, duration_s)
    return tuple(sorted(labels, key=lambda label: (label.onset_s, label.kind, label.name, label.channel)))


def _label(note: Annotation) -> Label | None:
    text, _, signal = note.text.partition("@@")
    channel = electrode_of(signal) if signal else ""
    if channel is None:
        return None
    named = _page_mark(text) if not signal else None
    named = named or _channel_mark(text, channel)
    if named is None:
        return None
    kind, name = named
    return Label(kind=kind, name=name, onset_s=note.onset_s, duration_s=note.duration_s, channel=channel)


def _page_mark(text: str) -> tuple[LabelKind, str] | None:
    if (match := _STAGE.fullmatch(text)) is not None:
        return LabelKind.STAGE, _STAGES[match[1].upper()].value
    if (match := _EYES.fullmatch(text)) is not None:
        return LabelKind.EYES, Eyes(match[1].lower()).value
    return (LabelKind.SEIZURE, SEIZURE) if text.lower() == SEIZURE else None


def _channel_mark(text: str, channel: str) -> tuple[LabelKind, str] | None:
    """A waveform needs its channel; an artefact may be one of the whole page."""
    kind, _, finding = text.partition(":")
    if kind == "artefact" and finding in _ARTEFACTS:
        return LabelKind.ARTEFACT, finding
    return (LabelKind.WAVEFORM, text) if channel and text in set(Waveform) else None


def _closed_states(labels: list[Label], duration_s: float) -> list[Label]:
    """Give each state without a duration the time to the next state of its kind, or to the end."""
    closed = []
    for i, label in enumerate(labels):
        if label.kind in _STATES and label.duration_s == 0:
            stop_s = next((other.onset_s for other in labels[i + 1 :] if other.kind == label.kind), duration_s)
            label = dataclasses.replace(label, duration_s=max(0.0, stop_s - label.onset_s))
        closed.append(label)
    return closed


def _seizures(notes: list[Annotation], duration_s: float) -> list[Label]:
    """Seizures given by two marks; one that never ends lasts to the end of the recording."""
    found: list[Label] = []
    onset_s: float | None = None
    for note in [*notes, Annotation(onset_s=duration_s, duration_s=0.0, text="seizure ends")]:
        match = _SEIZURE_EDGE.fullmatch(note.text)
        if match is None:
            continue
        if match["start"] and onset_s is None:
            onset_s = note.onset_s
        elif match["stop"] and onset_s is not None:
            found.append(Label(kind=LabelKind.SEIZURE, name=SEIZURE, onset_s=onset_s, duration_s=note.onset_s - onset_s))
            onset_s = None
    return found
