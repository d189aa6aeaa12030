"""Matrix products next to ONNX Runtime's MatMul, MatMulInteger and MatMulNBits, and torch.

    python -m benchmarks.gemm [--threads 1] [--only TEXT] [--seconds 2] [--prepare] [--json FILE]

Layers are named ``gemm_MxKxN``. uqfc, MatMul, MatMulNBits and torch take and return float32;
MatMulInteger takes uint8 and returns int32, so it converts nothing. Its like is ``uqfc int8 of
uint8``, which takes uint8 and returns float32. One row (M = 1) is bound by
reading the weights: its fractions are of the bandwidth measured on a buffer of as many bytes as
uqfc's INT4 weights have.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import layer_models, layers, ours, sweep
from benchmarks.candidates import Call, need
from benchmarks.layer_models import Gemm
from benchmarks.peers import onnxruntime

ROWS = (1, 4, 16, 64, 256, 1024)
DEPTH_AND_WIDTH = ((96, 576), (576, 96), (576, 1024), (2048, 1000), (768, 3072), (4096, 4096))
"""K and N: pointwise layers, classifiers, a transformer's layer, and a square."""
LAYERS = tuple(Gemm(m, k, n) for k, n in DEPTH_AND_WIDTH for m in ROWS)
Model = Callable[[Gemm, int], tuple[Path, dict[str, Any]]]


def workloads(threads: int) -> list[layers.LayerWorkload]:
    """All layers of the table."""
    return [workload(layer, threads) for layer in LAYERS]


def workload(layer: Gemm, threads: int) -> layers.LayerWorkload:
    """The layer with all candidates."""

    def uqfc(strategy: str, copies: int, *, of_bytes: bool = False) -> Call:
        model = layer_models.gemm(layer, copies)
        return ours.compiled(model, threads, strategy, of_bytes=of_bytes)

    def matmul(copies: int) -> Call:
        return onnxruntime.float32(layer_models.gemm(layer, copies), threads)

    def operator(model: Model, copies: int) -> Call:
        path, feed = model(layer, copies)
        return onnxruntime.run(path, threads, feed)

    found: dict[str, layers.LayerFactory] = {
        "uqfc int4": partial(uqfc, "int4"),
        "uqfc int8": partial(uqfc, "int8"),
        "uqfc int8 of uint8": partial(uqfc, "int8", of_bytes=True),
        "ONNX Runtime MatMul": matmul,
        "ONNX Runtime MatMulInteger": partial(operator, layer_models.matmul_integer),
        "ONNX Runtime MatMulNBits": partial(operator, layer_models.matmul_nbits),
        "torch float32": partial(torch_linear, layer, threads),
    }
    bytes_read = layer.k * layer.n // 2 if layer.m == 1 else 0
    return layers.LayerWorkload(layer.name, layer.macs, found, bytes_read)


def torch_linear(layer: Gemm, threads: int, copies: int) -> Call:
    """float32 ``linear`` of the same input with each of the weights."""
    need("torch")
    import torch  # noqa: PLC0415 - optional

    torch.set_num_threads(threads)
    workload = layer_models.gemm(layer, 1)
    x = torch.from_numpy(workload.sample)
    weights = [
        torch.from_numpy(layer_models.gemm_weights(layer, i).T.copy()) for i in range(copies)
    ]

    def call() -> object:
        with torch.inference_mode():
            return [torch.nn.functional.linear(x, w) for w in weights]

    return call


if __name__ == "__main__":
    sweep.run("Matrix products", workloads)
