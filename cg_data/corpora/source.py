"""A recording as its corpus lists it, before it is opened."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from cg_data.vocabulary import Split

_STRICTEST = (Split.TEST, Split.VALIDATION, Split.TRAIN)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file. `subject` is the corpus's own code for the patient ("" where only the header tells): identity, so it stays in the driver.

    `split` is the corpus's official one, or None; `label_uris` are the files beside it that hold its labels; `problems` are rules that
    the listing of the corpus broke: ``source.unknown_name``, ``source.no_class_folder``, ``source.not_in_participants`` and
    ``split.subject_in_two``.
    """

    uri: str
    subject: str = ""
    split: Split | None = None
    label_uris: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def one_split_per_subject(sources: Iterable[Source]) -> list[Source]:
    """The sources in order of their URIs, no subject in two splits: the test split wins, then validation, and the move is a problem."""
    listed = sorted(sources, key=lambda source: source.uri)
    splits: dict[str, set[Split | None]] = {}
    for source in listed:
        splits.setdefault(source.subject, set()).add(source.split)
    return [_moved(source, splits[source.subject]) if source.subject else source for source in listed]


def _moved(source: Source, splits: set[Split | None]) -> Source:
    if len(splits) == 1:
        return source
    strictest = next(split for split in _STRICTEST if split in splits)
    return dataclasses.replace(source, split=strictest, problems=(*source.problems, "split.subject_in_two"))
