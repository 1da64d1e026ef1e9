"""Scores of whole events: what is marked on several channels at one time is one event, and any overlap in time finds it.

As SzCORE scores seizures (Dan et al. 2024, "SzCORE: seizure community open-source research evaluation framework"), without its margins
before and after an event and its cut into five minutes, which suit seizures and not waveforms of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.detect.boxes import Marks
from cg_data.vocabulary import WAVEFORM_INDEX, WAVEFORMS
from cg_eval.detection.judged import JudgedPage
from cg_eval.detection.tally import Counts, Key, Tally, minutes

Times = npt.NDArray[np.float64]


def merged_times(marks: Marks) -> Times:
    """Start and stop `(k, 2)` of the events that marks of one class make together; marks that only touch stay apart."""
    times: list[list[float]] = []
    for start_s, stop_s in sorted(map(tuple, marks[:, 2:].tolist())):
        if times and start_s < times[-1][1]:
            times[-1][1] = max(times[-1][1], stop_s)
        else:
            times.append([start_s, stop_s])
    return np.array(times, dtype=np.float64).reshape(-1, 2)


def count(page: JudgedPage) -> Counts:
    """References, references found, events and false events of each class on a page."""
    counts: Counts = Counter()
    for waveform in WAVEFORMS:
        found, truth = (merged_times(marks[marks[:, 0] == WAVEFORM_INDEX[waveform]]) for marks in (page.found, page.truth))
        meet = (found[:, None, 0] < truth[None, :, 1]) & (truth[None, :, 0] < found[:, None, 1])
        sums = {"references": len(truth), "hits": int(meet.any(axis=0).sum()), "false": int((~meet.any(axis=1)).sum())}
        counts.update({_key(str(waveform), name): n for name, n in sums.items() if n})
    return counts


def table(tally: Tally, waveforms: Sequence[str]) -> dict[str, Any]:
    """Sensitivity, precision (found references over these and false events), F1 and false events a minute, of each class and of all."""
    rows = [{"waveform": name, **_row(tally, [name], minutes(name))} for name in waveforms]
    return {"classes": rows, "all": _row(tally, waveforms, minutes("all"))}


def _row(tally: Tally, waveforms: Sequence[str], time: Key) -> dict[str, Any]:
    references, hits, false = ([_key(w, what) for w in waveforms] for what in ("references", "hits", "false"))
    hit, wanted, wrong = (dict.fromkeys(keys, 1.0) for keys in (hits, references, false))
    return {
        "references": tally.count(*references),
        "hits": tally.count(*hits),
        "false": tally.count(*false),
        "sensitivity": tally.share(hit, wanted),
        "precision": tally.share(hit, {**hit, **wrong}),
        # F1 of sensitivity and precision: 2 TP / (2 TP + FN + FP), and TP + FN are the references.
        "f1": tally.share(dict.fromkeys(hits, 2.0), {**hit, **wanted, **wrong}),
        "false_per_minute": tally.rate(wrong, {time: 1.0}),
    }


def _key(waveform: str, what: str) -> Key:
    return ("merged", waveform, what)
