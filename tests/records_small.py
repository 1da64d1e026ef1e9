"""Records that tests of several packages build by hand."""

from __future__ import annotations

from cg_data.records import Event
from cg_data.vocabulary import EventSource, Waveform


def event(waveform: Waveform, channel: str, onset_s: float, duration_s: float, probability: float = 0.9) -> Event:
    """An event as the detector gives it."""
    return Event(
        event_id=f"{waveform}-{channel}-{onset_s}",
        waveform=waveform,
        channel=channel,
        onset_s=onset_s,
        duration_s=duration_s,
        score=probability,
        probability=probability,
        source=EventSource.DETECTOR,
    )
