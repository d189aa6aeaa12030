"""Compiles a network with RMS normalisations without the pass of this example, and with it."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import uqfc
from uqfc.timing import measure
from uqfc_rms_norm import FuseRmsNormPass

ROWS, WIDTH, HIDDEN = 64, 256, 512


def gated_network() -> onnx.ModelProto:
    """``x + down(silu(up(norm(x))))``, and another normalisation; float32 [64, 256]."""
    random = np.random.default_rng(0)
    weights = {
        "first": 1 + random.standard_normal(WIDTH) / 10,
        "up": random.standard_normal((WIDTH, HIDDEN)) / 16,
        "down": random.standard_normal((HIDDEN, WIDTH)) / 22,
        "last": 1 + random.standard_normal(WIDTH) / 10,
    }
    nodes = [
        helper.make_node("RMSNormalization", ["x", "first"], ["n"], name="first_norm"),
        helper.make_node("MatMul", ["n", "up"], ["h"], name="up_projection"),
        helper.make_node("Swish", ["h"], ["s"], name="activation"),
        helper.make_node("MatMul", ["s", "down"], ["d"], name="down_projection"),
        helper.make_node("Add", ["d", "x"], ["r"], name="residual"),
        helper.make_node("RMSNormalization", ["r", "last"], ["y"], name="last_norm"),
    ]
    graph = helper.make_graph(
        nodes,
        "gated",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, WIDTH])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return model_of(graph)


def random_input(seed: int) -> dict[str, NDArray[np.float32]]:
    """Of ``gated_network``."""
    return {"x": np.random.default_rng(seed).standard_normal((ROWS, WIDTH), np.float32)}


def one_norm(rows: int, width: int) -> onnx.ModelProto:
    """One normalisation, of float32 [rows, width]."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [rows, width]) for n in "xy")
    scale = numpy_helper.from_array(np.ones(width, np.float32), "scale")
    node = helper.make_node("RMSNormalization", ["x", "scale"], ["y"], name="norm")
    return model_of(helper.make_graph([node], "norm", [x], [y], [scale]))


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)


def both(model: onnx.ModelProto) -> tuple[uqfc.CompiledModel, uqfc.CompiledModel]:
    """Compiled without the pass, and with it."""
    plain = uqfc.compile(model, quant_strategy="float32")
    fused = uqfc.compile(model, quant_strategy="float32", pass_pipeline=[FuseRmsNormPass()])
    return plain, fused


def show_network() -> None:
    plain, fused = both(gated_network())
    for layer in fused.layers:
        print(f"{layer.op:10} {layer.kernel}")
    print(f"{len(plain.layers)} kernels without the pass, {len(fused.layers)} with it")
    inputs = random_input(1)
    y = fused.run(inputs)["y"]
    print("bits of the definition:", np.array_equal(y, fused.reference(inputs)["y"]))
    print("bits without the pass: ", np.array_equal(y, plain.run(inputs)["y"]))


def show_gain(rows: int, width: int) -> None:
    plain, fused = both(one_norm(rows, width))
    inputs = {"x": np.random.default_rng(2).standard_normal((rows, width), np.float32)}
    calls = {"plain": lambda: plain.run(inputs), "fused": lambda: fused.run(inputs)}
    times = measure(calls, runs=200, warmup=20)
    arena = [model.info["arena"]["bytes"] for model in (plain, fused)]
    print(f"one normalisation of [{rows}, {width}]: arena {arena[0]:,} -> {arena[1]:,} bytes,")
    print(f"time {times['fused'].median / times['plain'].median:.2f} of that without the pass")


def main() -> None:
    show_network()
    show_gain(256, 1024)


if __name__ == "__main__":
    main()
