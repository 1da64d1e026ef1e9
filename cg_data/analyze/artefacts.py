"""Artefacts that can be measured on the signal: here flat channels, electrode faults, clipping, muscle and electrical lines.

Plain thresholds, each with its source. Windows last one second, at half overlap. Pops, drifts, heart and eyes have modules of their own.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import scipy.fft

from cg_data.analyze.background import Bools, Floats, Spectrum, between, finding
from cg_data.analyze.drifts import drift_findings
from cg_data.analyze.eyes import eye_findings
from cg_data.analyze.heartbeat import ecg_finding
from cg_data.analyze.layout import NEIGHBOURS, names_of
from cg_data.analyze.pops import pop_findings
from cg_data.records import Finding
from cg_data.vocabulary import CHANNELS, N_CHANNELS, SFREQ_HZ, UV_PER_STEP, FindingKind

HOP_S = 0.5
FLAT_STD_UV = 1.0
"""A channel is flat while its detrended standard deviation stays below this. Even electrocerebral quiet recorded at high gain shows more
than 2 uV peak to peak (ACNS guideline 6); the trend is what the high-pass filter leaves after a disconnection."""
FLAT_MIN_S = 2.0
"""Three windows in a row; shorter pauses are left unsaid."""
FAULT_MIN_UV = 150.0
"""Electrode fault: at least this high peak to peak, FAULT_FACTOR times its neighbours' median and correlated with none of them."""
FAULT_FACTOR = 3.0
FAULT_CORRELATION = 0.4
"""PREP pipeline (Bigdely-Shamlo et al. 2015): a channel whose highest correlation with the others is below 0.4 is bad."""
FAULT_ROUGH = 0.6
"""RMS of the change from sample to sample over that of the signal, from which a loud channel is one of muscle: a wave of 20 Hz has 0.62."""
MUSCLE_HZ = (26.0, 70.0)
"""Scalp EEG above 20 Hz is mostly muscle (Whitham et al. 2007). From 26 Hz on (Brunner et al. 1996) a high alpha rhythm, whose second
harmonic lies at 16 to 26 Hz, and the beta activity of sedatives stay below."""
MUSCLE_FACTOR = 3.0
MUSCLE_RANGE_UV = (10.0, 30.0)
"""Muscle: RMS in `MUSCLE_HZ` above MUSCLE_FACTOR times the page's median (Brunner et al. 1996 take four times the local median power, that
is twice the amplitude, on sleep EEG), but never for less than 10 uV and always for more than 30 uV."""
MUSCLE_LASTS_S = 0.25
"""Without a gap it must be as rough as `MUSCLE_EVEN` of its roughest for so long: a spike lasts 20 to 70 ms, a sharp wave 70 to 200 ms
(IFCN glossary, Kane et al. 2017), and in a train of spikes and waves each slow wave is smooth."""
MUSCLE_EVEN = 0.4
LINE_MIN_HZ = 15.0
LINE_FACTOR = 300.0
"""An electrical line: one half-hertz bin this many times the median of its surroundings (2.5 to 5 Hz away), on half of the channels.
The notch of `cg_data.signal` takes out the mains; what is found here is a residue, a harmonic or an alias."""

CLIP_UV = 32767 * UV_PER_STEP
"""Clipped: samples at the end of the range of a segment (int16 at 0.1 uV). An amplifier that saturates earlier leaves no equal values
behind the filter and the average reference; where it is far beyond the EEG it shows as an electrode fault."""
CLIP_MIN_SAMPLES = 2
"""One sample at the end of the range may be a summit."""
POP_EXPLAINS_S = 2.5
"""An electrode that is faulty for no longer, around its pop, is told as a pop; a longer one is a fault that also pops."""
AROUND_FLAT_S = 1.0
"""Where an electrode goes flat or comes back, it jumps; that is told by the flat channel."""

_LENGTH = SFREQ_HZ
_BLOCK = SFREQ_HZ // 20
_MUSCLE_BLOCKS = round(MUSCLE_LASTS_S * SFREQ_HZ / _BLOCK)
_HANN: Floats = np.hanning(_LENGTH + 1)[:-1]
_HIGH: Bools = between(np.fft.rfftfreq(_LENGTH, 1 / SFREQ_HZ).astype(np.float64), *MUSCLE_HZ)
_RAMP: Floats = np.linspace(-1, 1, _LENGTH) / np.linalg.norm(np.linspace(-1, 1, _LENGTH))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Artefacts:
    """Findings of the page; `unusable` `(19,)` marks flat or faulty channels, `line_hz` an electrical line."""

    findings: tuple[Finding, ...]
    unusable: Bools
    line_hz: float | None


def artefacts_of(
    segment_id: str, eeg_uv: npt.NDArray[np.float32], mask: Bools, spectrum: Spectrum, *, deep_sleep: bool = False
) -> Artefacts:
    """Look for every measurable artefact on the channels that exist.

    Args:
        segment_id: enters the ids of the findings.
        eeg_uv: `(19, 2000)` microvolts.
        mask: `(19,)`, True where the electrode exists.
        spectrum: of `eeg_uv`.
        deep_sleep: the stage is N3, whose slow waves look like sweat.
    """
    windows = _windows(eeg_uv)
    muscle = muscle_uv(windows)
    std = _detrended_std_uv(windows)
    flat = (std < FLAT_STD_UV) & mask[:, None]
    flat_found = _flat_findings(segment_id, std, flat)
    there = mask & ~flat.all(axis=1)
    pops = [f for f in pop_findings(segment_id, eeg_uv, there) if not _beside_flat(f, flat_found)]
    fault = _unexplained(_fault(windows, there) & mask[:, None], pops)
    flat_rows = np.array([_longest_s(row) >= FLAT_MIN_S for row in flat])
    unusable = ~mask | flat_rows | fault.any(axis=1)
    good = ~unusable
    clips = _clip_findings(segment_id, eeg_uv, mask)
    findings = [*flat_found, *pops, *_fault_findings(segment_id, windows, fault), *clips]
    line_hz = find_line_hz(spectrum, good)
    if line_hz is not None:
        findings.append(_line_finding(segment_id, spectrum, good, line_hz))
    else:
        findings += _muscle_findings(segment_id, windows, muscle, good)
        heart = ecg_finding(segment_id, eeg_uv, good)
        findings += [] if heart is None else [heart]
    if not clips:  # an amplifier that comes back from beyond its range drifts on every channel
        findings += drift_findings(segment_id, eeg_uv, good, deep_sleep=deep_sleep)
    findings += eye_findings(segment_id, eeg_uv, good)
    return Artefacts(findings=tuple(findings), unusable=unusable & mask, line_hz=line_hz)


def flat_stretches(eeg_uv: npt.NDArray[np.float32], mask: Bools) -> list[tuple[int, float, float]]:
    """Row, onset and duration in seconds of every stretch of `FLAT_MIN_S` or more in which a channel of `mask` is flat."""
    flat = (_detrended_std_uv(_windows(eeg_uv)) < FLAT_STD_UV) & mask[:, None]
    stretches = [(int(row), *_seconds(run)) for row in np.flatnonzero(flat.any(axis=1)) for run in _runs(flat[row])]
    return [stretch for stretch in stretches if stretch[2] >= FLAT_MIN_S]


def clipped_samples(eeg_uv: npt.NDArray[np.float32], mask: Bools) -> Bools:
    """Samples `(19, 2000)` at the end of the range, on channels of `mask` that have `CLIP_MIN_SAMPLES` of them."""
    clipped: Bools = (np.abs(eeg_uv) >= CLIP_UV - UV_PER_STEP / 2) & mask[:, None]
    return clipped & (clipped.sum(axis=1) >= CLIP_MIN_SAMPLES)[:, None]


def _windows(eeg_uv: npt.NDArray[np.float32]) -> Floats:
    """Mean-free windows of a second, `(19, windows, 200)`."""
    windows = np.lib.stride_tricks.sliding_window_view(eeg_uv, _LENGTH, axis=1)[:, :: int(HOP_S * SFREQ_HZ)].astype(np.float64)
    windows -= windows.mean(axis=2, keepdims=True)
    return windows


def _beside_flat(pop: Finding, flat: list[Finding]) -> bool:
    return any(
        f.channels == pop.channels
        and f.onset_s - AROUND_FLAT_S <= pop.onset_s + pop.duration_s
        and pop.onset_s <= f.onset_s + f.duration_s + AROUND_FLAT_S
        for f in flat
    )


def _unexplained(fault: Bools, pops: list[Finding]) -> Bools:
    """Faulty windows `(19, windows)` without those of electrodes whose pop is all that is wrong with them."""
    for pop in pops:
        row = CHANNELS.index(pop.channels[0])
        runs = _runs(fault[row])
        if runs:
            onset_s, duration_s = _seconds((runs[0][0], runs[-1][1]))
            if duration_s <= POP_EXPLAINS_S and onset_s <= pop.onset_s + pop.duration_s and pop.onset_s <= onset_s + duration_s:
                fault[row] = False
    return fault


def _clip_findings(segment_id: str, eeg_uv: npt.NDArray[np.float32], mask: Bools) -> list[Finding]:
    """Channels that reach the end of the range, one finding for all of them."""
    clipped = clipped_samples(eeg_uv, mask)
    rows = np.flatnonzero(clipped.any(axis=1))
    if len(rows) == 0:
        return []
    at = np.flatnonzero(clipped[rows].any(axis=0))
    when_s = (float(at[0]) / SFREQ_HZ, float(at[-1] - at[0] + 1) / SFREQ_HZ)
    return [finding(segment_id, FindingKind.CLIPPING, names_of(rows), float(np.abs(eeg_uv[rows]).max()), CLIP_UV, "uV", when_s)]


def _runs(row: Bools) -> list[tuple[int, int]]:
    """Stretches of True as (first, one past last)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _seconds(run: tuple[int, int]) -> tuple[float, float]:
    """Onset and duration of a run of windows."""
    return run[0] * HOP_S, (run[1] - run[0] - 1) * HOP_S + 1.0


def _longest_s(row: Bools) -> float:
    return max((_seconds(run)[1] for run in _runs(row)), default=0.0)


def _detrended_std_uv(windows: Floats) -> Floats:
    trend = (windows @ _RAMP)[..., None] * _RAMP
    std: Floats = (windows - trend).std(axis=-1)
    return std


def _flat_findings(segment_id: str, std: Floats, flat: Bools) -> list[Finding]:
    found = []
    for row in np.flatnonzero(flat.any(axis=1)):
        where = (CHANNELS[row],)
        for run in _runs(flat[row]):
            if _seconds(run)[1] >= FLAT_MIN_S:
                value = float(std[row, run[0] : run[1]].max())
                unit = "uV standard deviation"
                found.append(finding(segment_id, FindingKind.FLAT_CHANNEL, where, value, FLAT_STD_UV, unit, _seconds(run)))
    return found


def _neighbour_medians(values: Floats, good: Bools) -> Floats:
    """Median over the good neighbours of every channel, `(19, windows)`; infinite where a channel has none."""
    result = np.full_like(values, np.inf)
    for row in range(N_CHANNELS):
        near = NEIGHBOURS[row] & good
        if near.any():
            result[row] = np.median(values[near], axis=0)
    return result


def _fault(windows: Floats, good: Bools) -> Bools:
    swing = np.ptp(windows, axis=2)
    if not (swing >= FAULT_MIN_UV).any():
        return np.zeros(swing.shape, dtype=np.bool_)
    unit = windows / np.maximum(np.linalg.norm(windows, axis=2, keepdims=True), 1e-9)
    unit = unit.transpose(1, 0, 2)
    correlation = np.abs(unit @ unit.transpose(0, 2, 1)).transpose(1, 2, 0)
    highest = np.where((NEIGHBOURS & good[None])[:, :, None], correlation, 0.0).max(axis=1)
    around = np.maximum(_neighbour_medians(swing, good), 1e-9)
    fault: Bools = (swing >= FAULT_MIN_UV) & (swing >= FAULT_FACTOR * around) & (highest < FAULT_CORRELATION)
    # Muscle is as local and as large, but fast.
    wild = windows[fault]
    fault[fault] = np.diff(wild, axis=1).std(axis=1) < FAULT_ROUGH * wild.std(axis=1)
    return fault


def _fault_findings(segment_id: str, windows: Floats, fault: Bools) -> list[Finding]:
    found = []
    for row in np.flatnonzero(fault.any(axis=1)):
        runs = _runs(fault[row])
        when_s = _seconds((runs[0][0], runs[-1][1]))
        value = float(np.ptp(windows[row][fault[row]], axis=1).max())
        where = (CHANNELS[row],)
        found.append(finding(segment_id, FindingKind.ELECTRODE_FAULT, where, value, FAULT_MIN_UV, "uV peak to peak", when_s))
    return found


def muscle_uv(windows: Floats) -> Floats:
    """RMS in `MUSCLE_HZ` of `(channels, windows, 200)` mean-free windows, by Parseval on Hann windows."""
    power = np.abs(scipy.fft.rfft(windows * _HANN, axis=2)[:, :, _HIGH]) ** 2
    rms: Floats = np.sqrt(2 * power.sum(axis=2) / (_LENGTH * float(_HANN @ _HANN)))
    return rms


def _muscle_findings(segment_id: str, windows: Floats, rms: Floats, good: Bools) -> list[Finding]:
    if not good.any():
        return []
    threshold = round(float(np.clip(MUSCLE_FACTOR * np.median(rms[good]), *MUSCLE_RANGE_UV)), 4)
    above = (rms >= threshold) & good[:, None]
    above[above] = _lasting(windows[above])
    if not above.any():
        return []
    when = np.flatnonzero(above.any(axis=0))
    when_s = _seconds((int(when[0]), int(when[-1]) + 1))
    where = names_of(np.flatnonzero(above.any(axis=1)))
    return [finding(segment_id, FindingKind.MUSCLE, where, float(rms[above].max()), threshold, "uV RMS 26-70 Hz", when_s)]


def _lasting(windows: Floats) -> Bools:
    """Which of some windows `(n, 200)` are rough for longer than a sharp transient, without a gap."""
    changes = np.diff(windows, axis=1, append=windows[:, -1:])
    rough = np.sqrt((changes.reshape(len(windows), _LENGTH // _BLOCK, _BLOCK) ** 2).mean(axis=2))
    even = rough >= MUSCLE_EVEN * rough.max(axis=1, keepdims=True)
    runs = np.lib.stride_tricks.sliding_window_view(even, _MUSCLE_BLOCKS, axis=1)
    return np.asarray(runs.all(axis=2).max(axis=1), dtype=np.bool_)


def _line_ratio(spectrum: Spectrum) -> Floats:
    """Every bin over the median of its surroundings, `(19, bins)`; zero below `LINE_MIN_HZ` and at the upper end."""
    step_hz = float(spectrum.freqs_hz[1])
    near, far = round(2.5 / step_hz), round(5.0 / step_hz)
    first, stop = round(LINE_MIN_HZ / step_hz), round(MUSCLE_HZ[1] / step_hz)
    offsets = np.array([k for k in range(-far, far + 1) if abs(k) >= near])
    power = spectrum.power_uv2_hz
    around = np.median(power[:, np.arange(first, stop)[:, None] + offsets], axis=2)
    ratio = np.zeros_like(power)
    ratio[:, first:stop] = power[:, first:stop] / np.maximum(around, 1e-9)
    return ratio


def find_line_hz(spectrum: Spectrum, good: Bools) -> float | None:
    """Frequency of an electrical line that half of the good channels show, or None."""
    if not good.any():
        return None
    ratio = np.median(_line_ratio(spectrum)[good], axis=0)
    at = int(np.argmax(ratio))
    return float(spectrum.freqs_hz[at]) if ratio[at] >= LINE_FACTOR else None


def _line_finding(segment_id: str, spectrum: Spectrum, good: Bools, line_hz: float) -> Finding:
    ratio = _line_ratio(spectrum)[:, round(line_hz / float(spectrum.freqs_hz[1]))]
    where = names_of(np.flatnonzero((ratio >= LINE_FACTOR) & good))
    return finding(segment_id, FindingKind.MAINS, where, float(ratio[good].max()), LINE_FACTOR, "times the spectrum around it")
