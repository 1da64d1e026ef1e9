"""Uploaded recordings between two requests: cleaned segments in memory, without header, name or free text of the file.

One store serves all replicas of the ingress; a restart forgets everything, and clients upload again.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator

from cg_data.records import Segment
from cg_serve.schemas import RequestError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pages:
    """Consecutive segments of one recording from number `start`; the recording has `total`."""

    recording_id: str
    total: int
    start: int
    segments: tuple[Segment, ...]

    def numbered(self) -> Iterator[tuple[int, Segment]]:
        return enumerate(self.segments, start=self.start)


class RecordingStore:
    """At most `max_recordings` recordings of at most `max_segments` segments (76 kB each); what was not used longest goes first."""

    def __init__(self, *, max_recordings: int, max_segments: int) -> None:
        self._max_recordings = max_recordings
        self._max_segments = max_segments
        self._kept: OrderedDict[str, dict[int, Segment]] = OrderedDict()

    def keep(self, pages: Pages) -> None:
        """Add the segments of `pages` to those of the same recording; beyond the limit the earliest added are dropped."""
        segments = self._kept.setdefault(pages.recording_id, {})
        for index, segment in pages.numbered():
            segments.pop(index, None)
            segments[index] = segment
        for index in list(segments)[: -self._max_segments]:
            del segments[index]
        self._kept.move_to_end(pages.recording_id)
        while len(self._kept) > self._max_recordings:
            self._kept.popitem(last=False)

    def segment(self, recording_id: str, index: int) -> Segment:
        """Segment `index` of a recording.

        Raises:
            RequestError: 404, the recording or this segment of it is not here (any more).
        """
        if recording_id not in self._kept:
            raise RequestError(
                404, "recording_not_found", f"file_id {recording_id[:64]!r}: no such recording here. Send it to /v1/interpret (again)."
            )
        self._kept.move_to_end(recording_id)
        segments = self._kept[recording_id]
        if index not in segments:
            raise RequestError(
                404,
                "segment_not_found",
                f"segment {index} of {recording_id} is not here. Send the recording to /v1/interpret with start={index}.",
            )
        return segments[index]
