"""The header of an EDF or EDF+ file, parsed and checked (Kemp et al. 1992; Kemp and Olivan 2003).

Faults that make the place of the samples doubtful are refused here. A faulty calibration of one signal is refused only when that
signal is asked for (`calibration_uv`): an unused oximeter must not cost a patient's EEG.
"""

from __future__ import annotations

import dataclasses
import math
import re

from cg_data.errors import EdfError

ANNOTATIONS_LABEL = "EDF Annotations"
_FIXED_BYTES = 256
_MAX_SIGNALS = 512
_MAX_RECORD_S = 3600.0
_MAX_SAMPLES_PER_RECORD = 1_000_000
_MAX_SFREQ_HZ = 100_000.0
_MAX_RECORD_BYTES = 64 << 20
_SIGNAL_FIELD_BYTES = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
_DECIMAL = re.compile(r"[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+")
_INT16_LIMITS = (-32768, 32768)
"""32768, which no sample can reach, is what some systems write for the digital maximum."""
_UV_PER_UNIT = {"uv": 1.0, "µv": 1.0, "μv": 1.0, "microv": 1.0, "mv": 1e3, "v": 1e6, "nv": 1e-3}
_OTHER_UNITS = frozenset({"", "%", "bpm", "BPM", "Hz", "mmHg", "degC", "C", "L/min", "cmH2O", "Ohm", "kOhm", "mA", "dB"})
_OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"\xffBIOSEMI", "bdf", "a BioSemi BDF file (24-bit)"),
    (b"\x1f\x8b", "gzip", "a gzip archive"),
    (b"PK\x03\x04", "zip", "a zip archive"),
    (b"GDF ", "gdf", "a GDF file"),
    (b"Brain Vision", "brainvision", "a BrainVision header"),
    (b"MATLAB 5.0", "matlab", "a MATLAB file (EEGLAB .set)"),
    (b"\x89HDF", "hdf5", "an HDF5 file"),
    (b"Version 3.0", "cnt", "a Neuroscan CNT file"),
    (b"EEG-", "nihon_kohden", "a Nihon Kohden file"),
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SignalHeader:
    """One signal as the header states it; a number that cannot be read is NaN. `offset` counts int16 samples from a record's start."""

    label: str
    unit: str
    physical_min: float
    physical_max: float
    digital_min: float
    digital_max: float
    samples_per_record: int
    offset: int

    @property
    def is_annotations(self) -> bool:
        return self.label == ANNOTATIONS_LABEL


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EdfHeader:
    """A checked header. `kind` is "EDF", "EDF+C" or "EDF+D"; `n_records` is as written (-1 for a recording that was never closed).

    `flags` are ``header.not_ascii`` and ``header.decimal_comma``: against rules 1 and 6 of EDF+ (section 2.1.3), and read all the same.
    """

    kind: str
    patient: str
    n_records: int
    record_s: float
    signals: tuple[SignalHeader, ...]
    flags: tuple[str, ...]

    @property
    def has_signal(self) -> bool:
        """Whether there is more than annotations."""
        return any(not signal.is_annotations for signal in self.signals)

    @property
    def fastest_hz(self) -> float:
        """The highest sampling rate of any signal but annotations, in hertz; 0 where there is none."""
        return max((self.sfreq_hz(i) for i, signal in enumerate(self.signals) if not signal.is_annotations), default=0.0)

    @property
    def header_bytes(self) -> int:
        return _FIXED_BYTES * (len(self.signals) + 1)

    @property
    def record_bytes(self) -> int:
        return 2 * sum(signal.samples_per_record for signal in self.signals)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(signal.label for signal in self.signals)

    def sfreq_hz(self, signal: int) -> float:
        """Sampling rate of a signal, in hertz."""
        return self.signals[signal].samples_per_record / self.record_s


def parse_header(head: bytes, name: str) -> EdfHeader:
    """Parse and check a header from the first bytes of a file (all of it, or at least 256 x 513 bytes).

    A record may last 0 s only where there are annotations and no signal (Kemp and Olivan 2003, section 2.1.3).

    Raises:
        EdfError: ``file.*``, ``format.*`` or ``header.*``.
    """
    _refuse_other_formats(head, name)
    reserved = _text(head[192:236])
    if reserved.upper().startswith("24BIT"):
        raise EdfError("format.bdf", f"{name}: this is a BDF file (24-bit), not EDF. Convert it to EDF+.")
    n_signals = _integer(head[252:256], "n_signals", name)
    if not 1 <= n_signals <= _MAX_SIGNALS:
        raise EdfError("header.n_signals", f"{name}: the number of signals is {n_signals}, it must be between 1 and {_MAX_SIGNALS}.")
    header_bytes, expected = _integer(head[184:192], "header_bytes", name), _FIXED_BYTES * (n_signals + 1)
    if header_bytes != expected:
        raise EdfError("header.bytes", f"{name}: the header says it has {header_bytes} bytes, {n_signals} signals make {expected}.")
    if len(head) < expected:
        raise EdfError("file.header_cut", f"{name}: the file ends inside its header ({len(head)} of {expected} bytes).")
    n_records = _integer(head[236:244], "n_records", name)
    if n_records < -1:
        raise EdfError("header.n_records", f"{name}: the number of records is {n_records}; only -1 (not closed) may be negative.")
    header = EdfHeader(
        kind=reserved[:5] if reserved[:5] in ("EDF+C", "EDF+D") else "EDF",
        patient=_text(head[8:88]),
        n_records=n_records,
        record_s=_number(head[244:252]),
        signals=_signals(head[_FIXED_BYTES:expected], n_signals, name),
        flags=_flags(head[:expected], n_signals),
    )
    _check_sizes(header, _text(head[244:252]), name)
    return header


def calibration_uv(signal: SignalHeader, name: str) -> tuple[float, float]:
    """Gain and offset that turn digital values into microvolts: ``uv = gain * digital + offset``.

    A physical minimum above the maximum is legal: that is how a negative gain is written (Kemp and Olivan 2003, section 2.1.3, rule 5).
    The same rule demands a digital minimum below the maximum. A swapped digital pair is refused, for programs differ in whether it turns
    the polarity, and polarity tells a spike from its mirror image.

    Raises:
        EdfError: ``signal.unit``, ``signal.digital_range`` or ``signal.physical_range``.
    """
    unit = signal.unit.lower().replace(" ", "")
    if unit not in _UV_PER_UNIT:
        raise EdfError("signal.unit", f"{name}: signal '{signal.label}' {_unit_shown(signal.unit)}; uV, mV, V or nV is needed.")
    low, high = signal.digital_min, signal.digital_max
    if not _INT16_LIMITS[0] <= low < high <= _INT16_LIMITS[1]:
        raise EdfError(
            "signal.digital_range", f"{name}: signal '{signal.label}' has the digital range {low:g} to {high:g}, which fixes no scale."
        )
    start, stop = signal.physical_min, signal.physical_max
    gain_uv = (stop - start) / (high - low) * _UV_PER_UNIT[unit]
    offset_uv = start * _UV_PER_UNIT[unit] - gain_uv * low
    if not (math.isfinite(gain_uv) and math.isfinite(offset_uv)) or gain_uv == 0:
        raise EdfError(
            "signal.physical_range", f"{name}: signal '{signal.label}' has the physical range {start:g} to {stop:g}, which fixes no scale."
        )
    return gain_uv, offset_uv


def _refuse_other_formats(head: bytes, name: str) -> None:
    if not head:
        raise EdfError("file.empty", f"{name}: the file is empty.")
    for magic, key, words in _OTHER_FORMATS:
        if head.startswith(magic):
            raise EdfError(f"format.{key}", f"{name}: this is {words}, not EDF. Convert or unpack it to EDF+ first.")
    if head[:8].strip(b" \x00") != b"0":
        raise EdfError("format.unknown", f"{name}: this is not an EDF file (its version field is not '0').")
    if len(head) < _FIXED_BYTES:
        raise EdfError("file.header_cut", f"{name}: the file ends inside its header ({len(head)} of 256 bytes).")


def _shown(text: str) -> str:
    """What a field reads, where that can only be a number: other text may be a name that slipped there."""
    return f"reads '{text}'" if re.fullmatch(r"[0-9+\-.,eE ]*", text) else "holds text"


def _unit_shown(unit: str) -> str:
    return f"is in '{unit}'" if unit in _OTHER_UNITS else "has another unit"


def _integer(field: bytes, key: str, name: str) -> int:
    text = _text(field)
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise EdfError(f"header.{key}", f"{name}: the header field {key} {_shown(text)}, which is not a whole number.")
    return int(text)


def _number(field: bytes) -> float:
    """A decimal number, NaN where there is none. A decimal comma is accepted, but ``1,000`` may be one or a thousand: NaN."""
    text = _text(field)
    return float(text.replace(",", ".")) if _DECIMAL.fullmatch(text) and not _GROUPED.fullmatch(text) else math.nan


def _whole_number(field: bytes) -> float:
    """As `_number`, NaN too where it is not whole: a limit of the digital range."""
    value = _number(field)
    return value if value.is_integer() else math.nan


def _signals(block: bytes, n_signals: int, name: str) -> tuple[SignalHeader, ...]:
    columns: list[list[bytes]] = []
    at = 0
    for width in _SIGNAL_FIELD_BYTES:
        columns.append([block[at + i * width : at + (i + 1) * width] for i in range(n_signals)])
        at += n_signals * width
    signals, offset = [], 0
    for label, _, unit, p_min, p_max, d_min, d_max, _, samples, _ in zip(*columns, strict=True):
        n_samples = _integer(samples, "samples_per_record", name)
        if not 1 <= n_samples <= _MAX_SAMPLES_PER_RECORD:
            raise EdfError(
                "header.samples_per_record",
                f"{name}: signal '{_text(label)}' has {n_samples} samples per record; 1 to 1000000 are possible.",
            )
        signals.append(
            SignalHeader(
                label=_text(label),
                unit=_unit(unit),
                physical_min=_number(p_min),
                physical_max=_number(p_max),
                digital_min=_whole_number(d_min),
                digital_max=_whole_number(d_max),
                samples_per_record=n_samples,
                offset=offset,
            )
        )
        offset += n_samples
    return tuple(signals)


def _unit(field: bytes) -> str:
    """The micro sign is written in Latin-1 by some systems and in UTF-8 by others."""
    text = field.strip(b" \x00")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _flags(head: bytes, n_signals: int) -> tuple[str, ...]:
    physical = head[_FIXED_BYTES + 104 * n_signals : _FIXED_BYTES + 120 * n_signals]
    comma = b"," in physical or b"," in head[244:252]
    return ("header.not_ascii",) * (not head.isascii()) + ("header.decimal_comma",) * comma


def _check_sizes(header: EdfHeader, record_duration: str, name: str) -> None:
    longest = 0 <= header.record_s <= _MAX_RECORD_S
    if not longest or (header.record_s == 0 and header.has_signal):
        raise EdfError(
            "header.record_duration",
            f"{name}: the duration of a data record {_shown(record_duration)}; it must be above 0 and at most 3600 s.",
        )
    if header.has_signal and header.fastest_hz > _MAX_SFREQ_HZ:
        raise EdfError(
            "header.record_duration", f"{name}: a sampling rate of {header.fastest_hz:g} Hz follows from the header, which cannot be EEG."
        )
    if header.record_bytes > _MAX_RECORD_BYTES:
        raise EdfError(
            "header.record_bytes",
            f"{name}: a data record has {header.record_bytes} bytes; at most {_MAX_RECORD_BYTES} are read (the standard recommends 61440).",
        )


def _text(field: bytes) -> str:
    """A header field without the blanks (or NULs, which some systems write) that fill it."""
    return field.decode("latin-1").strip(" \x00")
