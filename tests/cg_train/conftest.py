"""Fixtures of the training room: a folder of small samples, a process group and small models in folders."""

from __future__ import annotations

import pytest

from cg_data import storage
from cg_data.rows import ANNOTATION_SCHEMA, SAMPLE_SCHEMA, table_of
from cg_data.vocabulary import CHANNELS, Split, Waveform
from tests.cg_train.train_small import KINDS, SEGMENTS, annotation, free_port, join_group, make_sample
from tests.records_small import event


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
def annotations_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("annotations") / "synthetic"
    notes = [
        annotation(segment_id=f"segment-{n}", events=(event(Waveform.SLEEP_SPINDLE, CHANNELS[n % 19], float(n % 9), 1.0),))
        for n in range(SEGMENTS)
    ]
    storage.write_table(str(folder / "0.parquet"), table_of(notes, ANNOTATION_SCHEMA))
    return str(folder)


@pytest.fixture(scope="session")
def process_group() -> None:
    """A process group of one. It lasts to the end of the session, for DeepSpeed holds on to the first that it sees."""
    join_group(free_port(), 0, 1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained model as it is exported. Read it only; copy it to change it."""
    from cg_train.model.export import export_folder
    from tests.cg_train.model_small import PAGE, build

    folder = str(tmp_path_factory.mktemp("models") / "untrained")
    model, processor = build()
    export_folder(model, processor, folder, page=PAGE, about={"data": "synthetic"})
    return folder


@pytest.fixture(scope="session")
def taught_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that has learnt `model_small.SAMPLES`, as it is exported. Read it only."""
    from cg_train.model.export import export_folder
    from tests.cg_train.model_small import PAGE, build, teach

    folder = str(tmp_path_factory.mktemp("models") / "taught")
    model, processor = build()
    teach(model, processor, steps=50)
    export_folder(model, processor, folder, page=PAGE, about={"data": "synthetic"})
    return folder
