"""Average precision of one detector, as it is and in every resample of the subjects."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cg_data.vocabulary import WAVEFORMS, Waveform
from cg_train.detection_metrics import IOUS, RECALLS, STRICT, Matches, at_recalls, average_precision, precision_curve

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_AT_ONCE = 100
"""Resamples worked on together: bounds memory."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ApTable:
    """Average precision `(classes, overlaps)` at the least overlaps `IOUS`, and of each resample `(resamples, classes, overlaps)`.

    NaN for a class without references (in a resample: whose references were not drawn) or that was looked for nowhere. `curves` are the
    precision envelopes at `RECALLS` for an overlap of 0.5, None of such a class.
    """

    value: Floats
    resampled: Floats
    curves: Mapping[Waveform, list[float] | None]

    def of_class(self, waveform: Waveform, levels: Sequence[int]) -> tuple[float, Floats]:
        """Mean over the overlaps `levels` of one class: the value, and that of every resample."""
        index = WAVEFORMS.index(waveform)
        return float(self.value[index, levels].mean()), self.resampled[:, index, levels].mean(axis=1)

    def of_all(self, levels: Sequence[int]) -> tuple[float, Floats]:
        """Mean over the overlaps `levels` and the classes with references; NaN where there is none."""
        return float(_mean_of_known(self.value[None, :, levels])[0]), _mean_of_known(self.resampled[:, :, levels])


LEVELS: dict[str, list[int]] = {"ap50": [0], "ap75": [STRICT], "ap5095": list(range(len(IOUS)))}
"""Which overlaps the stated figures are means over."""


def ap_table(
    matches: Mapping[Waveform, Matches], references: Floats, owners: Indices, weights: Floats, known: Collection[Waveform] = WAVEFORMS
) -> ApTable:
    """Average precision of every class.

    Args:
        matches: of all pages (`cg_train.detection_metrics.match`).
        references: number of references of each subject and class, `(subjects, classes)`.
        owners: index of the subject of each page.
        weights: how often each subject counts in each resample, `(resamples, subjects)`.
        known: classes that were looked for anywhere.
    """
    judged = {w: matches[w] if w in known else dataclasses.replace(matches[w], references=0) for w in WAVEFORMS}
    counts = references * np.array([w in known for w in WAVEFORMS])
    value = np.array([[average_precision(judged[w], level) for level in range(len(IOUS))] for w in WAVEFORMS])
    columns = [resampled_ap(judged[w], counts[:, i], owners, weights) for i, w in enumerate(WAVEFORMS)]
    return ApTable(value=value, resampled=np.stack(columns, axis=1), curves={w: _curve(m) for w, m in judged.items()})


def _curve(matches: Matches) -> list[float] | None:
    return [round(p, 4) for p in precision_curve(matches).tolist()] if matches.references else None


def resampled_ap(matches: Matches, references: Floats, owners: Indices, weights: Floats) -> Floats:
    """Average precision of one class in each resample at each overlap, `(resamples, overlaps)`.

    Every page of a subject counts as often as the subject was drawn; `references` `(subjects,)`. A page drawn twice gives each of its
    points twice; of these the last has the greatest precision where they are hits, so that one point at a hit is enough. (Only events of
    one page with exactly equal scores could stand in another order in a list of the drawn pages.)
    """
    owner = owners[matches.pages]
    wanted = weights @ references
    result = np.full((len(weights), len(IOUS)), np.nan)
    for start in range(0, len(weights), _AT_ONCE):
        chunk = slice(start, start + _AT_ONCE)
        times = weights[chunk][:, owner]
        counted = np.cumsum(times, axis=1)
        for level, hits in enumerate(matches.hits_at):
            result[chunk, level] = _interpolated(np.cumsum(times[:, hits], axis=1), counted[:, hits], wanted[chunk])
    return result


def _interpolated(true: Floats, counted: Floats, references: Floats) -> Floats:
    """COCO's mean of each row from its hits so far `true` and events so far `counted`, `(resamples, hits)`, and its `references`."""
    precision = true / np.maximum(counted, 1.0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    rows = zip(true, envelope, references, strict=True)
    return np.array([at_recalls(t / n, e).sum() / len(RECALLS) if n else np.nan for t, e, n in rows])


def _mean_of_known(ap: Floats) -> Floats:
    """Mean over classes and overlaps of `(resamples, classes, overlaps)`, of the classes that a resample holds; NaN where it holds none."""
    of_class = ap.mean(axis=2)
    known = np.isfinite(of_class)
    with np.errstate(invalid="ignore"):
        mean: Floats = np.where(known, of_class, 0.0).sum(axis=1) / known.sum(axis=1)
    return mean
