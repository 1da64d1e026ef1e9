"""The noise of a sample set: how much of what its answers say is not so, by the truth where one was planted, by a reader's marks elsewhere.

Every sentence of every answer is read by the grounding check and held against the annotation that the reference labels give. What is said
and is not there counts as noise (contradicted, or not borne out); what is there and a caption or description does not speak of is counted
apart, as omitted. Shards are read one at a time, and only counts are kept, for each subject: the intervals resample subjects.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cg_data import manifest, storage
from cg_data.analyze.annotate import annotate_truth
from cg_data.errors import ConfigError
from cg_data.instruct.claims import Aspect, Claim
from cg_data.instruct.facts import Facts, facts_of
from cg_data.instruct.grounding import Grounded, ground, worst
from cg_data.instruct.judge import Ruling
from cg_data.intervals import Interval, ratio
from cg_data.progress import Progress, silent
from cg_data.records import Annotation, Label, Segment, annotation_from_row
from cg_data.shards import read_segments
from cg_data.verify import Folders
from cg_data.vocabulary import FINDING_OF_WAVEFORM, FindingKind, LabelKind, SampleKind, Waveform

RESAMPLES = 2000
_COLUMNS = ["segment_id", "kind", "messages"]
_TEXTS = frozenset({SampleKind.CAPTION, SampleKind.DESCRIPTION})
_TOLD_BY_A_READER = frozenset({Aspect.FINDING, Aspect.TIME, Aspect.DURATION, Aspect.COUNT})
"""What a reader's marks tell: whether, when and how often. Readers mark on the channel they look at, so where is not told."""
_NOISE = (Ruling.CONTRADICTED, Ruling.UNSUPPORTED)
Counts = Counter[tuple[str, str, str]]
"""Number of items by table ("kind", "claim", "finding", "omitted", "written"), row of it and outcome."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """What statements are held against: planted labels, which tell all, or the marks of one reader ("" for those of all of them)."""

    planted: bool
    reader: str = ""

    @property
    def name(self) -> str:
        return "planted labels" if self.planted else f"marks of reader {self.reader}" if self.reader else "readers' marks"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How many items of a row there are, how many of them are contradicted and not borne out, and the share of both together."""

    name: str
    items: int
    contradicted: int
    unsupported: int
    share: Interval


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """Noise of a sample set; the first row of each table is all of it.

    `sentences` are by kind of sample, `claims` by what they are about, `findings` are claims that a kind of finding is there. `omitted`
    says how often texts are silent about a finding that is there. `written` holds sentences against the annotation that they were written
    from: what is noise there is the writer's, the rest of what `sentences` show is the annotation's.
    """

    truth: str
    subjects: int
    pages: int
    samples: int
    sentences: tuple[Rate, ...]
    claims: tuple[Rate, ...]
    findings: tuple[Rate, ...]
    omitted: tuple[Rate, ...]
    written: tuple[Rate, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(kw_only=True, slots=True)
class Tally:
    """Counts by subject, and how many pages and samples they are from."""

    by_subject: defaultdict[str, Counts] = dataclasses.field(default_factory=lambda: defaultdict(Counter))
    pages: int = 0
    samples: int = 0

    def add(self, other: Tally) -> None:
        self.pages += other.pages
        self.samples += other.samples
        for subject, counts in other.by_subject.items():
            self.by_subject[subject].update(counts)


def audit(
    folders: Folders,
    truth: Truth,
    *,
    most_shards: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = silent,
) -> Audit:
    """Hold the samples of a corpus against the truth.

    Args:
        folders: segments, annotations and samples of the corpus.
        truth: what to hold them against.
        most_shards: audit this many shards at most. Their names are hashes of what is in them, so the first are as good as any.
        resamples: of subjects, for the intervals.
        seed: of the resamples.
        progress: told about each shard.

    Raises:
        StorageError: there are no samples.
        ConfigError: no sample's recording bears a mark that the samples could be held against.
    """
    shards = [uri.rsplit("/", 1)[-1] for uri in manifest.committed(folders.samples)][:most_shards]
    marked = {} if truth.planted else marked_kinds(folders.segments, shards, truth.reader)
    if not truth.planted and not any(marked.values()):
        raise ConfigError(f"{folders.segments}: no {truth.name} here to hold samples against. Name another reader or corpus.")
    tally = Tally()
    for number, name in enumerate(shards):
        tally.add(count_shard(name, folders=folders, truth=truth, marked=marked))
        progress(number + 1, len(shards), f"{tally.samples:,} samples")
    return _summed(tally, truth, resamples=resamples, seed=seed)


def marked_kinds(segments_uri: str, shards: Iterable[str], reader: str) -> dict[str, frozenset[FindingKind]]:
    """What a reader looked for in each recording: every kind that has a mark in it."""
    found: defaultdict[str, set[FindingKind]] = defaultdict(set)
    for name in shards:
        for row in storage.read_table(storage.join(segments_uri, name), ["recording_id", "labels"]).to_pylist():
            labels = [Label(**{**label, "kind": LabelKind(label["kind"])}) for label in row["labels"]]
            found[row["recording_id"]] |= {kind for label in _marks_of(labels, reader) if (kind := _kind_of(label)) is not None}
    return {recording_id: frozenset(kinds) for recording_id, kinds in found.items()}


def _marks_of(labels: Iterable[Label], reader: str) -> tuple[Label, ...]:
    """Labels without the marks of other readers; states of the page stay."""
    return tuple(label for label in labels if not reader or label.reader == reader or _kind_of(label) is None)


def _kind_of(label: Label) -> FindingKind | None:
    if label.kind is LabelKind.WAVEFORM:
        return FINDING_OF_WAVEFORM[Waveform(label.name)]
    return FindingKind(label.name) if label.kind is LabelKind.ARTEFACT else None


def count_shard(name: str, *, folders: Folders, truth: Truth, marked: Mapping[str, frozenset[FindingKind]]) -> Tally:
    """The counts of one shard of samples and its twins."""
    tally = Tally()
    dialogues = _dialogues(storage.join(folders.samples, name))
    annotations = _annotations(storage.join(folders.annotations, name))
    for segment in read_segments(storage.join(folders.segments, name)):
        told = dialogues.get(segment.segment_id, [])
        kinds = frozenset(FindingKind) if truth.planted else marked.get(segment.recording_id, frozenset())
        if not told or not kinds:
            continue
        page = _Page.of(segment, annotations[segment.segment_id], truth, kinds)
        tally.pages += 1
        tally.samples += len(told)
        for kind, turns in told:
            tally.by_subject[segment.subject].update(page.counts(kind, turns))
    return tally


Turns = list[tuple[str, str]]


def _dialogues(uri: str) -> dict[str, list[tuple[SampleKind, Turns]]]:
    """Questions and answers about each page, without its signal."""
    found: defaultdict[str, list[tuple[SampleKind, Turns]]] = defaultdict(list)
    for row in storage.read_table(uri, _COLUMNS).to_pylist():
        said = [message["content"] for message in row["messages"]]
        found[row["segment_id"]].append((SampleKind(row["kind"]), list(zip(said[::2], said[1::2], strict=True))))
    return found


def _annotations(uri: str) -> dict[str, Annotation]:
    return {row["segment_id"]: annotation_from_row(row) for row in storage.read_table(uri).to_pylist()}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Page:
    """What is true of a page, what its annotation says, and which kinds the truth tells about."""

    true: Facts
    annotated: Facts
    kinds: frozenset[FindingKind]
    planted: bool

    @classmethod
    def of(cls, segment: Segment, annotation: Annotation, truth: Truth, kinds: frozenset[FindingKind]) -> _Page:
        marks = segment.labels if truth.planted else _marks_of(segment.labels, truth.reader)
        true = annotate_truth(dataclasses.replace(segment, labels=marks))
        return cls(true=facts_of(segment, true), annotated=facts_of(segment, annotation), kinds=kinds, planted=truth.planted)

    def counts(self, kind: SampleKind, turns: Turns) -> Counts:
        """Sentences and claims of one dialogue by outcome; of a text also what it is silent about."""
        counts: Counts = Counter()
        spoken: set[FindingKind] = set()
        for question, answer in turns:
            grounded = ground(answer, self.true, question=question)
            for verdict in grounded.verdicts:
                told = [(c, r) for c, r in zip(verdict.claims, verdict.rulings, strict=True) if self._is_told(c)]
                spoken.update(k for c in verdict.claims if not c.negated for k in _kinds_said(c))
                if told:
                    counts["kind", kind.value, worst([r for _, r in told])] += 1
                for claim, ruling in told:
                    counts["claim", claim.aspect.value, ruling] += 1
                    if claim.aspect is Aspect.FINDING and not claim.negated and len(claim.kinds) == 1:
                        counts["finding", claim.kinds[0].value, ruling] += 1
            counts.update(_written(ground(answer, self.annotated, question=question), kind))
        if kind in _TEXTS:
            for found in self.true.kinds & self.kinds:
                counts["omitted", found.value, Ruling.SUPPORTED if found in spoken else Ruling.UNSUPPORTED] += 1
        return counts

    def _is_told(self, claim: Claim) -> bool:
        """Whether the truth can say anything to a claim."""
        if self.planted:
            return True
        return claim.aspect in _TOLD_BY_A_READER and claim.of is Aspect.FINDING and self.kinds.issuperset(claim.kinds)


def _kinds_said(claim: Claim) -> tuple[FindingKind, ...]:
    return (FindingKind.ALPHA_RHYTHM,) if claim.aspect is Aspect.POSTERIOR_RHYTHM else claim.kinds if claim.aspect is Aspect.FINDING else ()


def _written(grounded: Grounded, kind: SampleKind) -> Counts:
    return Counter(("written", kind.value, verdict.verdict.value) for verdict in grounded.verdicts if verdict.claims)


def _summed(tally: Tally, truth: Truth, *, resamples: int, seed: int) -> Audit:
    tables: dict[str, tuple[Rate, ...]] = {}
    for table in ("kind", "claim", "finding", "omitted", "written"):
        rows = sorted({row for counts in tally.by_subject.values() for own, row, _ in counts if own == table})
        named = [("all", rows), *((row, [row]) for row in rows)] if rows else []
        tables[table] = tuple(_rate(name, table, of, tally, resamples=resamples, seed=seed) for name, of in named)
    return Audit(
        truth=truth.name,
        subjects=len(tally.by_subject),
        pages=tally.pages,
        samples=tally.samples,
        sentences=tables["kind"],
        claims=tables["claim"],
        findings=tables["finding"],
        omitted=tables["omitted"],
        written=tables["written"],
    )


def _rate(name: str, table: str, rows: list[str], tally: Tally, *, resamples: int, seed: int) -> Rate:
    """Outcomes of some rows of a table; subjects without any of them do not count."""
    outcomes = (Ruling.SUPPORTED, *_NOISE)
    counted = np.array([[sum(c[table, row, o] for row in rows) for o in outcomes] for c in tally.by_subject.values()], dtype=np.float64)
    counted = counted[counted.sum(axis=1) > 0]
    share = ratio(counted[:, 1:].sum(axis=1), counted.sum(axis=1), resamples=resamples, seed=seed)
    return Rate(
        name=name, items=int(counted.sum()), contradicted=int(counted[:, 1].sum()), unsupported=int(counted[:, 2].sum()), share=share
    )
