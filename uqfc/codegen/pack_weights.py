"""``pack-weights``: constant weights in the layout that the layer's kernel reads.

The weight and zero-point operands of a launch become one constant of bytes, and its body decodes
them with ``qkernel.unpack``.

Law: exact, because ``unpack(pack(w, z)) == (w, z)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Region, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from uqfc.codegen.isa import Isa, isa_for
from uqfc.codegen.lowering.integer_layers import layer_kernel
from uqfc.codegen.lowering.registry import constant_operand, operand_index
from uqfc.dialects.nn import ConstantOp
from uqfc.dialects.qkernel import LaunchOp, UnpackOp, yielded
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.tensors import shape_of, type_of
from uqfc.targets import load_target


def pack(launch: LaunchOp, layer: IntegerLayerOp, isa: Isa) -> None:
    weight = constant_operand(launch, layer.weight)
    zeros = constant_operand(launch, layer.weight_zero_point)
    if weight is None or zeros is None:
        return
    kernel = layer_kernel(launch, layer, isa)
    packed = ConstantOp(kernel.pack(weight.astype(np.int32), zeros.astype(np.int32)))
    dropped = {operand_index(layer.weight), operand_index(layer.weight_zero_point)}
    kept = [i for i in range(len(launch.inputs)) if i not in dropped]
    inputs: list[SSAValue] = [launch.inputs[i] for i in kept]
    block = Block(arg_types=[*(type_of(v) for v in inputs), packed.result.type])
    unpack = UnpackOp(block.args[-1], kernel.packing, shape_of(layer.weight))
    mapping: dict[SSAValue, SSAValue] = {
        launch.block.args[old]: block.args[new] for new, old in enumerate(kept)
    }
    mapping[layer.weight], mapping[layer.weight_zero_point] = unpack.weight, unpack.zero_point
    block.add_op(unpack)
    block.add_ops([op.clone(value_mapper=mapping) for op in launch.block.ops])
    replacement = LaunchOp([*inputs, packed], Region(block))
    replacement.attributes.update(launch.attributes)
    replacement.copy_selection(launch)
    Rewriter.insert_op(packed, InsertPoint.before(launch))
    Rewriter.replace_op(launch, replacement)


@dataclass(frozen=True)
class PackWeightsPass(ModulePass):
    """``target``: a name or the path of a table."""

    name = "pack-weights"
    target: str = "host"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        isa = isa_for(load_target(self.target))
        for launch in [o for o in op.walk() if isinstance(o, LaunchOp)]:
            layer = yielded(launch.body).owner
            if isinstance(layer, IntegerLayerOp) and not isinstance(layer.weight.owner, UnpackOp):
                pack(launch, layer, isa)
        for constant in [o for o in op.walk() if isinstance(o, ConstantOp)]:
            if constant.result.first_use is None:
                Rewriter.erase_op(constant)
