"""From EDF bytes to an interpretation, without HTTP and without Ray."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cg_data.corpora.source import Source
from cg_data.detect.detector import Detector
from cg_data.edf.reader import EdfFile
from cg_data.errors import EdfError
from cg_data.instruct.captions import caption
from cg_data.instruct.facts import facts_of
from cg_data.instruct.prompt import page_statement
from cg_data.recording import describe
from cg_data.records import Event
from cg_data.segments import segments_of
from cg_data.settings import DataSettings
from cg_data.vocabulary import CHANNELS, REGION_CHANNELS, WAVEFORMS, Region
from cg_serve.interpret import ANSWERED_AT_ONCE, annotate_pages, interpret, read_pages
from cg_serve.schemas import DISCLAIMER, Interpretation, RequestError
from cg_serve.settings import ServeSettings
from tests.cg_data.edf_bytes import Spec, make
from tests.cg_data.test_electrodes import CHB_MIT
from tests.cg_serve.serve_fakes import IDENTITY, PAGES, FakeDetector, FakeInterpreter, small_edf
from tests.detectors_small import spec_of, untrained

DATA = DataSettings()
HMC = ["EEG F4-M1", "EEG C4-M1", "EEG O2-M1", "EEG C3-M2"]
FRONT = [name for name in CHANNELS if name not in REGION_CHANNELS[Region.POSTERIOR]]


def interpreted(edf: bytes, interpreter: FakeInterpreter | None = None, **part: int) -> Interpretation:
    return interpret(
        edf, detector=FakeDetector(), interpreter=interpreter or FakeInterpreter(), data=DATA, settings=ServeSettings(), **part
    )


def test_every_page_of_a_recording_is_interpreted_in_order() -> None:
    found = interpreted(small_edf())
    assert found.total_segments == len(found.segments) == PAGES
    assert [(s.index, s.start_s) for s in found.segments] == [(0, 0.0), (1, 10.0), (2, 20.0), (3, 30.0)]
    assert all(s.text.startswith(page_statement()) for s in found.segments)
    kept_or_removed = [*found.segments[0].events, *(r.event for r in found.segments[0].removed)]
    assert [(e.waveform, e.channel, e.onset_s) for e in kept_or_removed] == [("spike", "Fz", 2.0)]


def test_an_interpretation_says_where_it_comes_from_and_that_it_is_a_draft() -> None:
    found = interpreted(small_edf(), start=1, count=1)
    assert (found.versions.detector, found.versions.interpreter) == (FakeDetector.version, FakeInterpreter.version)
    assert all(found.versions.model_dump().values())
    assert found.disclaimer == DISCLAIMER
    assert found.research_use_only is True


def test_a_part_of_a_recording_is_interpreted_as_the_whole_has_it() -> None:
    whole, part = interpreted(small_edf()), interpreted(small_edf(), start=2, count=1)
    assert part.segments == whole.segments[2:3]
    assert part.total_segments == PAGES
    assert part.recording_id == whole.recording_id


def test_pages_are_those_of_the_data_engine() -> None:
    edf = EdfFile.from_bytes(small_edf(), "file.edf")
    expected = list(segments_of(edf, describe(edf, source=Source(uri="file.edf"), corpus="any", settings=DATA)))
    pages = read_pages(small_edf(), start=0, count=None, data=DATA, max_segments=100)
    assert [s.eeg_steps.tobytes() for s in pages.segments] == [s.eeg_steps.tobytes() for s in expected]
    assert [s.segment_id for s in pages.segments] == [s.segment_id for s in expected]


def test_nothing_of_the_header_is_in_the_answer() -> None:
    sent = interpreted(small_edf()).model_dump_json()
    assert not [word for word in (*IDENTITY.replace("_", " ").split(), "01.01.85") if len(word) > 1 and word in sent]


def test_without_a_count_a_request_gets_what_is_allowed() -> None:
    pages = read_pages(small_edf(), start=1, count=None, data=DATA, max_segments=2)
    assert [index for index, _ in pages.numbered()] == [1, 2]


def test_more_segments_than_allowed_are_refused() -> None:
    with pytest.raises(RequestError, match="segments: 3 asked for; at most 2") as refused:
        read_pages(small_edf(), start=0, count=3, data=DATA, max_segments=2)
    assert (refused.value.status, refused.value.code) == (400, "too_many_segments")


def test_a_start_behind_the_last_segment_is_refused() -> None:
    with pytest.raises(RequestError, match=r"segment 4 asked for; the recording has 4 of them \(0 to 3\)") as refused:
        read_pages(small_edf(), start=PAGES, count=1, data=DATA, max_segments=2)
    assert refused.value.code == "segment_out_of_range"


@pytest.mark.parametrize("edf", [b"", b"Dear colleague, ...", small_edf()[:5000]], ids=["empty", "letter", "header alone"])
def test_what_is_no_recording_is_refused_with_a_reason(edf: bytes) -> None:
    with pytest.raises(EdfError) as refused:
        read_pages(edf, start=0, count=None, data=DATA, max_segments=2)
    assert "." in refused.value.reason
    assert "the recording" in str(refused.value)


def test_a_long_recording_is_answered_in_batches() -> None:
    interpreter = FakeInterpreter()
    found = interpreted(small_edf(10 * (ANSWERED_AT_ONCE + 1)), interpreter)
    assert [len(batch) for batch in interpreter.asked] == [ANSWERED_AT_ONCE, 1]
    assert len(found.segments) == ANSWERED_AT_ONCE + 1


@pytest.mark.parametrize("labels", [HMC, CHB_MIT, FRONT], ids=["four electrodes", "bipolar", "no posterior electrodes"])
def test_missing_electrodes_are_named_and_nothing_is_said_of_them(labels: list[str]) -> None:
    """Through the service with a real, untrained detector that sees something everywhere."""
    edf = make(Spec(labels=labels, n_records=20, sfreq_hz=256))
    pages = read_pages(edf, start=0, count=None, data=DATA, max_segments=8)
    missing = {name for name, there in zip(CHANNELS, pages.segments[0].mask, strict=True) if not there}
    assert missing
    detector = Thinned()
    for segment, annotation in zip(pages.segments, annotate_pages(pages, detector), strict=True):
        channels = {event.channel for event in annotation.events} | {name for f in annotation.findings for name in f.channels}
        poles = {name for d in annotation.dipoles for name in (*d.field, d.maximum, d.opposite)}
        assert channels
        assert not (channels | poles) & missing
        assert caption(facts_of(segment, annotation)).text.startswith(f"Missing channels: {min(missing, key=CHANNELS.index)}")
    found = interpret(edf, detector=detector, interpreter=FakeInterpreter(), data=DATA, settings=ServeSettings())
    assert len(found.segments) == 2
    assert not {event.channel for segment in found.segments for event in segment.events} & missing


class Thinned:
    """An untrained detector, of whose thousands of events a few of each waveform are kept."""

    version = "untrained"

    def __init__(self) -> None:
        self._detector = Detector(untrained(), spec_of())

    def detect(self, eeg_uv: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]) -> list[tuple[Event, ...]]:
        return [
            tuple(e for w in WAVEFORMS for e in [e for e in page if e.waveform is w][:3]) for page in self._detector.detect(eeg_uv, mask)
        ]
