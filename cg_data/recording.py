"""What is known of a recording before its segments are made: who (under a pseudonym), which split, which electrodes, which labels."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import PurePosixPath

import numpy as np

from cg_data.corpora.source import Source
from cg_data.electrodes import Electrodes, find_electrodes, montage_of, with_ears
from cg_data.errors import EdfError
from cg_data.records import Label, Recording, content_id
from cg_data.reference_labels import reference_labels
from cg_data.segments import windows_in
from cg_data.settings import DataSettings
from cg_data.signal import find_mains_hz
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import SEGMENT_S, Montage, Split

SYNTHETIC_CORPUS = "synthetic"
MIN_SFREQ_HZ = 100.0
_FULL_BAND_SFREQ_HZ = 140.0
_PSEUDONYM_DIGITS = 12
_EDF_PLUS_PATIENT = re.compile(r"(\S+) [MFX] (?:X|\d\d-[A-Za-z]{3}-\d{4})(?: .*)?")
_NOBODY = frozenset({"", "x", "anonymous", "anonymised", "anonymized", "unknown"})
_SYNTHETIC_PATIENT = re.compile(r"CGS-(\d+)")
_MAINS_PROBES = 12


def describe(
    file: SignalFile, *, source: Source, corpus: str, settings: DataSettings, labels: tuple[Label, ...] | None = None
) -> Recording:
    """The `Recording` of a checked file; `labels` count from its start and come from its own annotations where none are given.

    Reads about two minutes of signal, to find the mains. Flags added to the file's own: those of `find_electrodes`,
    ``montage.few_electrodes`` (too few for an average over the head) and ``sfreq.below_band`` (under 140 Hz: 70 Hz is out of reach).

    Raises:
        MontageError: ``montage.channels_missing``, ``montage.bipolar``, ``montage.rates_differ`` or ``montage.ears_missing``.
        EdfError: ``signal.sfreq``, ``signal.too_short``, ``data.misaligned`` or a calibration that fixes no scale.
    """
    electrodes = find_electrodes(file, settings.min_electrodes)
    if settings.montage is Montage.LINKED_EARS:
        electrodes = with_ears(file, electrodes)
    montage, montage_flags = montage_of(electrodes, settings.montage)
    _check_signals(file, electrodes)
    duration_s = file.runs_s[-1][1]
    code = source.subject or patient_code(file)
    subject = pseudonym(code, settings.subject_salt)
    below_band = ("sfreq.below_band",) if electrodes.sfreq_hz < _FULL_BAND_SFREQ_HZ else ()
    return Recording(
        recording_id=content_id("recording", file.sha256),
        uri=source.uri,
        sha256=file.sha256,
        corpus=corpus,
        subject=subject,
        split=source.split or _split(corpus, code, subject, settings),
        sfreq_hz=electrodes.sfreq_hz,
        duration_s=duration_s,
        runs_s=file.runs_s,
        signals=electrodes.signals,
        channels=electrodes.channels,
        electrodes=electrodes.names,
        montage=montage,
        mains_hz=_mains_hz(file, electrodes, settings),
        flags=file.flags + electrodes.flags + montage_flags + below_band,
        labels=reference_labels(file.annotations, duration_s) if labels is None else labels,
    )


def patient_code(file: SignalFile) -> str:
    """The patient code of the EDF+ header, the whole patient field of a plain EDF, or the file's stem where that names nobody."""
    match = _EDF_PLUS_PATIENT.fullmatch(file.patient)
    code = match[1] if match else file.patient
    nobody = code.lower() in _NOBODY or set(code.lower().split()) <= _NOBODY
    return PurePosixPath(file.name).stem if nobody else code


def pseudonym(code: str, salt: str) -> str:
    """Twelve hexadecimal digits that stand for a patient: HMAC-SHA256 of the code, so that without the salt no list of codes undoes it."""
    return hmac.new(salt.encode(), code.encode(), hashlib.sha256).hexdigest()[:_PSEUDONYM_DIGITS]


def _split(corpus: str, code: str, subject: str, settings: DataSettings) -> Split:
    """By subject: its pseudonym decides; in the embedded corpus its number does (of every five one is test, one validation: few
    subjects have discharges, and thresholds and probabilities hang on those)."""
    number = _SYNTHETIC_PATIENT.fullmatch(code)
    if corpus == SYNTHETIC_CORPUS and number is not None:
        i = int(number[1])
        return Split.TEST if i % 5 == 4 else Split.VALIDATION if i % 5 == 3 else Split.TRAIN
    place = int(subject, 16) / 16**_PSEUDONYM_DIGITS
    if place < settings.test_fraction:
        return Split.TEST
    return Split.VALIDATION if place < settings.test_fraction + settings.validation_fraction else Split.TRAIN


def _check_signals(file: SignalFile, electrodes: Electrodes) -> None:
    if electrodes.sfreq_hz < MIN_SFREQ_HZ:
        raise EdfError("signal.sfreq", f"{file.name}: EEG sampled at {electrodes.sfreq_hz:g} Hz; at least {MIN_SFREQ_HZ:g} Hz is needed.")
    longest_s = max(stop_s - start_s for start_s, stop_s in file.runs_s)
    if longest_s < SEGMENT_S - 1e-6:
        raise EdfError("signal.too_short", f"{file.name}: the longest contiguous stretch is {longest_s:g} s; a page needs {SEGMENT_S} s.")
    file.check(electrodes.signals)


def _mains_hz(file: SignalFile, electrodes: Electrodes, settings: DataSettings) -> float | None:
    """The notch: as configured, or found in windows spread evenly over the whole recording."""
    if settings.mains_hz != "auto":
        return None if settings.mains_hz == "none" else float(settings.mains_hz)
    starts_s = [a + i * SEGMENT_S for a, b in file.runs_s for i in range(windows_in(a, b))]
    chosen = sorted({round(i) for i in np.linspace(0, len(starts_s) - 1, _MAINS_PROBES)})
    # The last samples of a window are left out so that rounding never reaches past the end of a run.
    probes = [file.read_uv(electrodes.signals, starts_s[i], starts_s[i] + SEGMENT_S - 0.1) for i in chosen]
    shortest = min(probe.shape[1] for probe in probes)
    levelled = [probe[:, :shortest] - probe[:, :shortest].mean(axis=1, keepdims=True) for probe in probes]
    return find_mains_hz(np.concatenate(levelled, axis=1), electrodes.sfreq_hz)
