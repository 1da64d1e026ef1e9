"""`cg data verify`: the shards of every corpus of a run held against their manifests, and what was found on the terminal."""

from __future__ import annotations

from cg_data.corpora import CorpusName
from cg_data.errors import StorageError
from cg_data.manifest import read_manifest
from cg_data.verify import Folders
from cluster.config import RunConfig
from cluster.display import Display
from cluster.runfolder import RunFolder
from cluster.steps_data import SYNTHETIC

_SHOWN = 20


def corpora_with_shards(config: RunConfig, folder: RunFolder) -> list[CorpusName]:
    """The corpora of a run that have segments.

    Raises:
        StorageError: there are none yet.
    """
    names = dict.fromkeys((SYNTHETIC, *config.corpora))
    there = [name for name in names if read_manifest(folders_of(folder, name).segments)]
    if not there:
        raise StorageError(f"{folder.uri}: no shards here yet. Run `cg data` first.")
    return there


def verify_corpus(config: RunConfig, folder: RunFolder, corpus: CorpusName, display: Display) -> bool:
    """Whether every shard of a corpus is what its manifest says; what is not is shown."""
    from cg_data.engine import verify

    folders = folders_of(folder, corpus)
    shards = read_manifest(folders.segments)
    with display.step(f"Verifying {corpus}") as progress:
        faults = verify(folders, config.data.engine, progress)
    rows = sum(shard.rows for shard in shards.values())
    display.say(f"{corpus}: {len(shards):,} shards with {rows:,} segments, {len(faults):,} faults.")
    for fault in faults[:_SHOWN]:
        display.say(f"  {fault}")
    if len(faults) > _SHOWN:
        display.say(f"  ... and {len(faults) - _SHOWN:,} more.")
    return not faults


def folders_of(folder: RunFolder, corpus: CorpusName) -> Folders:
    """Where a run keeps the shards of a corpus."""
    return Folders(
        segments=folder.at("segments", corpus), annotations=folder.at("annotations", corpus), samples=folder.at("samples", corpus)
    )
