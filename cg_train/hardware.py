"""What GPUs can do at most, by their makers' data sheets, and what a machine needs to compile for them."""

from __future__ import annotations

import dataclasses
import os
import shutil

from cg_data.errors import ConfigError

_PEAK_TFLOPS = {
    "GH200": 989.0, "B200": 2250.0, "H200": 989.0, "H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H800": 989.0, "A100": 312.0,
    "A800": 312.0, "L40S": 362.0, "A40": 149.7, "L4": 121.0, "A10": 125.0, "RTX 4090": 165.2,
}  # fmt: skip
"""Dense bfloat16 with float32 sums, in 10^12 operations per second (NVIDIA's data sheets, halved where they count sparsity).
A name that holds another one stands before it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Gpus:
    """`count` equal GPUs of `memory_bytes` each; `name` as the driver says it, for example "NVIDIA A100-SXM4-80GB"."""

    count: int
    memory_bytes: float
    name: str


def peak_flops(name: str, precision: str) -> float | None:
    """Operations per second of the matrix units at most; None where the GPU is not known, and in float32, which does not use them."""
    if precision != "bfloat16":
        return None
    words = name.replace("-", " ")
    return next((tflops * 1e12 for known, tflops in _PEAK_TFLOPS.items() if known in words), None)


def known_gpus() -> tuple[str, ...]:
    return tuple(_PEAK_TFLOPS)


def gpu_of_memory(memory_gb: float) -> str:
    """The kind of GPU that is meant by its memory alone.

    Raises:
        ConfigError: no kind has as much.
    """
    for most_gb, name in ((80, "A100"), (141, "H200"), (192, "B200")):
        if memory_gb <= most_gb:
            return name
    raise ConfigError(f"--gpu-memory-gb {memory_gb:g}: no known GPU has as much. Name it with --gpu.")


def c_compiler() -> str | None:
    """Where the C compiler is that torch.compile would call, as Triton looks for it."""
    return next((found for name in (os.environ.get("CC", "gcc"), "gcc", "clang") if (found := shutil.which(name))), None)
