"""The data engine on Ray Data: EDF to segment shards, shards to annotations, annotations to samples. The one file here that knows Ray.

The unit of work is a shard (`cg_data.packing`): some windows of one long recording or of several short ones. The task or actor that makes
a shard also writes it, atomically and under a name that follows from its content (`cg_data.work`), so the driver holds no data; only
manifest rows travel to it. A step commits its shards by one manifest at its end (`cg_data.manifest`): killed at any moment and run again,
it ends with the same files.
"""

from __future__ import annotations

import dataclasses
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray.data
from pydantic import TypeAdapter
from pydantic_core import to_json
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from cg_data import manifest, register, storage, work
from cg_data.corpora import CorpusName
from cg_data.corpora.source import Source
from cg_data.errors import ConfigError
from cg_data.instruct.general import plan_shards, read_items
from cg_data.instruct.samples import Prevalence
from cg_data.instruct.teacher import Taught, teach_shards
from cg_data.instruct.teacher_store import TeacherStore
from cg_data.manifest import Shard
from cg_data.packing import pack, without
from cg_data.progress import Progress, silent
from cg_data.records import Quarantined
from cg_data.register import Entry, Listed
from cg_data.rows import QUARANTINE_SCHEMA, table_of
from cg_data.settings import DataSettings, EngineSettings, GeneralSettings, InstructSettings, TeacherSettings
from cg_data.verify import Folders, verify_folders, verify_shard
from cg_data.vocabulary import FindingKind

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")
_RESULT: TypeAdapter[Shard | work.Refusal] = TypeAdapter(Shard | work.Refusal)
_ROW: TypeAdapter[Shard] = TypeAdapter(Shard)
_COUNT: TypeAdapter[int] = TypeAdapter(int)
_PROBLEMS: TypeAdapter[list[str]] = TypeAdapter(list[str])
_RESULT_COLUMN = "result"
_SHARD = "shard"
_RSS = "rss_bytes"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SegmentsSummary:
    """What the segments step ended with. `problems` counts faults of label files by rule."""

    recordings: int
    segments: int
    subjects: int
    new_shards: int
    quarantined: tuple[Quarantined, ...]
    problems: dict[str, int]
    rss_bytes: int
    spilled_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShardsSummary:
    """What a step over shards ended with. `rss_bytes` is the largest memory of a worker, `spilled_bytes` what Ray moved to disk."""

    counts: dict[str, int]
    rows: int
    new_shards: int
    rss_bytes: int
    spilled_bytes: int


def build_segments(
    sources: Sequence[Source], *, corpus: CorpusName, register_uri: str, out_uri: str, settings: DataSettings, progress: Progress = silent
) -> SegmentsSummary:
    """Write the segment shards of `sources` that `out_uri` lacks; files that are refused are in the summary's quarantine, the rest goes on.

    Args:
        sources: as the corpus lists them.
        corpus: which one it is: it reads their labels.
        register_uri: folder of the register of recordings.
        out_uri: folder of the shards.
        settings: of the data engine.
        progress: told of files, then of windows.

    Raises:
        ConfigError: recordings that lie in shards already are no longer among `sources`.
    """
    usage = Usage()
    files = register.listed(sources, settings.subject_salt)
    known = _look(files, corpus, register_uri, settings, usage, progress)
    good, refused = register.good_and_refused(files, known, corpus)
    before = manifest.read_manifest(out_uri)
    had = {piece.recording_id for shard in before.values() for piece in shard.pieces}
    _refuse_lost(had - good.keys(), out_uri)
    new = {recording_id: file for recording_id, file in good.items() if recording_id not in had}
    made, failed = _cut(new, known, out_uri, settings, usage, progress)
    manifest.write_manifest(out_uri, [*before.values(), *made])
    for refusal in failed:
        file = new.pop(refusal.recording_id)
        refused.append(register.quarantined(file, known[file.key].sha256, corpus, refusal.reason, refusal.message))
    kept = [known[file.key] for file in good.values() if known[file.key].recording_id in had | new.keys()]
    return SegmentsSummary(
        recordings=len(kept),
        segments=sum(shard.rows for shard in [*before.values(), *made]),
        subjects=len({entry.subject for entry in kept}),
        new_shards=len(made),
        quarantined=tuple(sorted(refused, key=lambda row: row.uri)),
        problems=dict(Counter(problem for entry in kept for problem in entry.problems)),
        rss_bytes=usage.rss_bytes,
        spilled_bytes=usage.spilled_bytes,
    )


def _refuse_lost(recording_ids: set[str], out_uri: str) -> None:
    if recording_ids:
        raise ConfigError(
            f"{out_uri}: {len(recording_ids)} of the recordings read here before are no longer among the files (removed or changed). "
            "Put them back, or choose a new --run folder."
        )


def _look(
    files: list[Listed], corpus: CorpusName, register_uri: str, settings: DataSettings, usage: Usage, progress: Progress
) -> dict[str, Entry]:
    """The register's rows of all `files`, after those that it lacks were looked at."""
    storage.clear_unfinished(register_uri)
    new = register.unknown(files, register.entries(register_uri))
    work_ = partial(register.look_all, corpus=corpus, settings=settings, register_uri=register_uri)
    done = 0
    for count in run_tasks(list(register.batches(new)), work_, _COUNT, settings.engine, usage):
        done += count
        progress(done, len(new), "files looked at")
    return register.entries(register_uri)


def _cut(
    files: dict[str, Listed], known: dict[str, Entry], out_uri: str, settings: DataSettings, usage: Usage, progress: Progress
) -> tuple[list[Shard], list[work.Refusal]]:
    """Shards of the recordings `files` (by id), and those of them that could not be read after all; they are left out of every shard."""
    places = {
        recording_id: work.Place(uri=file.source.uri, key=file.key, register_shard=known[file.key].shard)
        for recording_id, file in files.items()
    }
    plans = pack({recording_id: known[file.key].windows for recording_id, file in files.items()}, settings.engine.segments_per_shard)
    total = sum(plan.windows for plan in plans)
    refused: dict[str, work.Refusal] = {}
    while True:
        manifest.drop_strays(out_uri, [plan.name for plan in plans])
        shards, failed, done = [], [], 0
        orders = work.orders_of(plans, places, out_uri)
        for result in run_tasks(orders, work.make_segments, _RESULT, settings.engine, usage):
            if isinstance(result, work.Refusal):
                failed.append(result)
            else:
                shards.append(result)
                done += result.rows
                progress(done, total, f"{len(shards)} shards")
        if not failed:
            return shards, list(refused.values())
        refused |= {refusal.recording_id: refusal for refusal in failed}
        plans = without(plans, refused)


def write_quarantine(out_uri: str, corpus: str, rows: Iterable[Quarantined]) -> int:
    """Replace the rows of `corpus` in the quarantine list and return how many rows the list has."""
    kept = storage.read_table(out_uri).to_pylist() if storage.exists(out_uri) else []
    others = [Quarantined(**row) for row in kept if row["corpus"] != corpus]
    merged = sorted([*others, *rows], key=lambda row: (row.corpus, row.uri))
    storage.write_table(out_uri, table_of(merged, QUARANTINE_SCHEMA))
    return len(merged)


def annotate_segments(
    segments_uri: str, *, detector_uri: str | None, out_uri: str, settings: EngineSettings, progress: Progress = silent
) -> ShardsSummary:
    """Detect and analyse every committed segment shard that has no annotations yet, in actors that hold the detector.

    Without a detector (None) there are no events: background and artefacts alone are analysed.
    """
    usage = Usage()
    before, there, missing = _open(segments_uri, out_uri)
    total = len(there) + len(missing)
    places = [storage.join(out_uri, name) for name in there]
    made = list(run_tasks(places, work.recount_annotations, _ROW, settings, usage))
    for shard in _annotated([storage.join(segments_uri, name) for name in missing], detector_uri, out_uri, settings, usage):
        made.append(shard)
        progress(len(made), total, "shards")
    return _commit(out_uri, before, made, usage)


def _annotated(shards: list[str], detector_uri: str | None, out_uri: str, settings: EngineSettings, usage: Usage) -> Iterator[Shard]:
    if not shards:
        return
    dataset = _dataset(shards, _signals, settings).map_batches(
        _Annotator,
        fn_constructor_kwargs={"detector_uri": detector_uri, "out_uri": out_uri, "settings": settings},
        batch_size=None,
        batch_format="pyarrow",
        concurrency=settings.detect_actors,
        num_cpus=settings.cpus_per_actor,
        num_gpus=settings.gpus_per_actor,
    )
    yield from _results(dataset, _ROW, usage)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SamplesSummary:
    """Samples of each kind, and those by rule that their page's annotation did not bear out; with a teacher what was asked of it, and what
    its answers came to (`cg_data.instruct.teacher_samples`)."""

    samples: int
    kinds: dict[str, int]
    rejected: dict[str, int]
    taught: Taught | None
    taken: dict[str, int]
    rss_bytes: int
    spilled_bytes: int


def build_samples(
    segments_uri: str,
    annotations_uri: str,
    *,
    out_uri: str,
    settings: InstructSettings,
    teacher: TeacherSettings,
    teacher_uri: str,
    engine: EngineSettings,
    say: Callable[[str], None],
    progress: Progress = silent,
) -> SamplesSummary:
    """Write the dialogues of every annotated shard that has none yet, by rule and, where `teacher` has an address, by a teacher too.

    Answers are balanced over the whole corpus by the prevalence of each finding among its training pages, which the manifest of the
    annotations holds. The teacher is asked from this process, so that its key stays here and one bound holds for all; the tasks read its
    answers from `teacher_uri`.
    """
    usage, taught = Usage(), None
    before, there, missing = _open(annotations_uri, out_uri)
    todo, store = [*there, *missing], TeacherStore(uri=teacher_uri)
    if teacher.url:
        pairs = [(storage.join(segments_uri, name), storage.join(annotations_uri, name)) for name in todo]
        taught = teach_shards(pairs, settings=teacher, store=store, say=say, progress=progress)
    make = partial(
        work.make_samples,
        segments_uri=segments_uri,
        annotations_uri=annotations_uri,
        out_uri=out_uri,
        settings=settings,
        teacher=teacher,
        store=store,
        share=_prevalence(annotations_uri),
    )
    made: list[Shard] = []
    for shard in run_tasks(todo, make, _ROW, engine, usage):
        made.append(shard)
        progress(len(made), len(todo), f"{sum(s.rows for s in made)} samples")
    summary = _commit(out_uri, before, made, usage)
    kinds, rejected, taken = work.split_counts(summary.counts)
    return SamplesSummary(
        samples=summary.rows,
        kinds=kinds,
        rejected=rejected,
        taught=taught,
        taken=taken,
        rss_bytes=usage.rss_bytes,
        spilled_bytes=usage.spilled_bytes,
    )


def _prevalence(annotations_uri: str) -> Prevalence:
    present = work.present_share(list(manifest.read_manifest(annotations_uri).values()))
    return {kind: present.get(kind.value, 0.0) for kind in FindingKind}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GeneralSummary:
    """General samples, and the items of the list that were refused."""

    samples: int
    refused: tuple[Quarantined, ...]


def build_general(
    settings: GeneralSettings, *, out_uri: str, refused_uri: str, engine: EngineSettings, progress: Progress = silent
) -> GeneralSummary:
    """Write the general samples of a list to `out_uri`, and what of it is refused to `refused_uri`, shard by shard under equal names."""
    shards = list(plan_shards(read_items(settings.json_file), settings.items_per_shard))
    planned = {shard.name for shard in shards}
    manifest.write_manifest(out_uri, [row for name, row in manifest.read_manifest(out_uri).items() if name in planned])
    manifest.drop_strays(out_uri, planned)
    make = partial(work.make_general, out_uri=out_uri, refused_uri=refused_uri, settings=settings)
    made: list[Shard] = []
    for shard in run_tasks(shards, make, _ROW, engine, Usage()):
        made.append(shard)
        progress(len(made), len(shards), f"{sum(s.rows for s in made)} samples")
    manifest.write_manifest(out_uri, made)
    refused = [row for shard in made for row in storage.read_table(storage.join(refused_uri, shard.name)).to_pylist()]
    return GeneralSummary(samples=sum(shard.rows for shard in made), refused=tuple(Quarantined(**row) for row in refused))


def verify(folders: Folders, engine: EngineSettings, progress: Progress = silent) -> list[str]:
    """Faults of the shards of a corpus, folder by folder and file by file; none where all is as the manifests say."""
    problems = verify_folders(folders)
    names = sorted(manifest.read_manifest(folders.segments))
    for done, found in enumerate(run_tasks(names, partial(verify_shard, folders=folders), _PROBLEMS, engine, Usage()), 1):
        problems += found
        progress(done, len(names), f"{len(problems)} faults")
    return sorted(problems)


def _open(source_uri: str, out_uri: str) -> tuple[list[Shard], list[str], list[str]]:
    """Committed shards of `out_uri`; names of shards that an interrupted run left there, and of those that are still to be made."""
    committed = manifest.read_manifest(out_uri)
    planned = [uri.rsplit("/", 1)[-1] for uri in manifest.committed(source_uri)]
    there = manifest.drop_strays(out_uri, planned)
    rest = [name for name in planned if name not in committed]
    return list(committed.values()), [name for name in rest if name in there], [name for name in rest if name not in there]


def _commit(out_uri: str, before: list[Shard], made: list[Shard], usage: Usage) -> ShardsSummary:
    shards = [*before, *made]
    manifest.write_manifest(out_uri, shards)
    counts: Counter[str] = Counter()
    for shard in shards:
        counts.update(shard.counts)
    return ShardsSummary(
        counts=dict(sorted(counts.items())),
        rows=sum(shard.rows for shard in shards),
        new_shards=len(made),
        rss_bytes=usage.rss_bytes,
        spilled_bytes=usage.spilled_bytes,
    )


class Usage:
    """What the datasets of a step used: bytes that Ray moved from the object store to disk, and the largest memory of a worker."""

    def __init__(self) -> None:
        self.spilled_bytes = 0
        self.rss_bytes = 0

    def add(self, dataset: ray.data.Dataset) -> None:
        self.spilled_bytes += int(dataset.get_stats_summary().dataset_bytes_spilled)

    def see(self, rss_bytes: int) -> None:
        self.rss_bytes = max(self.rss_bytes, rss_bytes)


class _Items(Datasource):
    """A datasource whose read tasks are one item of work each: `work` turns an item into a block."""

    def __init__(self, items: Sequence[Any], work: Callable[[Any], pa.Table]) -> None:
        self._items, self._work = items, work

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, exec_stats=None, input_files=None)
        return [ReadTask(partial(_one_block, self._work, item), unknown) for item in self._items]


def _one_block(work: Callable[[Any], pa.Table], item: Any) -> Iterator[pa.Table]:
    yield work(item)


def _dataset(items: Sequence[Any], work: Callable[[Any], pa.Table], engine: EngineSettings) -> ray.data.Dataset:
    return ray.data.read_datasource(_Items(items, work), override_num_blocks=len(items), num_cpus=engine.cpus_per_task)


def run_tasks(
    items: Sequence[_Item], work: Callable[[_Item], _Made], result: TypeAdapter[_Made], engine: EngineSettings, usage: Usage
) -> Iterator[_Made]:
    """Apply `work` to each item in a Ray Data task; results come as they are ready."""
    if not items:
        return
    yield from _results(_dataset(items, partial(_block_of, work), engine), result, usage)


def _results(dataset: ray.data.Dataset, result: TypeAdapter[_Made], usage: Usage) -> Iterator[_Made]:
    """What the tasks or actors at the end of a dataset made."""
    for row in dataset.iter_rows():
        usage.see(int(row[_RSS]))
        yield result.validate_json(row[_RESULT_COLUMN])
    usage.add(dataset)


def _block_of(work: Callable[[Any], Any], item: Any) -> pa.Table:
    return _as_block(work(item))


def _as_block(made: Any) -> pa.Table:
    """One result, and the most memory that the process that made it has had so far."""
    return pa.table({_RESULT_COLUMN: [to_json(made)], _RSS: [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]})


def _signals(shard: str) -> pa.Table:
    """The rows of a segment shard, each with the shard's name."""
    table = storage.read_table(shard)
    return table.append_column(_SHARD, pa.array([shard.rsplit("/", 1)[-1]] * table.num_rows))


class _Annotator:
    """The actor: holds the detector, takes whole segment shards, writes annotation shards and returns their manifest rows."""

    def __init__(self, detector_uri: str | None, out_uri: str, settings: EngineSettings) -> None:
        detector = None
        if detector_uri is not None:
            from cg_data.detect.detector import Detector  # torch takes seconds to import, and tasks without a detector need none

            detector = Detector.load(detector_uri, device="cuda" if settings.gpus_per_actor else "cpu")
        self._annotate = work.Annotator(detector, out_uri=out_uri, batch=settings.detect_batch)

    def __call__(self, block: pa.Table) -> pa.Table:
        (name,) = set(block.column(_SHARD).to_pylist())
        return _as_block(self._annotate(block.drop_columns([_SHARD]), name))
