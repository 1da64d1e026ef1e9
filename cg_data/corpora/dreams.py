"""The DREAMS databases (Zenodo 2650142; Devuyst 2005): spindles, K-complexes, whole nights of healthy subjects and of patients.

Excerpts have the marks of two readers, ``Visual_scoring1_excerpt1.txt`` (``[vis1_Spindles/C3-A1]``, then onset and duration per line), and
``Hypnogram_excerpt1.txt``; whole nights have ``HypnogramAASM_subject1.txt`` and the same night scored by older rules, which is read only
where the AASM one is absent. A hypnogram gives one number for each five seconds. Automatic detections are no labels. A reader looked for
the waveform of the excerpt on its channel from beginning to end (`LabelKind.SEARCHED`).
"""

from __future__ import annotations

import itertools
import re

from cg_data import storage
from cg_data.corpora.channels import channel_name
from cg_data.corpora.listing import Tree, folder_of, list_tree, name_of, stem_of
from cg_data.corpora.source import Source
from cg_data.marks import Labels, Marks, number, text_of
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import LabelKind, Stage, Waveform

_RECORDING = re.compile(r"(excerpt|subject|patient)\d+\.edf", re.IGNORECASE)
_SCORING = re.compile(r"Visual_scoring(?P<reader>\d+)_.*")
_TITLE = re.compile(r"\[(?:vis\d*_)?(?P<what>[\w-]+)/(?P<channel>[^\]]+)\]")
_WAVEFORMS = {"spindles": Waveform.SLEEP_SPINDLE, "kcomplexes": Waveform.K_COMPLEX}
_EPOCH_S = 5.0
_STAGES = {5: Stage.WAKE, 4: Stage.REM, 3: Stage.N1, 2: Stage.N2, 1: Stage.N3, 0: Stage.N3}
_NO_STAGE = frozenset({-1, -2, -3})
"""Movement, and unknown twice."""


def sources(uri: str) -> list[Source]:
    """Recordings below `uri`; excerpts of different databases are different people.

    Raises:
        StorageError: there are none.
    """
    tree = list_tree(uri, lambda name: _RECORDING.fullmatch(name) is not None, "a DREAMS database (excerpt1.edf, subject1.edf, ...)")
    return [Source(uri=edf, subject=_subject(edf), label_uris=_label_uris(edf, tree)) for edf in tree.recordings]


def labels(source: Source, file: SignalFile) -> Labels:
    """Spindles or K-complexes of each reader, that each looked for them, and sleep stages.

    Raises:
        StorageError: a label file cannot be fetched.
    """
    marks = Marks(file.runs_s[-1][1])
    if not source.label_uris:
        marks.broken("labels.no_file")
    for uri in source.label_uris:
        lines = [line.strip() for line in text_of(storage.read_bytes(uri)).splitlines() if line.strip()]
        match = _SCORING.fullmatch(name_of(uri))
        if match is not None:
            _add_waveforms(lines, match["reader"], marks)
        else:
            _add_stages(lines, marks)
    return marks.gathered()


def _subject(edf: str) -> str:
    return f"{name_of(folder_of(edf))}/{stem_of(edf)}"


def _label_uris(edf: str, tree: Tree) -> tuple[str, ...]:
    folder, stem = folder_of(edf), stem_of(edf)
    readers = tree.present(*(f"{folder}/Visual_scoring{reader}_{stem}.txt" for reader in (1, 2)))
    hypnograms = tree.present(*(f"{folder}/Hypnogram{rules}_{stem}.txt" for rules in ("AASM", "", "R&K")))
    return readers + hypnograms[:1]


def _add_waveforms(lines: list[str], reader: str, marks: Marks) -> None:
    title = _TITLE.fullmatch(lines[0]) if lines else None
    waveform = _WAVEFORMS.get(title["what"].lower().replace("-", "")) if title else None
    if title is None:
        marks.broken("labels.unreadable_file")
        return
    channel = channel_name(title["channel"])
    kept = [_add_waveform(line, waveform, channel, reader, marks) for line in lines[1:]]
    if waveform is not None and channel is not None and all(kept):
        marks.add(LabelKind.SEARCHED, waveform, 0.0, marks.duration_s, channel=channel, reader=reader)


def _add_waveform(line: str, waveform: Waveform | None, channel: str | None, reader: str, marks: Marks) -> bool:
    """Whether the mark of a line is kept."""
    fields = [number(field) for field in line.split()]
    if len(fields) < 2 or fields[0] is None or fields[1] is None:
        marks.broken("labels.unreadable_line")
    elif waveform is None:
        marks.broken("labels.unknown_term")
    elif channel is None:
        marks.broken("labels.unknown_channel")
    else:
        return marks.add(LabelKind.WAVEFORM, waveform, fields[0], fields[0] + fields[1], channel=channel, reader=reader)
    return False


def _add_stages(lines: list[str], marks: Marks) -> None:
    """Runs of equal numbers are one label."""
    at_s = 0.0
    for text, run in itertools.groupby(line for line in lines if not line.startswith("[")):
        stop_s = at_s + _EPOCH_S * len(list(run))
        value = number(text)
        if value in _STAGES and value is not None:
            marks.add(LabelKind.STAGE, _STAGES[int(value)], at_s, stop_s)
        elif value not in _NO_STAGE:
            marks.broken("labels.unreadable_line" if value is None else "labels.unknown_term")
        at_s = stop_s
