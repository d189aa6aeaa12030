"""Ops that only occur in constant subgraphs are evaluated by ONNX's reference implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from uqfc.dialects.tensors import ELEMENT_DTYPES, element_type
from uqfc.errors import ModelError
from uqfc.frontend.values import Constant, Value, known

MAX_ELEMENTS = 2**20
"""Largest input, in elements, for which the reference implementation is used."""

FOLDABLE = frozenset(
    {
        "ArgMax",
        "ArgMin",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Compress",
        "CumSum",
        "Det",
        "GatherElements",
        "GatherND",
        "NonZero",
        "ReverseSequence",
        "ScatterElements",
        "ScatterND",
        "TopK",
        "Unique",
    }
)
"""Ops whose results are not much larger than their inputs, and depend on nothing else.

Shifts and the bitwise complement are not here: they depend on the width of the integers.
"""


def fold_by_reference(
    proto: NodeProto, version: int, inputs: Sequence[Value | None]
) -> list[Value] | None:
    """The node's outputs if it is foldable and its inputs are small constants, else None."""
    if proto.domain not in ("", "ai.onnx") or proto.op_type not in FOLDABLE:
        return None
    arrays = [None if v is None else known(v) for v in inputs]
    given = {n: a for n, a in zip(proto.input, arrays, strict=True) if n}
    if any(a is None or a.size > MAX_ELEMENTS for a in given.values()):
        return None
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 # slow, and few models need it

    node = NodeProto()
    node.CopyFrom(proto)
    node.domain = ""
    graph_inputs = [ValueInfoProto(name=name) for name in given]
    outputs = [
        helper.make_tensor_value_info(o, TensorProto.UNDEFINED, None) for o in proto.output if o
    ]
    graph = helper.make_graph([node], "fold", graph_inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    evaluator: Any = ReferenceEvaluator(model)
    try:
        results = iter(evaluator.run(None, given))
    except Exception as error:  # noqa: BLE001 - what it raises on inconsistent inputs is not defined
        raise ModelError(f"cannot be evaluated: {error}") from None
    return [as_constant(next(results)) if o else as_constant(np.zeros(0)) for o in proto.output]


def as_constant(array: Any) -> Constant:
    """A constant in one of the IR's element types."""
    result = np.asarray(array)
    if result.dtype not in ELEMENT_DTYPES.values():
        result = result.astype(np.float32 if result.dtype.kind == "f" else np.int64)
    elif result.dtype == np.float64:
        result = result.astype(np.float32)
    return Constant(result, element_type(result.dtype))
