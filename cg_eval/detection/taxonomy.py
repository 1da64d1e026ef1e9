"""What kind of error each wrong event is, and which misses these explain: the taxonomy of TIDE (Bolya et al. 2020, "TIDE: A General
Toolbox for Identifying Object Detection Errors"), adapted to boxes of whole rows, where a wrong place is a wrong time or a wrong channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from cg_data.vocabulary import WAVEFORMS
from cg_eval.detection.judged import Bools, JudgedPage
from cg_eval.detection.tally import Counts, Key, Tally, Terms, minutes
from cg_train.detection_metrics import IOU

LEAST = 0.1
"""Overlap below which an event has nothing to do with a reference (TIDE's background threshold)."""


class Error(StrEnum):
    """Kinds of wrong event, in the order in which they are looked for: each wrong event is exactly one of them."""

    DOUBLED = "doubled"
    WRONG_CLASS = "wrong_class"
    WRONG_EXTENT = "wrong_extent"
    WRONG_CHANNEL = "wrong_channel"
    BACKGROUND = "background"


EXPLAINING: tuple[Error, ...] = (Error.WRONG_CLASS, Error.WRONG_EXTENT, Error.WRONG_CHANNEL)
"""Errors that tell why a reference was missed; a doubled event's reference is found, and background has none."""
UNEXPLAINED = "no_event"


def errors_of(page: JudgedPage) -> list[Error | None]:
    """The error of each event; None for a hit.

    * doubled: it overlaps a reference of its class, which another event has taken, by at least 0.5;
    * wrong class: it overlaps a reference of another class on its row by at least 0.5;
    * wrong extent: it overlaps one of its class on its row by at least 0.1;
    * wrong channel: its time overlaps that of a reference of its class on another row by at least 0.5;
    * background: none of these.
    """
    conditions: list[tuple[Error, Bools]] = [(error, np.any(pairs, axis=1)) for error, pairs in _pairs(page).items()]
    return [
        None if hit else next((error for error, of_event in conditions if of_event[i]), Error.BACKGROUND) for i, hit in enumerate(page.hits)
    ]


def _pairs(page: JudgedPage) -> dict[Error, Bools]:
    """Events and references `(n, m)` between which each error is, whatever else they are."""
    same, overlap = page.same_class, page.overlap
    other_row = page.found[:, None, 1] != page.truth[None, :, 1]
    return {
        Error.DOUBLED: same & (overlap >= IOU),
        Error.WRONG_CLASS: ~same & (overlap >= IOU),
        Error.WRONG_EXTENT: same & (overlap >= LEAST) & (overlap < IOU),
        Error.WRONG_CHANNEL: same & other_row & (page.time_overlap() >= IOU),
    }


def explanations_of(page: JudgedPage, errors: Sequence[Error | None]) -> list[str | None]:
    """For each reference None where it was found, else the first of `EXPLAINING` of which an event is about it, else `UNEXPLAINED`."""
    pairs, about = _pairs(page), dict[Error, Bools]()
    for error in EXPLAINING:
        of_error = np.array([e is error for e in errors], dtype=np.bool_)
        about[error] = np.any(pairs[error] & of_error[:, None], axis=0)
    return [
        next((str(error) for error in EXPLAINING if about[error][j]), UNEXPLAINED) if missed else None
        for j, missed in enumerate(page.missed)
    ]


def count(page: JudgedPage) -> Counts:
    errors = errors_of(page)
    counts: Counts = Counter()
    counts.update(_key("event", page.found[i, 0], error) for i, error in enumerate(errors) if error is not None)
    explanations = explanations_of(page, errors)
    counts.update(_key("missed", page.truth[j, 0], why) for j, why in enumerate(explanations) if why is not None)
    return counts


def _key(what: str, index: float, name: str) -> Key:
    return ("taxonomy", what, str(WAVEFORMS[int(index)]), str(name))


def table(tally: Tally, waveforms: Sequence[str]) -> dict[str, Any]:
    """Errors of each class and of all: `errors`, by kind a `count`, its `share` of all events and its number `per_minute`; `missed`, by
    explanation a `count` and its `share` of all references."""
    rows = [{"waveform": name, **_row(tally, [name], minutes(name))} for name in waveforms]
    return {"classes": rows, "all": _row(tally, waveforms, minutes("all"))}


def _row(tally: Tally, waveforms: Sequence[str], time: Key) -> dict[str, Any]:
    events: Terms = {("working", name, "events"): 1.0 for name in waveforms}
    references: Terms = {("working", name, "references"): 1.0 for name in waveforms}
    errors = {error: [("taxonomy", "event", name, str(error)) for name in waveforms] for error in Error}
    missed = {why: [("taxonomy", "missed", name, str(why)) for name in waveforms] for why in (*EXPLAINING, UNEXPLAINED)}
    return {
        "errors": {
            str(error): {
                "count": tally.count(*keys),
                "share": tally.share(dict.fromkeys(keys, 1.0), events),
                "per_minute": tally.rate(dict.fromkeys(keys, 1.0), {time: 1.0}),
            }
            for error, keys in errors.items()
        },
        "missed": {
            str(why): {"count": tally.count(*keys), "share": tally.share(dict.fromkeys(keys, 1.0), references)}
            for why, keys in missed.items()
        },
    }
