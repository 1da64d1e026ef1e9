"""EDF+ files that hold annotations and no signal: the hypnograms that sleep corpora put beside their recordings."""

from __future__ import annotations

from cg_data import storage
from cg_data.corpora.listing import name_of
from cg_data.edf.header import ANNOTATIONS_LABEL
from cg_data.edf.tal import Annotation, TimingReader
from cg_data.errors import EdfError

_FIXED_BYTES = 256
_SAMPLES_AT = 216
"""Bytes per signal before the header's column of samples per record (Kemp et al. 1992)."""


def read_notes(uri: str) -> tuple[Annotation, ...]:
    """Notes of the annotation file at `uri` by onset, counted from its first record.

    Raises:
        EdfError: ``annotations.unreadable``: it is no EDF+ file with annotations, or a damaged one.
        StorageError: it cannot be fetched.
    """
    data = storage.read_bytes(uri)
    name = name_of(uri)
    try:
        n_signals = int(data[252:256])
        columns = data[_FIXED_BYTES : _FIXED_BYTES * (n_signals + 1)]
        labels = [columns[16 * i : 16 * i + 16].decode("latin-1").strip() for i in range(n_signals)]
        at = _SAMPLES_AT * n_signals
        sizes = [2 * int(columns[at + 8 * i : at + 8 * i + 8]) for i in range(n_signals)]
    except ValueError as error:
        raise EdfError("annotations.unreadable", f"{name}: this is not an EDF+ file of annotations.") from error
    if ANNOTATIONS_LABEL not in labels or min(sizes) < 1:
        raise EdfError("annotations.unreadable", f"{name}: this EDF+ file holds no annotations.")
    payload = data[_FIXED_BYTES * (n_signals + 1) :]
    starts = [sum(sizes[:i]) for i in range(n_signals)]
    records = range(0, len(payload) - sum(sizes) + 1, sum(sizes))
    timing = TimingReader(kind="EDF+D", record_s=0.0, fastest_hz=1.0, name=name)
    for record in records:
        timing.add(
            [
                payload[record + start : record + start + size]
                for start, size, x in zip(starts, sizes, labels, strict=True)
                if x == ANNOTATIONS_LABEL
            ]
        )
    return timing.finish().annotations
