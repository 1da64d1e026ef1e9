"""The whole engine without a detector on more and more hours: CPU-seconds an hour of EEG, the largest memory of a worker, bytes written.

    python benchmarks/engine_scale.py FOLDER [HOURS ...]

Default are 1, 10 and 100 hours. FOLDER gets the recordings (about 35 MB an hour) and the products. Each file is a day of EEG at most, so
that the last one is cut into many shards and never lies in memory. The signal is ten minutes of the synthetic corpus, repeated.
Cost is linear and memory flat where the columns "CPU s/h" and "worker MiB" do not grow. Prints a table and a line of JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import edfio
import numpy as np
import psutil

from cg_data import manifest, storage
from cg_data.corpora import CORPORA, CorpusName
from cg_data.corpora.synthetic import write_corpus
from cg_data.edf.reader import EdfFile
from cg_data.settings import DataSettings, SyntheticSettings
from cluster.config import ClusterSettings
from cluster.session import ray_session

MODEL_MINUTES = 10
DAY_H = 24.0
SETTINGS = DataSettings()


def model_recording(folder: Path) -> bytes:
    """A plain EDF file of ten minutes of the synthetic corpus, in records of one second."""
    settings = SyntheticSettings(subjects=3, minutes_per_subject=MODEL_MINUTES)
    write_corpus(str(folder / "model"), settings)
    source = EdfFile.open(str(min((folder / "model").rglob("*.edf"))))
    names = [i for i, label in enumerate(source.labels) if "Annotations" not in label]
    signals = [
        edfio.EdfSignal(
            source.read_uv([i], 0.0, 60.0 * MODEL_MINUTES)[0].astype(np.float64),
            source.sfreq_hz(i),
            label=source.labels[i],
            physical_dimension="uV",
            physical_range=(-3276.8, 3276.7),
        )
        for i in names
    ]
    edfio.Edf(signals, data_record_duration=1.0).write(folder / "model.edf")
    return (folder / "model.edf").read_bytes()


def write_hours(model: bytes, folder: Path, hours: float) -> None:
    """Files of a day and one of the rest, each with its own patient code."""
    folder.mkdir(parents=True)
    n_signals = int(model[252:256])
    head, payload = model[: 256 * (n_signals + 1)], model[256 * (n_signals + 1) :]
    record_bytes = len(payload) // (60 * MODEL_MINUTES)
    number = 0
    while hours > 0:
        records = round(min(hours, DAY_H) * 3600)
        patient = f"P-{number:04d}".ljust(80).encode()
        with (folder / f"{number:04d}.edf").open("wb") as file:
            file.write(head[:8] + patient + head[88:236] + f"{records:<8d}".encode() + head[244:])
            for start in range(0, records, 60 * MODEL_MINUTES):
                file.write(payload[: record_bytes * min(60 * MODEL_MINUTES, records - start)])
        hours -= DAY_H
        number += 1


def cpu_seconds() -> float:
    """Of this process and all that it started, those that have ended included."""
    own = psutil.Process()
    return sum(sum(p.cpu_times()[:4]) for p in [own, *own.children(recursive=True)])


def run(edf: Path, out: Path) -> dict[str, float]:
    """Segments, annotations without a detector and samples; what they cost."""
    from cg_data.engine import annotate_segments, build_samples, build_segments

    segments, annotations, samples = (str(out / name) for name in ("segments", "annotations", "samples"))
    start, cpu = time.monotonic(), cpu_seconds()
    made = build_segments(
        CORPORA[CorpusName.FOLDER].sources(str(edf)),
        corpus=CorpusName.FOLDER,
        register_uri=str(out / "recordings"),
        out_uri=segments,
        settings=SETTINGS,
    )
    annotated = annotate_segments(segments, detector_uri=None, out_uri=annotations, settings=SETTINGS.engine)
    said = build_samples(
        segments,
        annotations,
        out_uri=samples,
        settings=SETTINGS.instruct,
        teacher=SETTINGS.teacher,
        teacher_uri=str(out / "teacher"),
        engine=SETTINGS.engine,
        say=lambda _: None,
    )
    used = [made, annotated, said]
    return {
        "hours": made.segments * 10 / 3600,
        "wall_s": time.monotonic() - start,
        "cpu_s": cpu_seconds() - cpu,
        "segments": made.segments,
        "samples": said.samples,
        "written_mib": sum(s.bytes for name in (segments, annotations, samples) for s in manifest.read_manifest(name).values()) / 2**20,
        "segments_mib_rss": made.rss_bytes / 2**20,
        "annotations_mib_rss": annotated.rss_bytes / 2**20,
        "samples_mib_rss": said.rss_bytes / 2**20,
        "spilled_mib": sum(s.spilled_bytes for s in used) / 2**20,
    }


def main() -> None:
    """Run each size in a Ray of its own, so that no worker's memory is another size's."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    model = model_recording(folder)
    rows = []
    for hours in [float(text) for text in sys.argv[2:]] or [1.0, 10.0, 100.0]:
        edf, out = folder / f"edf-{hours:g}", folder / f"out-{hours:g}"
        write_hours(model, edf, hours)
        with ray_session(ClusterSettings(local_cpus=2, object_store_mib=512), verbose=False):
            rows.append(run(edf, out))
        shutil.rmtree(edf)
        storage.delete(str(out))
        sys.stdout.write("\n".join(table(rows)) + "\n")
        sys.stdout.flush()
    sys.stdout.write(json.dumps(rows) + "\n")


def table(rows: list[dict[str, float]]) -> list[str]:
    lines = ["  hours   wall s    CPU s/h  worker MiB (segments, annotations, samples)  MiB/h written  spilled MiB"]
    for row in rows:
        rss = ", ".join(f"{row[f'{name}_mib_rss']:.0f}" for name in ("segments", "annotations", "samples"))
        h = row["hours"]
        lines.append(
            f"{h:7.1f} {row['wall_s']:8.1f} {row['cpu_s'] / h:10.2f}  {rss:<43}  {row['written_mib'] / h:13.1f} {row['spilled_mib']:12.0f}"
        )
    return lines


if __name__ == "__main__":
    main()
