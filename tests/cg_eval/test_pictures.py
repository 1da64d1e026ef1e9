"""cg_eval.pictures: a person sees what the model saw, with boxes where they belong."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from cg_data.page import page_rows, page_shape, row_centre_px
from cg_data.records import Event, Label, Segment
from cg_data.vocabulary import CHANNEL_INDEX, EventSource, LabelKind, Montage, Waveform
from cg_eval.pictures import COLOURS, LARGE_PAGE, SHORT_NAMES, draw_page


def _event(waveform: Waveform, channel: str, onset_s: float, duration_s: float) -> Event:
    return Event(
        event_id="e", waveform=waveform, channel=channel, onset_s=onset_s, duration_s=duration_s, score=0.9, probability=0.9,
        source=EventSource.DETECTOR,
    )  # fmt: skip


def _pixels(png: bytes) -> npt.NDArray[np.int64]:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(np.int64)


def _coloured(pixels: npt.NDArray[np.int64], colour: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """Rows and columns of the pixels of about this colour, `(n, 2)`."""
    return np.argwhere(np.abs(pixels - np.array(colour)).max(axis=2) < 12)


def test_the_picture_holds_the_page_at_its_size(segments: list[Segment]) -> None:
    height, width = page_shape(LARGE_PAGE)
    pixels = _pixels(draw_page(segments[0].eeg_uv, segments[0].mask))
    assert pixels.shape[0] > height
    assert pixels.shape[1] > width
    assert (pixels[:height].sum(axis=2) < 150).sum() > 10_000


def test_an_event_is_boxed_on_its_row_and_in_its_time(segments: list[Segment]) -> None:
    event = _event(Waveform.SLEEP_SPINDLE, "C3", 5.0, 2.0)
    pixels = _pixels(draw_page(segments[1].eeg_uv, segments[1].mask, events=[event]))
    found = _coloured(pixels, COLOURS[Waveform.SLEEP_SPINDLE])
    found = found[found[:, 0] < page_shape(LARGE_PAGE)[0]]
    centre, half = row_centre_px(LARGE_PAGE, CHANNEL_INDEX["C3"]), LARGE_PAGE.pixels_per_row / 2
    assert abs(found[:, 0].mean() - 10 - centre) < half
    assert found[:, 1].max() - found[:, 1].min() == 2 * LARGE_PAGE.pixels_per_second


def test_on_a_page_of_chains_an_event_is_boxed_in_both_rows_of_its_electrode(segments: list[Segment]) -> None:
    page = LARGE_PAGE.model_copy(update={"montage": Montage.LONGITUDINAL_BIPOLAR})
    pixels = _pixels(draw_page(segments[1].eeg_uv, segments[1].mask, events=[_event(Waveform.SLEEP_SPINDLE, "C3", 5.0, 2.0)], page=page))
    found = _coloured(pixels, COLOURS[Waveform.SLEEP_SPINDLE])
    found = found[found[:, 0] < page_shape(page)[0]]
    rows = {int(y - 10) // page.pixels_per_row for y in found[:, 0]}
    assert rows == {page_rows(page).index("F3-C3"), page_rows(page).index("C3-P3")}


def test_a_reference_mark_is_drawn_and_a_mark_of_the_page_is_not(segments: list[Segment]) -> None:
    spike = Label(kind=LabelKind.WAVEFORM, name=Waveform.SPIKE.value, onset_s=3.0, duration_s=0.2, channel="T4")
    whole = Label(kind=LabelKind.STAGE, name="n2", onset_s=0.0, duration_s=10.0)
    bare, marked, staged = (draw_page(segments[1].eeg_uv, segments[1].mask, labels=labels) for labels in ([], [spike], [whole]))
    assert len(_coloured(_pixels(marked), COLOURS[Waveform.SPIKE])) > 50
    assert staged == bare


def test_every_waveform_has_a_name_and_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(SHORT_NAMES) == set(Waveform)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_equal_pages_give_equal_bytes(segments: list[Segment]) -> None:
    events = [_event(w, "Cz", 0.5 + i, 0.5) for i, w in enumerate(Waveform)]
    first, second = (draw_page(segments[2].eeg_uv, segments[2].mask, events=events) for _ in range(2))
    assert first == second
