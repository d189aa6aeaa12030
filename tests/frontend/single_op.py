"""Small ONNX models for tests, and what ONNX Runtime and uqfc's interpreter compute of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from uqfc.frontend import import_onnx
from uqfc.interpreter import Interpreter

Array = NDArray[Any]

OPSET = 21
IR_VERSION = 10
F32 = TensorProto.FLOAT


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> NodeProto:
    """A node named after its first output."""
    domain = attributes.pop("domain", "")
    return helper.make_node(op, inputs, outputs, f"{outputs[0]}_node", domain=domain, **attributes)


def make_model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str],
    initializers: Mapping[str, Array] | None = None,
    *,
    opset: int = OPSET,
    types: Mapping[str, int] | None = None,
) -> ModelProto:
    """A model; inputs and outputs are float32 unless ``types`` says otherwise."""
    types = types or {}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(n, types.get(n, F32), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, types.get(n, F32), None) for n in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in (initializers or {}).items()],
    )
    domains = {n.domain for n in nodes if n.domain}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=imports)
    model.ir_version = IR_VERSION
    return model


def interpreted(model: ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """The outputs of the imported model; the module is verified on the way."""
    module = import_onnx(model, {n: a.shape for n, a in inputs.items()})
    module.verify()
    return list(Interpreter().run(module, inputs).values())


def expected(model: ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime computes, without its optimizations."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, dict(inputs)))


def check_same(
    model: ModelProto, inputs: Mapping[str, Array], rtol: float = 1e-5, atol: float = 1e-5
) -> None:
    """Same shapes and dtypes; integers equal; floats within what the order of a sum can change.

    Two orders of summing k products differ by at most ``2 * k * 2**-24`` of the sum of their
    magnitudes. Single-op models here have k <= 64 and magnitudes of a few units, whose sum is
    about that of the result or of 1: 64 * 2**-23 = 7.6e-6 < 1e-5 of either.
    """
    for ours, theirs in zip(interpreted(model, inputs), expected(model, inputs), strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(ours, theirs)


def normal(seed: int, *shape: int) -> Array:
    """Float32 values of a standard normal distribution."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def save(model: ModelProto, path: Any) -> None:
    onnx.save_model(model, str(path))
