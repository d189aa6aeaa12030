"""Gives the onnx package's light models random weights in place of their constant fills.

With the fills all classes come out equal, and a wrong channel order or a lost tap goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["logits_model", "randomized"]

Array = NDArray[np.float32]

_POSITIVE_INPUTS = {("BatchNormalization", 1), ("BatchNormalization", 4)}
"""Scale and variance: where zeros or negative numbers would destroy the signal."""


def randomized(path: Path, seed: int = 0) -> ModelProto:
    """The light model at ``path`` with seeded random weights, and logits for its only output.

    Weights are scaled by their fan-in (He), so that activations keep their size from layer to
    layer. A softmax at the end is left out: it would hide most logits.
    """
    random = np.random.default_rng(seed)
    graph = logits_model(onnx.load(path)).graph
    fills = {n.output[0]: n for n in graph.node if n.op_type == "ConstantOfShape"}
    shapes = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    positive = positive_values(graph.node)
    weights = [
        numpy_helper.from_array(
            draw(random, tuple(int(d) for d in shapes[fill.input[0]]), name in positive), name
        )
        for name, fill in fills.items()
    ]
    used = {fill.input[0] for fill in fills.values()}
    kept = [i for i in graph.initializer if i.name not in used | set(fills)]
    inputs = [i for i in graph.input if i.name not in used | set(fills)]
    nodes = [n for n in graph.node if n.output[0] not in fills]
    rebuilt = helper.make_graph(nodes, graph.name, inputs, list(graph.output), [*kept, *weights])
    return helper.make_model(rebuilt, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)


def logits_model(model: ModelProto) -> ModelProto:
    """``model`` without the softmax that computes its output, if one does; changes ``model``."""
    graph = model.graph
    last = graph.node[-1]
    if last.op_type == "Softmax":
        del graph.node[-1]
        del graph.output[:]
        graph.output.append(helper.make_tensor_value_info(last.input[0], TensorProto.FLOAT, None))
    return model


def positive_values(nodes: Iterable[NodeProto]) -> set[str]:
    """Names of the values that must not be near or below 0: scales and variances."""
    nodes = list(nodes)
    unsqueezed = {n.output[0]: n.input[0] for n in nodes if n.op_type == "Unsqueeze"}
    names = {
        name
        for node in nodes
        for i, name in enumerate(node.input)
        if node.op_type == "Mul" or (node.op_type, i) in _POSITIVE_INPUTS
    }
    return names | {unsqueezed[name] for name in names if name in unsqueezed}


def draw(random: np.random.Generator, shape: tuple[int, ...], positive: bool) -> Array:
    """Weights of a layer, a vector of biases, or numbers in 0.5..1.5."""
    if positive:
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) < 2:
        return (0.1 * random.standard_normal(shape)).astype(np.float32)
    fan_in = int(np.prod(shape[1:]))
    deviation = np.float32(np.sqrt(2 / fan_in))
    return random.standard_normal(shape, dtype=np.float32) * deviation
