"""Fixtures of the training room: a folder of small samples and a process group."""

from __future__ import annotations

import pytest
from train_small import KINDS, SEGMENTS, free_port, join_group, make_sample

from cg_data import storage
from cg_data.records import SAMPLE_SCHEMA, table_of
from cg_data.vocabulary import Split


@pytest.fixture(scope="session")
def samples_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two shards of training samples and one of held-out ones."""
    folder = tmp_path_factory.mktemp("samples") / "synthetic"
    for shard in range(2):
        numbers = range(shard * SEGMENTS // 2, (shard + 1) * SEGMENTS // 2)
        samples = [make_sample(number, kind) for number in numbers for kind in KINDS]
        storage.write_table(str(folder / f"{shard}.parquet"), table_of(samples, SAMPLE_SCHEMA))
    held_out = [make_sample(99, kind, Split.TEST) for kind in KINDS]
    storage.write_table(str(folder / "test.parquet"), table_of(held_out, SAMPLE_SCHEMA))
    return str(folder.parent)


@pytest.fixture(scope="session")
def process_group() -> None:
    """A process group of one. It lasts to the end of the session, for DeepSpeed holds on to the first that it sees."""
    join_group(free_port(), 0, 1)
