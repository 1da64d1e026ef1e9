"""What is wrong with a folder of shards is found and named, whatever it is; a sound one has no faults."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from cg_data import manifest, storage, work
from cg_data.corpora import CORPORA, CorpusName
from cg_data.detect.detector import Detector, save_detector
from cg_data.instruct.teacher_store import TeacherStore
from cg_data.manifest import Shard
from cg_data.packing import pack
from cg_data.register import entries, good_and_refused, listed, look_all
from cg_data.settings import DataSettings, InstructSettings
from cg_data.verify import Folders, verify_folders, verify_shard
from tests.cg_data.engine_runs import write_folder
from tests.detectors_small import ONLY_SPINDLES, SIGNAL, spec_of, untrained

SETTINGS = DataSettings(instruct=InstructSettings(opens=1, conversations=0))
CORPUS = CorpusName.FOLDER


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three folders of two short recordings, made by the plain functions that the engine runs."""
    root = tmp_path_factory.mktemp("verify")
    (root / "edf").mkdir()
    write_folder(root / "edf", 2, minutes=1)
    files = listed(CORPORA[CORPUS].sources(str(root / "edf")), SETTINGS.subject_salt)
    look_all(files, corpus=CORPUS, settings=SETTINGS, register_uri=str(root / "recordings"))
    known = entries(str(root / "recordings"))
    good, _ = good_and_refused(files, known, CORPUS)
    places = {key: work.Place(uri=f.source.uri, key=f.key, register_shard=known[f.key].shard) for key, f in good.items()}
    plans = pack({key: known[f.key].windows for key, f in good.items()}, 6)
    save_detector(untrained(), spec_of(SIGNAL, ONLY_SPINDLES), str(root / "detector"))
    annotate = work.Annotator(Detector.load(str(root / "detector"), device="cpu"), out_uri=str(root / "annotations"), batch=8)
    shards: dict[str, list[Shard]] = {"segments": [], "annotations": [], "samples": []}
    for order in work.orders_of(plans, places, str(root / "segments")):
        segments = work.make_segments(order)
        assert isinstance(segments, Shard)
        shards["segments"].append(segments)
        shards["annotations"].append(annotate(storage.read_table(order.out), segments.name))
        shards["samples"].append(samples_of_shard(root, segments.name))
    for name, rows in shards.items():
        manifest.write_manifest(str(root / name), rows)
    return root


def samples_of_shard(root: Path, name: str) -> Shard:
    return work.make_samples(
        name,
        segments_uri=str(root / "segments"),
        annotations_uri=str(root / "annotations"),
        out_uri=str(root / "samples"),
        settings=SETTINGS.instruct,
        teacher=SETTINGS.teacher,
        store=TeacherStore(uri=str(root / "teacher")),
        share={},
    )


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def faults(root: Path) -> list[str]:
    folders = Folders(segments=str(root / "segments"), annotations=str(root / "annotations"), samples=str(root / "samples"))
    names = manifest.read_manifest(folders.segments)
    return verify_folders(folders) + [fault for name in names for fault in verify_shard(name, folders=folders)]


def first(folder: Path) -> Path:
    return sorted(folder.glob("*.parquet"))[0]


def rewrite(path: Path, table: pa.Table) -> None:
    """Another table in the place of a shard, committed as if it had been made so."""
    written = storage.write_table(str(path), table)
    shards = manifest.read_manifest(str(path.parent))
    row = dataclasses.replace(shards[path.name], rows=written.rows, bytes=written.bytes, sha256=written.sha256)
    manifest.write_manifest(str(path.parent), (shards | {path.name: row}).values())


def test_sound_shards_have_no_faults(made: Path) -> None:
    assert faults(made) == []
    assert sum(shard.rows for shard in manifest.read_manifest(str(made / "samples")).values()) > 12


@pytest.mark.parametrize("folder", ["segments", "annotations", "samples"])
def test_a_changed_byte_a_lost_file_and_a_file_too_many_are_named(copy: Path, folder: str) -> None:
    shard = first(copy / folder)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert any(shard.name in fault and "SHA-256" in fault for fault in faults(copy))
    shard.write_bytes(data[:-1])
    assert any(shard.name in fault and "bytes, the manifest says" in fault for fault in faults(copy))
    shard.rename(shard.with_name("0123456789abcdef.parquet"))
    found = faults(copy)
    assert any(f"{shard.name}: named in the manifest, but not there" in fault for fault in found)
    assert any("0123456789abcdef.parquet: there, but not in the manifest" in fault for fault in found)


def test_a_window_in_two_shards_is_found(copy: Path) -> None:
    folder = str(copy / "segments")
    a, b = manifest.read_manifest(folder).values()
    manifest.write_manifest(folder, [a, dataclasses.replace(b, pieces=(*b.pieces, a.pieces[0]))])
    assert any("some of its windows lie in two shards" in fault for fault in faults(copy))


def test_a_lost_and_a_doubled_row_are_found(copy: Path) -> None:
    segments, samples = first(copy / "segments"), first(copy / "samples")
    rewrite(segments, storage.read_table(str(segments)).slice(1))
    table = storage.read_table(str(samples))
    rewrite(samples, pa.concat_tables([table, table.slice(0, 1)]))
    found = "\n".join(faults(copy))
    for what in ("not the windows that the manifest names", "do not follow those of the segments", "a sample is in it twice"):
        assert what in found


def test_a_sample_that_rests_on_nothing_is_found(copy: Path) -> None:
    annotations = first(copy / "annotations")
    table = storage.read_table(str(annotations))
    place = table.schema.get_field_index("findings")
    empty = pa.array([[] for _ in range(table.num_rows)], type=table.schema.field(place).type)
    rewrite(annotations, table.set_column(place, table.schema.field(place), empty))
    assert any("samples that rest on unknown findings" in fault for fault in faults(copy))


def test_a_shard_of_another_version_is_told_by_its_columns(copy: Path) -> None:
    annotations = first(copy / "annotations")
    rewrite(annotations, storage.read_table(str(annotations)).drop_columns(["background"]))
    assert any("its columns are not those of this version" in fault for fault in faults(copy))


def test_segments_without_annotations_are_named_once_there_are_any(copy: Path) -> None:
    folder = str(copy / "annotations")
    one = next(iter(manifest.read_manifest(folder).values()))
    (copy / "annotations" / next(name for name in manifest.read_manifest(folder) if name != one.name)).unlink()
    manifest.write_manifest(folder, [one])
    assert any("not made yet for these segments" in fault for fault in faults(copy))
