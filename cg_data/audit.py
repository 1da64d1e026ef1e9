"""The noise rate of instruction samples: how many of their statements the truth contradicts or does not bear out, with intervals.

What reviewers of CerebraGloss (ICLR 2026) asked for and the paper lacks. A statement is one claim of an answer
(`cg_data.instruct.grounding`). One that says what is not there is told apart from one that denies what is there, and both from a text that
is silent about what is there. Shards are read one at a time; only counts per subject are kept.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np

from cg_data import storage
from cg_data.audit_truth import Held, Reference, Scope, reference_of, scopes_of
from cg_data.errors import StorageError
from cg_data.instruct.claims import Aspect, Claim, kinds_name
from cg_data.instruct.grounding import Grounded, ground
from cg_data.instruct.judge import Ruling
from cg_data.instruct.wording import seeded
from cg_data.intervals import Interval, interval, resampled_sums, unseen_bound
from cg_data.progress import Progress, silent
from cg_data.records import Annotation, Sample
from cg_data.rows import SAMPLE_SCHEMA, sample_from_row
from cg_data.shards import read_annotations, read_segments
from cg_data.verify import Folders
from cg_data.vocabulary import FindingKind, SampleKind, SampleSource, Truth

WHOLE_TEXTS = frozenset({SampleKind.CAPTION, SampleKind.DESCRIPTION})
"""Kinds of sample that are meant to name all that is on a page, so that silence is an omission."""
RESAMPLES = 2000
_SEGMENTS, _UNJUDGED = "segments", "unjudged"


class Group(StrEnum):
    """Names of the tables of an audit."""

    ALL = "all"
    SAMPLE = "sample"
    CLAIM = "claim"
    AFFIRMED = "affirmed"
    DENIED = "denied"
    OMITTED = "omitted"
    CHOICE = "choice"
    SAMPLES = "samples"


Key = tuple[str, str, str]
"""Group, name of the row, and what is counted: "n" or a ruling."""
Counts = dict[str, Counter[Key]]
"""For each subject, how often what was counted."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """One row: of `n` statements (or texts) the share that is contradicted, and that which the truth does not tell of."""

    name: str
    n: int
    contradicted: Interval
    unsupported: Interval


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """The result. `held` divides all statements by what they are held against; only "labels" is independent of our own analysers.

    `affirmed` and `denied` are statements that a finding is there and that it is not, `omitted` pages' texts that leave out a finding
    that is there (`contradicted` is then the share of texts that do), `samples` whole samples with any such statement, `choices`
    questions of which a second option is right too. `unjudged` statements are about what the truth cannot tell.
    """

    truth: str
    reader: str
    subjects: int
    segments: int
    unjudged: int
    held: tuple[Rate, ...]
    by_sample: tuple[Rate, ...]
    by_claim: tuple[Rate, ...]
    affirmed: tuple[Rate, ...]
    denied: tuple[Rate, ...]
    omitted: tuple[Rate, ...]
    samples: tuple[Rate, ...]
    choices: tuple[Rate, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, for `storage.write_json`."""
        return dataclasses.asdict(self)


def audit(folders: Folders, *, truth: Truth, reader: str = "", share: float = 1.0, seed: int = 29, progress: Progress = silent) -> Audit:
    """Hold the samples of a corpus against the truth.

    Args:
        folders: of the corpus; shards of one name belong together.
        truth: what is held to be true.
        reader: whose marks count (`Label.reader`); "" for all.
        share: of the segments that are looked at, drawn by their ids.
        seed: of the draw and of the resamples.
        progress: told of every shard.

    Raises:
        StorageError: there are no samples, none of them can be judged, or shards of one name are about different segments.
    """
    names = [part.rsplit("/", 1)[-1] for part in storage.list_files(folders.samples, ".parquet")]
    if not names:
        raise StorageError(f"{folders.samples}: no samples here yet. Run `cg data instruct` first.")
    scopes = {} if truth is Truth.ANNOTATION else scopes_of(folders.segments, truth, reader)
    counts: Counts = {}
    for done, name in enumerate(names):
        progress(done, len(names), name)
        merge(counts, audit_shard(name, folders, scopes, truth=truth, reader=reader, share=share, seed=seed))
    progress(len(names), len(names))
    if not counts:
        whose = f" of a recording that reader {reader} marked" if reader else ""
        drawn = f" and in the drawn share of {share:g}" if share < 1 else ""
        raise StorageError(f"{folders.samples}: no sample is about a page{whose}{drawn}, so there is nothing to audit.")
    return summary(counts, truth=truth, reader=reader, seed=seed)


def audit_shard(name: str, folders: Folders, scopes: Mapping[str, Scope], *, truth: Truth, reader: str, share: float, seed: int) -> Counts:
    """Counts of one shard of samples and of the segments and annotations that go by its name."""
    by_segment: dict[str, list[Sample]] = {}
    for sample in _dialogues(storage.join(folders.samples, name)):
        if sample.kind is not SampleKind.GENERAL and (share >= 1 or seeded(seed, "audit", sample.segment_id).random() < share):
            by_segment.setdefault(sample.segment_id, []).append(sample)
    made_from: dict[str, Annotation] = {}
    if truth is Truth.ANNOTATION:
        made_from = {a.segment_id: a for a in read_annotations(storage.join(folders.annotations, name))}
    counts: Counts = {}
    for segment in read_segments(storage.join(folders.segments, name)):
        samples = by_segment.pop(segment.segment_id, [])
        if not samples:
            continue
        if truth is Truth.ANNOTATION and segment.segment_id not in made_from:
            raise _out_of_step(folders.annotations, name)
        reference = reference_of(segment, made_from.get(segment.segment_id), scopes, reader=reader)
        if reference is not None:
            mine = counts.setdefault(segment.subject, Counter())
            mine[(Group.ALL, _SEGMENTS, "n")] += 1
            for sample in samples:
                mine.update(count_sample(sample, reference))
    if by_segment:
        raise _out_of_step(folders.segments, name)
    return counts


def _dialogues(uri: str) -> Iterable[Sample]:
    """Samples of one shard without their signals and pictures: the segments have those, and a signal weighs far more than its words."""
    columns = [column for column in SAMPLE_SCHEMA.names if column not in ("mask", "eeg_steps", "picture")]
    for row in storage.read_table(uri, columns=columns).to_pylist():
        yield sample_from_row({**row, "mask": [], "eeg_steps": b""})


def _out_of_step(uri: str, name: str) -> StorageError:
    return StorageError(f"{storage.join(uri, name)}: the samples of this name are about other segments. Run `cg data verify`.")


def merge(counts: Counts, more: Counts) -> None:
    """Add `more` to `counts`."""
    for subject, own in more.items():
        counts.setdefault(subject, Counter()).update(own)


def count_sample(sample: Sample, reference: Reference) -> Counter[Key]:
    """Statements of one sample by every table's rows and by ruling."""
    counts: Counter[Key] = Counter()
    pairs = zip(sample.messages[::2], sample.messages[1::2], strict=True)
    turns = [(q.content, ground(a.content, reference.facts, question=q.content)) for q, a in pairs]
    judged = [pair for _, grounded in turns for pair in _claims(grounded)]
    rulings = []
    for claim, ruling in judged:
        if not reference.is_judged(claim, ruling):
            counts[(Group.ALL, _UNJUDGED, "n")] += 1
            continue
        rulings.append(ruling)
        for group, row in _rows(sample, claim, reference):
            counts[(group, row, "n")] += 1
            counts[(group, row, ruling)] += 1
    name = row_of(sample)
    counts[(Group.SAMPLES, name, "n")] += 1
    worst = next((r for r in (Ruling.CONTRADICTED, Ruling.UNSUPPORTED) if r in rulings), Ruling.SUPPORTED)
    counts[(Group.SAMPLES, name, worst)] += 1
    if sample.kind in WHOLE_TEXTS:
        counts.update(_omissions(judged, reference))
    if sample.options:
        counts.update(_choice(sample, turns[0][0], reference))
    return counts


def row_of(sample: Sample) -> str:
    """Kind of a sample, and whether a teacher wrote it: the two are never mixed in one figure."""
    return f"{sample.kind} by a teacher" if sample.source is SampleSource.LLM else str(sample.kind)


def _claims(grounded: Grounded) -> Iterable[tuple[Claim, Ruling]]:
    return ((claim, ruling) for v in grounded.verdicts for claim, ruling in zip(v.claims, v.rulings, strict=True))


def _rows(sample: Sample, claim: Claim, reference: Reference) -> Iterable[tuple[str, str]]:
    """Rows in which a statement is counted."""
    held = reference.held(claim)
    yield Group.ALL, "all"
    yield Group.ALL, Held.LABELS if held is Held.NOTHING else held
    yield Group.SAMPLE, row_of(sample)
    yield Group.CLAIM, claim.aspect
    if claim.aspect is Aspect.FINDING:
        yield Group.DENIED if claim.negated else Group.AFFIRMED, kinds_name(claim.kinds)


def _omissions(judged: Iterable[tuple[Claim, Ruling]], reference: Reference) -> Counter[Key]:
    """Findings that are there and that a whole text does not affirm; only kinds that labels tell of."""
    affirmed = {kind for claim, _ in judged if claim.aspect is Aspect.FINDING and not claim.negated for kind in claim.kinds}
    there = reference.facts.kinds & (reference.scope.kinds if reference.independent else frozenset(FindingKind))
    counts: Counter[Key] = Counter()
    for kind in there:
        for name in (kind, "all"):
            counts[(Group.OMITTED, name, "n")] += 1
            counts[(Group.OMITTED, name, Ruling.SUPPORTED if kind in affirmed else Ruling.CONTRADICTED)] += 1
    return counts


def _choice(sample: Sample, question: str, reference: Reference) -> Counter[Key]:
    """Whether an option that counts as wrong is right as well."""
    wrong = [option for place, option in enumerate(sample.options) if place != sample.answer_index]
    also = any(_is_right(ground(option, reference.facts, question=question), reference) for option in wrong)
    return Counter({(Group.CHOICE, row_of(sample), "n"): 1, (Group.CHOICE, row_of(sample), Ruling.CONTRADICTED): int(also)})


def _is_right(grounded: Grounded, reference: Reference) -> bool:
    claims = list(_claims(grounded))
    return bool(claims) and all(ruling is Ruling.SUPPORTED and reference.is_judged(claim, ruling) for claim, ruling in claims)


class _Table:
    """Sums of all that was counted, as they are and in every resample of the subjects."""

    def __init__(self, counts: Counts, seed: int) -> None:
        self.keys = sorted({key for own in counts.values() for key in own})
        self._column = {key: i for i, key in enumerate(self.keys)}
        self._by_subject = np.array([[own[key] for key in self.keys] for _, own in sorted(counts.items())], dtype=np.float64)
        self._sums = self._by_subject.sum(axis=0)
        self._drawn = resampled_sums(self._by_subject, resamples=RESAMPLES, seed=seed)

    def total(self, key: Key) -> int:
        """How often `key` was counted."""
        return int(self._sums[self._column[key]]) if key in self._column else 0

    def share(self, key: Key, whole: Key) -> Interval:
        """Of all `whole` the share of `key`, with its interval over subjects; where none or all were counted, the exact one."""
        every = self._column[whole]
        own = self._column.get(key)
        value = 0.0 if own is None else float(self._sums[own] / self._sums[every])
        n_asked = int((self._by_subject[:, every] > 0).sum())
        if n_asked > 1 and value in (0.0, 1.0):
            bound = unseen_bound(n_asked)
            return Interval(value=value, low=value * (1 - bound), high=value + (1 - value) * bound)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = self._drawn[:, own] / self._drawn[:, every] if own is not None else np.zeros(0)
        return interval(value, drawn, n_asked)

    def rates(self, group: Group, *, but: tuple[str, ...] = ()) -> tuple[Rate, ...]:
        """Rows of a table, the most frequent first."""
        names = [name for found, name, what in self.keys if found == group and what == "n" and name not in but]
        return tuple(sorted((self._rate(group, name) for name in names), key=lambda rate: -rate.n))

    def _rate(self, group: Group, name: str) -> Rate:
        whole = (group, name, "n")
        return Rate(
            name=name,
            n=self.total(whole),
            contradicted=self.share((group, name, Ruling.CONTRADICTED), whole),
            unsupported=self.share((group, name, Ruling.UNSUPPORTED), whole),
        )


def summary(counts: Counts, *, truth: Truth, reader: str = "", seed: int = 29) -> Audit:
    """Rates of every row with 95 % intervals over resampled subjects."""
    table = _Table(counts, seed)
    return Audit(
        truth=truth,
        reader=reader,
        subjects=len(counts),
        segments=table.total((Group.ALL, _SEGMENTS, "n")),
        unjudged=table.total((Group.ALL, _UNJUDGED, "n")),
        held=table.rates(Group.ALL, but=(_SEGMENTS, _UNJUDGED)),
        by_sample=table.rates(Group.SAMPLE),
        by_claim=table.rates(Group.CLAIM),
        affirmed=table.rates(Group.AFFIRMED),
        denied=table.rates(Group.DENIED),
        omitted=table.rates(Group.OMITTED),
        samples=table.rates(Group.SAMPLES),
        choices=table.rates(Group.CHOICE),
    )
