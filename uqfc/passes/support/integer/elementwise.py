"""Integer form of everything but layers: add, mul, pooling, lookup tables, movement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import Operation, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.nn.reductions import PoolWindow
from uqfc.dialects.qnn import LookupOp, QAddOp, QAvgPool2dOp, QBinaryOp, QMulOp
from uqfc.dialects.tensors import int_tuple, real, shape_of, tensor_type, ui8
from uqfc.elementary import UNARY
from uqfc.numerics import F64, I32, Activation, lookup_table, multiplier
from uqfc.passes.support.integer.values import Affine, Quantized, are_usable
from uqfc.passes.support.quantizable import MOVEMENT
from uqfc.passes.support.rewriting import rebuilt

Ops = list[Operation]


def integer_form(op: Operation, inputs: Sequence[Quantized], target: Affine) -> Ops | None:
    """The ops that compute ``op`` on integers, the result last; None if there is no such form."""
    match op:
        case nn.AddOp() | nn.SubOp() | nn.MulOp():
            return binary(op, inputs[0], inputs[1], target)
        case nn.UnaryOp():
            return list(table(inputs[0], target, op.fn.data))
        case nn.AvgPool2dOp():
            return average(op, inputs[0], target)
        case nn.ReduceOp():
            return spatial_mean(op, inputs[0], target)
        case nn.ConcatOp():
            return concatenation(op, inputs, target)
        case _:
            return moved(op, inputs[0], target) if isinstance(op, MOVEMENT) else None


def binary(
    op: nn.AddOp | nn.SubOp | nn.MulOp, lhs: Quantized, rhs: Quantized, target: Affine
) -> Ops | None:
    activation = None if isinstance(op, nn.SubOp) else op.activation
    bounds = None if activation is None else activation.data.bounds
    limited = target if bounds is None else target.clamped(*bounds)
    zero_points = (lhs.affine.zero_point, rhs.affine.zero_point, limited.zero_point)
    limits = (limited.qmin, limited.qmax)
    left, right = lhs.affine.scale, rhs.affine.scale
    if isinstance(op, nn.MulOp):
        factors = {"multiplier": float(multiplier(left, right, over=target.scale))}
        kind: type[QBinaryOp] = QMulOp
    else:
        sign = -1.0 if isinstance(op, nn.SubOp) else 1.0
        factors = {
            "lhs_multiplier": float(multiplier(left, over=target.scale)),
            "rhs_multiplier": sign * float(multiplier(right, over=target.scale)),
        }
        kind = QAddOp
    if not are_usable(*factors.values()):
        return None
    return [kind(lhs.value, rhs.value, zero_points, limits, factors)]


def table(x: Quantized, target: Affine, function: Activation | None) -> tuple[Operation, Operation]:
    """A 256-entry table of ``function`` (None: only the change of parameters)."""

    def apply(v: F64) -> F64:
        if function is None:
            return v
        # Parameters are float32 wherever they are used.
        return UNARY[function.name].f64(v, *(float(np.float32(p)) for p in function.params))

    a, b = x.affine, target
    entries = lookup_table(apply, a.scale, a.zero_point, b.scale, b.zero_point, b.qmin, b.qmax)
    constant = nn.ConstantOp(entries)
    return constant, LookupOp(x.value, constant)


def average(op: nn.AvgPool2dOp, x: Quantized, target: Affine) -> Ops | None:
    window = tuple(int_tuple(a) for a in (op.kernel, op.strides, op.padding, op.dilations))
    kernel, strides, padding, dilations = window
    size = kernel[0] * kernel[1]
    one_count = op.count_include_pad.value.data or not any(padding)
    counts = np.array([size] if one_count else np.arange(1, size + 1), np.float64)
    return pooled(x, target, (kernel, strides, padding, dilations), counts)


def spatial_mean(op: nn.ReduceOp, x: Quantized, target: Affine) -> Ops | None:
    _, height, width, _ = shape_of(op.x)
    window = ((height, width), (1, 1), (0, 0, 0, 0), (1, 1))
    return pooled(x, target, window, np.array([height * width], np.float64))


def pooled(x: Quantized, target: Affine, window: PoolWindow, counts: F64) -> Ops | None:
    """The mean over a window; ``counts`` are the divisors."""
    multipliers = multiplier(x.affine.scale, 1.0 / counts, over=target.scale)
    if not are_usable(multipliers):
        return None
    factors = nn.ConstantOp(multipliers)
    pool = QAvgPool2dOp(
        x.value,
        factors,
        window,
        x_zero_point=x.affine.zero_point,
        zero_point=target.zero_point,
        qmin=target.qmin,
        qmax=target.qmax,
    )
    return [factors, pool]


def concatenation(op: nn.ConcatOp, inputs: Sequence[Quantized], target: Affine) -> Ops:
    """Inputs with other parameters than the result's go through a table first."""
    ops: Ops = []
    values: list[SSAValue] = []
    for x in inputs:
        if x.affine == target:
            values.append(x.value)
            continue
        ops += table(x, target, None)
        values.append(ops[-1].results[0])
    return [*ops, nn.ConcatOp(values, op.axis.value.data)]


def moved(op: Operation, x: Quantized, target: Affine) -> Ops:
    """The same movement of ui8; then a table if the result has other parameters."""
    zero = real(float(x.affine.zero_point))
    changed = {"value": zero} if isinstance(op, nn.PadOp) else {}
    kind = tensor_type(shape_of(op.results[0]), ui8)
    ops: Ops = [rebuilt(op, [x.value, *op.operands[1:]], kind, changed)]
    if x.affine != target:
        ops += table(Quantized(ops[0].results[0], x.affine), target, None)
    return ops


def moved_array(op: Operation, array: I32) -> I32:
    """A constant's integers after the movement. ValueError for movement that is not folded."""
    match op:
        case nn.TransposeOp():
            return np.ascontiguousarray(array.transpose(int_tuple(op.permutation)))
        case nn.ReshapeOp():
            return array.reshape(shape_of(op.result))
        case _:
            raise ValueError(f"{op.name} of a quantized constant")
