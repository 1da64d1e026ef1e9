"""What is known of a recording before its signal is read: who (under a pseudonym), which split, which channels, which labels."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import scipy.signal

from cg_data.edf.header import calibration_uv
from cg_data.edf.labels import parse_label, pick_channels
from cg_data.edf.reader import EdfFile
from cg_data.errors import EdfError, MontageError
from cg_data.records import Recording, content_id
from cg_data.reference_labels import reference_labels
from cg_data.settings import DataSettings
from cg_data.vocabulary import CHANNELS, N_CHANNELS, SEGMENT_S, Split

SYNTHETIC_CORPUS = "synthetic"
MIN_SFREQ_HZ = 100.0
_FULL_BAND_SFREQ_HZ = 140.0
_PSEUDONYM_DIGITS = 12
_EDF_PLUS_PATIENT = re.compile(r"(\S+) [MFX] (?:X|\d\d-[A-Za-z]{3}-\d{4})(?: .*)?")
_NOBODY = frozenset({"", "x", "anonymous", "anonymised", "anonymized", "unknown"})
_SYNTHETIC_PATIENT = re.compile(r"CGS-(\d+)")
_PROBE_S = 4.0
_PROBES = 16
_UNIFORM_SPREAD = 0.2
_WHITE_FLATNESS = 0.8
_MANY_NAMES = 12


def describe(edf: EdfFile, *, uri: str, corpus: str, settings: DataSettings) -> Recording:
    """The `Recording` of a checked file; labels count from the start of its first record.

    Flags added to the file's own: ``montage.duplicate_channel``, ``montage.mixed_reference`` (two ears, say) and
    ``sfreq.below_band`` (under 140 Hz, so that 70 Hz is out of reach).

    Raises:
        MontageError: ``montage.channels_missing``, ``montage.bipolar`` or ``montage.rates_differ``.
        EdfError: ``signal.sfreq``, ``signal.too_short``, ``data.misaligned`` or a calibration that fixes no scale.
    """
    signals = channels_of(edf)
    sfreq_hz = edf.header.sfreq_hz(signals[0])
    _check_signals(edf, signals, sfreq_hz)
    duration_s = edf.runs_s[-1][1]
    code = patient_code(edf)
    subject = pseudonym(code, settings.subject_salt)
    return Recording(
        recording_id=content_id("recording", edf.sha256),
        uri=uri,
        sha256=edf.sha256,
        corpus=corpus,
        subject=subject,
        split=_split(corpus, code, subject, settings),
        sfreq_hz=sfreq_hz,
        duration_s=duration_s,
        runs_s=edf.runs_s,
        channels=tuple(edf.header.labels[i] for i in signals),
        flags=edf.flags + _montage_flags(edf.header.labels) + (("sfreq.below_band",) if sfreq_hz < _FULL_BAND_SFREQ_HZ else ()),
        labels=reference_labels(edf.annotations, duration_s),
    )


def channels_of(edf: EdfFile) -> tuple[int, ...]:
    """Signal indices of the nineteen electrodes in the order of `CHANNELS`; in this version none may be missing.

    Raises:
        MontageError: see `describe`.
    """
    labels = edf.header.labels
    picked = pick_channels(labels)
    signals = tuple(i for i in picked if i is not None)
    if len(signals) == N_CHANNELS:
        if len({edf.header.signals[i].samples_per_record for i in signals}) > 1:
            raise MontageError("montage.rates_differ", f"{edf.name}: the nineteen electrodes are not all recorded at one rate.")
        return signals
    if not signals and sum(_is_bipolar(label) for label in labels) >= 2:
        raise MontageError(
            "montage.bipolar", f"{edf.name}: the signals are bipolar ({_names(labels)}); export the recording with a common reference."
        )
    there = [name for name, i in zip(CHANNELS, picked, strict=True) if i is not None]
    missing = [name for name, i in zip(CHANNELS, picked, strict=True) if i is None]
    raise MontageError(
        "montage.channels_missing",
        f"{edf.name}: {len(there)} of the nineteen 10-20 electrodes found ({', '.join(there) or 'none'}), "
        f"missing {', '.join(missing)}; the file's signals are {_names(labels)}.",
    )


def patient_code(edf: EdfFile) -> str:
    """The patient code of the EDF+ header, the whole patient field of a plain EDF, or the file's stem where that names nobody."""
    match = _EDF_PLUS_PATIENT.fullmatch(edf.header.patient)
    code = match[1] if match else edf.header.patient
    nobody = code.lower() in _NOBODY or set(code.lower().split()) <= _NOBODY
    return PurePosixPath(edf.name).stem if nobody else code


def pseudonym(code: str, salt: str) -> str:
    """Twelve hexadecimal digits that stand for a patient: HMAC-SHA256 of the code, so that without the salt no list of codes undoes it."""
    return hmac.new(salt.encode(), code.encode(), hashlib.sha256).hexdigest()[:_PSEUDONYM_DIGITS]


def _split(corpus: str, code: str, subject: str, settings: DataSettings) -> Split:
    """By subject: its pseudonym decides; in the embedded corpus its number does (every fifth test, every tenth validation)."""
    number = _SYNTHETIC_PATIENT.fullmatch(code)
    if corpus == SYNTHETIC_CORPUS and number is not None:
        i = int(number[1])
        return Split.TEST if i % 5 == 4 else Split.VALIDATION if i % 10 == 3 else Split.TRAIN
    place = int(subject, 16) / 16**_PSEUDONYM_DIGITS
    if place < settings.test_fraction:
        return Split.TEST
    return Split.VALIDATION if place < settings.test_fraction + settings.validation_fraction else Split.TRAIN


def _check_signals(edf: EdfFile, signals: tuple[int, ...], sfreq_hz: float) -> None:
    for i in signals:
        calibration_uv(edf.header.signals[i], edf.name)
    if sfreq_hz < MIN_SFREQ_HZ:
        raise EdfError("signal.sfreq", f"{edf.name}: EEG sampled at {sfreq_hz:g} Hz; at least {MIN_SFREQ_HZ:g} Hz is needed.")
    longest_s = max(stop_s - start_s for start_s, stop_s in edf.runs_s)
    if longest_s < SEGMENT_S - 1e-6:
        raise EdfError("signal.too_short", f"{edf.name}: the longest contiguous stretch is {longest_s:g} s; a page needs {SEGMENT_S} s.")
    if _is_noise(edf, signals):
        raise EdfError(
            "data.misaligned", f"{edf.name}: the samples are random noise over the whole digital range: bytes were lost or added."
        )


def _is_noise(edf: EdfFile, signals: tuple[int, ...]) -> bool:
    """Whether some stretch looks as int16 does when read one byte off: white, and uniform over all 65536 steps.

    A uniform distribution has a standard deviation of 0.29 of its width, white samples a spectral flatness near 1 (0.97 was seen in real
    recordings shifted by a byte; 0.3 at most in sound ones, be they all mains).
    """
    header = edf.header.signals
    count = max(1, round(_PROBE_S / edf.header.record_s))
    for first in np.linspace(0, max(0, len(edf.records) - count), _PROBES).astype(int):
        records = edf.records[first : first + count]
        rows = [records[:, header[i].offset : header[i].offset + header[i].samples_per_record].reshape(-1) for i in signals]
        digital = np.array(rows, dtype=np.float64)
        if np.median(digital.std(axis=1)) > _UNIFORM_SPREAD * 65536 and np.median(_flatness(digital)) > _WHITE_FLATNESS:
            return True
    return False


def _flatness(signals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spectral flatness (geometric over arithmetic mean of Welch's spectrum) of each row of `(signals, samples)`."""
    power = scipy.signal.welch(signals, nperseg=64, axis=1)[1][:, 1:] + 1e-9
    flatness: npt.NDArray[np.float64] = np.exp(np.log(power).mean(axis=1)) / power.mean(axis=1)
    return flatness


def _montage_flags(labels: tuple[str, ...]) -> tuple[str, ...]:
    parsed = [entry for entry in map(parse_label, labels) if entry is not None]
    flags = ["montage.duplicate_channel"] * (len({name for name, _ in parsed}) < len(parsed))
    return tuple(flags + ["montage.mixed_reference"] * (len({reference for _, reference in parsed}) > 1))


def _is_bipolar(label: str) -> bool:
    """Two electrodes with a hyphen between them."""
    first, hyphen, second = label.upper().replace("EEG", "").partition("-")
    return bool(hyphen) and parse_label(first) is not None and parse_label(second.split("-")[0]) is not None


def _names(labels: tuple[str, ...]) -> str:
    shown = ", ".join(f"'{label}'" for label in labels[:_MANY_NAMES])
    return shown + (f" and {len(labels) - _MANY_NAMES} more" if len(labels) > _MANY_NAMES else "")
