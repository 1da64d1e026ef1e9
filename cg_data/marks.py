"""Labels of one recording as they are gathered from its label files: good marks are kept, each bad one is counted under a rule's name."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable

from cg_data.records import Label
from cg_data.vocabulary import LABEL_NAMES, LabelKind

_STATES = frozenset({LabelKind.STAGE, LabelKind.EYES, LabelKind.BACKGROUND, LabelKind.CLINICAL, LabelKind.SEARCHED})
_OVERHANG_S = 30.0
"""An event may end this long after the recording (it is cut there): one scoring epoch. Beyond that its end is wrong, not rounded."""
_ROUNDING_S = 1.0
"""Ends are often written in whole seconds: a cut below this is no problem."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A rule that some of a recording's labels broke, and how often. The name never holds text from a recording."""

    rule: str
    count: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """Labels of one recording by onset, and what was wrong with those that are not there.

    Rules: ``labels.no_file``, ``labels.no_entry`` (the recording is not in its corpus's list), ``labels.unreadable_file``,
    ``labels.unreadable_line``, ``labels.end_before_onset``, ``labels.beyond_recording``, ``labels.cut_at_end`` (kept, but shortened),
    ``labels.unpaired_mark`` (a start without an end), ``labels.count_differs``, ``labels.unknown_channel``, ``labels.unknown_reader``,
    ``labels.unknown_term`` (``labels.unknown_term:fnsx`` where terms are codes) and ``annotations.not_listed`` (text that may not leave
    the file). Where a mark is lost from a reader's list of waveforms, the list does not tell what is absent: it gives no ``searched``.
    """

    labels: tuple[Label, ...] = ()
    problems: tuple[Problem, ...] = ()

    def and_also(self, other: Labels) -> Labels:
        """Both, without labels given twice; counts of one rule are added."""
        counts = Counter({problem.rule: problem.count for problem in self.problems})
        counts.update({problem.rule: problem.count for problem in other.problems})
        return Labels(labels=_ordered({*self.labels, *other.labels}), problems=_counted(counts))


class Marks:
    """Gathers the labels of a recording of `duration_s` seconds."""

    def __init__(self, duration_s: float) -> None:
        self.duration_s = duration_s
        self._labels: list[Label] = []
        self._broken: Counter[str] = Counter()
        self._lost: set[str] = set()

    def add(self, kind: LabelKind, name: str, onset_s: float, stop_s: float, *, channel: str = "", reader: str = "") -> bool:
        """Keep a label if its times can be, and say whether it is kept; a state (stage, background) or an event that ends a little late is
        cut at the end."""
        if name not in LABEL_NAMES[kind]:
            raise ValueError(f"{name} is no name of a label of kind {kind}")
        late_s = stop_s - self.duration_s
        if stop_s < onset_s:
            self.broken("labels.end_before_onset")
        elif onset_s < 0 or onset_s >= self.duration_s or (late_s > _OVERHANG_S and kind not in _STATES):
            self.broken("labels.beyond_recording")
        else:
            if late_s > _ROUNDING_S:
                self.broken("labels.cut_at_end")
            duration_s = min(stop_s, self.duration_s) - onset_s
            self._labels.append(Label(kind=kind, name=name, onset_s=onset_s, duration_s=duration_s, channel=channel, reader=reader))
            return True
        return False

    def broken(self, rule: str, count: int = 1) -> None:
        """Count `count` marks that broke `rule`."""
        self._broken[rule] += count

    def lose(self, waveforms: Iterable[str]) -> None:
        """Something of `waveforms` is told but cannot be kept, so where none is marked one may be: `gathered` has no search for them."""
        self._lost.update(waveforms)

    def of_kind(self, kind: LabelKind) -> list[Label]:
        """What has been kept of one kind so far."""
        return [label for label in self._labels if label.kind is kind]

    def gathered(self) -> Labels:
        """All that was added, by onset; the same mark given twice is there once."""
        kept = {label for label in self._labels if not (label.kind is LabelKind.SEARCHED and label.name in self._lost)}
        return Labels(labels=_ordered(kept), problems=_counted(self._broken))


def _ordered(labels: set[Label]) -> tuple[Label, ...]:
    return tuple(sorted(labels, key=lambda x: (x.onset_s, x.kind, x.name, x.channel, x.reader, x.duration_s)))


def _counted(broken: Counter[str]) -> tuple[Problem, ...]:
    return tuple(Problem(rule=rule, count=count) for rule, count in sorted(broken.items()) if count)


def number(text: str) -> float | None:
    """A finite decimal number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def text_of(data: bytes) -> str:
    """A label file's text: UTF-8, else Latin-1 (which reads any byte); a byte order mark is dropped."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
