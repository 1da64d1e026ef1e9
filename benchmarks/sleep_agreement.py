"""Agreement of a detector with YASA (Vallat and Walker 2021) on recordings of sleep: spindles, and K-complexes with its slow waves.

    python benchmarks/sleep_agreement.py --detector runs/demo/detector RECORDING=CHANNEL[,CHANNEL...] ...

A recording's signals, in their order, are taken to be the electrodes named: recordings of sleep often name none. Each is filtered as
segments are and detected in pages of ten seconds that overlap by half; of an event found on two pages the one nearer to a page's middle
counts.
Neither side is the truth: YASA's spindles are those of a threshold on the sigma band, and its slow waves include K-complexes and others.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import edfio
import numpy as np
import numpy.typing as npt

from cg_data.detect.detector import Detector
from cg_data.signal import clean
from cg_data.vocabulary import CHANNEL_INDEX, N_CHANNELS, SEGMENT_S, SFREQ_HZ, Waveform

Stretches = list[tuple[float, float]]
_STEP_S = SEGMENT_S / 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", required=True)
    parser.add_argument("recordings", nargs="+", help="RECORDING=CHANNEL[,CHANNEL...]")
    arguments = parser.parse_args()
    detector = Detector.load(arguments.detector)
    out = ["| recording | electrode | waveform | YASA | detector | agreed | F1 | kappa |", "|---|---|---|---|---|---|---|---|"]
    for text in arguments.recordings:
        path, _, names = text.partition("=")
        signals = dict(zip(names.split(","), edfio.read_edf(path).signals, strict=True))
        found = detect(detector, {name: s.data for name, s in signals.items()}, next(iter(signals.values())).sampling_frequency)
        for name, signal in signals.items():
            length_s = len(signal.data) / signal.sampling_frequency
            for waveform, reference in yasa_marks(signal.data, signal.sampling_frequency).items():
                ours = [(a, b) for w, channel, a, b in found if w is waveform and channel == name]
                out.append(f"| {Path(path).stem} | {name} | {waveform} | {compared(reference, ours, length_s)} |")
    sys.stdout.write("\n".join(out) + "\n")


def yasa_marks(eeg_uv: npt.NDArray[np.float64], sfreq_hz: float) -> dict[Waveform, Stretches]:
    """Spindles and slow waves of YASA with its own defaults."""
    import yasa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spindles = yasa.spindles_detect(eeg_uv, sfreq_hz, verbose="error")
        slow_waves = yasa.sw_detect(eeg_uv, sfreq_hz, verbose="error")
    return {Waveform.SLEEP_SPINDLE: _stretches(spindles), Waveform.K_COMPLEX: _stretches(slow_waves)}


def _stretches(result: object) -> Stretches:
    if result is None:
        return []
    table = result.summary()  # type: ignore[attr-defined]
    return list(zip(table["Start"].tolist(), table["End"].tolist(), strict=True))


def detect(detector: Detector, signals: dict[str, npt.NDArray[np.float64]], sfreq_hz: float) -> list[tuple[Waveform, str, float, float]]:
    """Events on the whole of a recording: waveform, electrode, start and end in seconds."""
    cleaned = clean(np.stack(list(signals.values())).astype(np.float32), sfreq_hz, None)
    rows = [CHANNEL_INDEX[name] for name in signals]
    mask = np.zeros((1, N_CHANNELS), dtype=np.bool_)
    mask[0, rows] = True
    last_s = cleaned.shape[1] / SFREQ_HZ - SEGMENT_S
    found = []
    for start_s in np.arange(0.0, last_s + 1e-6, _STEP_S):
        page = np.zeros((1, N_CHANNELS, SEGMENT_S * SFREQ_HZ), dtype=np.float32)
        first = round(start_s * SFREQ_HZ)
        page[0, rows] = cleaned[:, first : first + page.shape[2]]
        early = 0.0 if start_s == 0 else _STEP_S / 2
        late = SEGMENT_S if start_s + _STEP_S > last_s + 1e-6 else SEGMENT_S - _STEP_S / 2
        for event in detector.detect(page, mask)[0]:
            if early <= event.onset_s + event.duration_s / 2 < late:
                found.append((event.waveform, event.channel, start_s + event.onset_s, start_s + event.onset_s + event.duration_s))
    return found


def compared(reference: Stretches, found: Stretches, length_s: float) -> str:
    """Counts, F1 by any overlap and kappa by hundredths of a second."""
    met = [any(a < d and c < b for c, d in found) for a, b in reference]
    right = [any(a < d and c < b for c, d in reference) for a, b in found]
    total = len(reference) + len(found)
    f1 = f"{(sum(met) + sum(right)) / total:.2f}" if total else "–"
    return f"{len(reference)} | {len(found)} | {sum(met)} | {f1} | {kappa(reference, found, length_s)}"


def kappa(reference: Stretches, found: Stretches, length_s: float) -> str:
    from sklearn.metrics import cohen_kappa_score

    cells = np.zeros((2, round(length_s * 100)), dtype=np.int64)
    for row, stretches in enumerate((reference, found)):
        for a, b in stretches:
            cells[row, round(a * 100) : round(b * 100)] = 1
    return f"{cohen_kappa_score(*cells):.2f}" if cells.any() else "–"


if __name__ == "__main__":
    main()
