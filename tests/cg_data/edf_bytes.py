"""Small EDF files made byte by byte, so that every field can be wrong on purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cg_data.vocabulary import CHANNELS

TAL_SAMPLES = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """What goes into the header; each record holds `round(sfreq_hz * record_s)` samples of each label."""

    labels: Sequence[str] = tuple(f"EEG {name}-REF" for name in CHANNELS)
    sfreq_hz: float = 200.0
    record_s: float = 1.0
    n_records: int = 12
    patient: str = "P-1 X X X"
    unit: bytes = b"uV"
    physical: tuple[str, str] = ("-3276.8", "3276.7")
    digital: tuple[str, str] = ("-32768", "32767")
    plus: str = ""
    starts_s: Sequence[float] | None = None
    notes: Sequence[bytes] = ()


def digital_signal(spec: Spec, seed: int = 3) -> npt.NDArray[np.int16]:
    """Smooth noise of about 30 uV, int16 `(labels, samples)` at 0.1 uV."""
    rng = np.random.default_rng(seed)
    n = spec.n_records * round(spec.sfreq_hz * spec.record_s)
    white = rng.normal(size=(len(spec.labels), n + 20))
    smooth = np.apply_along_axis(lambda row: np.convolve(row, np.ones(21) / 21, "valid"), 1, white)
    return np.rint(smooth * 1300).astype(np.int16)


def make(spec: Spec, digital: npt.NDArray[np.int16] | None = None) -> bytes:
    """The bytes of a file; with `plus` ("EDF+C", "EDF+D") an annotation signal keeps time and carries `notes` in its first record."""
    digital = digital_signal(spec) if digital is None else digital
    per_record = round(spec.sfreq_hz * spec.record_s)
    labels = [label.encode("latin-1") for label in spec.labels] + ([b"EDF Annotations"] if spec.plus else [])
    n, samples = len(labels), [per_record] * len(spec.labels) + ([TAL_SAMPLES] if spec.plus else [])
    fixed = [(b"0", 8), (spec.patient.encode(), 80), (b"Startdate X X X X", 80), (b"01.01.85", 8), (b"00.00.00", 8)]
    fixed += [(str(256 * (n + 1)).encode(), 8), (spec.plus.encode(), 44), (str(spec.n_records).encode(), 8)]
    fixed += [(f"{spec.record_s:g}".encode(), 8), (str(n).encode(), 4)]
    columns: list[tuple[list[bytes], int]] = [
        (labels, 16),
        ([b""] * n, 80),
        ([spec.unit] * n, 8),
        ([spec.physical[0].encode()] * n, 8),
        ([spec.physical[1].encode()] * n, 8),
        ([spec.digital[0].encode()] * n, 8),
        ([spec.digital[1].encode()] * n, 8),
        ([b""] * n, 80),
        ([str(count).encode() for count in samples], 8),
        ([b""] * n, 32),
    ]
    head = b"".join(value.ljust(width) for value, width in fixed)
    head += b"".join(value.ljust(width) for values, width in columns for value in values)
    return head + b"".join(_record(spec, digital, per_record, k) for k in range(spec.n_records))


def _record(spec: Spec, digital: npt.NDArray[np.int16], per_record: int, k: int) -> bytes:
    signal = digital[:, k * per_record : (k + 1) * per_record].astype("<i2").tobytes()
    if not spec.plus:
        return signal
    start_s = spec.starts_s[k] if spec.starts_s is not None else k * spec.record_s
    tal = f"+{start_s:g}".encode() + b"\x14\x14\x00" + (b"".join(spec.notes) if k == 0 else b"")
    return signal + tal.ljust(2 * TAL_SAMPLES, b"\x00")


def note(onset_s: float, duration_s: float, text: str) -> bytes:
    return f"+{onset_s:g}\x15{duration_s:g}\x14{text}\x14\x00".encode()


def patched(data: bytes, at: int, value: bytes, width: int) -> bytes:
    """`data` with a header field of `width` bytes replaced."""
    return data[:at] + value.ljust(width) + data[at + width :]


_SIGNAL_FIELDS = {
    "label": (0, 16), "transducer": (16, 80), "unit": (96, 8), "physical_min": (104, 8), "physical_max": (112, 8),
    "digital_min": (120, 8), "digital_max": (128, 8), "prefiltering": (136, 80), "samples": (216, 8), "reserved": (224, 32),
}  # fmt: skip


def signal_field(n_signals: int, field: str, signal: int) -> int:
    """Where the header field of a signal begins."""
    before, width = _SIGNAL_FIELDS[field]
    return 256 + before * n_signals + width * signal
