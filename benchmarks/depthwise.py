"""Depthwise convolutions next to OpenVINO and ONNX Runtime, one layer at a time.

python -m benchmarks.depthwise [--threads 1] [--only TEXT] [--seconds 2] [--prepare]
                               [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks import layer_models, layers, ours, sweep
from benchmarks.candidates import Call
from benchmarks.layer_models import Depthwise
from benchmarks.peers import onnxruntime, openvino
from benchmarks.workloads import Workload

LAYERS = (
    Depthwise(112, 96, 3, 1),
    Depthwise(56, 144, 3, 1),
    Depthwise(28, 192, 3, 1),
    Depthwise(14, 384, 3, 1),
    Depthwise(7, 576, 3, 1),
    Depthwise(112, 96, 3, 2),
    Depthwise(56, 144, 3, 2),
    Depthwise(28, 192, 3, 2),
    Depthwise(14, 576, 3, 2),
    Depthwise(28, 120, 5, 1),
    Depthwise(14, 480, 5, 1),
    Depthwise(7, 576, 5, 1),
    Depthwise(28, 96, 5, 2),
    Depthwise(14, 672, 5, 2),
)
CANDIDATES: dict[str, Callable[[Workload, int], Call]] = {
    "uqfc int4": partial(ours.compiled, strategy="int4"),
    "uqfc int8": partial(ours.compiled, strategy="int8"),
    "OpenVINO default": openvino.default,
    "OpenVINO float32": openvino.float32,
    "OpenVINO int8": openvino.int8,
    "ONNX Runtime float32": onnxruntime.float32,
    "ONNX Runtime int8": onnxruntime.int8,
}


def workload(layer: Depthwise, threads: int) -> layers.LayerWorkload:
    """The layer with all candidates."""

    def factory(candidate: Callable[[Workload, int], Call]) -> layers.LayerFactory:
        return lambda copies: candidate(layer_models.depthwise(layer, copies), threads)

    found = {name: factory(candidate) for name, candidate in CANDIDATES.items()}
    return layers.LayerWorkload(layer.name, layer.macs, found)


def workloads(threads: int) -> list[layers.LayerWorkload]:
    """All layers of the table."""
    return [workload(layer, threads) for layer in LAYERS]


if __name__ == "__main__":
    sweep.run("Depthwise convolutions", workloads)
