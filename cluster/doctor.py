"""What this machine and cluster offer, and what is missing for a preset."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cg_data.errors import ClusterError
from cg_train.hardware import c_compiler
from cluster.config import RunConfig
from cluster.session import address_of, check_address

PACKAGES = ("ray", "torch", "transformers", "peft", "deepspeed", "ultralytics", "mne", "edfio", "pyarrow", "mlflow")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One line of the report; `ok` None is a mere fact."""

    what: str
    found: str
    ok: bool | None = None
    advice: str = ""


def examine(config: RunConfig, console: Console) -> bool:
    """Print the report and return whether `config` can run here."""
    checks = [*_machine(), *_packages(), _cluster(config), *_needs(config)]
    table = Table(title=f"cg doctor: preset {config.preset}", title_justify="left", header_style="bold")
    for column in ("", "What", "Found", "What to do"):
        table.add_column(column, overflow="fold")  # commands to copy must be whole
    marks = {True: "[green]ok[/green]", False: "[red]missing[/red]", None: ""}
    for check in checks:
        table.add_row(marks[check.ok], check.what, check.found, check.advice)
    console.print(table)
    missing = [check for check in checks if check.ok is False]
    text = f"{len(missing)} thing(s) missing for preset {config.preset}." if missing else f"Preset {config.preset} can run here."
    console.print(text)
    return not missing


def _machine() -> list[Check]:
    import torch

    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free_gib = shutil.disk_usage(Path.cwd()).free / 2**30
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    described = ", ".join(f"{g.name} ({g.total_memory / 2**30:.0f} GiB)" for g in gpus) or "none"
    return [
        Check(
            what="Python",
            found=sys.version.split()[0],
            ok=sys.version_info >= (3, 11),
            advice="" if sys.version_info >= (3, 11) else "use 3.11 or newer",
        ),
        Check(what="CPU cores", found=str(len(os.sched_getaffinity(0)))),
        Check(what="Memory", found=f"{memory_gib:.0f} GiB"),
        Check(what="Free disk here", found=f"{free_gib:.0f} GiB"),
        Check(what="GPUs", found=described),
    ]


def _packages() -> list[Check]:
    checks = []
    for name in PACKAGES:
        try:
            checks.append(Check(what=name, found=version(name), ok=True))
        except PackageNotFoundError:
            checks.append(Check(what=name, found="not installed", ok=False, advice="make setup"))
    return checks


def _cluster(config: RunConfig) -> Check:
    address = address_of(config.cluster)
    if not address:
        return Check(what="Ray cluster", found="none named: a private local Ray is started for each command")
    try:
        check_address(address)
    except ClusterError as error:
        return Check(what="Ray cluster", found=address, ok=False, advice=str(error))
    return Check(what="Ray cluster", found=f"{address} answers", ok=True)


def _needs(config: RunConfig) -> list[Check]:
    import torch

    train = config.train
    checks, least, most = [_weights(train.source)], train.compute.sizes[0], train.compute.workers
    asked = str(most) if least == most else f"{least} to {most}"
    if address_of(config.cluster):
        return [*checks, Check(what="Workers", found=f"{asked} asked of the cluster")]
    gpus = least if train.compute.gpu else 0
    if gpus:
        have = torch.cuda.device_count()
        advice = "" if have >= gpus else "join a cluster (RAY_ADDRESS), or --set train.compute.workers=N"
        checks.append(Check(what="GPUs for training", found=f"{have} of {gpus}", ok=have >= gpus, advice=advice))
    if train.compile:
        compiler = c_compiler()
        checks.append(Check(what="C compiler", found=compiler or "none", ok=compiler is not None, advice="" if compiler else "install gcc"))
    cores = len(os.sched_getaffinity(0))
    need = least * train.compute.cpus_of_worker
    advice = "" if cores >= need else "fewer workers: --set train.compute.workers=1"
    checks.append(Check(what="Cores for training", found=f"{cores} of {need:.0f}", ok=cores >= need, advice=advice))
    return checks


def _weights(source: str) -> Check:
    if source == "tiny":
        return Check(what="Base model", found="tiny: built and pretrained here, nothing is downloaded", ok=True)
    if Path(source).is_dir():
        return Check(what="Base model", found=f"folder {source}", ok=True)
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(source, "config.json"), str)
    advice = "" if cached else f"fetch it where there is a network: hf download {source}; or --set train.source=FOLDER"
    return Check(
        what="Base model", found=f"{source}: {'in the local cache' if cached else 'not in the local cache'}", ok=cached, advice=advice
    )
