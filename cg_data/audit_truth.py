"""What an audit holds samples against: planted truth, a reader's marks or the annotation itself, and what each of them can tell.

A mark that is missing says something only where marks of its kind were looked for. What the truth cannot tell is not judged, for else
the silence of a reader who marked spindles would count against every K-complex.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from enum import StrEnum

from cg_data import storage
from cg_data.analyze.annotate import annotate_truth
from cg_data.instruct.claims import Aspect, Claim
from cg_data.instruct.facts import Facts, facts_of
from cg_data.instruct.judge import Ruling
from cg_data.records import Annotation, Segment
from cg_data.vocabulary import FINDING_OF_WAVEFORM, Eyes, FindingKind, LabelKind, Stage, Truth, Waveform

EVENT_KINDS: frozenset[FindingKind] = frozenset(FINDING_OF_WAVEFORM.values())
_WHERE = frozenset(
    {Aspect.CHANNEL, Aspect.REGION, Aspect.SIDE, Aspect.EXTENT, Aspect.MAXIMUM}
    | {Aspect.REVERSAL, Aspect.POLARITY, Aspect.ORIENTATION, Aspect.AMPLITUDE}
)
"""What depends on the electrodes of the marks, directly or by the dipole that is measured at them."""
_LABELLED_UNITS = frozenset({"probability", "reference label"})
"""Of findings that rest on marks. What our own analysers measured is no truth where labels tell of its kind."""


class Held(StrEnum):
    """What a statement is held against: labels, the measurement of our own analysers (no independent truth), or nothing."""

    LABELS = "labels"
    MEASUREMENT = "measurement"
    NOTHING = "nothing"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """What the labels of a recording can tell: kinds of finding, whether there is a seizure, and whether they are on every electrode of a
    field. Readers mark on the channel that they look at, so their marks tell when and not where."""

    kinds: frozenset[FindingKind] = frozenset()
    seizures: bool = False
    places: bool = False


def scopes_of(segments_uri: str, truth: Truth, reader: str) -> dict[str, Scope]:
    """The scope of every recording that can be judged, by its id; reads no signal. Without `reader` the marks of all readers count.

    A recording that `reader` marked nowhere is left out.
    """
    kinds: dict[str, set[FindingKind]] = {}
    seizures: set[str] = set()
    read: set[str] = set()
    for part in storage.list_files(segments_uri, ".parquet"):
        for row in storage.read_table(part, columns=["recording_id", "labels"]).to_pylist():
            recording_id, named = row["recording_id"], kinds.setdefault(row["recording_id"], set())
            for label in row["labels"]:
                if label["kind"] in (LabelKind.SEARCHED, LabelKind.UNSURE):
                    continue
                if not reader or label["reader"] == reader:
                    read.add(recording_id)
                if not reader or label["reader"] in ("", reader):
                    named.update(_told_by(label["kind"], label["name"]))
                    if label["kind"] in (LabelKind.SEIZURE, LabelKind.BACKGROUND):
                        seizures.add(recording_id)
    if truth is Truth.PLANTED:
        every = Scope(kinds=EVENT_KINDS.union(*kinds.values()), seizures=True, places=True)
        return dict.fromkeys(kinds, every)
    return {key: Scope(kinds=frozenset(named), seizures=key in seizures) for key, named in kinds.items() if not reader or key in read}


def _told_by(kind: str, name: str) -> Iterable[FindingKind]:
    if kind == LabelKind.WAVEFORM:
        return [FINDING_OF_WAVEFORM[Waveform(name)]]
    return [FindingKind(name)] if kind == LabelKind.ARTEFACT else []


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A page as the truth has it, and what the truth can tell of it."""

    facts: Facts
    scope: Scope
    independent: bool = True
    """False where the facts are those that the samples were made from."""

    def held(self, claim: Claim) -> Held:
        """What `claim` is held against."""
        if not self.independent:
            return Held.MEASUREMENT
        if claim.aspect is Aspect.MISSING:
            return Held.LABELS
        if claim.of is Aspect.SEIZURE:
            return Held.LABELS if self.scope.seizures else Held.NOTHING
        if claim.aspect is Aspect.STAGE:
            return Held.NOTHING if self.facts.annotation.stage is Stage.UNKNOWN else Held.LABELS
        if claim.aspect is Aspect.EYES:
            return Held.NOTHING if self.facts.annotation.eyes is Eyes.UNKNOWN else Held.LABELS
        if claim.of is not Aspect.FINDING:
            return Held.MEASUREMENT
        marked = EVENT_KINDS.intersection(claim.kinds)
        if not self.scope.kinds.issuperset(marked) or (marked and not self.scope.places and self._says_where(claim)):
            return Held.NOTHING
        return Held.MEASUREMENT if self.scope.kinds.isdisjoint(claim.kinds) else Held.LABELS

    @staticmethod
    def _says_where(claim: Claim) -> bool:
        return claim.aspect in _WHERE or bool(claim.places)

    def is_judged(self, claim: Claim, ruling: Ruling) -> bool:
        """Whether `ruling` counts. Of a family of which only some kinds are looked for ("no epileptiform discharges"), what is there
        decides and what is not there does not."""
        if self.held(claim) is not Held.NOTHING:
            return True
        if self._says_where(claim):
            return False
        decisive = Ruling.CONTRADICTED if claim.negated else Ruling.SUPPORTED
        return claim.of is Aspect.FINDING and ruling is decisive and not self.scope.kinds.isdisjoint(claim.kinds)


def reference_of(segment: Segment, made_from: Annotation | None, scopes: Mapping[str, Scope], *, reader: str) -> Reference | None:
    """What is true of one page: `made_from` itself where it is given, else the labels; None where the recording is in no scope."""
    if made_from is not None:
        return Reference(facts=facts_of(segment, made_from), scope=Scope(), independent=False)
    scope = scopes.get(segment.recording_id)
    if scope is None:
        return None
    marked = dataclasses.replace(segment, labels=tuple(one for one in segment.labels if not reader or one.reader in ("", reader)))
    known = annotate_truth(marked)
    told = tuple(f for f in known.findings if f.kind not in scope.kinds or f.unit in _LABELLED_UNITS)
    return Reference(facts=facts_of(marked, dataclasses.replace(known, findings=told)), scope=scope)
