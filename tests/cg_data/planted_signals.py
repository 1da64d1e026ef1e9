"""Waves of known place, time and height, planted in noise or in real EEG, for the tests of the analysers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cg_data.analyze.annotate import annotate
from cg_data.corpora.source import Source
from cg_data.edf.reader import EdfFile
from cg_data.recording import describe
from cg_data.records import Event, Finding, Label, Segment
from cg_data.segments import segments_of
from cg_data.settings import DataSettings
from cg_data.signal import clean
from cg_data.vocabulary import CHANNELS, SFREQ_HZ, FindingKind, LabelKind
from tests.signals_small import TIME_S, segment_of

Uv = npt.NDArray[np.float32]
Course = npt.NDArray[np.float64]


def planted(base_uv: Uv, *waves: tuple[dict[str, float], Course]) -> Uv:
    """`base_uv` `(19, 2000)` and waves, each shares of electrodes and a course `(2000,)` in microvolts, on the average reference."""
    eeg_uv = base_uv.astype(np.float64)
    for shares, course in waves:
        eeg_uv = eeg_uv + np.outer([shares.get(name, 0.0) for name in CHANNELS], course)
    return (eeg_uv - eeg_uv.mean(axis=0)).astype(np.float32)


def filtered(course: Course) -> Course:
    """The last ten seconds of a minute `(12000,)` whose course went through the filter of every segment."""
    return clean(course[None].astype(np.float32), SFREQ_HZ, None)[0, -2000:].astype(np.float64)


def bump(at_s: float, width_s: float, height_uv: float) -> Course:
    """A Gaussian; at half of its height it is 1.67 times `width_s` wide."""
    return height_uv * np.exp(-(((TIME_S - at_s) / width_s) ** 2))


def band_noise(low_hz: float, high_hz: float, rms_uv: float, seed: int = 0, samples: int = 2000) -> Course:
    rng = np.random.default_rng(seed)
    hz = np.fft.rfftfreq(samples, 1 / SFREQ_HZ)
    noise = np.fft.irfft(((hz >= low_hz) & (hz < high_hz)) * (rng.normal(size=len(hz)) + 1j * rng.normal(size=len(hz))), samples)
    result: Course = rms_uv * noise / noise.std()
    return result


def labelled(kind: LabelKind, name: str, onset_s: float = 0.0, duration_s: float = 10.0) -> Label:
    return Label(kind=kind, name=name, onset_s=onset_s, duration_s=duration_s, channel="")


def findings(eeg_uv: Uv, kind: FindingKind, labels: tuple[Label, ...] = (), events: tuple[Event, ...] = ()) -> list[Finding]:
    """Findings of one kind on a page."""
    return [f for f in annotate(segment_of(eeg_uv, labels=labels), events, detector_version="d1").findings if f.kind == kind]


def real_pages(path: Path) -> list[Segment]:
    settings, edf = DataSettings(), EdfFile.open(str(path))
    return list(segments_of(edf, describe(edf, source=Source(uri=str(path)), corpus="edf", settings=settings)))
