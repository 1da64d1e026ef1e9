"""`cg train plan` prints what will be taken, and refuses what does not fit."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

from cg_data.errors import ConfigError
from cg_train.hardware import Gpus
from cluster.config import ClusterSettings, read_preset, resolve_config
from cluster.runfolder import RunFolder
from cluster.train_plan_view import gpus_of, plan

NOWHERE = ClusterSettings()
FITS_FROM_GB: dict[str, dict[int, float]] = {
    "qwen2.5-vl-3b": {1: 141},
    "qwen2.5-vl-7b": {1: math.inf, 4: 141},
    "qwen2.5-vl-7b-lora": dict.fromkeys((1, 4, 8, 16), 40),
}
"""Memory of each GPU that a preset asks for as it is, by their number; 80 GB where nothing is said."""


def _plan(tmp_path: Path, preset: str, gpus: Gpus, *sets: str) -> str:
    console = Console(file=io.StringIO(), width=160)
    config = resolve_config(read_preset(preset), list(sets))
    try:
        plan(config, RunFolder(uri=str(tmp_path / "run")), gpus=gpus, utilisation=0.35, console=console)
    finally:
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
    return text


@pytest.mark.parametrize(
    ("preset", "count", "memory_gb"),
    [("qwen2.5-vl-3b", 8, 80), ("qwen2.5-vl-7b", 8, 80), ("qwen2.5-vl-7b-lora", 4, 40), ("tiny", 1, 40)],
)
def test_every_preset_fits_the_gpus_that_it_is_set_for(tmp_path: Path, preset: str, count: int, memory_gb: float) -> None:
    text = _plan(tmp_path, preset, Gpus(count=count, memory_bytes=memory_gb * 1e9, name="A100"))
    assert "does not fit" not in text
    for part in ("weights", "gradients", "float32 copy", "AdamW moments", "activations", "logits", "buckets", "fragmentation", "hours"):
        assert part in text


@pytest.mark.parametrize("memory_gb", [40, 80, 141])
@pytest.mark.parametrize("count", [1, 4, 8, 16])
@pytest.mark.parametrize("preset", ["qwen2.5-vl-3b", "qwen2.5-vl-7b", "qwen2.5-vl-7b-lora"])
def test_what_does_not_fit_is_refused_with_options_that_are_whole_and_fit(
    tmp_path: Path, preset: str, count: int, memory_gb: float
) -> None:
    gpus = Gpus(count=count, memory_bytes=memory_gb * 1e9, name="H200" if memory_gb > 80 else "A100")
    if memory_gb >= FITS_FROM_GB[preset].get(count, 80):
        text = _plan(tmp_path, preset, gpus)
    else:
        with pytest.raises(ConfigError, match="What fits: ") as refusal:
            _plan(tmp_path, preset, gpus)
        options = str(refusal.value).split("What fits: ")[1].replace("--set ", "").split()
        text = _plan(tmp_path, preset, gpus, *options)
        assert f"Recommended: {' '.join(f'--set {option}' for option in options)}" in text
    assert "does not fit" not in text


def test_gpus_are_those_that_are_given() -> None:
    assert gpus_of(NOWHERE, count=4, memory_gb=None, name=None, verbose=False) == Gpus(count=4, memory_bytes=80e9, name="A100")
    assert gpus_of(NOWHERE, count=1, memory_gb=141, name=None, verbose=False).name == "H200"
    assert gpus_of(NOWHERE, count=1, memory_gb=80, name="H100", verbose=False).name == "H100"
    with pytest.raises(ConfigError, match="--gpu X1: its speed is not known"):
        gpus_of(NOWHERE, count=1, memory_gb=80, name="X1", verbose=False)
    with pytest.raises(ConfigError, match="Give --gpus too"):
        gpus_of(NOWHERE, count=None, memory_gb=80, name=None, verbose=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_gpus_and_cluster_the_numbers_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="Give --gpus and --gpu-memory-gb"):
        gpus_of(NOWHERE, count=None, memory_gb=None, name=None, verbose=False)
