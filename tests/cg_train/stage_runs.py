"""Trains a small stage on Ray in a process of its own, which tests can kill: ``python stage_runs.py FOLDER [two-nodes | fed]``.

``FOLDER/../samples`` holds the samples; with two nodes the pid of the second one's raylet is written to ``FOLDER.raylet``; where it is fed,
an actor makes the batches of each worker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cg_data.progress import silent
from cg_data.vocabulary import SampleKind
from cg_train.checkpoint import Keeper
from cg_train.recipe import ComputeSettings, PackedBatches, StageRecipe, TrainSettings
from cg_train.stage import StageJob, make_tiny, open_store, run_stage
from cg_train.tracking import TrackingSettings
from tests.cg_train.model_small import PAGE, SIZES

WORKERS = 2
RECIPE = StageRecipe(
    mixture={SampleKind.BINARY: 1.0, SampleKind.OPEN: 1.0},
    steps=32,
    global_batch=4,
    batching=PackedBatches(tokens=256, images=4),
    max_tokens=256,
    learning_rate=2e-3,
    trainable=("projector", "language"),
    checkpoint_every=4,
)


def settings_of(compute: ComputeSettings) -> TrainSettings:
    return TrainSettings(precision="float32", attention="varlen", tiny=SIZES, compute=compute, stage1=RECIPE, stage2=RECIPE)


def without_ray(folder: Path, *, rank: int, workers: int) -> None:
    """The stage in the process group that is there."""
    job = StageJob(
        name="words",
        identity="0" * 16,
        recipe=RECIPE,
        settings=settings_of(ComputeSettings(workers=workers)),
        page=PAGE,
        samples_uris=(str(folder.parent / "samples"),),
        annotations_uri="",
        model_from=str(folder / "models" / "init"),
        out_folder=str(folder / "models" / "words"),
        work_folder=str(folder / "train" / "words"),
        about={},
    )
    store = open_store(job)
    make_tiny(job, job.model_from, rank=rank)
    run_stage(job, store, rank=rank, workers=workers, keeper=Keeper(resume_from=(), keep=lambda kept, step: None))


def on_ray(folder: Path, compute: ComputeSettings) -> None:
    from cg_train.job import Stage, train_stages

    stage = Stage(
        name="words",
        identity="0" * 16,
        recipe=RECIPE,
        model_from=str(folder / "models" / "init"),
        out_folder=str(folder / "models" / "words"),
        about={},
        progress=silent,
    )
    tracking = TrackingSettings(uri=f"sqlite:///{folder / 'mlflow.db'}", artifacts_uri=(folder / "artifacts").as_uri())
    list(
        train_stages(
            [stage],
            settings=settings_of(compute),
            page=PAGE,
            samples_uris=(str(folder.parent / "samples"),),
            annotations_uri="",
            tiny_folder=stage.model_from,
            storage_folder=str(folder / "train"),
            tracking=tracking,
        )
    )


def on_two_nodes(folder: Path) -> None:
    """One CPU on each, the same way as `tests.cg_data.engine_runs.run_on_two_nodes`; the group may shrink to one worker."""
    from cluster.config import ClusterSettings
    from cluster.session import prepare_environment, ray_session

    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = "10"  # instead of a minute, before Ray tries with what is left
    prepare_environment(ClusterSettings(), verbose=False)
    from ray.cluster_utils import Cluster

    store = {"num_cpus": 1, "object_store_memory": 128 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**store, "include_dashboard": False})
    second = cluster.add_node(**store)
    (process,) = second.all_processes["raylet"]
    Path(f"{folder}.raylet").write_text(str(process.process.pid))
    with ray_session(ClusterSettings(address=cluster.address), verbose=False):
        on_ray(folder, ComputeSettings(workers=WORKERS, least_workers=1))
    cluster.shutdown()


def main() -> None:
    from cluster.config import ClusterSettings
    from cluster.session import ray_session

    folder, how = Path(sys.argv[1]), sys.argv[2:]
    if how == ["two-nodes"]:
        on_two_nodes(folder)
        return
    compute = ComputeSettings(workers=WORKERS, feed_actors=int(how == ["fed"]))
    with ray_session(ClusterSettings(local_cpus=int(WORKERS * compute.cpus_of_worker), object_store_mib=128), verbose=False):
        on_ray(folder, compute)


if __name__ == "__main__":
    main()
