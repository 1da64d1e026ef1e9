"""Reference labels from EDF+ annotations, by an allow-list: free text of a clinical file may carry identity, so all else is dropped.

Read are ``<waveform>@@<signal label>`` (the EDF+ convention for a mark on one channel), ``artefact:<finding>@@<signal label>``,
``searched:<waveform>`` with ``@@<signal label>`` or for every electrode (a reader looked for this waveform: where none is marked there is
none), ``unsure:<waveform>`` likewise (it may be there or not), ``Sleep stage W|N1|N2|N3|R`` (EDF+ standard texts; 1 to 4 of Rechtschaffen
and Kales too), ``Eyes open``, ``Eyes closed``, ``seizure``, and ``seizure starts`` with ``seizure ends``. A stage or a state of the eyes
without a duration lasts until the next one, be that a stage that says nothing (``Sleep stage ?``, ``Movement time``); a search without a
duration lasts until the end. Where a mark of a waveform is lost (no such electrode, no such time), there was no search for that waveform.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from cg_data.edf.labels import electrode_of
from cg_data.edf.tal import Annotation
from cg_data.marks import Labels, Marks
from cg_data.records import Label
from cg_data.vocabulary import FAMILY_OF, Eyes, Family, FindingKind, LabelKind, SeizureType, Stage, Waveform

_STAGES = {
    "W": Stage.WAKE, "N1": Stage.N1, "N2": Stage.N2, "N3": Stage.N3, "R": Stage.REM,
    "1": Stage.N1, "2": Stage.N2, "3": Stage.N3, "4": Stage.N3, "?": Stage.UNKNOWN,
}  # fmt: skip
_STAGE = re.compile(r"sleep stage (W|R|N?[123]|4|\?)", re.IGNORECASE)
_EYES = re.compile(r"eyes[ -]?(open|closed)", re.IGNORECASE)
_SEIZURE_EDGE = re.compile(
    r"seizure\s*(?:#\s*[0-9]{1,3})?\s*(?:(?P<start>starts?|onset|begins?)|(?P<stop>ends?|stops?|offset))\b.*", re.IGNORECASE
)
_NO_LABEL = re.compile(r"|lights (?:on|off)", re.IGNORECASE)
_ARTEFACTS = frozenset(kind.value for kind in FindingKind if FAMILY_OF[kind] is Family.ARTEFACT)
_STATES = frozenset({LabelKind.STAGE, LabelKind.EYES})
_ASIDES = frozenset({LabelKind.SEARCHED, LabelKind.UNSURE})
_OF_WAVEFORMS = frozenset({LabelKind.WAVEFORM, LabelKind.UNSURE})


def reference_labels(annotations: Iterable[Annotation], duration_s: float) -> tuple[Label, ...]:
    """Labels of a recording of `duration_s` seconds, by onset."""
    return labels_of_notes(annotations, duration_s).labels


def labels_of_notes(annotations: Iterable[Annotation], duration_s: float) -> Labels:
    """Labels and problems of a recording; texts that are not on the list are counted as ``annotations.not_listed``, never repeated."""
    marks = Marks(duration_s)
    notes = sorted(annotations, key=lambda note: note.onset_s)
    named = [(note, found) for note in notes if (found := _name(note)) is not None]
    marks.lose(waveform for note in notes if _name(note) is None and (waveform := _waveform(note)) is not None)
    for i, (note, (kind, name, channel)) in enumerate(named):
        stop_s = note.onset_s + note.duration_s
        if kind in _STATES and note.duration_s == 0:
            stop_s = next((other.onset_s for other, (same, *_) in named[i + 1 :] if same == kind), max(duration_s, note.onset_s))
        if kind is LabelKind.SEARCHED and note.duration_s == 0:
            stop_s = max(duration_s, note.onset_s)
        if name != Stage.UNKNOWN and not marks.add(kind, name, note.onset_s, stop_s, channel=channel) and kind in _OF_WAVEFORMS:
            marks.lose({name})
    edges = _add_seizures(notes, marks)
    silent = sum(_NO_LABEL.fullmatch(note.text.partition("@@")[0]) is not None for note in notes)
    marks.broken("annotations.not_listed", len(notes) - len(named) - edges - silent)
    return marks.gathered()


def page_mark(text: str) -> tuple[LabelKind, str] | None:
    """Kind and name of a text about the whole page, or None; a stage may be `Stage.UNKNOWN`, which is no label."""
    if (match := _STAGE.fullmatch(text)) is not None:
        return LabelKind.STAGE, _STAGES[match[1].upper()].value
    if text.lower() == "movement time":
        return LabelKind.STAGE, Stage.UNKNOWN.value
    if (match := _EYES.fullmatch(text)) is not None:
        return LabelKind.EYES, Eyes(match[1].lower()).value
    if text.lower() == "seizure":
        return LabelKind.SEIZURE, SeizureType.SEIZURE.value
    return aside(text)


def aside(text: str) -> tuple[LabelKind, str] | None:
    """Kind and name of ``searched:<waveform>`` or ``unsure:<waveform>``, or None."""
    kind, _, waveform = text.partition(":")
    return (LabelKind(kind), waveform) if kind in _ASIDES and waveform in set(Waveform) else None


def listed_text(text: str) -> str | None:
    """A note's text as far as it is on the list (without what is said after the end of a seizure), or None."""
    if (match := _SEIZURE_EDGE.fullmatch(text)) is not None:
        return text[: match.end("start") if match["start"] else match.end("stop")]
    told = text.partition("@@")[0]
    listed = _NO_LABEL.fullmatch(told) is not None and "@@" not in text
    return text if text.isascii() and (listed or _name(Annotation(onset_s=0.0, duration_s=0.0, text=text)) is not None) else None


def _name(note: Annotation) -> tuple[LabelKind, str, str] | None:
    """Kind, name and channel of a note."""
    text, _, signal = note.text.partition("@@")
    channel = electrode_of(signal) if signal else ""
    if channel is None:
        return None
    named = page_mark(text) if not signal else None
    named = named or _channel_mark(text, channel)
    return (*named, channel) if named is not None else None


def _waveform(note: Annotation) -> str | None:
    """The waveform that a note marks or is not sure of, wherever it says that is."""
    name = note.text.partition("@@")[0].removeprefix(f"{LabelKind.UNSURE}:")
    return name if name in set(Waveform) else None


def _channel_mark(text: str, channel: str) -> tuple[LabelKind, str] | None:
    """A waveform needs its channel; an artefact may be one of the whole page."""
    if (said := aside(text)) is not None:
        return said
    kind, _, finding = text.partition(":")
    if kind == "artefact" and finding in _ARTEFACTS:
        return LabelKind.ARTEFACT, finding
    return (LabelKind.WAVEFORM, text) if channel and text in set(Waveform) else None


def _add_seizures(notes: list[Annotation], marks: Marks) -> int:
    """Add the seizures given by two notes and return how many notes did; one that never ends lasts to the end of the recording."""
    used = 0
    onset_s: float | None = None
    for note in notes:
        match = _SEIZURE_EDGE.fullmatch(note.text)
        if match is None:
            continue
        used += 1
        if match["start"] and onset_s is None:
            onset_s = note.onset_s
        elif match["stop"] and onset_s is not None:
            marks.add(LabelKind.SEIZURE, SeizureType.SEIZURE, onset_s, note.onset_s)
            onset_s = None
    if onset_s is not None:
        marks.add(LabelKind.SEIZURE, SeizureType.SEIZURE, onset_s, max(onset_s, marks.duration_s))
    return used
