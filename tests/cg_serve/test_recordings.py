"""The store forgets what was not used longest, and says so."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from cg_data.settings import DataSettings
from cg_serve.interpret import read_pages
from cg_serve.recordings import Pages, RecordingStore
from cg_serve.schemas import RequestError
from tests.cg_serve.serve_fakes import small_edf


@pytest.fixture(scope="module")
def pages() -> Pages:
    return read_pages(small_edf(), start=0, count=None, data=DataSettings(), max_segments=100)


def named(pages: Pages, name: str) -> Pages:
    return dataclasses.replace(pages, recording_id=name)


def test_a_kept_segment_is_found_by_its_number_in_the_recording(pages: Pages) -> None:
    store = RecordingStore(max_recordings=2, max_segments=8)
    store.keep(dataclasses.replace(pages, start=2, segments=pages.segments[2:]))
    assert store.segment(pages.recording_id, 3) is pages.segments[3]


def test_parts_of_a_recording_add_up(pages: Pages) -> None:
    store = RecordingStore(max_recordings=2, max_segments=8)
    store.keep(dataclasses.replace(pages, segments=pages.segments[:1]))
    store.keep(dataclasses.replace(pages, start=3, segments=pages.segments[3:]))
    assert store.segment(pages.recording_id, 0) is pages.segments[0]
    assert store.segment(pages.recording_id, 3) is pages.segments[3]
    with pytest.raises(RequestError, match=r"segment 1 of .* start=1") as refused:
        store.segment(pages.recording_id, 1)
    assert (refused.value.status, refused.value.code) == (404, "segment_not_found")


def test_the_recording_that_was_not_used_longest_goes_first(pages: Pages) -> None:
    store = RecordingStore(max_recordings=2, max_segments=8)
    store.keep(named(pages, "first"))
    store.keep(named(pages, "second"))
    store.segment("first", 0)
    store.keep(named(pages, "third"))
    assert store.segment("first", 0) is pages.segments[0]
    with pytest.raises(RequestError, match="no such recording here") as refused:
        store.segment("second", 0)
    assert (refused.value.status, refused.value.code) == (404, "recording_not_found")


def test_of_a_long_recording_the_segments_added_last_are_kept(pages: Pages) -> None:
    store = RecordingStore(max_recordings=2, max_segments=3)
    store.keep(pages)
    store.keep(dataclasses.replace(pages, segments=pages.segments[:1]))
    for index in (0, 2, 3):
        assert store.segment(pages.recording_id, index) is pages.segments[index]
    with pytest.raises(RequestError):
        store.segment(pages.recording_id, 1)


def test_a_refusal_keeps_its_status_code_and_field_on_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(RequestError(404, "segment_not_found", "not here.", "segment")))
    assert (error.status, error.code, str(error), error.param) == (404, "segment_not_found", "not here.", "segment")
