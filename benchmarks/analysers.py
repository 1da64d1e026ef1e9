"""How often the analysers speak, rightly and wrongly: on real recordings, on the synthetic corpus and on artefacts planted in real EEG.

    python benchmarks/analysers.py FOLDER

FOLDER holds real EDF recordings (those without the nineteen electrodes are passed over). No detector takes part: what is printed are the
findings measured on the signal alone. Planted artefacts go through the filter and the average reference of every segment; their amplitude
is that at the electrode, before the filter.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cg_data.analyze.annotate import annotate, covering_name, present_kinds
from cg_data.analyze.layout import SPHERE_XYZ
from cg_data.analyze.slowing import SLOW_POSTERIOR_HZ
from cg_data.corpora.source import Source
from cg_data.corpora.synthetic import write_corpus
from cg_data.corpora.synthetic.traits import make_subject
from cg_data.edf.reader import EdfFile
from cg_data.errors import UserError
from cg_data.recording import describe
from cg_data.records import Segment
from cg_data.segments import segments_of, to_average
from cg_data.settings import DataSettings, SyntheticSettings
from cg_data.signal import clean
from cg_data.vocabulary import CHANNEL_INDEX, FINDING_OF_WAVEFORM, N_CHANNELS, SFREQ_HZ, UV_PER_STEP, Eyes, FindingKind, LabelKind, Waveform

Waves = npt.NDArray[np.float64]
Rng = np.random.Generator
SEED = 3
QUIET = ("eegmat_", "microstates_", "eegmmi_s001r02")
"""Recordings of healthy adults at rest: the background that artefacts are planted in, and the control for false findings."""
PAGES = 60
SYNTHETIC = SyntheticSettings(subjects=16, minutes_per_subject=4)
_TIME_S = np.arange(60 * SFREQ_HZ) / SFREQ_HZ
_PAGE = slice(20 * SFREQ_HZ, 30 * SFREQ_HZ)


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")


def segments(path: Path, corpus: str = "edf") -> list[Segment]:
    settings, edf = DataSettings(), EdfFile.open(str(path))
    recording = describe(edf, source=Source(uri=str(path)), corpus=corpus, settings=settings)
    return list(segments_of(edf, recording))


def real_pages(folder: Path) -> dict[str, list[Segment]]:
    pages = {}
    for path in sorted(folder.glob("*.edf")):
        try:
            pages[path.stem] = segments(path)
        except UserError as refused:
            say(f"passed over: {refused}")
    return pages


def synthetic_pages() -> list[list[Segment]]:
    """Pages of each subject."""
    with tempfile.TemporaryDirectory() as folder:
        return [segments(Path(uri), "synthetic") for uri in write_corpus(folder, SYNTHETIC)]


def kinds_of(segment: Segment) -> frozenset[FindingKind]:
    return present_kinds(annotate(segment, (), detector_version="none"))


def rates(name: str, pages: Sequence[Segment]) -> str:
    """Pages with each kind of finding, of all pages of a recording."""
    found = Counter(kind for page in pages for kind in kinds_of(page))
    return f"{name:28s} {len(pages):4d}  " + (", ".join(f"{kind} {found[kind]}" for kind in FindingKind if found[kind]) or "none")


TRUTHS: dict[FindingKind, tuple[str, ...]] = {
    kind: (str(kind), *(str(w) for w in Waveform if FINDING_OF_WAVEFORM[w] == kind))
    for kind in (
        FindingKind.BLINK,
        FindingKind.LATERAL_EYE_MOVEMENT,
        FindingKind.MUSCLE,
        FindingKind.FLAT_CHANNEL,
        FindingKind.ELECTRODE_POP,
    )
}
"""Measured kinds that the synthetic corpus plants, with the names of their labels."""
NEVER_PLANTED = (
    FindingKind.ELECTRODE_FAULT,
    FindingKind.RESPIRATION,
    FindingKind.SWEAT,
    FindingKind.CLIPPING,
)


def against_truth(pages: Sequence[Segment]) -> Iterable[str]:
    said = [kinds_of(page) for page in pages]
    marks = (LabelKind.WAVEFORM, LabelKind.ARTEFACT)
    names = [{label.name for label in page.labels if label.kind in marks} for page in pages]
    for kind, labels in TRUTHS.items():
        pairs = [(kind in found, bool(there.intersection(labels))) for found, there in zip(said, names, strict=True)]
        planted = sum(there for _, there in pairs)
        hits, false = sum(f and t for f, t in pairs), sum(f and not t for f, t in pairs)
        yield f"{kind:24s} {hits:4d} of {planted:4d} pages that hold one; false on {false} of {len(pages) - planted}"
    for kind in NEVER_PLANTED:
        yield f"{kind:24s} never planted; false on {sum(kind in found for found in said)} of {len(pages)}"


def slowing_against_truth(subjects: Sequence[Sequence[Segment]]) -> str:
    """The truth is the frequency of the subject's own rhythm; pages with closed eyes, on which it is not blocked."""
    pages = [
        (make_subject(number, SYNTHETIC.seed).alpha_hz < SLOW_POSTERIOR_HZ, FindingKind.SLOWING in kinds_of(page))
        for number, segments_ in enumerate(subjects)
        for page in segments_
        if covering_name(page.labels, LabelKind.EYES) == Eyes.CLOSED
    ]
    hits, false = sum(t and f for t, f in pages), sum(f and not t for t, f in pages)
    planted = sum(t for t, _ in pages)
    return f"{FindingKind.SLOWING:24s} {hits:4d} of {planted:4d} with closed eyes, slow rhythm; false on {false} of {len(pages) - planted}"


def unlabelled_against_traits(subjects: Sequence[Sequence[Segment]]) -> Iterable[str]:
    """What subjects have without a label, often too little of it to be seen."""
    traits = [make_subject(number, SYNTHETIC.seed) for number in range(len(subjects))]
    for kind, has in ((FindingKind.ECG, [t.heart_uv > 0 for t in traits]), (FindingKind.MAINS, [t.mains_uv > 0 for t in traits])):
        pages = [(there, kind in kinds_of(page)) for there, segments_ in zip(has, subjects, strict=True) for page in segments_]
        of = sum(there for there, _ in pages)
        hits, false = sum(found and there for there, found in pages), sum(found and not there for there, found in pages)
        yield f"{kind:24s} {hits:4d} of {of:4d} pages of subjects who have some; false on {false} of {len(pages) - of}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Plant:
    """`make` gives the recorded voltages of one minute, `(19, 12000)`, for an amplitude in microvolts."""

    kind: FindingKind
    amplitudes_uv: tuple[float, ...]
    unit: str
    make: Callable[[float, Rng], Waves]


def _gains(values: dict[str, float]) -> Waves:
    return np.array([values.get(name, 0.0) for name in CHANNEL_INDEX])


def _heart(height_uv: float, rng: Rng) -> Waves:
    """QRS complexes at 50 to 110 a minute, intervals varying by 4 %, on a plane over the head that runs mostly from left to right."""
    interval_s = 60 / rng.uniform(50, 110)
    beats_s = np.cumsum(interval_s * (1 + rng.normal(0, 0.04, 200)))
    course = np.zeros_like(_TIME_S)
    for beat_s in beats_s[beats_s < _TIME_S[-1]]:
        t = _TIME_S - beat_s
        for delay_s, width_s, share in ((-0.025, 0.010, -0.15), (0.0, 0.012, 1.0), (0.025, 0.012, -0.3), (0.25, 0.05, 0.12)):
            course += share * np.exp(-(((t - delay_s) / width_s) ** 2))
    field = SPHERE_XYZ @ np.array([1.0, rng.normal(0, 0.4), rng.normal(0, 0.4)])
    field -= field.mean()
    return np.outer(height_uv * field / np.abs(field).max(), course)


def _pop(height_uv: float, rng: Rng) -> Waves:
    wave = np.zeros((N_CHANNELS, len(_TIME_S)))
    after_s = _TIME_S - 20 - rng.uniform(1.0, 9.0)
    decay_s = rng.uniform(0.15, 0.6)
    wave[rng.integers(N_CHANNELS)] = rng.choice([-1, 1]) * height_uv * np.where(after_s >= 0, np.exp(-np.maximum(after_s, 0) / decay_s), 0)
    return wave


def _breathing(swing_uv: float, rng: Rng) -> Waves:
    """12 to 24 breaths a minute on one side of the back of the head, as where the head lies on the electrodes."""
    side = {"T5": 1.0, "O1": 0.8, "P3": 0.5} if rng.random() < 0.5 else {"T6": 1.0, "O2": 0.8, "P4": 0.5}
    return np.outer(_gains(side), swing_uv / 2 * np.sin(2 * np.pi * rng.uniform(0.2, 0.4) * _TIME_S + rng.uniform(0, 6)))


def _sweating(swing_uv: float, rng: Rng) -> Waves:
    """Random drifts of 0.1 to 0.5 Hz, alike on the frontal poles and beside them."""
    hz = np.fft.rfftfreq(len(_TIME_S), 1 / SFREQ_HZ)
    inside = (hz >= 0.1) & (hz < 0.5)
    noise = np.fft.irfft(inside * (rng.normal(size=(2, len(hz))) + 1j * rng.normal(size=(2, len(hz)))), len(_TIME_S), axis=1)
    noise *= swing_uv / np.ptp(noise, axis=1, keepdims=True)
    near, far = _gains({"Fp1": 1.0, "F7": 0.9, "F3": 0.4}), _gains({"Fp2": 1.0, "F8": 0.9, "F4": 0.4})
    return np.outer(near, noise[0]) + np.outer(far, 0.8 * noise[0] + 0.2 * noise[1])


def _blinking(height_uv: float, rng: Rng) -> Waves:
    course = sum(np.exp(-(((_TIME_S - 20 - at_s) / rng.uniform(0.07, 0.12)) ** 2)) for at_s in rng.uniform(1, 9, 3))
    return np.outer(
        _gains({"Fp1": 1.0, "Fp2": rng.uniform(0.85, 1.0), "F7": 0.3, "F8": 0.3, "F3": 0.35, "F4": 0.35, "Fz": 0.3}), height_uv * course
    )


def _gazing(step_uv: float, rng: Rng) -> Waves:
    course = np.interp(_TIME_S - 20 - rng.uniform(1, 7), [0.0, 0.05, 1.0, 1.05], [0.0, 1.0, 0.9, 0.0])
    field = _gains({"F7": -0.5, "F8": 0.5, "Fp1": -0.15, "Fp2": 0.15, "F3": -0.12, "F4": 0.12, "T3": -0.15, "T4": 0.15})
    return np.outer(rng.choice([-1, 1]) * step_uv * field, course)


def _slow(rms_uv: float, rng: Rng) -> Waves:
    """Irregular activity of 2.5 to 6 Hz all over the head."""
    hz = np.fft.rfftfreq(len(_TIME_S), 1 / SFREQ_HZ)
    inside = (hz >= 2.5) & (hz < 6.0)
    noise = np.fft.irfft(inside * (rng.normal(size=(5, len(hz))) + 1j * rng.normal(size=(5, len(hz)))), len(_TIME_S), axis=1)
    mixed = rng.normal(size=(N_CHANNELS, 5)) @ noise
    return mixed * rms_uv / mixed.std(axis=1, keepdims=True)


def _overflow(height_uv: float, rng: Rng) -> Waves:
    wave = np.zeros((N_CHANNELS, len(_TIME_S)))
    at_s = _TIME_S - 20 - rng.uniform(1.0, 8.0)
    wave[rng.integers(N_CHANNELS)] = height_uv * ((at_s > 0) & (at_s < 0.2))
    return wave


PLANTS = (
    Plant(kind=FindingKind.ECG, amplitudes_uv=(6, 12, 25, 50), unit="uV R wave", make=_heart),
    Plant(kind=FindingKind.ELECTRODE_POP, amplitudes_uv=(50, 100, 200, 400), unit="uV jump", make=_pop),
    Plant(kind=FindingKind.RESPIRATION, amplitudes_uv=(100, 300, 1000, 3000), unit="uV peak to peak", make=_breathing),
    Plant(kind=FindingKind.SWEAT, amplitudes_uv=(100, 300, 1000, 3000), unit="uV peak to peak in a minute", make=_sweating),
    Plant(kind=FindingKind.BLINK, amplitudes_uv=(50, 100, 200, 400), unit="uV at Fp1", make=_blinking),
    Plant(kind=FindingKind.LATERAL_EYE_MOVEMENT, amplitudes_uv=(40, 80, 160, 320), unit="uV F8-F7", make=_gazing),
    Plant(kind=FindingKind.SLOWING, amplitudes_uv=(5, 10, 20, 40), unit="uV RMS", make=_slow),
    Plant(kind=FindingKind.CLIPPING, amplitudes_uv=(2000, 5000), unit="uV", make=_overflow),
)


def planted(segment: Segment, recorded_uv: Waves) -> Segment:
    filtered = clean(recorded_uv.astype(np.float32), SFREQ_HZ, None)[:, _PAGE]
    eeg_uv = to_average(segment.eeg_uv + filtered, np.zeros((N_CHANNELS, 10), dtype=np.bool_))
    steps = np.clip(np.rint(eeg_uv / UV_PER_STEP), -32767, 32767).astype(np.int16)
    return dataclasses.replace(segment, eeg_steps=steps)


def sensitivity(plant: Plant, quiet: Sequence[Segment]) -> str:
    """Of the pages that are silent about the kind before anything is planted."""
    quiet = [page for page in quiet if plant.kind not in kinds_of(page)]
    parts = []
    for amplitude_uv in plant.amplitudes_uv:
        rng = np.random.default_rng((SEED, int(amplitude_uv)))
        said = [kinds_of(planted(page, plant.make(amplitude_uv, rng))) for page in quiet]
        parts.append(f"{amplitude_uv:g}: {sum(plant.kind in found for found in said)}")
    return f"{plant.kind:24s} of {len(quiet)}: " + ", ".join(parts) + f"  ({plant.unit})"


def main(folder: Path) -> None:
    real, subjects = real_pages(folder), synthetic_pages()
    synthetic = [page for pages in subjects for page in pages]
    say("\nPages on which each kind is found, of all pages of a recording")
    for name, pages in real.items():
        say(rates(name, pages))
    say(rates("synthetic", synthetic))
    say("\nSynthetic corpus, findings measured on the signal against planted truth, page by page")
    for line in against_truth(synthetic):
        say(line)
    say(slowing_against_truth(subjects))
    for line in unlabelled_against_traits(subjects):
        say(line)
    quiet = [page for name, pages in real.items() if name.startswith(QUIET) for page in pages]
    quiet = [quiet[i] for i in np.random.default_rng(SEED).permutation(len(quiet))[:PAGES]]
    say("\nPlanted in pages of resting EEG on which nothing of the kind is found: pages found at each amplitude")
    for plant in PLANTS:
        say(sensitivity(plant, quiet))
    pages = [*synthetic, *(page for pages in real.values() for page in pages)]
    seconds = min(_seconds(pages) for _ in range(3))
    say(f"\n{len(pages)} annotations, {len(pages) / seconds:.0f} a second on one core (best of three passes)")


def _seconds(pages: Sequence[Segment]) -> float:
    start = time.process_time()
    for page in pages:
        annotate(page, (), detector_version="none")
    return time.process_time() - start


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
