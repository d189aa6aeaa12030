"""Small ONNX models with random weights, for tests that start from a model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

F32 = NDArray[np.float32]

IMAGE = (1, 3, 8, 8)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    weights: Mapping[str, F32],
    name: str = "model",
) -> onnx.ModelProto:
    """A checked float32 model."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def residual_network(seed: int = 0, activation: str = "HardSwish") -> onnx.ModelProto:
    """``image`` [1, 3, 8, 8]: stem, depthwise, pointwise + stem, mean, head: ``logits`` [1, 5]."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> F32:
        return random.standard_normal(shape).astype(np.float32) / np.float32(
            np.sqrt(np.prod(shape[1:]))
        )

    weights = {
        "stem.w": normal(8, 3, 3, 3),
        "stem.b": normal(8),
        "depthwise.w": normal(8, 1, 3, 3),
        "pointwise.w": normal(8, 8, 1, 1),
        "pointwise.b": normal(8),
        "head.w": normal(5, 8),
        "head.b": normal(5),
    }

    def conv(name: str, source: str, target: str, bias: bool, **options: Any) -> onnx.NodeProto:
        operands = [source, f"{name}.w", *([f"{name}.b"] if bias else [])]
        return helper.make_node("Conv", operands, [target], name=name, **options)

    pads = [1, 1, 1, 1]
    nodes = [
        conv("stem", "image", "s0", True, pads=pads),
        helper.make_node("Relu", ["s0"], ["s1"], name="stem.relu"),
        conv("depthwise", "s1", "d0", False, pads=pads, group=8),
        helper.make_node(activation, ["d0"], ["d1"], name="depthwise.act"),
        conv("pointwise", "d1", "p0", True),
        helper.make_node("Add", ["p0", "s1"], ["p1"], name="add"),
        helper.make_node("GlobalAveragePool", ["p1"], ["m0"], name="mean"),
        helper.make_node("Flatten", ["m0"], ["m1"], name="flatten"),
        helper.make_node("Gemm", ["m1", "head.w", "head.b"], ["logits"], name="head", transB=1),
    ]
    return model(nodes, {"image": IMAGE}, {"logits": (1, 5)}, weights, "residual")


def perceptron(
    weight: F32 | None = None, bias: F32 | None = None, names: tuple[str, str] = ("first", "second")
) -> onnx.ModelProto:
    """``x`` [2, 6] → linear, ReLU, linear → ``y`` [2, 3]; the second layer's constants if given."""
    random = np.random.default_rng(1)
    weights = {
        "w1": random.standard_normal((4, 6)).astype(np.float32),
        "b1": random.standard_normal(4).astype(np.float32),
        "w2": random.standard_normal((3, 4)).astype(np.float32) if weight is None else weight,
        "b2": random.standard_normal(3).astype(np.float32) if bias is None else bias,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h0"], name=names[0], transB=1),
        helper.make_node("Relu", ["h0"], ["h1"], name="relu"),
        helper.make_node("Gemm", ["h1", "w2", "b2"], ["y"], name=names[1], transB=1),
    ]
    return model(nodes, {"x": (2, 6)}, {"y": (2, 3)}, weights, "perceptron")


def quantized_perceptron() -> onnx.ModelProto:
    """``x`` [2, 6] → linear, linear → ``y`` [2, 3] in QDQ form, with asymmetric INT4 weights."""
    random = np.random.default_rng(2)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: Any, data_type: int) -> str:
        array = np.asarray(value)
        constants.append(helper.make_tensor(name, data_type, array.shape, array.reshape(-1)))
        return name

    def pair(x: str, scale: float, zero_point: int) -> str:
        s = constant(f"{x}.scale", scale, TensorProto.FLOAT)
        z = constant(f"{x}.zero_point", zero_point, TensorProto.UINT8)
        nodes.append(helper.make_node("QuantizeLinear", [x, s, z], [f"{x}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{x}.q", s, z], [f"{x}.dq"]))
        return f"{x}.dq"

    def linear(name: str, x: str, y: str, outputs: int, inputs: int) -> None:
        q = constant(f"{name}.w", random.integers(-8, 8, (outputs, inputs)), TensorProto.INT4)
        s = constant(f"{name}.s", random.uniform(0.05, 0.2, outputs), TensorProto.FLOAT)
        z = constant(f"{name}.z", random.integers(-3, 4, outputs), TensorProto.INT4)
        nodes.append(helper.make_node("DequantizeLinear", [q, s, z], [f"{name}.f"], axis=0))
        nodes.append(helper.make_node("Gemm", [x, f"{name}.f"], [y], name=name, transB=1))

    linear("first", pair("x", 0.03, 120), "h", 4, 6)
    linear("second", pair("h", 0.05, 131), "y", 3, 4)
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 3))],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def samples(shape: Sequence[int], count: int = 4, seed: int = 0) -> list[F32]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for _ in range(count)]
