"""The JSON that a model carries about itself: its tensors, its memory, and what runs each layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xdsl.dialects.builtin import ModuleOp, f32
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, SSAValue

from uqfc.codegen.module import Compiled
from uqfc.dialects.nn import layer_name
from uqfc.dialects.qkernel import ALIGNMENT, LaunchOp, as_tensor, yielded
from uqfc.dialects.qnn import FORMAT_OF, Float8LayerOp, IntegerLayerOp, format_of
from uqfc.dialects.tensors import element_of, numpy_dtype
from uqfc.interpreter import input_names, main_function, output_names
from uqfc.passes.select_bit_width import Reason, decision_of
from uqfc.passes.uint8_inputs import stands_for_bytes
from uqfc.targets import Target
from uqfc.version import __version__
from uqfc_runtime.info import ABI_VERSION


def model_info(
    network: ModuleOp,
    kernels: ModuleOp,
    compiled: Compiled,
    table: Target,
    *,
    name: str,
    strategy: str,
    threads: int,
    ops: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """What ``uqfc_runtime.info.parse_info`` reads.

    ``network`` has the names of inputs and outputs, ``kernels`` what was decided for layers;
    ``ops``: the quantization of each op, as ``frontend.uqr.summary`` gives it.
    """
    function = main_function(network)
    block = function.body.block
    return {
        "abi": ABI_VERSION,
        "producer": f"uqfc {__version__}",
        "name": name,
        "target": {
            "name": table.name,
            "triple": table.triple,
            "isa": table.isa,
            "cpu_features": list(table.cpu_features),
        },
        "inputs": [
            tensor_info(n, v) | stands_for(function, v)
            for n, v in zip(input_names(function), block.args, strict=True)
        ],
        "outputs": [
            tensor_info(n, v) for n, v in zip(output_names(function), returned(block), strict=True)
        ],
        "arena": {"bytes": compiled.arena_bytes, "alignment": ALIGNMENT},
        "weights_bytes": len(compiled.weights),
        "threads": threads,
        "quant_strategy": str(strategy),
        "layers": [layer_info(op) for op in kernels.walk() if isinstance(op, LaunchOp)],
        "uqr": {
            "uqr": "1.0",
            "numerics": {
                "rounding": "half_even",
                "requantize": "float32_multiplier",
                "accumulator": "int32",
            },
            "ops": list(ops),
        },
    }


def returned(block: Any) -> list[SSAValue]:
    last = block.last_op
    return list(last.operands) if isinstance(last, Operation) else []


def tensor_info(name: str, value: SSAValue) -> dict[str, Any]:
    kind = as_tensor(value.type)
    dtype = numpy_dtype(kind.get_element_type())
    return {"name": name, "dtype": str(dtype), "shape": list(kind.get_shape())}


def stands_for(function: FuncOp, argument: BlockArgument) -> dict[str, Any]:
    """What the bytes of an input mean that the model has as float32; empty for other inputs."""
    scale, zero_point = stands_for_bytes(function, argument.index)
    return {"scale": scale, "zero_point": zero_point} if scale else {}


def layer_info(launch: LaunchOp) -> dict[str, Any]:
    """What was decided for one kernel."""
    op = yielded(launch.body).owner
    assert isinstance(op, Operation)
    decision = decision_of(op)
    floats = any(
        element_of(r) == f32 for o in launch.meaning if not is_cast(o) for r in o.results
    ) and not isinstance(op, IntegerLayerOp | Float8LayerOp)
    entry: dict[str, Any] = {
        "name": layer_name(launch) or layer_name(op),
        "op": op.name,
        "weight_dtype": decision.chosen if decision else None,
        "activation_dtype": "float32" if floats else activation_dtype(op),
        "kernel": launch.kernel_name,
        "chosen_by": None if launch.chosen_by is None else launch.chosen_by.data,
        "requested": decision.requested if decision else None,
        "chosen": decision.chosen if decision else None,
        "reason": str(decision.reason) if decision else None,
    }
    if decision is None and floats:
        entry |= {"requested": "float32", "chosen": "float32", "reason": str(Reason.REQUESTED)}
    return entry


def activation_dtype(op: Operation) -> str:
    """What an op that is not in float32 works on: that of a layer's input, or of the result."""
    if isinstance(op, IntegerLayerOp):
        return "uint8"
    if isinstance(op, Float8LayerOp):
        return format_of(op.x).dtype
    element = element_of(op.results[0])
    return FORMAT_OF[element].dtype if element in FORMAT_OF else str(numpy_dtype(element))


def is_cast(op: Operation) -> bool:
    casts = ("qnn.dequantize", "qnn.quantize", "qnn.float8_dequantize", "qnn.float8_quantize")
    return op.name in (*casts, "nn.constant")
