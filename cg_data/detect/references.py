"""What experts marked on a page, as a detector can learn from it: exact marks, coarse ones, and where what is not marked is absent.

Readers of the synthetic corpus, of DREAMS and of a user's table mark a waveform with its extent on an electrode. The TUH corpora mark about
a second of a derivation, often of one of several possible waveforms: `WAVEFORMS_OF_LABEL` says of which. Most readers look for a few
waveforms on a few channels, so all that they did not look for is unknown, not absent.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from cg_data.corpora import CorpusName
from cg_data.corpora.channels import electrodes_in
from cg_data.detect.boxes import NARROW, Marks, marks_of_events, marks_of_labels, overlaps
from cg_data.records import Event, Label
from cg_data.vocabulary import (
    CHANNEL_INDEX,
    EPILEPTIFORM,
    FAMILY_OF,
    LATERAL_EYES,
    N_CHANNELS,
    SEGMENT_S,
    WAVEFORM_INDEX,
    WAVEFORMS,
    ArtefactCode,
    BackgroundCode,
    Family,
    FindingKind,
    LabelKind,
    Pattern,
    Waveform,
)

Bools = npt.NDArray[np.bool_]
Waveforms = frozenset[Waveform]

SAME_EVENT_IOU = 0.5
"""Overlap in time from which two marks of one waveform on one row are of one event."""
_POINT_S = 1.0
"""A mark without a duration is of a waveform within this time before or after it: a click beside a spindle or a K-complex, which may last
longer than the click is exact."""
_SURE_S = 1.0
"""A coarse mark that the edge of the page cuts is sure to have its waveform on the page where so much of it is left; marks of TUEV are one
second long."""

_EARS = frozenset({"A1", "A2", "M1", "M2"})

_NONE: tuple[Waveforms, ...] = ()
_EYES: Waveforms = LATERAL_EYES | {Waveform.POSITIVE_SHARP_TRANSIENT}
_MUSCLE: Waveforms = frozenset({Waveform.HIGH_FREQUENCY_NOISE})

_OF_PATTERN: dict[Pattern, tuple[Waveforms, ...]] = {
    # "Spike and/or sharp waves", alone or with a slow wave (TUEV, Harati et al. 2015; IFCN glossary, Kane et al. 2017).
    Pattern.SPIKE_OR_SHARP_WAVE: (EPILEPTIFORM,),
    # Trains of sharp waves, spikes or sharply contoured waves (Harati et al. 2015; IFCN glossary: periodic discharges).
    Pattern.GENERALISED_PERIODIC_DISCHARGES: (EPILEPTIFORM,),
    Pattern.LATERALISED_PERIODIC_DISCHARGES: (EPILEPTIFORM,),
    # Slow, blunt or only a name for what was seen: no waveform of ours (IFCN glossary; annotation guidelines, Ochal et al. 2020).
    Pattern.SLOWING: _NONE,
    Pattern.TRIPHASIC: _NONE,
    Pattern.HYPNAGOGIC_HYPERSYNCHRONY: _NONE,
    Pattern.INTERESTING: _NONE,
    Pattern.NON_EPILEPTIC_SEIZURE: _NONE,
}
_OF_FINDING: dict[FindingKind, tuple[Waveforms, ...]] = dict.fromkeys(
    (kind for kind, family in FAMILY_OF.items() if family is Family.ARTEFACT), _NONE
) | {
    # Bell's phenomenon makes the frontal poles positive; a lateral movement is positive on one side, negative on the other (IFCN glossary).
    FindingKind.BLINK: (frozenset({Waveform.POSITIVE_SHARP_TRANSIENT}),),
    FindingKind.LATERAL_EYE_MOVEMENT: (LATERAL_EYES,),
    # Fast activity of scalp and jaw muscles; the "musc" of TUAR (Hamid et al. 2020).
    FindingKind.MUSCLE: (_MUSCLE,),
}
_OF_CODE: dict[str, tuple[Waveforms, ...]] = {
    # Blinks and movements of the eyes to any side (TUEV, Harati et al. 2015; TUAR, Hamid et al. 2020).
    ArtefactCode.EYE_MOVEMENT: (_EYES,),
    # Bursts of the temporalis and masseter muscles; shivering is a rarer artefact of muscles (Hamid et al. 2020).
    ArtefactCode.CHEWING: (_MUSCLE,),
    ArtefactCode.SHIVERING: (_MUSCLE,),
    "musc": (_MUSCLE,),
    # Anything that is not of the brain (Harati et al. 2015), so none in particular.
    ArtefactCode.ARTEFACT: _NONE,
    # Pops, contact and static electricity, calibration, impedance checks, a bad channel: none of our waveforms (Hamid et al. 2020; BIDS).
    ArtefactCode.ELECTRODE: _NONE,
    ArtefactCode.ELECTROSTATIC: _NONE,
    ArtefactCode.CALIBRATION: _NONE,
    ArtefactCode.IMPEDANCE_CHECK: _NONE,
    ArtefactCode.BAD_CHANNEL: _NONE,
}


def _of_both(code: ArtefactCode) -> tuple[Waveforms, ...]:
    """Two codes joined are both there at once (Hamid et al. 2020): one of each."""
    return tuple(dict.fromkeys(waveforms for part in code.split("_") for waveforms in _OF_CODE[part]))


WAVEFORMS_OF_LABEL: dict[tuple[LabelKind, str], tuple[Waveforms, ...]] = (
    {(LabelKind.PATTERN, pattern): found for pattern, found in _OF_PATTERN.items()}
    | {(LabelKind.ARTEFACT, kind): found for kind, found in _OF_FINDING.items()}
    | {(LabelKind.ARTEFACT_CODE, code): _of_both(code) for code in ArtefactCode}
)
"""What a pattern or an artefact says of our waveforms: of each set at least one is there."""

ABSENT_FROM_BACKGROUND: dict[str, Waveforms] = {
    # All that is none of TUEV's other five classes (Harati et al. 2015), among it the patterns of sleep, which it does not tell apart.
    CorpusName.TUEV: frozenset(WAVEFORMS) - {Waveform.SLEEP_SPINDLE, Waveform.K_COMPLEX},
}
"""Waveforms that background (``bckg``) is known not to hold, by corpus; elsewhere (TUSZ, TUSL, SzCORE) it only says that there is no
seizure."""


class Labelled(Protocol):
    """What carries labels: a segment, or one without its signal."""

    @property
    def corpus(self) -> str: ...
    @property
    def mask(self) -> Bools: ...
    @property
    def labels(self) -> tuple[Label, ...]: ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """The labels of a segment without the segment."""

    corpus: str
    mask: Bools
    labels: tuple[Label, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Region:
    """Some waveforms on some rows for some time: `rows` `(19,)`, `start_s` up to `stop_s` of the page, `waveforms` `(9,)`."""

    rows: Bools
    start_s: float
    stop_s: float
    waveforms: Bools


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class References:
    """What is known of one page.

    `marks` `(n, 4)` are exact (`cg_data.detect.boxes`). In a `coarse` region at least one of its waveforms is on at least one of its rows;
    when and how long is not said. In a `known` region all is marked: what is not marked there is absent. No coarse region overlaps a known
    one of the same waveform and row.
    """

    marks: Marks
    coarse: tuple[Region, ...]
    known: tuple[Region, ...]


def references_of(segment: Labelled, *, min_box_s: float) -> References:
    """What the labels of a segment say of the rows of its mask.

    Marks of spikes and sharp waves are widened to `min_box_s`. Two readers' marks of one event (`SAME_EVENT_IOU`) are one, from the mean
    of their starts to the mean of their ends: neither reader is the better one, and a union would be wider than either saw it. A waveform
    on a derivation, on the whole page, or without a duration is a coarse region. A mark of which part may lie beside the rows, because
    an electrode of its derivation is missing or the page cuts it, is no coarse region, but nothing is known where it is, nor where a
    reader is not sure ("difficult" objects of PASCAL VOC, Everingham et al. 2010).
    """
    vague = [found for label in segment.labels for found in _vague(label, segment.mask, min_box_s)]
    known = _searched(segment)
    for region in (*(region for region, _ in vague), *_unsure(segment)):
        known = [part for one in known for part in without(one, region)]
    readers = sorted({label.reader for label in segment.labels})
    by_reader = [marks_of_labels((x for x in segment.labels if x.reader == reader), segment.mask, min_box_s) for reader in readers]
    coarse = tuple(region for region, sure in vague if sure)
    return References(marks=agreed_marks(by_reader), coarse=coarse, known=tuple(known))


def agreed_marks(by_reader: Sequence[Marks]) -> Marks:
    """Marks of all readers, those of one event made one: the mean of its readers' starts and of their ends.

    Readers are matched one after the other, each mark with at most one, so that the sum of overlaps is greatest.
    """
    events: list[list[npt.NDArray[np.float64]]] = []
    for marks in by_reader:
        means = np.array([np.mean(event, axis=0) for event in events]).reshape(-1, 4)
        iou = overlaps(means, marks) * (means[:, None, 0] == marks[None, :, 0])
        iou[iou < SAME_EVENT_IOU] = 0.0
        pairs = {int(j): int(i) for i, j in zip(*linear_sum_assignment(iou, maximize=True), strict=True) if iou[i, j] > 0}
        for j, mark in enumerate(marks):
            if j in pairs:
                events[pairs[j]].append(mark)
            else:
                events.append([mark])
    return np.array([np.mean(event, axis=0) for event in events], dtype=np.float64).reshape(-1, 4)


def known_cells(known: Iterable[Region], centres_s: npt.NDArray[np.float64], rows: npt.NDArray[np.int64]) -> Bools:
    """Whether all is known of each waveform at each of some places `(k, 9)`: times `(k,)` in seconds on rows `(k,)`."""
    cells = np.zeros((len(rows), len(WAVEFORMS)), dtype=np.bool_)
    for region in known:
        inside = (centres_s >= region.start_s) & (centres_s < region.stop_s) & region.rows[rows]
        cells[np.flatnonzero(inside)] |= region.waveforms
    return cells


def seconds_of(regions: Iterable[Region]) -> float:
    """Time that some regions cover together, on whatever rows."""
    total_s, until_s = 0.0, 0.0
    for start_s, stop_s in sorted((region.start_s, region.stop_s) for region in regions):
        total_s += max(0.0, stop_s - max(start_s, until_s))
        until_s = max(until_s, stop_s)
    return total_s


def known_seconds(references: References) -> dict[Waveform, float]:
    """Time of a page in which each waveform was looked for, on whatever channel."""
    return {w: seconds_of(region for region in references.known if region.waveforms[i]) for i, w in enumerate(WAVEFORMS)}


def known_marks(found: Marks, references: References) -> Bools:
    """Whether each of some found marks `(n, 4)` can be called right or wrong `(n,)`: its centre is where its waveform is known, or it
    overlaps a mark of its waveform by `SAME_EVENT_IOU`."""
    classes, rows = found[:, 0].astype(np.int64), found[:, 1].astype(np.int64)
    in_known = known_cells(references.known, found[:, 2:].mean(axis=1), rows)[np.arange(len(found)), classes]
    same = overlaps(found, references.marks) * (found[:, None, 0] == references.marks[None, :, 0])
    return np.asarray(in_known | (same >= SAME_EVENT_IOU).any(axis=1))


def known_events(events: Sequence[Event], references: References) -> tuple[Event, ...]:
    """Those of some events that can be called right or wrong (`known_marks`); the others belong in no figure."""
    keep = known_marks(marks_of_events(events), references)
    return tuple(event for event, known in zip(events, keep, strict=True) if known)


def _vague(label: Label, mask: Bools, min_box_s: float) -> list[tuple[Region, bool]]:
    """Regions in which a label says that there is a waveform without saying where, and whether it is surely on the rows of the page."""
    if label.kind is LabelKind.WAVEFORM and not _is_exact(label, min_box_s):
        candidates: tuple[Waveforms, ...] = (frozenset({Waveform(label.name)}),)
    else:
        candidates = WAVEFORMS_OF_LABEL.get((label.kind, label.name), _NONE)
    around_s = _POINT_S if label.duration_s == 0 else 0.0
    start_s, stop_s = max(label.onset_s - around_s, 0.0), min(label.onset_s + label.duration_s + around_s, float(SEGMENT_S))
    rows, all_there = _rows(label.channel, mask)
    uncut = start_s > 0 and stop_s < SEGMENT_S
    sure = all_there and (uncut or stop_s - start_s >= _SURE_S - 1e-6)
    if not rows.any() or stop_s <= start_s:
        return []
    return [(Region(rows=rows, start_s=start_s, stop_s=stop_s, waveforms=_classes(found)), sure) for found in candidates]


def _is_exact(label: Label, min_box_s: float) -> bool:
    """Whether `marks_of_labels` makes a mark of a waveform's label: it names an electrode and has a width."""
    widened = min_box_s > 0 and label.name in NARROW
    return label.channel in CHANNEL_INDEX and (label.duration_s > 0 or widened)


def _rows(channel: str, mask: Bools) -> tuple[Bools, bool]:
    """Rows of the page that a channel is about, and whether no electrode but an ear is beside them; "" is the whole page."""
    if not channel:
        return mask.copy(), True
    named = electrodes_in(channel)
    rows = np.zeros(N_CHANNELS, dtype=np.bool_)
    rows[[CHANNEL_INDEX[name] for name in named]] = True
    others = [part for part in channel.split("-") if part not in named and part not in _EARS]
    return rows & mask, not others and bool(mask[rows].all())


def _searched(segment: Labelled) -> list[Region]:
    """Where all is marked before vague marks are taken out; equal places are one region."""
    waveforms: dict[tuple[str, float, float], set[Waveform]] = {}
    for label in segment.labels:
        found: Waveforms = frozenset()
        if label.kind is LabelKind.SEARCHED:
            found = frozenset({Waveform(label.name)})
        elif (label.kind, label.name) == (LabelKind.BACKGROUND, BackgroundCode.BACKGROUND):
            found = ABSENT_FROM_BACKGROUND.get(segment.corpus, frozenset())
        waveforms.setdefault((label.channel, label.onset_s, label.onset_s + label.duration_s), set()).update(found)
    places = ((_rows(channel, segment.mask)[0], start_s, stop_s, found) for (channel, start_s, stop_s), found in waveforms.items())
    return [
        Region(rows=rows, start_s=start_s, stop_s=stop_s, waveforms=_classes(found))
        for rows, start_s, stop_s, found in places
        if found and rows.any() and stop_s > start_s
    ]


def _unsure(segment: Labelled) -> list[Region]:
    """Where a reader is not sure; of the discharges neither is it known then which of them it is."""
    rows: dict[tuple[str, float, float], Bools] = {}
    for label in segment.labels:
        if label.kind is LabelKind.UNSURE:
            key = (label.name, label.onset_s, label.onset_s + label.duration_s)
            rows[key] = rows.get(key, np.False_) | _rows(label.channel, segment.mask)[0]
    return [
        Region(rows=there, start_s=start_s, stop_s=stop_s, waveforms=_classes(EPILEPTIFORM if name in EPILEPTIFORM else {Waveform(name)}))
        for (name, start_s, stop_s), there in rows.items()
    ]


def without(region: Region, other: Region) -> list[Region]:
    """`region` as up to four that leave out what `other` covers: before it, after it, beside its rows, and its rows for other waveforms."""
    low_s, high_s = max(region.start_s, other.start_s), min(region.stop_s, other.stop_s)
    if low_s >= high_s or not (region.rows & other.rows).any() or not (region.waveforms & other.waveforms).any():
        return [region]
    during = functools.partial(dataclasses.replace, region, start_s=low_s, stop_s=high_s)
    parts = (
        dataclasses.replace(region, stop_s=low_s),
        dataclasses.replace(region, start_s=high_s),
        during(rows=region.rows & ~other.rows),
        during(rows=region.rows & other.rows, waveforms=region.waveforms & ~other.waveforms),
    )
    return [part for part in parts if part.start_s < part.stop_s and part.rows.any() and part.waveforms.any()]


def _classes(waveforms: Iterable[Waveform]) -> Bools:
    classes = np.zeros(len(WAVEFORMS), dtype=np.bool_)
    classes[[WAVEFORM_INDEX[waveform] for waveform in waveforms]] = True
    return classes
