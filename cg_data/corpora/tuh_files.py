"""The label dialects of the TUH EEG corpora, both generations, read line by line into `Marks`.

* ``.csv``, ``.csv_bi``: ``channel,start_time,stop_time,label,confidence`` after ``#`` lines; the channel ``TERM`` is the whole page.
* ``labels_01_tcp_ar.csv`` (TUAR v1 and v2): one table for all recordings, ``key,channel,start,stop,label``.
* ``.tse``, ``.tse_bi``, ``.tse_agg``: ``start stop label probability`` for the whole page.
* ``.lbl``, ``.lbl_bi``, ``.lbl_agg``: a montage, a table of symbols, and ``label = {level, sublevel, start, stop, channel, [...]}``.
* ``.rec`` (TUEV): ``channel,start,stop,code`` in numbers.

Channel numbers count along the montage that the file states, or else along the TCP montage of the tree (`cg_data.corpora.channels`).
"""

from __future__ import annotations

import re

from cg_data import storage
from cg_data.corpora.channels import TCP, channel_name
from cg_data.corpora.listing import name_of
from cg_data.corpora.tuh_terms import NULL, REC_CODES, term_of, unknown_term
from cg_data.marks import Marks, number, text_of

_DERIVATIONS = {name.upper(): name for name in TCP}
_MONTAGE_LINE = re.compile(r"montage\s*=\s*(\d+)\s*,\s*([^:]+?)\s*:.*")
_SYMBOLS_LINE = re.compile(r"symbols\[(\d+)\]\s*=\s*\{(.*)\}")
_SYMBOL = re.compile(r"(\d+)\s*:\s*'([^']*)'")
_LABEL_LINE = re.compile(r"label\s*=\s*\{\s*(\d+)\s*,\s*(\d+)\s*,\s*([^,]+),\s*([^,]+),\s*(-?\d+)\s*,\s*\[(.*)\]\s*\}")
_PREAMBLE = re.compile(r"(version|number_of_levels|level\[\d+\])\s*=.*")


def read_label_file(uri: str, key: str, montage: tuple[str, ...], marks: Marks) -> None:
    """Add what the label file at `uri` says of the recording `key` (the stem of its name).

    Raises:
        StorageError: the file cannot be fetched.
    """
    lines = [line.strip() for line in text_of(storage.read_bytes(uri)).splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    name = name_of(uri)
    suffix = name.rsplit(".", 1)[-1].removesuffix("_bi").removesuffix("_agg")
    if suffix == "csv" and name.startswith("labels_"):
        _read_csv([rest for row in lines for first, _, rest in [row.partition(",")] if first.strip() == key], marks)
    elif suffix == "csv":
        _read_csv(lines, marks)
    elif suffix == "tse":
        _read_tse(lines, marks)
    elif suffix == "lbl":
        _read_lbl(lines, montage, marks)
    else:
        _read_rec(lines, montage, marks)


def _read_csv(lines: list[str], marks: Marks) -> None:
    for line in lines:
        fields = [field.strip() for field in line.split(",")]
        if fields[0].lower() == "channel":
            continue
        if len(fields) < 4:
            marks.broken("labels.unreadable_line")
            continue
        _add(marks, fields[1], fields[2], fields[3], _channel(fields[0]))


def _read_tse(lines: list[str], marks: Marks) -> None:
    for line in lines:
        fields = line.split()
        if fields[0].startswith("version"):
            continue
        if len(fields) < 3:
            marks.broken("labels.unreadable_line")
            continue
        _add(marks, fields[0], fields[1], fields[2], "")


def _read_lbl(lines: list[str], montage: tuple[str, ...], marks: Marks) -> None:
    stated: dict[int, str] = {}
    symbols: dict[int, dict[int, str]] = {}
    for line in lines:
        if (match := _MONTAGE_LINE.fullmatch(line)) is not None:
            stated[int(match[1])] = match[2]
        elif (match := _SYMBOLS_LINE.fullmatch(line)) is not None:
            symbols[int(match[1])] = {int(i): code for i, code in _SYMBOL.findall(match[2])}
        elif (match := _LABEL_LINE.fullmatch(line)) is not None:
            code = _most_probable(match[6], symbols.get(int(match[1]), {}))
            channel = _channel(stated[int(match[5])]) if int(match[5]) in stated else _numbered(match[5], montage)
            _add(marks, match[3], match[4], code, channel)
        elif _PREAMBLE.fullmatch(line) is None:
            marks.broken("labels.unreadable_line")


def _most_probable(weights: str, symbols: dict[int, str]) -> str:
    """The symbol with the largest weight; "" where the vector cannot be read or names none."""
    values = [number(text) for text in weights.split(",")]
    known = [value if value is not None else 0.0 for value in values]
    return symbols.get(known.index(max(known)), "") if max(known) > 0 else ""


def _read_rec(lines: list[str], montage: tuple[str, ...], marks: Marks) -> None:
    for line in lines:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 4:
            marks.broken("labels.unreadable_line")
            continue
        _add(marks, fields[1], fields[2], REC_CODES.get(fields[3], fields[3]), _numbered(fields[0], montage))


def _add(marks: Marks, start: str, stop: str, code: str, channel: str | None) -> None:
    onset_s, stop_s = number(start), number(stop)
    if onset_s is None or stop_s is None or not code:
        marks.broken("labels.unreadable_line")
    elif code.lower() in NULL:
        return
    elif (term := term_of(code)) is None:
        marks.broken(unknown_term(code))
    elif channel is None:
        marks.broken("labels.unknown_channel")
    else:
        marks.add(*term, onset_s, stop_s, channel=channel)


def _channel(text: str) -> str | None:
    """ "T4-A2" is the derivation here, not T4 against an ear."""
    return "" if text.upper() == "TERM" else _DERIVATIONS.get(text.upper()) or channel_name(text)


def _numbered(text: str, montage: tuple[str, ...]) -> str | None:
    """The derivation with a number; -1 means all channels in some ``.lbl`` files."""
    if text == "-1":
        return ""
    return montage[int(text)] if text.isdigit() and int(text) < len(montage) else None
