"""Walks a function once and rewrites what is quantized to integer ops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.dialects.builtin import StringAttr, f32, i32
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.traits import Pure

from uqfc.dialects import nn
from uqfc.dialects.qnn import DequantizeOp, IntegerLayerOp, QuantizeOp
from uqfc.dialects.quant import DcastOp, QcastOp, ScastOp, uniform_of
from uqfc.dialects.tensors import Array, element_of, i2, i4, i8, shape_of, ui8
from uqfc.numerics import quantize
from uqfc.passes.select_bit_width import Decision, Reason, decision_of, set_decision
from uqfc.passes.support.integer.elementwise import integer_form, moved, moved_array
from uqfc.passes.support.integer.emulation import (
    emulated,
    emulated_dequantize,
    emulated_quantize,
)
from uqfc.passes.support.integer.layers import integer_layer
from uqfc.passes.support.integer.moving import (
    ends_in_casts,
    feeds_integer_op,
    has_integer_form_here,
    is_quantized,
    only_moves,
    quantize_before_moving,
)
from uqfc.passes.support.integer.values import Affine, Quantized, unsigned
from uqfc.passes.support.integer.weights import QuantizedConstant
from uqfc.passes.support.quantizable import LAYERS, MOVEMENT, activations


class Converter:
    """One function's conversion; the maps say what each value of the input graph has become."""

    def __init__(self, function: FuncOp) -> None:
        self.block = function.body.block
        self.tensors: dict[SSAValue, Quantized] = {}
        """Quantized or dequantized activation → its integers."""
        self.constants: dict[SSAValue, QuantizedConstant] = {}
        """Quantized or dequantized constant."""
        self.dequantized: dict[SSAValue, SSAValue] = {}
        """The same as float32, made where a float op needs it."""

    def run(self) -> None:
        for op in list(self.block.ops):
            if isinstance(op, QcastOp):
                quantize_before_moving(op)
        for op in list(self.block.ops):
            match op:
                case QcastOp():
                    self.qcast(op)
                case DcastOp():
                    self.dcast(op)
                case ScastOp():
                    self.scast(op)
                case _ if isinstance(op, MOVEMENT) and is_quantized(op.results[0]):
                    self.move(op)
                case _:
                    self.float_op(op)
        for op in reversed(list(self.block.ops)):
            unused = not any(r.first_use for r in op.results)
            if op.results and unused and op.has_trait(Pure):
                Rewriter.erase_op(op)

    # --- casts ---------------------------------------------------------------------------------

    def qcast(self, op: QcastOp) -> None:
        params = uniform_of(op.result)
        owner = op.x.owner
        if isinstance(owner, nn.ConstantOp):
            scale, zero = params.broadcast(shape_of(op.x))
            q = quantize(np.asarray(owner.array), scale, zero, params.qmin, params.qmax)
            self.constants[op.result] = QuantizedConstant(q, params)
            return
        target = unsigned(params)
        if target is None:
            return
        source = self.tensors.get(op.x)
        if source is not None and source.affine.is_kept_by(target):
            self.tensors[op.result] = source
            return
        if isinstance(owner, Operation) and self.is_deferred(owner):
            ops = self.integer_ops(owner, target)
            if ops is not None:
                self.insert(ops, op, owner)
                self.tensors[op.result] = Quantized(ops[-1].results[0], target)
                return
            self.settle(owner)
        made = QuantizeOp(
            self.as_float(op.x), target.scale, target.zero_point, target.qmin, target.qmax
        )
        self.insert([made], op, op)
        self.tensors[op.result] = Quantized(made.result, target)

    def dcast(self, op: DcastOp) -> None:
        if op.x in self.constants:
            self.constants[op.result] = self.constants[op.x]
        elif op.x in self.tensors:
            self.tensors[op.result] = self.tensors[op.x]
        elif isinstance(op.x.owner, QcastOp):
            source = self.as_float(op.x.owner.x)
            ops = emulated(source, uniform_of(op.x))
            self.insert(ops, op, op)
            self.dequantized[op.result] = ops[-1].results[0]
        elif isinstance(op.x.owner, ScastOp):
            ops = emulated_dequantize(op.x.owner.x, uniform_of(op.x))
            self.insert(ops, op, op)
            self.dequantized[op.result] = ops[-1].results[0]

    def scast(self, op: ScastOp) -> None:
        if is_quantized(op.result):
            self.from_storage(op)
            return
        source = self.tensors.get(op.x)
        if source is not None:
            stored = self.shifted(source.value, -128, element_of(op.result), op)
            op.result.replace_all_uses_with(stored)
        elif isinstance(op.x.owner, QcastOp):
            real = self.as_float(op.x.owner.x)
            ops = emulated_quantize(real, uniform_of(op.x), element_of(op.result))
            self.insert(ops, op, op)
            op.result.replace_all_uses_with(ops[-1].results[0])

    def from_storage(self, op: ScastOp) -> None:
        params = uniform_of(op.result)
        if isinstance(op.x.owner, nn.ConstantOp):
            array = op.x.owner.array.astype(np.int32)
            self.constants[op.result] = QuantizedConstant(array, params)
            return
        affine = unsigned(params)
        if affine is not None:
            self.tensors[op.result] = Quantized(self.shifted(op.x, 128, ui8, op), affine)

    def move(self, op: Operation) -> None:
        """Movement of quantized elements, which is movement of their integers."""
        source = op.operands[0]
        if source in self.constants:
            constant = self.constants[source]
            self.constants[op.results[0]] = QuantizedConstant(
                moved_array(op, constant.array), uniform_of(op.results[0])
            )
        elif source in self.tensors:
            x = self.tensors[source]
            ops = moved(op, x, x.affine)
            self.insert(ops, op, op)
            self.tensors[op.results[0]] = Quantized(ops[-1].results[0], x.affine)

    def shifted(self, x: SSAValue, offset: int, target: Attribute, at: Operation) -> SSAValue:
        """``x`` between ui8 and its storage type: signed storage differs by 128."""
        if element_of(x) == target:
            return x
        if not {element_of(x), target} & {i8, i4, i2}:
            made = nn.CastOp(x, target)
            self.insert([made], at, at)
            return made.result
        wide = nn.CastOp(x, i32)
        sum_ = nn.AddOp(wide, constant := nn.ConstantOp(np.array(offset, np.int32)))
        narrow = nn.CastOp(sum_, target)
        self.insert([wide, constant, sum_, narrow], at, at)
        return narrow.result

    # --- float ops -----------------------------------------------------------------------------

    def is_deferred(self, op: Operation) -> bool:
        """An op with an integer form whose every result goes into a cast: that cast decides."""
        if not has_integer_form_here(op) or not self.operands_are_quantized(op):
            return False
        users = [use.operation for use in op.results[0].uses]
        return bool(users) and all(
            isinstance(u, QcastOp) and unsigned(uniform_of(u.result)) is not None for u in users
        )

    def float_op(self, op: Operation) -> None:
        if self.is_deferred(op):
            return
        if self.moves_on(op):
            self.move(op)
            return
        if isinstance(op, LAYERS) and self.operands_are_quantized(op):
            ops = self.integer_ops(op, None)
            if ops is not None:
                self.insert(ops, op, op)
                op.results[0].replace_all_uses_with(ops[-1].results[0])
                return
        self.settle(op)

    def moves_on(self, op: Operation) -> bool:
        """Movement of integers to casts, or to ops that may take integers."""
        if not isinstance(op, MOVEMENT) or op.operands[0] not in self.tensors:
            return False
        return ends_in_casts(op) or (only_moves(op) and feeds_integer_op(op))

    def settle(self, op: Operation) -> None:
        """Leave ``op`` in float32: give it float32 operands."""
        if isinstance(op, LAYERS):
            set_decision(op, self.float_decision(op))
        for index, value in enumerate(op.operands):
            op.operands[index] = self.as_float(value)

    def float_decision(self, layer: nn.Layer) -> Decision:
        """Why a layer stays in float32; its operands must be those of the input graph."""
        before, weights = decision_of(layer), self.constants.get(layer.weight)
        if before is None and weights is not None:
            before = given(weights)
        if before is None or before.requested == "float32":
            return Decision("float32", "float32", Reason.REQUESTED)
        if before.chosen == "float32":
            return before
        quantized = self.operands_are_quantized(layer)
        reason = Reason.WOULD_SATURATE if quantized else Reason.NO_KERNEL
        return Decision(before.requested, "float32", reason)

    def as_float(self, value: SSAValue) -> SSAValue:
        """The float32 form of a value, made where its integers are if there is none yet."""
        if value in self.dequantized:
            return self.dequantized[value]
        if element_of(value) != f32:
            return value
        if value in self.constants:
            made: Operation = nn.ConstantOp(self.constants[value].real)
            Rewriter.insert_op(made, InsertPoint.at_start(self.block))
        elif value in self.tensors:
            source = self.tensors[value]
            made = DequantizeOp(source.value, source.affine.scale, source.affine.zero_point)
            owner = source.value.owner
            Rewriter.insert_op(
                made,
                InsertPoint.after(owner)
                if isinstance(owner, Operation)
                else InsertPoint.at_start(owner),
            )
        else:
            return value
        self.dequantized[value] = made.results[0]
        return made.results[0]

    # --- integer ops ---------------------------------------------------------------------------

    def operands_are_quantized(self, op: Operation) -> bool:
        if not all(v in self.tensors for v in activations(op)):
            return False
        if not isinstance(op, LAYERS):
            return True
        weights = self.constants.get(op.weight)
        return weights is not None and weights.is_per_channel and self.has_constant_bias(op)

    def has_constant_bias(self, layer: nn.Layer) -> bool:
        bias = layer.bias
        return bias is None or bias in self.constants or isinstance(bias.owner, nn.ConstantOp)

    def bias_of(self, layer: nn.Layer) -> Array | None:
        if layer.bias is None:
            return None
        if layer.bias in self.constants:
            return self.constants[layer.bias].real
        owner = layer.bias.owner
        return owner.array if isinstance(owner, nn.ConstantOp) else None

    def integer_ops(self, op: Operation, target: Affine | None) -> list[Operation] | None:
        inputs = [self.tensors[v] for v in activations(op)]
        if isinstance(op, LAYERS):
            weights = self.constants[op.weight]
            residual = inputs[1] if len(inputs) > 1 else None
            return integer_layer(op, inputs[0], weights, self.bias_of(op), residual, target)
        return None if target is None else integer_form(op, inputs, target)

    def insert(self, ops: Sequence[Operation], at: Operation, source: Operation) -> None:
        """Insert before ``at``; the layer name and decision of ``source`` go to each op."""
        name = source.attributes.get("layer")
        for op in ops:
            if isinstance(name, StringAttr) and not isinstance(op, nn.ConstantOp):
                op.attributes["layer"] = name
            if isinstance(op, IntegerLayerOp):
                set_decision(op, self.decision(source))
        Rewriter.insert_op(list(ops), InsertPoint.before(at))

    def decision(self, source: Operation) -> Decision:
        """The layer's own, or that of a model that came quantized."""
        return decision_of(source) or given(self.constants[source.operands[1]])


def given(weights: QuantizedConstant) -> Decision:
    """The decision of a model that came quantized."""
    return Decision(weights.dtype, weights.dtype, Reason.REQUESTED)
