"""Makes ``nn`` ops for the converters, and computes instead where all operands are known.

Folding here is what evaluates a model's shape arithmetic. It computes exactly what the ops mean:
NumPy for moves, integers and single IEEE operations, ``uqfc.elementary`` for the functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import f32, i1, i32
from xdsl.ir import Attribute, Block, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.nn.base import TensorOp
from uqfc.dialects.nn.movement import concat_shape
from uqfc.dialects.quant import STORAGE_ELEMENTS, DcastOp, ScastOp, UniformType
from uqfc.dialects.tensors import Array, Shape, broadcast_shapes, element_of, numpy_dtype, shape_of
from uqfc.elementary import UNARY, evaluate, evaluate_pow
from uqfc.frontend.moves import moved
from uqfc.frontend.values import (
    Constant,
    Quantized,
    UnsupportedUseError,
    Value,
    check_folded,
    check_size,
    dims,
    kind,
    known,
)


def truncating_divide(a: Array, b: Array) -> Array:
    """``nn.div``: IEEE for floats; for integers towards zero, and x / 0 = 0."""
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    safe = np.where(b == 0, 1, b)
    floor = a // safe
    towards_zero = floor + ((floor * safe != a) & ((a < 0) != (safe < 0)))
    return np.where(b == 0, 0, towards_zero).astype(a.dtype)


BINARY: dict[type[nn.BinaryOp], Callable[[Array, Array], Array]] = {
    nn.AddOp: np.add,
    nn.SubOp: np.subtract,
    nn.MulOp: np.multiply,
    nn.DivOp: truncating_divide,
    nn.MaximumOp: lambda a, b: np.where(b > a, b, a),
    nn.MinimumOp: lambda a, b: np.where(b < a, b, a),
    nn.PowOp: evaluate_pow,
}
COMPARE: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
REDUCE: dict[str, Callable[..., Any]] = {
    "sum": np.sum,
    "prod": np.prod,
    "max": np.max,
    "min": np.min,
}


class Builder:
    """Appends ops to ``block``; ``layer`` is the name given to them."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.layer = ""
        self._materialised: dict[Constant | Quantized, SSAValue] = {}

    # --- emission ---------------------------------------------------------------------------

    def emit(self, op: TensorOp) -> SSAValue:
        """Append ``op``, named and checked: VerifyException or ModelError if it does not fit."""
        if op.infer_type() != op.result.type:
            op.verify_()
        self._check(shape_of(op.result), element_of(op.result))
        if self.layer:
            nn.with_layer(op, self.layer)
        self.block.add_op(op)
        return op.result

    def _check(self, shape: Shape, element: Attribute) -> None:
        check_size(shape, element, "the result")
        if 0 in shape:
            raise UnsupportedUseError(f"the result of shape {list(shape)} is empty")

    def ssa(self, value: Value) -> SSAValue:
        """The run-time value; a constant becomes an op, once."""
        if isinstance(value, SSAValue):
            return value
        if value not in self._materialised:
            self._materialised[value] = self._materialise(value)
        return self._materialised[value]

    def _materialise(self, value: Constant | Quantized) -> SSAValue:
        layer = self.layer
        if isinstance(value, Constant):
            self.layer = ""
            result = self.emit(nn.ConstantOp(value.array, value.element))
        else:
            self.layer = value.layer
            raw = self.emit(nn.ConstantOp(value.array, value.storage))
            result = self.emit(DcastOp(self.emit(ScastOp(raw, UniformType(value.params)))))
        self.layer = layer
        return result

    def stored(self, value: SSAValue) -> SSAValue:
        """The integers of a value of quantized elements; any other value as it is."""
        element = element_of(value)
        if not isinstance(element, UniformType):
            return value
        storage = STORAGE_ELEMENTS.get(element.data.storage, i32)
        owner = value.owner
        if isinstance(owner, ScastOp) and element_of(owner.x) == storage:
            return owner.x
        return self.emit(ScastOp(value, storage))

    # --- arithmetic -------------------------------------------------------------------------

    def unary(self, name: str, x: Value, *params: float) -> Value:
        """``nn.unary`` of a function in ``uqfc.elementary``."""
        if name not in UNARY:
            raise UnsupportedUseError(f"there is no elementary function '{name}'")
        if kind(x) != f32:
            raise UnsupportedUseError(f"takes float32, got {kind(x)}")
        if isinstance(x, Constant):
            return Constant(evaluate(name, x.array, params), f32)
        return self.emit(nn.UnaryOp(self.ssa(x), nn.fn(name, *params)))

    def binary(self, op: type[nn.BinaryOp], x: Value, y: Value) -> Value:
        """``op`` of two values of one element type that broadcast."""
        fold = BINARY[op]
        if isinstance(x, Constant) and isinstance(y, Constant):
            shape = broadcast_shapes(dims(x), dims(y))
            check_folded(shape, x.element)
            with np.errstate(all="ignore"):
                return Constant(np.asarray(fold(x.array, y.array), x.array.dtype), x.element)
        return self.emit(op(self.ssa(x), self.ssa(y)))

    def add(self, x: Value, y: Value) -> Value:
        return self.binary(nn.AddOp, x, y)

    def sub(self, x: Value, y: Value) -> Value:
        return self.binary(nn.SubOp, x, y)

    def mul(self, x: Value, y: Value) -> Value:
        return self.binary(nn.MulOp, x, y)

    def div(self, x: Value, y: Value) -> Value:
        return self.binary(nn.DivOp, x, y)

    def compare(self, predicate: str, x: Value, y: Value) -> Value:
        """Elementwise comparison as i1."""
        if isinstance(x, Constant) and isinstance(y, Constant):
            check_folded(broadcast_shapes(dims(x), dims(y)), i1)
            return Constant(np.asarray(COMPARE[predicate](x.array, y.array)), i1)
        return self.emit(nn.CompareOp(self.ssa(x), self.ssa(y), predicate))

    def select(self, condition: Value, then: Value, other: Value) -> Value:
        """``then`` where ``condition`` (i1), else ``other``; all broadcast."""
        if (
            isinstance(condition, Constant)
            and isinstance(then, Constant)
            and isinstance(other, Constant)
        ):
            shape = broadcast_shapes(dims(condition), dims(then), dims(other))
            check_folded(shape, then.element)
            chosen = np.where(condition.array, then.array, other.array)
            return Constant(np.asarray(chosen), then.element)
        return self.emit(nn.SelectOp(self.ssa(condition), self.ssa(then), self.ssa(other)))

    def cast(self, x: Value, element: Attribute) -> Value:
        """Conversion as ``nn.cast`` does it, but to i1 whatever is not zero is true."""
        if kind(x) == element:
            return x
        if element == i1:
            return self.compare("ne", x, self.zero_like(x))
        if isinstance(x, Constant):
            return Constant(cast_array(x.array, numpy_dtype(element)), element)
        return self.emit(nn.CastOp(self.ssa(x), element))

    def zero_like(self, x: Value) -> Constant:
        """A rank-0 zero of the element type of ``x``."""
        return Constant(np.zeros((), numpy_dtype(kind(x))), kind(x))

    def reduce(self, reduction: str, x: Value, axes: Sequence[int]) -> Value:
        """``nn.reduce``: the axes stay with size 1."""
        if not axes:
            return x
        if 0 in dims(x):
            raise UnsupportedUseError("the reduction of an empty tensor")
        exact = reduction in ("max", "min") or kind(x) != f32
        if isinstance(x, Constant) and exact and reduction in REDUCE:
            result = REDUCE[reduction](x.array, axis=tuple(axes), keepdims=True)
            return Constant(np.asarray(result, x.array.dtype), x.element)
        if reduction == "mean" and kind(x) != f32:
            raise UnsupportedUseError(f"the mean takes float32, got {kind(x)}")
        return self.emit(nn.ReduceOp(self.ssa(x), reduction, axes))

    # --- moves ------------------------------------------------------------------------------

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        if tuple(shape) == dims(x):
            return x
        folded = moved(x, lambda a: a.reshape(tuple(shape)), None)
        return folded or self.emit(nn.ReshapeOp(self.ssa(x), shape))

    def transpose(self, x: Value, permutation: Sequence[int]) -> Value:
        if list(permutation) == list(range(len(dims(x)))):
            return x
        folded = moved(x, lambda a: a.transpose(tuple(permutation)), list(permutation).index)
        return folded or self.emit(nn.TransposeOp(self.ssa(x), permutation))

    def slice(
        self, x: Value, starts: Sequence[int], shape: Sequence[int], steps: Sequence[int]
    ) -> Value:
        """``result[i] = x[starts + i * steps]``; nothing of a run-time value is a constant."""
        if tuple(shape) == dims(x) and all(s == 1 for s in steps):
            return x
        if isinstance(x, Constant):
            grid = [
                start + step * np.arange(size)
                for start, step, size in zip(starts, steps, shape, strict=True)
            ]
            return Constant(x.array[np.ix_(*grid)] if grid else x.array, x.element)
        if 0 in shape:
            return Constant(np.zeros(tuple(shape), numpy_dtype(kind(x))), kind(x))
        return self.emit(nn.SliceOp(self.ssa(x), starts, shape, steps))

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values without elements are left out, as nothing is concatenated from them."""
        parts = [v for v in values if 0 not in dims(v)] or [values[0]]
        if len(parts) == 1:
            return parts[0]
        arrays = [v.array for v in parts if isinstance(v, Constant)]
        if len(arrays) == len(parts):
            check_folded(concat_shape([dims(v) for v in parts], axis), kind(parts[0]))
            return Constant(np.concatenate(arrays, axis), kind(parts[0]))
        return self.emit(nn.ConcatOp([self.ssa(v) for v in parts], axis))

    def broadcast(self, x: Value, shape: Sequence[int]) -> Value:
        """NumPy's ``broadcast_to``."""
        if tuple(shape) == dims(x):
            return x
        if isinstance(x, Constant):
            check_folded(tuple(shape), x.element)
            return Constant(np.broadcast_to(x.array, tuple(shape)), x.element)
        return self.emit(nn.BroadcastOp(self.ssa(x), shape))

    def gather(self, x: Value, indices: Value, axis: int) -> Value:
        """``take(x, indices, axis)`` for indices >= 0, or any sign where not constant."""
        picks = known(indices)
        if isinstance(x, Constant) and picks is not None:
            shape = (*dims(x)[:axis], *picks.shape, *dims(x)[axis + 1 :])
            check_folded(shape, x.element)
            return Constant(np.asarray(x.array.take(picks, axis=axis)), x.element)
        return self.emit(nn.GatherOp(self.ssa(x), self.ssa(indices), axis))

    def pad(
        self,
        x: Value,
        low: Sequence[int],
        high: Sequence[int],
        value: float = 0.0,
        mode: str = "constant",
    ) -> Value:
        """Adds elements around ``x``; see ``nn.pad``."""
        if not any((*low, *high)):
            return x
        if isinstance(x, Constant) and mode == "constant":
            shape = tuple(n + a + b for n, a, b in zip(dims(x), low, high, strict=True))
            check_folded(shape, x.element)
            widths = list(zip(low, high, strict=True))
            return Constant(np.pad(x.array, widths, constant_values=value), x.element)
        return self.emit(nn.PadOp(self.ssa(x), low, high, value, mode))


def cast_array(x: Array, dtype: np.dtype[Any]) -> Array:
    """``nn.cast``: float to int truncates and saturates, NaN gives 0; integers wrap."""
    if x.dtype.kind != "f" or dtype.kind not in "iu":
        return x.astype(dtype)
    info = np.iinfo(dtype)
    wide = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    low, high = wide <= float(info.min), wide >= float(info.max)
    inside = np.where(low | high, 0.0, wide).astype(dtype)
    return np.where(low, info.min, np.where(high, info.max, inside)).astype(dtype)
