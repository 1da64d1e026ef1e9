"""What the six TUH EEG corpora have in common: file names, montage folders, splits by folder, label files beside the recording.

Both generations are read: numbered subjects (``00000258_s002_t000.edf`` below ``01_tcp_ar/002/00000258/s002_2003_07_21``, until 2022) and
lettered ones (``aaaaaaac_s001_t000.edf`` below ``aaaaaaac/s001_2002/02_tcp_le``, since).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from cg_data.corpora.channels import TCP, TCP_WITHOUT_EARS
from cg_data.corpora.listing import Tree, folder_of, list_tree, stem_of
from cg_data.corpora.source import Source
from cg_data.corpora.tuh_files import read_label_file
from cg_data.marks import Labels, Marks
from cg_data.signal_file import SignalFile
from cg_data.vocabulary import ClinicalClass, LabelKind, SeizureType, Split

SUBJECT = re.compile(r"(?P<subject>\d{8}|[a-z]{8})_s\d{3}_t\d{3}")
"""File name of a recording: subject, session, token."""

_MONTAGES: dict[str, tuple[str, ...]] = {
    "01_tcp_ar": TCP,
    "02_tcp_le": TCP,
    "03_tcp_ar_a": TCP_WITHOUT_EARS,
    "04_tcp_le_a": TCP_WITHOUT_EARS,
}
_BY_CHANNEL = (".csv", ".lbl", ".lbl_agg", ".rec", ".lbl_bi")
_BY_TERM = (".tse", ".tse_agg", ".csv_bi", ".tse_bi")


def list_edf(uri: str, corpus: str) -> Tree:
    """The tree of a TUH corpus.

    Raises:
        StorageError: there is no recording.
    """
    return list_tree(uri, lambda name: name.lower().endswith(".edf"), f"{corpus} (its edf folder, or the one above)")


def source_of(uri: str, tree: Tree, splits: Mapping[str, Split], pattern: re.Pattern[str] = SUBJECT) -> Source:
    """One recording with the label files beside it: of channels and of the whole page the most detailed each, and TUAR's seizures."""
    match = pattern.fullmatch(stem_of(uri))
    stem_uri = uri.rsplit(".", 1)[0]
    labels = tree.first(stem_uri, _BY_CHANNEL) + tree.first(stem_uri, _BY_TERM) + tree.present(f"{stem_uri}_seiz.csv")
    return Source(
        uri=uri,
        subject=match["subject"] if match else "",
        split=splits.get(innermost(uri, splits) or ""),
        label_uris=labels,
        problems=() if match else ("source.unknown_name",),
    )


def innermost(uri: str, names: Mapping[str, object]) -> str | None:
    """The last folder of `uri` that is one of `names`."""
    return next((part for part in reversed(folder_of(uri).split("/")) if part in names), None)


def montage_of(uri: str) -> tuple[str, ...]:
    """Derivations of the montage folder that holds a recording; TUEV has none and is all ``01_tcp_ar``."""
    return _MONTAGES[innermost(uri, _MONTAGES) or "01_tcp_ar"]


def with_class(source: Source, classes: Mapping[str, ClinicalClass]) -> Source:
    """A source of a corpus whose folders classify whole recordings, with a problem where none does."""
    if innermost(source.uri, classes) is not None:
        return source
    return dataclasses.replace(source, problems=(*source.problems, "source.no_class_folder"))


def labels_of(source: Source, file: SignalFile, classes: Mapping[str, ClinicalClass] | None = None) -> Labels:
    """The labels in a recording's label files, and its class by `classes` of folders; one of the two must be there.

    Raises:
        StorageError: a label file cannot be fetched.
    """
    marks = Marks(file.runs_s[-1][1])
    if classes is not None and (folder := innermost(source.uri, classes)) is not None:
        marks.add(LabelKind.CLINICAL, classes[folder], 0.0, marks.duration_s)
    if classes is None and not source.label_uris:
        marks.broken("labels.no_file")
    for uri in source.label_uris:
        read_label_file(uri, stem_of(source.uri), montage_of(source.uri), marks)
    _add_page_seizures(marks)
    return marks.gathered()


def _add_page_seizures(marks: Marks) -> None:
    """Where seizures are marked by channel only, the page has one as long as any channel has."""
    seizures = marks.of_kind(LabelKind.SEIZURE)
    if any(not label.channel for label in seizures):
        return
    spans: list[tuple[float, float]] = []
    for onset_s, stop_s in sorted((label.onset_s, label.onset_s + label.duration_s) for label in seizures):
        if spans and onset_s <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], stop_s))
        else:
            spans.append((onset_s, stop_s))
    for onset_s, stop_s in spans:
        marks.add(LabelKind.SEIZURE, SeizureType.SEIZURE, onset_s, stop_s)
