"""Whether two readers agree with each other, and the detector with each of them as well as they do.

The readers are those numbered 1 and 2; others are not held against anybody. What counts for a waveform is where both looked for it
(`LabelKind.SEARCHED`). F1 is that of marks matched one to one at an overlap of 0.5 on one channel. Cohen's kappa is by sample (5 ms),
marked or not, as in studies of spindle scoring (Warby et al. 2014); it corrects for what chance agrees on, and most time holds nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.detect.boxes import Marks, marks_of_events, overlaps
from cg_data.detect.references import References
from cg_data.records import Event
from cg_data.vocabulary import N_CHANNELS, SEGMENT_SAMPLES, SFREQ_HZ, WAVEFORMS
from cg_eval.detection.pages import Found, Page
from cg_eval.detection.tally import Counts, Floats, Key, Tally
from cg_train.detection_metrics import IOU

Bools = npt.NDArray[np.bool_]

READERS = ("1", "2")
DETECTOR = "detector"
PAIRS: tuple[tuple[str, str], ...] = (READERS, (READERS[0], DETECTOR), (READERS[1], DETECTOR))
"""Who is held against whom."""
_CELLS = ("both", "first", "second", "neither")


def count(pages: Sequence[Page], found: Found) -> list[Counts]:
    """Agreement of every pair on each page."""
    return [_count_page(page, events, found) for page, events in zip(pages, found.events, strict=True)]


def _count_page(page: Page, events: Sequence[Event], found: Found) -> Counts:
    counts: Counts = Counter()
    read = {reader: page.of_reader(reader).references(found.min_box_s) for reader in READERS}
    looked = [known_samples(references) for references in read.values() if references.known]
    if len(looked) < len(READERS):
        return counts
    marks = {reader: references.marks for reader, references in read.items()}
    marks[DETECTOR] = marks_of_events(e for e in events if e.score >= found.thresholds[e.waveform])
    for index, (waveform, both) in enumerate(zip(WAVEFORMS, looked[0] & looked[1], strict=True)):
        if both.any():
            of = {who: _inside(m[m[:, 0] == index], both) for who, m in marks.items()}
            pairs = {(first, second): _agreement(of[first], of[second], both) for first, second in PAIRS}
            counts.update({_key(waveform, *who, what): n for who, pair in pairs.items() for what, n in pair.items()})
    return counts


def known_samples(references: References) -> Bools:
    """Where a waveform was looked for, `(9, 19, 2000)`."""
    cover = np.zeros((len(WAVEFORMS), N_CHANNELS, SEGMENT_SAMPLES), dtype=np.bool_)
    for region in references.known:
        times = np.arange(round(region.start_s * SFREQ_HZ), round(region.stop_s * SFREQ_HZ))
        cover[np.ix_(region.waveforms, region.rows, times)] = True
    return cover


def _inside(marks: Marks, where: Bools) -> Marks:
    """Marks whose centre lies in `where`, `(19, 2000)`."""
    centre = np.clip(marks[:, 2:].mean(axis=1) * SFREQ_HZ, 0, SEGMENT_SAMPLES - 1).astype(np.int64)
    return marks[where[marks[:, 1].astype(np.int64), centre]]


def _agreement(first: Marks, second: Marks, where: Bools) -> dict[str, int]:
    one, two = occupied(first)[where], occupied(second)[where]
    cells = zip(_CELLS, (one & two, one & ~two, ~one & two, ~one & ~two), strict=True)
    marks = {"a": len(first), "b": len(second), "matched": matched(first, second)}
    return marks | {name: int(cell.sum()) for name, cell in cells}


def matched(first: Marks, second: Marks) -> int:
    """Pairs of marks one to one, most overlap first, at an overlap of at least 0.5; the same whichever comes first."""
    overlap = overlaps(first, second)
    pairs = 0
    while overlap.size and overlap.max() >= IOU:
        i, j = np.unravel_index(np.argmax(overlap), overlap.shape)
        overlap[i, :] = overlap[:, j] = 0.0
        pairs += 1
    return pairs


def occupied(marks: Marks) -> Bools:
    """Samples of the page that a mark covers, `(19, 2000)`."""
    cover = np.zeros((N_CHANNELS, SEGMENT_SAMPLES), dtype=np.bool_)
    for _, row, start_s, stop_s in marks.tolist():
        cover[int(row), max(0, round(start_s * SFREQ_HZ)) : round(stop_s * SFREQ_HZ)] = True
    return cover


def table(tally: Tally) -> list[dict[str, Any]]:
    """For each waveform that two readers marked: every pair's F1 and kappa with the counts of marks, and how far the detector's agreement
    with each reader falls short of (negative) or exceeds that of the other reader."""
    return [_row(tally, str(w)) for w in WAVEFORMS if tally.count(_key(str(w), *READERS, "a"), _key(str(w), *READERS, "b"))]


def _row(tally: Tally, waveform: str) -> dict[str, Any]:
    pairs = [_pair(tally, waveform, first, second) for first, second in PAIRS]
    differences = [
        {
            "reader": reader,
            "f1": tally.formula(lambda s: _f1(s[:3]) - _f1(s[3:]), *_f1_terms(waveform, reader, DETECTOR), *_f1_terms(waveform, *READERS)),
            "kappa": tally.formula(
                lambda s: cohen_kappa(*s[:4]) - cohen_kappa(*s[4:]), *_cells(waveform, reader, DETECTOR), *_cells(waveform, *READERS)
            ),
        }
        for reader in READERS
    ]
    return {"waveform": waveform, "pairs": pairs, "detector_against_other_reader": differences}


def _pair(tally: Tally, waveform: str, first: str, second: str) -> dict[str, Any]:
    a, b, both = (_key(waveform, first, second, what) for what in ("a", "b", "matched"))
    return {
        "first": first,
        "second": second,
        "first_marks": tally.count(a),
        "second_marks": tally.count(b),
        "matched": tally.count(both),
        "f1": tally.share({both: 2.0}, {a: 1.0, b: 1.0}),
        "first_found_by_second": tally.share({both: 1.0}, {a: 1.0}),
        "second_found_by_first": tally.share({both: 1.0}, {b: 1.0}),
        "kappa": tally.formula(lambda sums: cohen_kappa(*sums), *_cells(waveform, first, second)),
    }


def _f1_terms(waveform: str, first: str, second: str) -> list[dict[Key, float]]:
    return [{_key(waveform, first, second, what): 1.0} for what in ("matched", "a", "b")]


def _f1(sums: list[Floats]) -> Floats:
    return 2 * sums[0] / (sums[1] + sums[2])


def _cells(waveform: str, first: str, second: str) -> list[dict[Key, float]]:
    return [{_key(waveform, first, second, cell): 1.0} for cell in _CELLS]


def cohen_kappa(both: Floats, first: Floats, second: Floats, neither: Floats) -> Floats:
    """Kappa (Cohen 1960) from the four cells of a 2 x 2 table, arrays of one shape; NaN where chance alone agrees on everything."""
    total = both + first + second + neither
    agreed = (both + neither) / total
    chance = ((both + first) * (both + second) + (second + neither) * (first + neither)) / total**2
    kappa: Floats = np.where(chance < 1, (agreed - chance) / np.where(chance < 1, 1 - chance, 1.0), np.nan)
    return kappa


def _key(waveform: str, first: str, second: str, what: str) -> Key:
    return ("readers", str(waveform), first, second, what)
