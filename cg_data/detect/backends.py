"""What runs a detector's network: torch as it is, torch compiled in half precision on CUDA, or ONNX Runtime on a CPU.

Each takes the tensors of `WaveformNetwork.prepare` and gives those that `WaveformNetwork.decode` reads.
"""

from __future__ import annotations

import copy
import logging
import warnings
from typing import Any, Protocol

import numpy as np
import torch

from cg_data.errors import ConfigError
from cg_data.vocabulary import N_CHANNELS, SEGMENT_SAMPLES

CUDA_PAGES = 64
"""Pages of a batch on CUDA."""
_EXPORTER_LOG = "torch.onnx._internal.exporter"


class Backend(Protocol):
    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The network's outputs for its inputs."""


def torch_backend(network: Any, device: str) -> Backend:
    """A folded network on the device that it is on; on CUDA in float16, compiled where Triton is there, `CUDA_PAGES` at a time.

    Float16 rather than bfloat16, whose eight bits move the edge of a long waveform by some 20 ms.
    """
    if torch.device(device).type != "cuda":
        return network
    from torch.utils._triton import has_triton

    return in_whole_batches(torch.compile(network) if has_triton() else network, CUDA_PAGES)


def in_whole_batches(network: Any, pages: int) -> Backend:
    """`network` on batches of `pages` in float16 (bfloat16 on a CPU), which smaller ones are filled up to: it is compiled once."""

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        count = len(inputs[0])
        whole = [torch.cat([tensor, tensor.new_zeros(pages - count, *tensor.shape[1:])]) for tensor in inputs]
        kind = inputs[0].device.type
        with torch.autocast(kind, torch.float16 if kind == "cuda" else torch.bfloat16):
            return tuple(output[:count] for output in network(*whole))

    return run


class OnnxBackend:
    """A model of `exported` on one thread of the CPU. Calls from several threads run beside each other."""

    def __init__(self, model: bytes) -> None:
        """
        Raises:
            ConfigError: ONNX Runtime cannot read `model`.
        """
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
            raise ConfigError(f"weights.onnx cannot be run by ONNX Runtime {onnxruntime.__version__}: {error}") from error
        self._inputs = [node.name for node in self._session.get_inputs()]

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        feed = {name: tensor.numpy() for name, tensor in zip(self._inputs, inputs, strict=True)}
        return tuple(torch.from_numpy(output) for output in self._session.run(None, feed))


def exported(network: Any) -> bytes:
    """An unfused network as an ONNX model for any number of pages, folded for evaluation. `network` stays as it is.

    The exporter's notes, which hold the paths of source files, are taken out.
    """
    folded = copy.deepcopy(network).cpu().eval()
    folded.fuse()
    signals = np.zeros((2, N_CHANNELS, SEGMENT_SAMPLES), dtype=np.float32)
    inputs = folded.prepare(signals, np.ones((2, N_CHANNELS), dtype=np.bool_), "cpu")
    log = logging.getLogger(_EXPORTER_LOG)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
            program = torch.onnx.export(folded, inputs, dynamo=True, dynamic_shapes=shapes, verbose=False)
    finally:
        log.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model = program.model_proto
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))
