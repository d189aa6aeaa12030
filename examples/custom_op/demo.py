"""Compiles a network with RMS normalisations twice: without the pass of this example, and with it."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from uqfc_rms_norm import FuseRmsNormPass

import uqfc
from uqfc.timing import measure

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
    opset = [helper.make_opsetid("", 24)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def main() -> None:
    model = gated_network()
    plain = uqfc.compile(model, quant_strategy="float32")
    fused = uqfc.compile(model, quant_strategy="float32", pass_pipeline=[FuseRmsNormPass()])
    for layer in fused.layers:
        print(f"{layer.name:18} {layer.op:10} {layer.kernel}")
    print(f"{len(plain.layers)} kernels without the pass, {len(fused.layers)} with it")

    inputs = {"x": np.random.default_rng(1).standard_normal((ROWS, WIDTH), np.float32)}
    y = fused.run(inputs)["y"]
    print("bits of the definition:", np.array_equal(y, fused.reference(inputs)["y"]))
    print("bits without the pass: ", np.array_equal(y, plain.run(inputs)["y"]))

    calls = {"plain": lambda: plain.run(inputs), "fused": lambda: fused.run(inputs)}
    times = measure(calls, runs=200, warmup=20)
    print(f"time: {times['fused'].median / times['plain'].median:.2f} of that without the pass")


if __name__ == "__main__":
    main()
