"""Runs the data steps of a small corpus in a process of its own, which tests can kill: ``python engine_runs.py FOLDER OUT [two-nodes]``."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
import psutil

from cg_data.settings import DataSettings, EngineSettings, InstructSettings
from tests.cg_data.edf_bytes import Spec, make

SETTINGS = DataSettings(
    engine=EngineSettings(segments_per_shard=6, detect_actors=1, cpus_per_actor=0.5, cpus_per_task=0.5),
    instruct=InstructSettings(opens=0, conversations=0),
)


def write_folder(folder: Path, recordings: int, *, minutes: int = 3) -> None:
    """Recordings of noise, each of its own patient."""
    for i in range(recordings):
        spec = Spec(patient=f"P-{i} X X X", n_records=60 * minutes)
        noise = np.random.default_rng(i).normal(scale=300, size=(19, 60 * minutes * 200)).astype(np.int16)
        (folder / f"{i:03d}.edf").write_bytes(make(spec, noise))


def run(folder: str, out: str) -> None:
    """Segments, annotations and samples; Ray is already there."""
    from cg_data.corpora import CORPORA, CorpusName
    from cg_data.engine import annotate_segments, build_samples, build_segments

    build_segments(
        CORPORA[CorpusName.FOLDER].sources(folder),
        corpus=CorpusName.FOLDER,
        register_uri=f"{out}/recordings",
        out_uri=f"{out}/segments",
        settings=SETTINGS,
    )
    annotate_segments(f"{out}/segments", detector_uri=f"{out}/../detector", out_uri=f"{out}/annotations", settings=SETTINGS.engine)
    build_samples(
        f"{out}/segments",
        f"{out}/annotations",
        out_uri=f"{out}/samples",
        settings=SETTINGS.instruct,
        teacher=SETTINGS.teacher,
        teacher_uri=f"{out}/teacher",
        engine=SETTINGS.engine,
        say=lambda _: None,
    )


def hashes(out: Path) -> dict[str, str]:
    """Every file of the three folders and of the register, by its path."""
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.rglob("*")) if p.is_file()}


def workers(of: int, title: str) -> list[psutil.Process]:
    """Processes under `of` whose title holds `title`: Ray names its workers after what they do."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            if title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def end_all(of: int) -> None:
    """SIGKILL a process and all that it started."""
    own = psutil.Process(of)
    for process in [*own.children(recursive=True), own]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def run_on_two_nodes(folder: str, out: str) -> None:
    """The same on a head and a second node of one CPU each; the pid of the second node's raylet is written to ``<out>.raylet``."""
    from cluster.config import ClusterSettings
    from cluster.session import prepare_environment, ray_session

    prepare_environment(ClusterSettings(), verbose=False)
    from ray.cluster_utils import Cluster

    store = {"num_cpus": 1, "object_store_memory": 128 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**store, "include_dashboard": False})
    second = cluster.add_node(**store)
    (process,) = second.all_processes["raylet"]
    Path(f"{out}.raylet").write_text(str(process.process.pid))
    with ray_session(ClusterSettings(address=cluster.address), verbose=False):
        run(folder, out)
    cluster.shutdown()


def main() -> None:
    from cluster.config import ClusterSettings
    from cluster.session import ray_session

    if len(sys.argv) == 4:
        run_on_two_nodes(sys.argv[1], sys.argv[2])
        return
    with ray_session(ClusterSettings(local_cpus=2, object_store_mib=128), verbose=False):
        run(sys.argv[1], sys.argv[2])


if __name__ == "__main__":
    main()
