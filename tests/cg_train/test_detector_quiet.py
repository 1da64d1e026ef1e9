"""Training a detector makes no call to another machine and writes nothing outside its run folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.detectors_small import NETWORKS

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys
calls, written = [], []

def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.gethostbyname", "urllib.Request"):
        calls.append([event, str(args[1] if event == "socket.connect" else args[0])])
    elif event == "open" and isinstance(args[0], str):
        mode, flags = args[1] or "", args[2] or 0
        if set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(os.path.abspath(args[0]))
    elif event in ("os.mkdir", "os.rename", "os.symlink"):
        written.append(os.path.abspath(os.fsdecode(args[event != "os.mkdir"])))

sys.addaudithook(watch)
from pathlib import Path
from cg_data import storage
from cg_data.rows import SEGMENT_SCHEMA, table_of
from cg_data.vocabulary import Split
from cg_train.checkpoint import Keeper
from cg_train.detector_run import DetectorJob, run_detector
from tests.detectors_small import NETWORKS, planted_page, recipe_of

run = sys.argv[1]
pages = [planted_page(n, Split.TRAIN if n < 8 else Split.VALIDATION) for n in range(10)]
storage.write_table(f"{run}/segments/0.parquet", table_of(pages, SEGMENT_SCHEMA))
os.mkdir(f"{run}/work")
for kind in sys.argv[2:]:
    job = DetectorJob(
        recipe=recipe_of(NETWORKS[kind]), segments_uri=f"{run}/segments", out_folder=f"{run}/{kind}", work_folder=f"{run}/work"
    )
    run_detector(job, rank=0, workers=1, keeper=Keeper(resume_from=(), keep=lambda folder, step: None))
print(json.dumps({"calls": calls, "written": sorted(set(written))}))
"""


@pytest.mark.slow
def test_nobody_is_called_and_nothing_is_written_beside_the_run(tmp_path: Path) -> None:
    home, run, temporary = tmp_path / "home", tmp_path / "run", tmp_path / "tmp"
    for folder in (home, run, temporary):
        folder.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("YOLO_", "XDG_", "MPL", "TORCHINDUCTOR_"))}
    environment = kept | {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", PROGRAM, str(run), *NETWORKS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["calls"] == []
    allowed = (str(run), str(temporary), "/dev/null")
    # Numba keeps the compiled renderer beside its source, as Python keeps bytecode.
    beside = [path for path in seen["written"] if not path.startswith(allowed) and "__pycache__" not in path]
    assert beside == []
    assert f"{run}/work/metrics-rank0.jsonl" in seen["written"]  # the watch sees what is written
    assert all((run / kind / "weights.safetensors").exists() for kind in NETWORKS)
    assert list(home.rglob("*")) == []
    assert list(temporary.glob("cg-*")) == []  # folders of our own go with the process
