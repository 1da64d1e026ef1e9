"""Pictures for people: a page as the model sees it, large enough to read, with channel names, a time axis and boxes around waveforms."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cg_data.page import page_rows, render, rows_height_px, rows_to_draw
from cg_data.records import Event, Label
from cg_data.settings import PageSettings
from cg_data.vocabulary import CHANNELS, SEGMENT_S, WAVEFORM_INDEX, LabelKind, Waveform

LARGE_PAGE = PageSettings(pixels_per_row=28, pixels_per_second=112, microvolts_per_row=100.0, subcolumns=4, multiple_of=28)
"""A page that a person can read: 1120 x 532 pixels."""

COLOURS: dict[Waveform, tuple[int, int, int]] = {
    Waveform.SPIKE: (200, 30, 30),
    Waveform.SHARP_WAVE: (225, 110, 20),
    Waveform.SPIKE_AND_SLOW_WAVE: (160, 30, 110),
    Waveform.K_COMPLEX: (30, 90, 190),
    Waveform.SLEEP_SPINDLE: (0, 140, 130),
    Waveform.HIGH_FREQUENCY_NOISE: (120, 120, 120),
    Waveform.POSITIVE_SHARP_TRANSIENT: (110, 80, 40),
    Waveform.POSITIVE_SQUARE_WAVE: (90, 140, 20),
    Waveform.NEGATIVE_SQUARE_WAVE: (120, 90, 200),
}
SHORT_NAMES: dict[Waveform, str] = {
    Waveform.SPIKE: "spike",
    Waveform.SHARP_WAVE: "sharp wave",
    Waveform.SPIKE_AND_SLOW_WAVE: "spike/sharp and slow wave",
    Waveform.K_COMPLEX: "K-complex",
    Waveform.SLEEP_SPINDLE: "sleep spindle",
    Waveform.HIGH_FREQUENCY_NOISE: "high-frequency noise",
    Waveform.POSITIVE_SHARP_TRANSIENT: "blink",
    Waveform.POSITIVE_SQUARE_WAVE: "lateral eyes, positive",
    Waveform.NEGATIVE_SQUARE_WAVE: "lateral eyes, negative",
}
_LEFT, _TOP, _AXIS, _LEGEND = 60, 10, 26, 26
_INK, _FAINT = (40, 40, 40), (225, 228, 232)


def draw_page(
    eeg_uv: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    *,
    events: Sequence[Event] = (),
    labels: Sequence[Label] = (),
    page: PageSettings = LARGE_PAGE,
) -> bytes:
    """One segment as a PNG: detected `events` as tinted boxes, reference `labels` of waveforms as dashed outlines.

    On a page of derivations an electrode's event is marked in every row that the electrode is part of.

    Args:
        eeg_uv: `(19, 2000)` microvolts at 200 Hz.
        mask: `(19,)`, True where the electrode exists.
        events: what was detected.
        labels: what is known to be there; labels of other kinds and of the whole page are not drawn.
        page: geometry, at least 20 pixels per row for readable names.

    Returns:
        bytes of a PNG file with a palette; equal input gives equal bytes.
    """
    from PIL import Image, ImageDraw

    paper = render(eeg_uv, mask, page)
    height, width = rows_height_px(page), page.pixels_per_second * SEGMENT_S
    truths = [label for label in labels if label.kind is LabelKind.WAVEFORM and label.channel in CHANNELS]
    present = {e.waveform for e in events} | {Waveform(t.name) for t in truths}
    legend = _legend_rows(present, page, width)
    canvas = Image.new("RGB", (_LEFT + width + 12, _TOP + height + _AXIS + _LEGEND * len(legend)), (255, 255, 255))
    pen = ImageDraw.Draw(canvas, "RGBA")
    _grid(pen, page)
    boxes = [(box, COLOURS[e.waveform]) for e in events for box in _boxes(e.channel, e.onset_s, e.duration_s, page)]
    for box, colour in boxes:
        pen.rectangle(box, fill=(*colour, 70))
    _ink(canvas, paper[:height, :width])
    for box, colour in boxes:
        pen.rectangle(box, outline=(*colour, 255), width=1)
    for truth in truths:
        for box in _boxes(truth.channel, truth.onset_s, truth.duration_s, page, grow=2):
            _dashed(pen, box, COLOURS[Waveform(truth.name)])
    _names(pen, rows_to_draw(eeg_uv[None], mask[None], page)[1][0], page)
    _axis(pen, page)
    _legend(pen, legend, _TOP + height + _AXIS)
    return _png(canvas)


_Box = tuple[float, float, float, float]


def _boxes(channel: str, onset_s: float, duration_s: float, page: PageSettings, grow: int = 0) -> list[_Box]:
    """Left, top, right, bottom of an event's time in each row of its electrode, cut to the page."""
    left = max(onset_s, 0.0) * page.pixels_per_second
    right = max(min(onset_s + duration_s, SEGMENT_S) * page.pixels_per_second, left + 2)
    tops = [_TOP + row * page.pixels_per_row for row, name in enumerate(page_rows(page)) if channel in name.split("-")]
    return [(_LEFT + left - grow, top + 1 - grow, _LEFT + right + grow, top + page.pixels_per_row - 2 + grow) for top in tops]


def _ink(canvas: Any, paper: npt.NDArray[np.uint8]) -> None:
    """Lay the page's ink over what is already drawn; paper is see-through."""
    from PIL import Image

    canvas.paste(Image.new("RGB", paper.shape[::-1], (10, 10, 20)), (_LEFT, _TOP), Image.fromarray(255 - paper))


def _grid(pen: Any, page: PageSettings) -> None:
    bottom = _TOP + rows_height_px(page)
    for second in range(SEGMENT_S + 1):
        x = _LEFT + second * page.pixels_per_second
        pen.line((x, _TOP, x, bottom), fill=_FAINT, width=1)


def _names(pen: Any, mask: npt.NDArray[np.bool_], page: PageSettings) -> None:
    for row, name in enumerate(page_rows(page)):
        y = _TOP + (row + 0.5) * page.pixels_per_row
        pen.text((_LEFT - 10, y), name, fill=_INK if mask[row] else (170, 170, 170), font=_font(13), anchor="rm")


def _axis(pen: Any, page: PageSettings) -> None:
    y = _TOP + rows_height_px(page)
    pen.line((_LEFT, y, _LEFT + SEGMENT_S * page.pixels_per_second, y), fill=_INK, width=1)
    for second in range(SEGMENT_S + 1):
        x = _LEFT + second * page.pixels_per_second
        pen.line((x, y, x, y + 5), fill=_INK, width=1)
        pen.text((x, y + 8), f"{second} s", fill=_INK, font=_font(12), anchor="ma" if second < SEGMENT_S else "ra")


_Entry = tuple[Waveform | None, str]


def _legend_rows(present: set[Waveform], page: PageSettings, width: int) -> list[list[_Entry]]:
    """Entries of the legend, broken into rows that fit `width` pixels: the classes that are marked, how, and the scale."""
    entries: list[_Entry] = [(w, SHORT_NAMES[w]) for w in sorted(present, key=WAVEFORM_INDEX.__getitem__)]
    if present:
        entries.append((None, "tinted: detected, dashed: reference"))
    entries.append((None, f"{page.microvolts_per_row:g} µV per row, negative up"))
    rows: list[list[_Entry]] = [[]]
    for entry in entries:
        if rows[-1] and sum(_entry_px(e) for e in [*rows[-1], entry]) > width:
            rows.append([])
        rows[-1].append(entry)
    return rows


def _entry_px(entry: _Entry) -> int:
    return int(_font(12).getlength(entry[1])) + (38 if entry[0] else 20)


def _legend(pen: Any, rows: list[list[_Entry]], top: int) -> None:
    for line, row in enumerate(rows):
        x, y = _LEFT, top + line * _LEGEND + _LEGEND // 2
        for entry in row:
            colour, text = (COLOURS[entry[0]], _INK) if entry[0] else (None, (110, 110, 110))
            if colour:
                pen.rectangle((x, y - 6, x + 14, y + 6), fill=(*colour, 90), outline=(*colour, 255))
            pen.text((x + (20 if colour else 0), y), entry[1], fill=text, font=_font(12), anchor="lm")
            x += _entry_px(entry)


def _dashed(pen: Any, box: tuple[float, float, float, float], colour: tuple[int, int, int], dash: int = 5) -> None:
    left, top, right, bottom = box
    for x in np.arange(left, right, 2 * dash):
        for y in (top, bottom):
            pen.line((x, y, min(x + dash, right), y), fill=colour, width=2)
    for y in np.arange(top, bottom, 2 * dash):
        for x in (left, right):
            pen.line((x, y, x, min(y + dash, bottom)), fill=colour, width=2)


@cache
def _font(size_px: int) -> Any:
    """DejaVu Sans, which matplotlib ships: the same letters on every machine."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size_px)


def _png(canvas: Any) -> bytes:
    from PIL import Image

    target = io.BytesIO()
    canvas.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, format="PNG", optimize=True)
    return target.getvalue()
