"""Random pages of references and of events that find them more or less well, for tests of the detector's figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from cg_data.detect.boxes import Marks
from cg_data.records import Event, Label
from cg_data.vocabulary import CHANNELS, SEGMENT_S, WAVEFORMS, LabelKind, Waveform
from cg_eval.detection.pages import Found, Page
from tests.records_small import event

SEARCHED: tuple[Label, ...] = tuple(
    Label(kind=LabelKind.SEARCHED, name=waveform, onset_s=0.0, duration_s=float(SEGMENT_S)) for waveform in WAVEFORMS
)
"""Labels of a page on which all that there is was marked."""


def random_pages(seed: int, pages: int = 25) -> tuple[list[list[Event]], list[Marks]]:
    """Pages of crowded references on few rows, most of them found at random overlaps, some twice, and false events; five classes."""
    rng = np.random.default_rng(seed)
    found: list[list[Event]] = []
    truth: list[Marks] = []
    for _ in range(pages):
        n = int(rng.integers(0, 14))
        start = rng.uniform(0, 8, n)
        marks = np.column_stack([rng.integers(0, 5, n), rng.integers(0, 3, n), start, start + rng.uniform(0.2, 1.5, n)])
        events = [_near(rng, mark, 0.5) for mark in marks for _ in range(int(rng.integers(0, 3)))]
        events += [_near(rng, np.array([rng.integers(0, 6), rng.integers(0, 4), rng.uniform(0, 8), 9.0]), 0.1) for _ in range(4)]
        found.append(events)
        truth.append(marks.astype(np.float64))
    return found, truth


def _near(rng: np.random.Generator, mark: npt.NDArray[np.float64], bonus: float) -> Event:
    """An event about a mark; of ten, one is of the next class and one on the next row."""
    length_s = (mark[3] - mark[2]) * rng.uniform(0.7, 1.3)
    onset_s = mark[2] + rng.normal(0, 0.12) * length_s
    score = float(rng.random() * 0.5 + bonus * rng.random())
    waveform, row = int(mark[0]) + int(rng.random() < 0.1), int(mark[1]) + int(rng.random() < 0.1)
    return event(WAVEFORMS[waveform], CHANNELS[row], onset_s, length_s, score)


def page_of_marks(number: int, subject: str, marks: Marks, reader: str = "", searched: str = "") -> Page:
    """A page whose labels are `marks` of a reader who looked for every waveform, on the channel `searched` or everywhere."""
    looked = [dataclasses.replace(label, channel=searched, reader=reader) for label in SEARCHED]
    return Page(
        segment_id=f"segment-{number:03d}",
        recording_id=f"recording-{subject}",
        corpus="synthetic",
        subject=subject,
        mask=np.ones(len(CHANNELS), dtype=np.bool_),
        labels=(
            *looked,
            *(
                Label(
                    kind=LabelKind.WAVEFORM, name=WAVEFORMS[int(c)], onset_s=a, duration_s=b - a, channel=CHANNELS[int(row)], reader=reader
                )
                for c, row, a, b in marks.tolist()
            ),
        ),
    )


def random_evaluation(seed: int, pages: int = 24, subjects: int = 6) -> tuple[list[Page], Found]:
    """Random pages of several subjects, and what a middling detector finds on them."""
    found, truth = random_pages(seed, pages)
    marked = [page_of_marks(i, f"subject-{i % subjects}", marks) for i, marks in enumerate(truth)]
    thresholds: dict[Waveform, float] = dict.fromkeys(WAVEFORMS, 0.4)
    return marked, Found(version="v1", min_box_s=0.0, thresholds=thresholds, events=tuple(map(tuple, found)))


def repeated(pages: list[Page], found: Found, drawn: dict[str, int]) -> tuple[list[Page], Found]:
    """The pages of each subject as often as it was drawn, each time as a subject of its own."""
    taken = [(i, time) for i, page in enumerate(pages) for time in range(drawn[page.subject])]
    again = [dataclasses.replace(pages[i], subject=f"{pages[i].subject}-{time}") for i, time in taken]
    return again, dataclasses.replace(found, events=tuple(found.events[i] for i, _ in taken))
