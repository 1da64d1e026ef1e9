"""Electrode pops: one electrode jumps and decays back, its neighbours do not follow (IFCN glossary, Kane et al. 2017)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cg_data.analyze.background import Bools, Floats, finding
from cg_data.analyze.layout import NEIGHBOURS
from cg_data.records import Finding
from cg_data.vocabulary import CHANNELS, SEGMENT_SAMPLES, SFREQ_HZ, FindingKind

POP_MIN_UV = 60.0
"""Least height of the jump: above waking background (20 to 60 uV, Kane et al. 2017), so that a pop is seen against it."""
POP_RISE = 4
"""Samples in which the jump happens, 20 ms: a spike takes 20 to 70 ms up and down, an eye movement 30 ms and more."""
POP_FACTOR = 10.0
"""The jump over the channel's median change in that time: muscle jumps everywhere, a pop once."""
POP_HELD = 0.35
"""Share of the jump that is left 120 to 180 ms later; sharp waves (70 to 200 ms, their rise the steeper flank) are over or nearly so."""
POP_LOCAL = 0.18
"""Greatest share of the jump that any neighbour may show; focal discharges reach a fifth to a third of their height beside the maximum."""
_BEFORE, _AFTER, _HELD = 10, 10, (24, 36)
_LATE = (60, 100)
"""Samples after the jump, 0.3 to 0.5 s, by which it must have decayed to less than nine tenths."""
_DECAYED = 0.9


def pop_findings(segment_id: str, eeg_uv: npt.NDArray[np.float32], usable: Bools) -> list[Finding]:
    """One finding for each electrode that pops, from its first to its last; `eeg_uv` `(19, 2000)`, `usable` `(19,)`."""
    change = np.abs(eeg_uv[:, POP_RISE:] - eeg_uv[:, :-POP_RISE])
    typical = np.median(change[:, ::5], axis=1)
    candidates = usable & (change.max(axis=1) >= np.maximum(POP_MIN_UV, POP_FACTOR * typical))
    found = []
    for row in np.flatnonzero(candidates):
        jumps = _jumps(eeg_uv, change[row], int(row), max(POP_MIN_UV, POP_FACTOR * float(typical[row])), usable)
        if jumps:
            onset_s, last_s = jumps[0][0] / SFREQ_HZ, jumps[-1][0] / SFREQ_HZ
            when_s = (onset_s, min(last_s + 0.5, SEGMENT_SAMPLES / SFREQ_HZ) - onset_s)
            highest_uv = max(height for _, height in jumps)
            found.append(finding(segment_id, FindingKind.ELECTRODE_POP, (CHANNELS[row],), highest_uv, POP_MIN_UV, "uV jump", when_s))
    return found


def _jumps(eeg_uv: npt.NDArray[np.float32], change: Floats, row: int, least_uv: float, usable: Bools) -> list[tuple[int, float]]:
    """Samples and heights (uV) of the pops of one electrode."""
    found: list[tuple[int, float]] = []
    left = change.copy()
    while (at := int(np.argmax(left))) >= 0 and left[at] >= least_uv:
        left[max(0, at - SFREQ_HZ // 4) : at + SFREQ_HZ // 4] = 0.0
        if at >= _BEFORE and at + POP_RISE + _LATE[1] <= SEGMENT_SAMPLES:
            steps, held, late = _steps(eeg_uv, at, row)
            height = abs(float(steps[row]))
            near = np.abs(steps[NEIGHBOURS[row] & usable])
            alone = len(near) > 0 and float(near.max()) <= POP_LOCAL * height
            if alone and height >= POP_MIN_UV and held >= POP_HELD and late <= _DECAYED:
                found.append((at + POP_RISE // 2, height))
    return sorted(found)


def _steps(eeg_uv: npt.NDArray[np.float32], at: int, row: int) -> tuple[Floats, float, float]:
    """Level after the jump at `at` over that before it, `(19,)`; and what share of it electrode `row` keeps soon and late."""
    near = eeg_uv[:, at - _BEFORE : at + POP_RISE + _LATE[1]]
    level, end = near - near[:, :_BEFORE].mean(axis=1, keepdims=True), _BEFORE + POP_RISE
    after = level[:, end : end + _AFTER].mean(axis=1).astype(np.float64)
    height = after[row] or 1e-9
    soon, late = (float(level[row, end + first : end + stop].mean()) / height for first, stop in (_HELD, _LATE))
    return after, soon, late
