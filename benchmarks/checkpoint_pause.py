"""How long training stands still for a checkpoint, with the upload in the pause and with the upload while steps are taken.

    python benchmarks/checkpoint_pause.py FOLDER [--million-parameters 32] [--rounds 3]

Two CPU workers of one Ray Train group train a linear map under DeepSpeed (ZeRO stage 2) and keep its whole state, as a stage does. The two
ways take turns. FOLDER gets the run and should be on the storage that is asked about; parts are written to the folder for temporary files.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cg_data.vocabulary import SampleKind
from cg_train.checkpoint import Position, save
from cg_train.recipe import ComputeSettings, PaddedBatches, StageRecipe, TrainSettings
from cluster.config import ClusterSettings

WORKERS, STEPS_BETWEEN = 2, 5
RECIPE = StageRecipe(
    mixture={SampleKind.BINARY: 1.0},
    steps=1,
    global_batch=WORKERS,
    batching=PaddedBatches(micro_batch=1),
    learning_rate=1e-4,
    trainable=("language",),
    checkpoint_every=1,
)
SETTINGS = TrainSettings(precision="float32", zero_stage=2, compute=ComputeSettings(workers=WORKERS), stage1=RECIPE, stage2=RECIPE)


def _engine(width: int) -> Any:
    import torch

    from cg_train.step import engine_config, import_deepspeed, make_engine

    import_deepspeed(gpu=False).init_distributed("gloo")
    torch.set_num_threads(1)
    return make_engine(torch.nn.Linear(width, width, bias=False), RECIPE, engine_config(RECIPE, SETTINGS, WORKERS), steps=1000, gpu=False)


def _steps(engine: Any, width: int) -> float:
    """Seconds of a step, the mean of a few."""
    import torch

    began = time.perf_counter()
    for _ in range(STEPS_BETWEEN):
        engine.backward(engine(torch.ones(1, width)).square().mean())
        engine.step()
    return (time.perf_counter() - began) / STEPS_BETWEEN


def _timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(width: int, rounds: int) -> list[dict[str, Any]]:
    """On every worker: seconds of each part of the pause of each checkpoint, and of a step after it."""
    import ray.train

    from cg_train.upload import keeper_of, registered_checkpoints

    def keep_and_wait(folder: Path, step: int) -> None:
        """Ray's own way: the report returns when the part is copied."""
        part = ray.train.Checkpoint.from_directory(str(folder))
        ray.train.report({}, checkpoint=part, checkpoint_dir_name=f"checkpoint-pause-{step}", delete_local_checkpoint_after_upload=True)

    engine, lines = _engine(width), []
    with registered_checkpoints() as folders:
        keeper = keeper_of("pause", folders)
        _steps(engine, width)
        for step in range(2 * rounds):
            alone_s = _steps(engine, width)
            way, keep = ("in the pause", keep_and_wait) if step % 2 else ("while training", keeper.keep)
            with keeper.part() as folder:
                written_s = _timed(functools.partial(save, engine, folder, Position(step=step, fingerprint="")))
                mib = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
                kept_s = _timed(functools.partial(keep, folder, step))
            beside_s, settled_s = _steps(engine, width), _timed(keeper.settle)
            times = {"write and seal": written_s, "hand over": kept_s, "pause": written_s + kept_s}
            lines.append({"way": way, "MiB": mib, **times, "a step before": alone_s, "a step after": beside_s, "then waited": settled_s})
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    columns = [name for name in lines[0] if name != "way"]
    told = [f"{'seconds, upload':<16}" + "".join(f"{name:>16}" for name in columns)]
    for way in ("in the pause", "while training"):
        medians = [statistics.median(line[name] for line in lines if line["way"] == way) for name in columns]
        told.append(f"{way:<16}" + "".join(f"{value:>16.3f}" for value in medians))
    return "\n".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--million-parameters", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from cluster.session import ray_session

    with ray_session(ClusterSettings(local_cpus=WORKERS, object_store_mib=128), verbose=False):
        from ray.train import CheckpointConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        worker = functools.partial(measure, int((options.million_parameters * 1e6) ** 0.5), options.rounds)
        trainer = TorchTrainer(
            worker,
            scaling_config=ScalingConfig(num_workers=WORKERS),
            torch_config=TorchConfig(backend="gloo"),
            run_config=RunConfig(
                name="pause", storage_path=str(Path(options.folder).absolute()), checkpoint_config=CheckpointConfig(num_to_keep=2)
            ),
        )
        sys.stdout.write(table(trainer.fit().return_value) + "\n")


if __name__ == "__main__":
    main()
