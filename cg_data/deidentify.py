"""Clean copies of EDF and EDF+ files: the signal to the bit, and of the words only what is on a list.

Allowed are: labels made of known words and electrode names (10-05 system), known units, filters written as numbers, numbers where numbers
belong, and annotations that `cg_data.reference_labels` understands. All else (patient, recording, transducer, free text, reserved fields,
bytes behind the last record) is left out. The patient becomes the keyed hash that the data engine uses too; the start date moves by a
number of days that follows from it, so that the intervals between recordings of one subject stay (HIPAA safe harbour asks for no dates;
the shifted ones are surrogates).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence

from cg_data import storage
from cg_data.edf.header import ANNOTATIONS_LABEL
from cg_data.edf.reader import EdfFile
from cg_data.edf.source import FileSource
from cg_data.edf.tal import rewrite_notes
from cg_data.errors import ConfigError, EdfError, UserError
from cg_data.progress import Progress, silent
from cg_data.recording import patient_code, pseudonym
from cg_data.reference_labels import listed_text
from cg_data.settings import PUBLIC_SALT, SALT_VARIABLE

_BLOCK_BYTES = 16 << 20
_EARLIEST, _LATEST = datetime.date(1985, 1, 1), datetime.date(2084, 12, 31)
"""The years that an EDF start date can mean (Kemp and Olivan 2003, section 2.1.3, rule 2)."""
_MOST_DAYS = 3650
_UNITS = frozenset({"uV", "µV", "mV", "V", "nV", "%", "bpm", "BPM", "Hz", "mmHg", "degC", "C", "L/min", "cmH2O", "Ohm", "kOhm", ""})
_NUMBER = re.compile(rb"[ \x00]*[+-]?(?:[0-9]+[.,]?[0-9]*|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?[ \x00]*")
_FILTERS = re.compile(r"(?:(?:HP|LP|N|BP|Notch)[:= ]{0,2}(?:DC|[0-9.]{1,6} ?k?Hz)[ ;,]*)*", re.IGNORECASE)
_TIME = re.compile(rb"[0-2][0-9]\.[0-5][0-9]\.[0-5][0-9]")
_DATE = re.compile(rb"([0-3][0-9])\.([01][0-9])\.([0-9]{2})")
_KNOWN_WORDS = """
EEG EOG ECG EKG EMG POL SCALP RESP REF LE LER LM AR AV AVG AVE CAR GND COM LOC ROC E1 E2 A1 A2 M1 M2 T1 T2 SP1 SP2 PG1 PG2 CS2 NZ V VREF
HEOG VEOG CHIN LEG LEGS ARM LEFT RIGHT L R UPPER LOWER HORIZONTAL VERTICAL SUBMENTAL TIB ANT SPO2 SAO2 OSAT PR HR PULSE PLETH TEMP RECTAL
BODY THOR THORAX ABD ABDOMEN FLOW AIRFLOW NASAL ORAL ORO ORONASAL SNORE PRESSURE BP POSITION LIGHT PHOTIC IBI BURSTS SUPPR SUPPRESSION
STATUS EVENT MARKER TRIGGER CHANNEL CH DC AUX
"""
_WORDS = frozenset(_KNOWN_WORDS.split())


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cleaned:
    """One clean copy: where it lies, and how many notes and labels were kept and left out."""

    uri: str
    notes_kept: int
    notes_dropped: int
    labels_replaced: int


def deidentify(uri: str, folder_uri: str, salt: str) -> Cleaned:
    """Write a clean copy of the EDF file at `uri` into `folder_uri` as ``<subject>/<hash of the file>.edf``.

    Raises:
        EdfError: the file is damaged; what cannot be read cannot be cleaned. ``annotations.no_room``: nor can what has no room.
        ConfigError: the copy is there already, or would lie over its original.
        StorageError: it cannot be read or written.
    """
    source = FileSource(uri)
    file = EdfFile(source)
    code = patient_code(file)
    subject = pseudonym(code, salt)
    target = storage.join(folder_uri, subject, f"{pseudonym(file.sha256, salt)}.edf")
    if storage.exists(target):
        raise ConfigError(f"{target}: there is a file already. Choose another folder, or delete it.")
    counts = {"kept": 0, "dropped": 0}
    head, replaced = _header(source.read(0, file.header.header_bytes).tobytes(), file, code, salt)
    storage.write_stream(target, _chunks(head, source, file, counts))
    return Cleaned(uri=target, notes_kept=counts["kept"], notes_dropped=counts["dropped"], labels_replaced=replaced)


def deidentify_all(
    uris: Sequence[str], folder_uri: str, salt: str, progress: Progress = silent
) -> tuple[list[Cleaned], list[tuple[str, UserError]]]:
    """Clean copies of many files, and the files that could not be cleaned with what was wrong; the rest goes on.

    Raises:
        ConfigError: the salt is the public one.
    """
    if salt == PUBLIC_SALT:
        raise ConfigError(
            f"{SALT_VARIABLE} is not set, and subjects would be hashed under a key that everybody knows. "
            "Set it to a secret of your own, and keep it."
        )
    cleaned, failed = [], []
    for done, uri in enumerate(uris, 1):
        try:
            cleaned.append(deidentify(uri, folder_uri, salt))
        except UserError as error:
            failed.append((uri, error))
        progress(done, len(uris), "files")
    return cleaned, failed


def _chunks(head: bytes, source: FileSource, file: EdfFile, counts: dict[str, int]) -> Iterator[bytes]:
    """The header, then the records with the notes of each rewritten."""
    yield head
    header = file.header
    spans = [(2 * s.offset, 2 * (s.offset + s.samples_per_record)) for s in header.signals if s.is_annotations]
    starts = (file.origin_s + start_s + k * header.record_s for _, count, start_s in file.runs for k in range(count))
    step = max(1, _BLOCK_BYTES // header.record_bytes) * header.record_bytes
    end = header.header_bytes + sum(count for _, count, _ in file.runs) * header.record_bytes
    for at in range(header.header_bytes, end, step):
        block = bytearray(source.read(at, min(at + step, end)).tobytes())
        for record in range(0, len(block), header.record_bytes):
            start_s = next(starts)
            for number, (first, last) in enumerate(spans):
                old = bytes(block[record + first : record + last])
                part, kept, dropped = rewrite_notes(old, listed_text, None if number else start_s)
                if len(part) > len(old):
                    raise EdfError(
                        "annotations.no_room", f"{file.name}: a record's start cannot be read, and there is no room to write it."
                    )
                block[record + first : record + last] = part
                counts["kept"] += kept
                counts["dropped"] += dropped
        yield bytes(block)


def _header(head: bytes, file: EdfFile, code: str, salt: str) -> tuple[bytes, int]:
    """The clean header, and how many labels were replaced."""
    n = len(file.header.signals)
    date = _shifted(head[168:176], code, salt)
    started = date.strftime("%d-%b-%Y").upper() if date else "X"
    clock = head[176:184] if _TIME.fullmatch(head[176:184]) else b"00.00.00"
    fixed = [
        (b"0", 8),
        (f"{pseudonym(code, salt)} X X X".encode(), 80),
        (f"Startdate {started} X X X".encode(), 80),
        (date.strftime("%d.%m.%y").encode() if date else b"01.01.85", 8),
        (clock, 8),
        (str(256 * (n + 1)).encode(), 8),
        (b"" if file.header.kind == "EDF" else file.header.kind.encode(), 44),
        (str(sum(count for _, count, _ in file.runs)).encode(), 8),
        (_numeric(head[244:252]), 8),
        (str(n).encode(), 4),
    ]
    labels = [_label(signal.label, i) for i, signal in enumerate(file.header.signals)]
    columns = [(label.encode("latin-1"), 16) for label in labels] + [(b"", 80)] * n
    columns += [(_unit(_field(head, 96, 8, n, i)), 8) for i in range(n)]
    columns += [(_numeric(_field(head, before, 8, n, i)), 8) for before in (104, 112, 120, 128) for i in range(n)]
    columns += [(_filters(_field(head, 136, 80, n, i)), 80) for i in range(n)]
    columns += [(str(signal.samples_per_record).encode(), 8) for signal in file.header.signals] + [(b"", 32)] * n
    replaced = sum(new != signal.label for new, signal in zip(labels, file.header.signals, strict=True))
    return b"".join(value.ljust(width)[:width] for value, width in [*fixed, *columns]), replaced


def _field(head: bytes, before: int, width: int, n_signals: int, signal: int) -> bytes:
    at = 256 + before * n_signals + width * signal
    return head[at : at + width]


def _numeric(field: bytes) -> bytes:
    return field.strip(b" \x00") if _NUMBER.fullmatch(field) else b""


def _unit(field: bytes) -> bytes:
    text = field.decode("latin-1").strip(" \x00")
    return text.encode("latin-1") if text in _UNITS else b""


def _filters(field: bytes) -> bytes:
    text = field.decode("latin-1").strip(" \x00")
    return text.encode("latin-1") if _FILTERS.fullmatch(text) else b""


def _label(label: str, signal: int) -> str:
    """The label where all of its words are known, else a number."""
    if label == ANNOTATIONS_LABEL:
        return label
    words = [word for word in re.split(r"[\s.:_+\-,/()]+", label.upper()) if word]
    numbers = sum(word.isdecimal() for word in words)  # two or three of them may be a date
    known = all(word in _electrodes() | _WORDS or re.fullmatch(r"(?:DC|X|CH)?[0-9]{1,3}", word) for word in words)
    return label if words and known and numbers <= 1 else f"CH {signal + 1}"


@functools.cache
def _electrodes() -> frozenset[str]:
    """Names of the 10-05 system, upper case."""
    import mne  # takes a second

    return frozenset(name.upper() for name in mne.channels.make_standard_montage("colin27_1005").ch_names)


def _shifted(field: bytes, code: str, salt: str) -> datetime.date | None:
    """The start date, moved by the subject's own number of days; None where there is none."""
    match = _DATE.fullmatch(field)
    if match is None or field == b"01.01.85":
        return None
    year = int(match[3])
    try:
        date = datetime.date(year + (1900 if year >= 85 else 2000), int(match[2]), int(match[1]))
    except ValueError:
        return None
    digest = hmac.new(salt.encode(), f"days of {code}".encode(), hashlib.sha256).digest()
    days = 1 + int.from_bytes(digest[:8], "big") % _MOST_DAYS
    span = (_LATEST - _EARLIEST).days + 1
    return _EARLIEST + datetime.timedelta(days=((date - _EARLIEST).days - days) % span)
