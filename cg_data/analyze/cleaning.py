"""What is done to a detector's events before anyone speaks of them: priority masking, spatial pruning, grouping.

After the cleaning of CerebraGloss (ICLR 2026). Nothing is lost: a removed event is kept beside the name of the rule that took it out.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from cg_data.analyze.layout import NEIGHBOURS, in_page_order
from cg_data.records import Event, RemovedEvent
from cg_data.vocabulary import CHANNEL_INDEX, EPILEPTIFORM, FINDING_OF_WAVEFORM, SEGMENT_S, SFREQ_HZ, FindingKind, Waveform

EDGE_REMNANT = "edge_remnant"
INSIDE_ARTEFACT = "inside_artefact"
INSIDE_LONGER_EVENT = "inside_longer_event"
ISOLATED = "isolated_channel"
MISSING_ELECTRODE = "missing_electrode"

_EYE = frozenset({Waveform.POSITIVE_SHARP_TRANSIENT, Waveform.POSITIVE_SQUARE_WAVE, Waveform.NEGATIVE_SQUARE_WAVE})
_NOISE = frozenset({Waveform.HIGH_FREQUENCY_NOISE})
ARTEFACTS_OVER: dict[Waveform, frozenset[Waveform]] = {
    **dict.fromkeys(EPILEPTIFORM, _EYE | _NOISE),
    Waveform.K_COMPLEX: _EYE,
    Waveform.SLEEP_SPINDLE: _NOISE,
}
"""Artefacts that explain an event away when they cover it on the same channel."""
LONGER_OVER: dict[Waveform, frozenset[Waveform]] = {
    Waveform.SPIKE: frozenset({Waveform.SPIKE_AND_SLOW_WAVE, Waveform.SHARP_WAVE}),
    Waveform.SHARP_WAVE: frozenset({Waveform.SPIKE_AND_SLOW_WAVE, Waveform.K_COMPLEX}),
}
"""Events of which a shorter one is a part: the spike of a complex, the sharp first wave of a K-complex."""
_NUMBER = {waveform: i for i, waveform in enumerate(Waveform)}
_RULES = ("", INSIDE_LONGER_EVENT, INSIDE_ARTEFACT)
_RULE_OVER = np.array(
    [[2 if o in ARTEFACTS_OVER.get(e, ()) else int(o in LONGER_OVER.get(e, ())) for o in Waveform] for e in Waveform], dtype=np.int8
)
"""Which of `_RULES` takes out an event (row) that another (column) covers."""
COVERED_FRACTION = 0.8
"""Share of an event's duration that must lie inside the other one."""
MASKER_RATIO = 0.5
"""A masking event must be at least this probable relative to the one that it takes out."""
EDGE_S = 0.02
"""An event that begins or ends nearer to the page's edge is cut by it: four samples."""
EDGE_MIN_S: dict[Waveform, float] = {
    Waveform.SPIKE: 0.02,
    Waveform.SHARP_WAVE: 0.05,
    Waveform.SPIKE_AND_SLOW_WAVE: 0.15,
    Waveform.K_COMPLEX: 0.3,
    Waveform.SLEEP_SPINDLE: 0.3,
    Waveform.HIGH_FREQUENCY_NOISE: 0.2,
    Waveform.POSITIVE_SHARP_TRANSIENT: 0.12,
    Waveform.POSITIVE_SQUARE_WAVE: 0.2,
    Waveform.NEGATIVE_SQUARE_WAVE: 0.2,
}
"""An event cut by the edge of the page must show at least this much: about half of the shortest of its kind (AASM: a spindle lasts 0.5 s,
a K-complex 0.5 s; IFCN glossary: a spike 20-70 ms, a sharp wave 70-200 ms)."""
SUPPORT_S = 0.15
"""Events on two channels belong together where they overlap or the gap between them is at most this."""
ISOLATED_KEPT_FROM: dict[Waveform, float] = {
    **dict.fromkeys(EPILEPTIFORM, 0.5),
    Waveform.SLEEP_SPINDLE: 0.8,
    Waveform.K_COMPLEX: 0.8,
    Waveform.POSITIVE_SHARP_TRANSIENT: 0.8,
    Waveform.POSITIVE_SQUARE_WAVE: 0.8,
    Waveform.NEGATIVE_SQUARE_WAVE: 0.8,
}
"""Probability from which an event without support is kept. Spindles, K-complexes and blinks have wide fields, so one channel is suspect,
and a lateral eye movement has its other sign on the other side (IFCN glossary, Kane et al. 2017); a discharge may be focal."""
SUPPORTED_BY: dict[Waveform, Waveform] = {
    Waveform.POSITIVE_SQUARE_WAVE: Waveform.NEGATIVE_SQUARE_WAVE,
    Waveform.NEGATIVE_SQUARE_WAVE: Waveform.POSITIVE_SQUARE_WAVE,
}
"""What supports an event on another channel, where it is not the same waveform."""
_GAZE = [CHANNEL_INDEX["F7"], CHANNEL_INDEX["F8"]]
_BLOCK = 256
"""Events held against all others at once."""
GROUP_GAP_S = 0.2
"""Events of one kind with a longer pause between them are two: the eyes rest for about so long between saccades."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EventGroup:
    """Events of one kind that belong together in time: one spindle over its field, one saccade with its two polarities.

    `waveform` is the commonest among them, `maximum` the channel with the greatest peak-to-peak voltage during the group.
    """

    kind: FindingKind
    waveform: Waveform
    channels: tuple[str, ...]
    onset_s: float
    duration_s: float
    maximum: str
    event_ids: tuple[str, ...]


def _end_s(event: Event) -> float:
    return event.onset_s + event.duration_s


def clean_events(events: Iterable[Event], mask: npt.NDArray[np.bool_]) -> tuple[tuple[Event, ...], tuple[RemovedEvent, ...]]:
    """Events kept and events removed, both in order of time and page; `mask` is `(19,)`, True where the electrode exists.

    Remnants at the page's edges go first, then isolated wide-field events, then what artefacts and longer events cover, then discharges
    that nothing around them supports.
    """
    kept, removed = drop_edge_remnants(events)
    for step in (_isolated_wide, _covered, _isolated_discharges):
        rules = step(kept, mask)
        removed += [RemovedEvent(event=event, rule=rules[event.event_id]) for event in kept if event.event_id in rules]
        kept = [event for event in kept if event.event_id not in rules]
    return tuple(kept), in_order(removed)


def in_order(removed: Iterable[RemovedEvent]) -> tuple[RemovedEvent, ...]:
    """Removed events in order of time and page."""
    return tuple(sorted(removed, key=lambda r: _order(r.event)))


def _order(event: Event) -> tuple[float, int, str, str]:
    return event.onset_s, CHANNEL_INDEX[event.channel], event.waveform, event.event_id


def drop_edge_remnants(events: Iterable[Event]) -> tuple[list[Event], list[RemovedEvent]]:
    """Set aside events that the page's edge cuts to less than `EDGE_MIN_S`; the rest in order."""
    kept, removed = [], []
    for event in sorted(events, key=_order):
        cut = event.onset_s < EDGE_S or _end_s(event) > SEGMENT_S - EDGE_S
        if cut and event.duration_s < EDGE_MIN_S[event.waveform]:
            removed.append(RemovedEvent(event=event, rule=EDGE_REMNANT))
        else:
            kept.append(event)
    return kept, removed


def drop_missing_electrodes(events: Iterable[Event], mask: npt.NDArray[np.bool_]) -> tuple[list[Event], list[RemovedEvent]]:
    """Set aside events on electrodes that `mask` `(19,)` says are not there: the page shows nothing of them."""
    kept, removed = [], []
    for event in events:
        if mask[CHANNEL_INDEX[event.channel]]:
            kept.append(event)
        else:
            removed.append(RemovedEvent(event=event, rule=MISSING_ELECTRODE))
    return kept, removed


def _by_channel(events: Iterable[Event]) -> dict[str, list[Event]]:
    grouped: dict[str, list[Event]] = {}
    for event in events:
        grouped.setdefault(event.channel, []).append(event)
    return grouped


def _covered(events: Sequence[Event], mask: npt.NDArray[np.bool_]) -> dict[str, str]:
    """What an artefact or a longer event of the same channel covers; an artefact's rule goes first."""
    rows = sorted(events, key=lambda e: CHANNEL_INDEX[e.channel])
    channel = np.array([CHANNEL_INDEX[e.channel] for e in rows])
    waveform = np.array([_NUMBER[e.waveform] for e in rows])
    rules: dict[str, str] = {}
    # In blocks, so that memory stays small however many events there are.
    for first in range(0, len(rows), _BLOCK):
        shorter = slice(first, first + _BLOCK)
        longer = slice(*np.searchsorted(channel, [channel[first], channel[shorter][-1] + 1]))
        rule = _RULE_OVER[waveform[shorter, None], waveform[longer]]
        rule *= _inside(rows[longer], rows[shorter]) & (channel[shorter, None] == channel[longer])
        rules |= {e.event_id: _RULES[n] for e, n in zip(rows[shorter], rule.max(axis=1), strict=True) if n}
    return rules


def _inside(longer: Sequence[Event], events: Sequence[Event]) -> npt.NDArray[np.bool_]:
    """Which of `longer` cover which of `events` in time, `(events, longer)`."""
    on_s, off_s, lasts_s, likely = _columns(events)[:, :, None]
    onset_s, end_s, duration_s, probability = _columns(longer)
    covered = np.minimum(end_s, off_s) - np.maximum(onset_s, on_s) >= COVERED_FRACTION * lasts_s
    inside: npt.NDArray[np.bool_] = covered & (duration_s >= lasts_s) & (probability >= MASKER_RATIO * likely)
    return inside


def _columns(events: Sequence[Event]) -> npt.NDArray[np.float64]:
    """Onset, end, duration (s) and probability of events, `(4, events)`."""
    return np.array([(e.onset_s, _end_s(e), e.duration_s, e.probability) for e in events]).T


def _near_in_time(events: Sequence[Event], others: Iterable[Event], gap_s: float) -> list[bool]:
    """Which of `events` overlap any of `others` or are at most `gap_s` away from it.

    Of the others that begin early enough (in order of onset), the one that ends last decides.
    """
    by_onset = sorted((o.onset_s, _end_s(o) + gap_s) for o in others)
    reach_s = [-np.inf, *itertools.accumulate((reach for _, reach in by_onset), max)]
    return [reach_s[bisect.bisect_right(by_onset, (_end_s(e) + gap_s, np.inf))] >= e.onset_s for e in events]


def _isolated_wide(events: Sequence[Event], mask: npt.NDArray[np.bool_]) -> dict[str, str]:
    """Spindles, K-complexes and blinks seen on one channel only, anywhere on the head, and eye movements to the side without their other
    sign; where F7 or F8 is missing, these are not judged."""
    wide = {w: _by_channel(e for e in events if e.waveform == w) for w in ISOLATED_KEPT_FROM if w not in EPILEPTIFORM}
    rules: dict[str, str] = {}
    if mask.sum() < 2:
        return rules
    for waveform, by_channel in wide.items():
        if waveform in SUPPORTED_BY and not mask[_GAZE].all():
            continue
        support = wide[SUPPORTED_BY.get(waveform, waveform)]
        for channel, members in by_channel.items():
            rules |= _unsupported(members, (o for name, found in support.items() if name != channel for o in found))
    return rules


def _isolated_discharges(events: Sequence[Event], mask: npt.NDArray[np.bool_]) -> dict[str, str]:
    """Discharges with a low score and without any discharge on a neighbouring channel at that time."""
    by_channel = _by_channel(e for e in events if e.waveform in EPILEPTIFORM)
    rules: dict[str, str] = {}
    for channel, members in by_channel.items():
        near = NEIGHBOURS[CHANNEL_INDEX[channel]] & mask
        if near.any():
            rules |= _unsupported(members, (o for name, found in by_channel.items() if near[CHANNEL_INDEX[name]] for o in found))
    return rules


def _unsupported(events: Sequence[Event], others: Iterable[Event]) -> dict[str, str]:
    """The doubtful ones among `events` that none of `others` stands beside in time."""
    doubtful = [e for e in events if e.probability < ISOLATED_KEPT_FROM[e.waveform]]
    supported = _near_in_time(doubtful, others, SUPPORT_S) if doubtful else []
    return {event.event_id: ISOLATED for event, there in zip(doubtful, supported, strict=True) if not there}


def group_events(events: Sequence[Event], eeg_uv: npt.NDArray[np.float32]) -> tuple[EventGroup, ...]:
    """Events of one finding kind that overlap in time (gaps up to 0.2 s), joined over channels; in order of time.

    Args:
        events: kept events of one page.
        eeg_uv: `(19, 2000)` microvolts, for the channel of greatest voltage.
    """
    groups: list[list[Event]] = []
    for kind in dict.fromkeys(FINDING_OF_WAVEFORM.values()):
        end_s = -np.inf
        for event in sorted((e for e in events if FINDING_OF_WAVEFORM[e.waveform] == kind), key=_order):
            if event.onset_s > end_s + GROUP_GAP_S:
                groups.append([])
                end_s = _end_s(event)
            groups[-1].append(event)
            end_s = max(end_s, _end_s(event))
    return tuple(sorted((_group(members, eeg_uv) for members in groups), key=lambda g: (g.onset_s, g.waveform)))


def _group(members: list[Event], eeg_uv: npt.NDArray[np.float32]) -> EventGroup:
    onset_s, end_s = min(e.onset_s for e in members), max(_end_s(e) for e in members)
    channels = in_page_order({e.channel for e in members})
    window = slice(int(onset_s * SFREQ_HZ), max(int(np.ceil(end_s * SFREQ_HZ)), int(onset_s * SFREQ_HZ) + 2))
    swing = np.ptp(eeg_uv[[CHANNEL_INDEX[name] for name in channels], window], axis=1)
    return EventGroup(
        kind=FINDING_OF_WAVEFORM[members[0].waveform],
        waveform=Counter(e.waveform for e in members).most_common(1)[0][0],
        channels=channels,
        onset_s=onset_s,
        duration_s=end_s - onset_s,
        maximum=channels[int(np.argmax(swing))],
        event_ids=tuple(e.event_id for e in members),
    )
