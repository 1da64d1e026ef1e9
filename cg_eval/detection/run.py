"""An evaluation from segments to figures: detectors propose, what they propose is stored, and every figure comes from what is stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cg_data import storage
from cg_data.errors import ConfigError, UserError
from cg_data.progress import Progress, silent
from cg_data.records import Event, Segment
from cg_data.rows import segment_from_row
from cg_data.vocabulary import WAVEFORMS, Split
from cg_eval.detection.figures import compare, evaluate
from cg_eval.detection.pages import Found, Page, page_of, read_found, read_pages, write_found, write_pages
from cg_eval.detection.report import write_pictures, write_report
from cg_eval.settings import EvalSettings

if TYPE_CHECKING:
    from cg_data.detect.detector import Detector

_AT_ONCE = 64
"""Pages given to a detector together."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def evaluate_detectors(
    segments_uri: str,
    detectors: Mapping[str, str],
    *,
    split: Split,
    out_uri: str,
    settings: EvalSettings,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Let detectors propose on the marked pages of a split, and say how well they do.

    Args:
        segments_uri: folder of segment shards.
        detectors: folder of each detector by a name for it.
        split: whose pages.
        out_uri: folder that gets ``pages.parquet``, a folder of events and pictures for each detector, ``report.html``, and
            ``metrics.json`` last.
        settings: resamples and seed of the intervals.
        progress: told pages done of pages in all, over all detectors.

    Returns:
        The content of ``metrics.json``.

    Raises:
        ConfigError: a name that cannot be one of a folder, or a folder without a detector.
        UserError: no segments, none of the split, or no mark of a waveform in them.
    """
    loaded = load_detectors(detectors)
    pages = _marked_pages(segments_uri, split, loaded.values())
    storage.delete(out_uri)
    write_pages(storage.join(out_uri, "pages.parquet"), pages)
    for done, (name, detector) in enumerate(loaded.items()):
        part = _part(progress, done * len(pages), len(loaded) * len(pages))
        found = _propose(detector, _segments(segments_uri, split), pages, name, part)
        write_found(storage.join(out_uri, name), [page.segment_id for page in pages], found)
    return figures_of(out_uri, list(detectors), settings, title=f"{len(pages)} pages of the {split} subjects")


def figures_of(out_uri: str, names: Sequence[str], settings: EvalSettings, *, title: str) -> dict[str, Any]:
    """Compute every figure from the stored rows of an evaluation; write pictures, ``report.html`` and ``metrics.json``."""
    pages = read_pages(storage.join(out_uri, "pages.parquet"))
    evaluations = {name: evaluate(pages, read_found(storage.join(out_uri, name), pages), settings) for name in names}
    metrics: dict[str, Any] = {
        "title": title,
        "resamples": settings.resamples,
        "seed": settings.seed,
        "detectors": {name: evaluation.figures for name, evaluation in evaluations.items()},
        "comparisons": compare(evaluations),
    }
    pictures = {name: write_pictures(storage.join(out_uri, name), figures) for name, figures in metrics["detectors"].items()}
    write_report(storage.join(out_uri, "report.html"), metrics, pictures)
    storage.write_json(storage.join(out_uri, "metrics.json"), metrics)
    return metrics


def load_detectors(detectors: Mapping[str, str]) -> dict[str, Detector]:
    """The detectors of folders by name; before any other work, so that a wrong folder costs nothing.

    Raises:
        ConfigError: a name that cannot be one of a folder, or a folder without a detector.
        StorageError: a detector that is damaged.
    """
    from cg_data.detect.detector import Detector

    for name, folder in detectors.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"--detector {name}={folder}: {name!r} cannot name a folder. Use letters, digits, dots, dashes, underscores.")
        if not storage.exists(storage.join(folder, "detector.json")):
            raise ConfigError(f"{folder}: no detector there. Train one with `cg train detector`, or give --detector NAME=FOLDER.")
    return {name: Detector.load(folder) for name, folder in detectors.items()}


def _marked_pages(segments_uri: str, split: Split, detectors: Iterable[Detector]) -> list[Page]:
    """Pages of a split of which anything is known to a detector: one that marks spikes wider takes a click on one for a mark."""
    pages = sorted((page_of(s) for s in _segments(segments_uri, split)), key=lambda page: page.segment_id)
    if not pages:
        raise UserError(f"{segments_uri}: no segment of the {split} split there. Run `cg data segments` first, or choose another --split.")
    min_box_s = max(detector.spec.min_box_s for detector in detectors)
    references = [page.references(min_box_s) for page in pages]
    if not any(len(known.marks) for known in references):
        raise UserError(f"{segments_uri}: none of the {len(pages)} segments of the {split} split has a reference mark of a waveform.")
    if not any(known.known for known in references):
        raise UserError(
            f"{segments_uri}: nothing says where a waveform was looked for, so that no event can be called false. Make the segments anew, "
            "or say it in the table of marks beside the recording (searched:WAVEFORM)."
        )
    return [page for page, known in zip(pages, references, strict=True) if len(known.marks) or known.known]


def _segments(segments_uri: str, split: Split) -> Iterator[Segment]:
    """Segments of a split, one shard in memory at a time."""
    for part in storage.list_files(segments_uri, ".parquet"):
        yield from map(segment_from_row, storage.read_table(part, filters=[("split", "==", split.value)]).to_pylist())


def _propose(detector: Detector, segments: Iterable[Segment], pages: Sequence[Page], name: str, progress: Progress) -> Found:
    """All that a detector proposes on the segments, in the order of the pages."""
    events: dict[str, tuple[Event, ...]] = {}
    wanted = {page.segment_id for page in pages}
    for batch in _batches(s for s in segments if s.segment_id in wanted):
        found = detector.propose(np.stack([s.eeg_uv for s in batch]), np.stack([s.mask for s in batch]))
        events |= zip((s.segment_id for s in batch), found, strict=True)
        progress(len(events), len(pages), name)
    return Found(
        version=detector.version,
        min_box_s=detector.spec.min_box_s,
        thresholds={waveform: detector.spec.threshold(waveform) for waveform in WAVEFORMS},
        events=tuple(events[page.segment_id] for page in pages),
    )


def _batches(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    batch: list[Segment] = []
    for segment in segments:
        batch.append(segment)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _part(progress: Progress, before: int, total: int) -> Progress:
    """Progress of one detector as a part of that of all."""
    return lambda done, _, note="": progress(before + done, total, note)
