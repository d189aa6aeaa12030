"""What an artifact's info says of each layer: the document's fields but for the lists of scales."""

from __future__ import annotations

from typing import Any

from xdsl.dialects.builtin import FloatAttr, ModuleOp
from xdsl.ir import SSAValue

from uqfc.dialects import nn
from uqfc.dialects.quant import DcastOp, QcastOp, QuantParams, uniform_of
from uqfc.dialects.quant.decisions import SENSITIVITY, decision_of
from uqfc.frontend.uqr.document import shortest
from uqfc.frontend.uqr.dtypes import dtype_of, middle

OPS = {nn.Conv2dOp: "Conv", nn.LinearOp: "Gemm"}


def summary(module: ModuleOp) -> list[dict[str, Any]]:
    """One entry for each layer of a module with quantize points, in order."""
    found: list[dict[str, Any]] = []
    for op in module.walk():
        if not isinstance(op, nn.Layer):
            continue
        entry: dict[str, Any] = {"name": op.layer, "op": OPS[type(op)]}
        decision, share = decision_of(op), op.attributes.get(SENSITIVITY)
        is_binary = decision is not None and decision.chosen == "binary"
        if isinstance(op.weight.owner, DcastOp):
            params = uniform_of(op.weight.owner.x)
            entry["weight_quant"] = described(params, is_binary) | {
                "range": [params.qmin, params.qmax]
            }
        activation = cast_of(op.result)
        if activation is not None:
            entry["activation_quant"] = described(activation) | {
                "scale": [shortest(s) for s in activation.scales],
                "zero_point": list(activation.zero_points),
                "integer_range": [activation.qmin, activation.qmax],
            }
        if isinstance(share, FloatAttr):
            entry["sensitivity"] = {"int4": float(share.value.data)}
        if decision is not None:
            entry["decision"] = {
                "requested": decision.requested,
                "chosen": decision.chosen,
                "reason": str(decision.reason),
            }
        found.append(entry)
    return found


def cast_of(value: SSAValue) -> QuantParams | None:
    """How a value is quantized, if it is."""
    for use in value.uses:
        if isinstance(use.operation, QcastOp):
            return uniform_of(use.operation.result)
    return None


def described(params: QuantParams, is_binary: bool = False) -> dict[str, Any]:
    per_axis = "per_tensor" if params.axis is None else "per_channel"
    return {
        "dtype": dtype_of(params.storage, (params.qmin, params.qmax), is_binary),
        "symmetric": all(z == middle(params.storage) for z in params.zero_points),
        "granularity": "per_block" if params.block else per_axis,
    }
