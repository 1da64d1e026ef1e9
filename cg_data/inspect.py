"""What a corpus holds, before any work is spent on it: files, hours, channels, rates, labels, problems, and what would be refused.

`inspect_file` looks at one file and gives a small row; `summarise` adds rows up one by one, so that 100,000 files need no memory. Only
headers and label files are read where that suffices; faults inside the samples show when files are read whole (`thorough`).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.listing import name_of
from cg_data.corpora.source import Source
from cg_data.edf.header import ANNOTATIONS_LABEL
from cg_data.edf.labels import pick_channels
from cg_data.errors import EdfError, StorageError
from cg_data.formats import open_file
from cg_data.header_file import HeaderFile
from cg_data.marks import Labels, Problem
from cg_data.progress import Progress, silent
from cg_data.recording import describe
from cg_data.records import Label, Recording
from cg_data.settings import DataSettings
from cg_data.signal_file import SignalFile

_AT_A_TIME = 16
_EXAMPLES = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelTotal:
    """How often a label is given, and for how many seconds in all; marks on several channels count each."""

    kind: str
    name: str
    count: int
    duration_s: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InspectedFile:
    """One file, as far as it could be read. `reason` and `message` are empty where it would be accepted; `subject` is a pseudonym.

    `electrodes` counts those of the nineteen that the file has; `sfreq_hz` is their rate, or that of the first signal.
    """

    uri: str
    subject: str = ""
    split: str = ""
    duration_s: float = 0.0
    sfreq_hz: float = 0.0
    channels: tuple[str, ...] = ()
    electrodes: int = 0
    labels: tuple[LabelTotal, ...] = ()
    problems: tuple[Problem, ...] = ()
    reason: str = ""
    message: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SplitTotal:
    files: int
    subjects: int
    duration_s: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RuleTotal:
    """A rule that was broken: in how many files, how often in all, and the first few of the files (with the sentence of a refusal)."""

    rule: str
    files: int
    count: int
    examples: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """Totals of a corpus. `splits`, `labels` and so on hold accepted files only; `channels` and `refused` are about all."""

    files: int
    accepted: int
    subjects: int
    duration_s: float
    splits: dict[str, SplitTotal]
    sfreqs_hz: dict[float, int]
    electrodes: dict[int, int]
    channels: dict[str, int]
    labels: tuple[LabelTotal, ...]
    problems: tuple[RuleTotal, ...]
    refused: tuple[RuleTotal, ...]


def inspect(corpus: CorpusName, uri: str, *, settings: DataSettings, thorough: bool = False, progress: Progress = silent) -> Inspection:
    """Inspect the corpus at `uri`, some files at a time: most of the time is waiting for a disk or an object store.

    Raises:
        StorageError: there are no recordings, or the place cannot be read.
    """
    sources = CORPORA[corpus].sources(uri)
    return summarise(_inspected(sources, corpus, settings, thorough, progress))


def inspect_file(source: Source, corpus: CorpusName, *, settings: DataSettings, thorough: bool = False) -> InspectedFile:
    """One file as a small row; a file that cannot be used has its reason, never an exception."""
    row = InspectedFile(uri=source.uri, problems=tuple(Problem(rule=rule, count=1) for rule in source.problems))
    try:
        headed = source.uri.lower().endswith(".edf") and not thorough
        file: SignalFile = HeaderFile(source.uri) if headed else open_file(source.uri)
        row = _with_header(row, file)
        found = CORPORA[corpus].labels(source, file)
        row = _with_labels(row, found)
        # The notch is found in the samples, which are not looked at here.
        quick = settings if thorough else settings.model_copy(update={"mains_hz": "none"})
        recording = describe(file, source=source, corpus=corpus, settings=quick, labels=found.labels)
    except EdfError as error:
        return dataclasses.replace(row, reason=error.reason, message=str(error))
    except StorageError as error:
        return dataclasses.replace(row, reason="storage.unreadable", message=str(error))
    return _accepted(row, recording)


def summarise(rows: Iterable[InspectedFile]) -> Inspection:
    """Totals of `rows`, which are looked at once and not kept."""
    totals = _Totals()
    for row in rows:
        totals.add(row)
    return totals.inspection()


def _inspected(
    sources: list[Source], corpus: CorpusName, settings: DataSettings, thorough: bool, progress: Progress
) -> Iterator[InspectedFile]:
    look = partial(inspect_file, corpus=corpus, settings=settings, thorough=thorough)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for done, row in enumerate(pool.map(look, sources), 1):
            yield row
            progress(done, len(sources), "files")


def _with_header(row: InspectedFile, file: SignalFile) -> InspectedFile:
    picked = [i for i in pick_channels(file.labels) if i is not None]
    return dataclasses.replace(
        row,
        duration_s=sum(stop_s - start_s for start_s, stop_s in file.runs_s),
        sfreq_hz=file.sfreq_hz(picked[0] if picked else 0),
        channels=tuple(label for label in file.labels if label != ANNOTATIONS_LABEL),
        electrodes=len(picked),
    )


def _with_labels(row: InspectedFile, found: Labels) -> InspectedFile:
    return dataclasses.replace(row, labels=_label_totals(found.labels), problems=row.problems + found.problems)


def _accepted(row: InspectedFile, recording: Recording) -> InspectedFile:
    flags = tuple(Problem(rule=flag, count=1) for flag in recording.flags)
    return dataclasses.replace(
        row,
        subject=recording.subject,
        split=recording.split.value,
        sfreq_hz=recording.sfreq_hz,
        electrodes=len(recording.electrodes),
        problems=row.problems + flags,
    )


def _label_totals(labels: Iterable[Label]) -> tuple[LabelTotal, ...]:
    durations_s: dict[tuple[str, str], list[float]] = {}
    for label in labels:
        durations_s.setdefault((label.kind.value, str(label.name)), []).append(label.duration_s)
    return tuple(LabelTotal(kind=k, name=n, count=len(given), duration_s=sum(given)) for (k, n), given in sorted(durations_s.items()))


class _Rules:
    """Rules broken so far."""

    def __init__(self) -> None:
        self._files: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, rule: str, count: int, example: str) -> None:
        self._files[rule] += 1
        self._counts[rule] += count
        examples = self._examples.setdefault(rule, [])
        if len(examples) < _EXAMPLES:
            examples.append(example)

    def totals(self) -> tuple[RuleTotal, ...]:
        return tuple(
            RuleTotal(rule=rule, files=files, count=self._counts[rule], examples=tuple(self._examples[rule]))
            for rule, files in sorted(self._files.items(), key=lambda item: (-item[1], item[0]))
        )


class _Totals:
    """Sums of rows; what is kept grows with subjects, label names and rules, not with files."""

    def __init__(self) -> None:
        self.files = 0
        self.split_files: Counter[str] = Counter()
        self.split_seconds: dict[str, float] = {}
        self.split_subjects: dict[str, set[str]] = {}
        self.sfreqs_hz: Counter[float] = Counter()
        self.electrodes: Counter[int] = Counter()
        self.channels: Counter[str] = Counter()
        self.labels: dict[tuple[str, str], LabelTotal] = {}
        self.problems = _Rules()
        self.refused = _Rules()

    def add(self, row: InspectedFile) -> None:
        self.files += 1
        self.channels.update(dict.fromkeys(row.channels).keys())
        for problem in row.problems:
            self.problems.add(problem.rule, problem.count, row.uri)
        if row.reason:
            self.refused.add(row.reason, 1, f"{row.uri}: {row.message.removeprefix(name_of(row.uri) + ': ')}")
            return
        self.split_files[row.split] += 1
        self.split_seconds[row.split] = self.split_seconds.get(row.split, 0.0) + row.duration_s
        self.split_subjects.setdefault(row.split, set()).add(row.subject)
        self.sfreqs_hz[row.sfreq_hz] += 1
        self.electrodes[row.electrodes] += 1
        for total in row.labels:
            before = self.labels.get((total.kind, total.name), dataclasses.replace(total, count=0, duration_s=0.0))
            self.labels[total.kind, total.name] = dataclasses.replace(
                total, count=before.count + total.count, duration_s=before.duration_s + total.duration_s
            )

    def inspection(self) -> Inspection:
        splits = {
            split: SplitTotal(files=files, subjects=len(self.split_subjects[split]), duration_s=self.split_seconds[split])
            for split, files in sorted(self.split_files.items())
        }
        return Inspection(
            files=self.files,
            accepted=self.split_files.total(),
            subjects=len(set().union(*self.split_subjects.values())),
            duration_s=sum(self.split_seconds.values()),
            splits=splits,
            sfreqs_hz=dict(sorted(self.sfreqs_hz.items())),
            electrodes=dict(sorted(self.electrodes.items(), reverse=True)),
            channels=dict(self.channels.most_common()),
            labels=tuple(self.labels[key] for key in sorted(self.labels)),
            problems=self.problems.totals(),
            refused=self.refused.totals(),
        )
