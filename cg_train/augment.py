"""Augmentation of a page as signal: never as picture, for polarity, the direction of time and the rows carry the classes."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from cg_data.detect.boxes import Marks
from cg_data.detect.references import References, Region, without
from cg_data.vocabulary import N_CHANNELS, SEGMENT_S, SEGMENT_SAMPLES, SFREQ_HZ, WAVEFORMS
from cg_train.recipe import AugmentSettings

Signal = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_SEAM_S = 0.3
_LEAST_PART = 0.5
_FEW = 6


def augmented(
    eeg_uv: Signal, mask: Mask, references: References, settings: AugmentSettings, random: np.random.Generator
) -> tuple[Signal, Mask, References]:
    """A page changed at random: gain, reference, noise, lost electrodes, and a shift in time.

    Args:
        eeg_uv: `(19, 2000)`.
        mask: `(19,)`.
        references: what is known of the page.
        settings: how much of each.
        random: gives the same page again for an equal state.
    """
    gain = 2.0 ** random.uniform(-settings.gain_log2, settings.gain_log2)
    eeg_uv = np.float32(gain) * eeg_uv
    eeg_uv = _rereferenced(eeg_uv, mask, settings, random)
    noise_uv = random.uniform(0.0, settings.noise_uv) * random.uniform(0.5, 1.5, (N_CHANNELS, 1))
    eeg_uv = eeg_uv + (noise_uv * random.standard_normal(eeg_uv.shape)).astype(np.float32)
    mask = _with_losses(mask, settings, random)
    references = on_rows(references, mask)
    if random.random() < settings.shift:
        samples = int(random.integers(SEGMENT_SAMPLES))
        eeg_uv, references = np.roll(eeg_uv, samples, axis=1), shifted(references, samples / SFREQ_HZ)
    return eeg_uv * mask[:, None], mask, references


def _rereferenced(eeg_uv: Signal, mask: Mask, settings: AugmentSettings, random: np.random.Generator) -> Signal:
    """Against a random mixture of the electrodes, or part of it, as other references and other caps would have it."""
    if random.random() >= settings.rereference or not mask.any():
        return eeg_uv
    weights = np.zeros(N_CHANNELS)
    weights[mask] = random.dirichlet(np.ones(int(mask.sum())))
    return eeg_uv - np.float32(random.uniform(0.0, 1.0)) * (weights @ eeg_uv).astype(np.float32)


def _with_losses(mask: Mask, settings: AugmentSettings, random: np.random.Generator) -> Mask:
    """Without some electrodes, or with a few alone as in recordings of sleep."""
    if random.random() < settings.few_channels:
        kept = np.zeros(N_CHANNELS, dtype=np.bool_)
        there = np.flatnonzero(mask)
        kept[random.permutation(there)[: int(random.integers(1, _FEW + 1))]] = True
        return kept
    return mask & (random.random(N_CHANNELS) >= settings.channel_loss)


def on_rows(references: References, mask: Mask) -> References:
    """What is known of the rows of `mask`; a coarse region that loses rows may have lost its waveform with them, so it is unknown."""
    marks = references.marks[mask[references.marks[:, 1].astype(np.int64)]]
    coarse = tuple(region for region in references.coarse if not (region.rows & ~mask).any())
    known = (dataclasses.replace(region, rows=region.rows & mask) for region in references.known)
    return References(marks=marks, coarse=coarse, known=tuple(region for region in known if region.rows.any()))


def shifted(references: References, by_s: float) -> References:
    """What is known of a page that is turned in time: its last `by_s` seconds come first.

    Of a mark that the new edge cuts the parts that are at least half of it stay. Where a lesser part is, and at the seam, where the old end
    meets the old start, nothing is known.
    """
    known = [part for region in references.known for part in _turned(region, by_s)]
    marks, slivers = _turned_marks(references.marks, by_s)
    every = np.ones(len(WAVEFORMS), dtype=np.bool_)
    seam = Region(rows=np.ones(N_CHANNELS, dtype=np.bool_), start_s=by_s - _SEAM_S, stop_s=by_s + _SEAM_S, waveforms=every)
    for hole in (seam, *(_region_of(mark) for mark in slivers)):
        known = [part for region in known for part in without(region, hole)]
    coarse = tuple(parts[0] for region in references.coarse if len(parts := _turned(region, by_s)) == 1)
    return References(marks=marks, coarse=coarse, known=tuple(known))


def _turned(region: Region, by_s: float) -> list[Region]:
    """A region turned in time: in two where the new edge cuts it."""
    start_s, stop_s = region.start_s + by_s, region.stop_s + by_s
    if start_s >= SEGMENT_S:
        return [dataclasses.replace(region, start_s=start_s - SEGMENT_S, stop_s=stop_s - SEGMENT_S)]
    if stop_s <= SEGMENT_S:
        return [dataclasses.replace(region, start_s=start_s, stop_s=stop_s)]
    before = dataclasses.replace(region, start_s=start_s, stop_s=float(SEGMENT_S))
    return [before, dataclasses.replace(region, start_s=0.0, stop_s=stop_s - SEGMENT_S)]


def _turned_marks(marks: Marks, by_s: float) -> tuple[Marks, Marks]:
    """Marks turned in time, and the slivers that the new edge cut from them."""
    moved = marks + np.array([0.0, 0.0, by_s, by_s])
    late = moved[:, 2] >= SEGMENT_S
    moved[late, 2:] -= SEGMENT_S
    length = moved[:, 3] - moved[:, 2]
    ahead = moved[moved[:, 3] > SEGMENT_S] - np.array([0.0, 0.0, SEGMENT_S, SEGMENT_S])
    parts = np.concatenate([moved, ahead])
    whole = np.concatenate([length, ahead[:, 3] - ahead[:, 2]])
    parts[:, 2:] = np.clip(parts[:, 2:], 0.0, SEGMENT_S)
    enough = parts[:, 3] - parts[:, 2] >= _LEAST_PART * whole
    return parts[enough], parts[~enough]


def _region_of(mark: npt.NDArray[np.float64]) -> Region:
    rows, waveforms = np.zeros(N_CHANNELS, dtype=np.bool_), np.zeros(len(WAVEFORMS), dtype=np.bool_)
    rows[int(mark[1])] = waveforms[int(mark[0])] = True
    return Region(rows=rows, start_s=float(mark[2]), stop_s=float(mark[3]), waveforms=waveforms)
