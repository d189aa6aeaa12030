"""ONNX models of one layer, or of several equal ones, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.cache import cache_directory
from benchmarks.workloads import CALIBRATION_SAMPLES, Workload

library: Any = onnx  # its stubs name types without their parameters
helper: Any = library.helper

OPSET = 17
BLOCK = 128
"""Weights that share a scale in MatMulNBits."""
KEPT = 2
"""Models whose candidates are prepared: of one layer, and of several."""
MICROSOFT = "com.microsoft"
Array = NDArray[Any]


@dataclass(frozen=True)
class Gemm:
    """``[m, k] × [k, n]``; several copies multiply the same left side."""

    m: int
    k: int
    n: int

    @property
    def name(self) -> str:
        return f"gemm_{self.m}x{self.k}x{self.n}"

    @property
    def macs(self) -> int:
        return self.m * self.k * self.n


@dataclass(frozen=True)
class Depthwise:
    """A padded depthwise convolution of an image of ``size`` × ``size`` × ``channels``."""

    size: int
    channels: int
    kernel: int
    stride: int

    @property
    def name(self) -> str:
        return f"depthwise_{self.kernel}x{self.kernel}s{self.stride}_{self.size}x{self.channels}"

    @property
    def out_size(self) -> int:
        return -(-self.size // self.stride)

    @property
    def macs(self) -> int:
        return self.out_size**2 * self.channels * self.kernel**2


@lru_cache(KEPT)
def gemm(layer: Gemm, copies: int) -> Workload:
    """``MatMul`` with float32 operands: a workload for runtimes that quantize a model."""
    nodes: list[Any] = []
    weights: dict[str, Array] = {}
    for i in range(copies):
        weights[f"w{i}"] = gemm_weights(layer, i)
        nodes.append(helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]))
    outputs = {f"y{i}": (layer.m, layer.n) for i in range(copies)}
    return workload(f"{layer.name}_{copies}", nodes, weights, (layer.m, layer.k), outputs)


def gemm_weights(layer: Gemm, seed: int) -> Array:
    """Float32 [k, n]."""
    random = np.random.default_rng(seed + 1)
    weights = random.standard_normal((layer.k, layer.n), dtype=np.float32)
    return weights / np.float32(np.sqrt(layer.k))


def matmul_integer(layer: Gemm, copies: int) -> tuple[Path, dict[str, Array]]:
    """``MatMulInteger``, u8 × s8 → int32: the model, and what to feed it."""
    nodes: list[Any] = []
    weights: dict[str, Array] = {"zero": np.uint8(128) * np.ones((), np.uint8)}
    for i in range(copies):
        random = np.random.default_rng(i + 1)
        weights[f"w{i}"] = random.integers(-127, 128, (layer.k, layer.n), np.int8)
        nodes.append(helper.make_node("MatMulInteger", ["x", f"w{i}", "zero"], [f"y{i}"]))
    outputs = {f"y{i}": (layer.m, layer.n) for i in range(copies)}
    kinds = np.uint8, np.int32
    name = f"{layer.name}_{copies}_integer"
    path = write(name, nodes, weights, (layer.m, layer.k), outputs, *kinds)
    data = np.random.default_rng(0).integers(0, 256, (layer.m, layer.k), np.uint8)
    return path, {"x": data}


def matmul_nbits(layer: Gemm, copies: int) -> tuple[Path, dict[str, Array]]:
    """``MatMulNBits``: 4-bit weights in blocks of 128, int8 arithmetic (accuracy level 4)."""
    blocks = -(-layer.k // BLOCK)
    nodes: list[Any] = []
    weights: dict[str, Array] = {}
    for i in range(copies):
        random = np.random.default_rng(i + 1)
        packed = random.integers(0, 256, (layer.n, blocks, BLOCK // 2), np.uint8)
        weights[f"w{i}"] = packed
        weights[f"s{i}"] = random.uniform(0.01, 0.02, layer.n * blocks).astype(np.float32)
        attributes = {"K": layer.k, "N": layer.n, "bits": 4, "block_size": BLOCK}
        inputs = ["x", f"w{i}", f"s{i}"]
        node = helper.make_node(
            "MatMulNBits", inputs, [f"y{i}"], domain=MICROSOFT, accuracy_level=4, **attributes
        )
        nodes.append(node)
    outputs = {f"y{i}": (layer.m, layer.n) for i in range(copies)}
    path = write(f"{layer.name}_{copies}_nbits", nodes, weights, (layer.m, layer.k), outputs)
    data = np.random.default_rng(0).standard_normal((layer.m, layer.k), dtype=np.float32)
    return path, {"x": data}


@lru_cache(KEPT)
def depthwise(layer: Depthwise, copies: int) -> Workload:
    """Convolutions in a row where the stride is 1, else side by side on the same input."""
    nodes: list[Any] = []
    weights: dict[str, Array] = {}
    chained = layer.stride == 1
    for i in range(copies):
        random = np.random.default_rng(i + 1)
        shape = (layer.channels, 1, layer.kernel, layer.kernel)
        kernel = random.standard_normal(shape, dtype=np.float32) / np.float32(layer.kernel)
        weights[f"w{i}"] = kernel
        weights[f"b{i}"] = random.standard_normal(layer.channels, dtype=np.float32)
        source = f"y{i - 1}" if chained and i else "x"
        node = helper.make_node(
            "Conv",
            [source, f"w{i}", f"b{i}"],
            [f"y{i}"],
            group=layer.channels,
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[layer.kernel // 2] * 4,
        )
        nodes.append(node)
    shape = (1, layer.channels, layer.out_size, layer.out_size)
    named = [copies - 1] if chained else range(copies)
    inputs = (1, layer.channels, layer.size, layer.size)
    outputs = {f"y{i}": shape for i in named}
    return workload(f"{layer.name}_{copies}", nodes, weights, inputs, outputs)


def workload(
    name: str,
    nodes: Sequence[Any],
    weights: dict[str, Array],
    shape: tuple[int, ...],
    outputs: dict[str, tuple[int, ...]],
) -> Workload:
    """A written model, and normal samples of its input ``x``."""
    path = write(name, nodes, weights, shape, outputs)
    random = np.random.default_rng(0)
    data = random.standard_normal((CALIBRATION_SAMPLES, *shape), dtype=np.float32)
    return Workload(name, path, "x", data)


def write(
    name: str,
    nodes: Sequence[Any],
    weights: dict[str, Array],
    shape: tuple[int, ...],
    outputs: dict[str, tuple[int, ...]],
    in_dtype: type = np.float32,
    out_dtype: type = np.float32,
) -> Path:
    """Write a model with the input ``x``; returns its path in the cache."""
    graph = helper.make_graph(
        list(nodes),
        name,
        [value("x", in_dtype, shape)],
        [value(output, out_dtype, size) for output, size in outputs.items()],
        [library.numpy_helper.from_array(array, label) for label, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    path = cache_directory() / "layers" / f"{name}.onnx"
    path.parent.mkdir(exist_ok=True)
    library.save(model, str(path))
    return path


def value(name: str, dtype: type, shape: tuple[int, ...]) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)
