"""What a detector finds on real recordings at its working thresholds: whole events a minute, the electrodes they are on, and pictures.

    python benchmarks/real_recordings.py --detector runs/demo/detector [--pictures FOLDER] RECORDING ...

Marks of one class that overlap in time on any channels are one event. Epileptiform events are spikes, sharp waves and their complexes
together. Nothing here is right or wrong without a reader; of healthy people at rest few epileptiform events are expected.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cg_data.corpora.source import Source
from cg_data.detect.boxes import marks_of_events
from cg_data.detect.detector import Detector
from cg_data.edf.reader import EdfFile
from cg_data.errors import UserError
from cg_data.recording import describe
from cg_data.records import Event, Segment
from cg_data.segments import segments_of
from cg_data.settings import DataSettings
from cg_data.vocabulary import EPILEPTIFORM, SEGMENT_S, WAVEFORMS, Waveform
from cg_eval.detection.merged import merged_times
from cg_eval.pictures import draw_page

_MOST_CHANNELS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", required=True)
    parser.add_argument("--pictures", type=Path, help="folder for every page with its events as PNG")
    parser.add_argument("recordings", nargs="+", type=Path)
    arguments = parser.parse_args()
    detector = Detector.load(arguments.detector)
    lines = ["| recording | minutes | epileptiform a minute | all events, and where most of their marks are |", "|---|---|---|---|"]
    for path in arguments.recordings:
        try:
            segments = _segments(path)
        except UserError as error:
            lines.append(f"| {path.stem} | – | – | cannot be read: {error} |")
            continue
        found = detector.detect(np.stack([s.eeg_uv for s in segments]), np.stack([s.mask for s in segments]))
        if arguments.pictures is not None:
            _draw(arguments.pictures, path.stem, segments, found)
        minutes = len(segments) * SEGMENT_S / 60
        rate = sum(_whole(events, EPILEPTIFORM) for events in found) / minutes
        told = "; ".join(said for w in WAVEFORMS if (said := _said(w, found)))
        lines.append(f"| {path.stem} | {minutes:.1f} | {rate:.2f} | {told or 'none'} |")
    sys.stdout.write("\n".join(lines) + "\n")


def _segments(path: Path) -> list[Segment]:
    edf = EdfFile.open(str(path))
    return list(segments_of(edf, describe(edf, source=Source(uri=str(path)), corpus="folder", settings=DataSettings())))


def _whole(events: Iterable[Event], waveforms: Iterable[Waveform]) -> int:
    """How many events the marks of these waveforms on a page make together."""
    chosen = set(waveforms)
    return len(merged_times(marks_of_events(event for event in events if event.waveform in chosen)))


def _said(waveform: Waveform, found: Sequence[Sequence[Event]]) -> str:
    channels = Counter(e.channel for events in found for e in events if e.waveform == waveform)
    if not channels:
        return ""
    most = " ".join(f"{name} {n}" for name, n in channels.most_common(_MOST_CHANNELS))
    more = f" and {len(channels) - _MOST_CHANNELS} more" if len(channels) > _MOST_CHANNELS else ""
    return f"{waveform.replace('_', ' ')} {sum(_whole(events, [waveform]) for events in found)} ({most}{more})"


def _draw(folder: Path, name: str, segments: Sequence[Segment], found: Sequence[tuple[Event, ...]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, (segment, events) in enumerate(zip(segments, found, strict=True)):
        (folder / f"{name}-{number:03d}.png").write_bytes(draw_page(segment.eeg_uv, segment.mask, events=events))


if __name__ == "__main__":
    main()
