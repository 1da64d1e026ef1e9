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


def verify_run(config: RunConfig, folder: RunFolder, display: Display) -> bool:
    """Whether every shard of the run is what its manifest says.

    Raises:
        StorageError: there are no shards yet.
    """
    from cg_data.engine import verify

    sound, seen = True, 0
    for corpus in dict.fromkeys((SYNTHETIC, *config.corpora)):
        folders = folders_of(folder, corpus)
        shards = read_manifest(folders.segments)
        if not shards:
            continue
        seen += 1
        with display.step(f"Verifying {corpus}") as progress:
            faults = verify(folders, config.data.engine, progress)
        rows = sum(shard.rows for shard in shards.values())
        display.say(f"{corpus}: {len(shards):,} shards with {rows:,} segments, {len(faults):,} faults.")
        for fault in faults[:_SHOWN]:
            display.say(f"  {fault}")
        if len(faults) > _SHOWN:
            display.say(f"  ... and {len(faults) - _SHOWN:,} more.")
        sound = sound and not faults
    if not seen:
        raise StorageError(f"{folder.uri}: no shards here yet. Run `cg data` first.")
    return sound


def folders_of(folder: RunFolder, corpus: CorpusName) -> Folders:
    """Where a run keeps the shards of a corpus."""
    return Folders(
        segments=folder.at("segments", corpus), annotations=folder.at("annotations", corpus), samples=folder.at("samples", corpus)
    )
