"""Trains a small detector on Ray in a process of its own, which tests can kill: ``python detector_runs.py SEGMENTS FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from cg_data import storage
from cg_data.progress import silent
from cg_data.rows import SEGMENT_SCHEMA, table_of
from cg_data.vocabulary import Split
from cg_train.recipe import ComputeSettings
from cg_train.tracking import TrackingSettings
from tests.detectors_small import SIGNAL, planted_page, recipe_of

WORKERS = 2
RECIPE = recipe_of(SIGNAL, epochs=8, compute=ComputeSettings(workers=WORKERS))


def write_segments(folder: Path) -> None:
    pages = [planted_page(number, Split.VALIDATION if number % 9 == 0 else Split.TRAIN) for number in range(18)]
    storage.write_table(str(folder / "0.parquet"), table_of(pages, SEGMENT_SCHEMA))


def main(segments: str, folder: Path) -> None:
    from cg_train.job import train_detector
    from cluster.config import ClusterSettings
    from cluster.session import ray_session

    tracking = TrackingSettings(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts_uri=(folder / "artifacts").as_uri())
    with ray_session(ClusterSettings(local_cpus=WORKERS, object_store_mib=128), verbose=False):
        train_detector(
            recipe=RECIPE,
            segments_uri=segments,
            out_folder=str(folder / "detector"),
            storage_folder=str(folder / "train"),
            tracking=tracking,
            progress=silent,
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
