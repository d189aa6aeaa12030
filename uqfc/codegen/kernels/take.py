"""``nn.gather`` and ``nn.interpolate``: elements picked by index tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.copying import copy_bytes
from uqfc.codegen.kernels.tensor import (
    DTYPE_BYTES,
    Argument,
    Dtype,
    FunctionKernel,
    Shape,
    larger,
    nest,
    product,
    smaller,
    whole_vectors,
)
from uqfc.codegen.vector import LANES, Pointer, Value


@dataclass(frozen=True)
class GatherKernel(FunctionKernel):
    """``take(x, indices, axis)``; indices count from the end if negative, then are clamped.

    Inputs: x of ``shape``, indices of ``index_dtype`` and any shape of ``index_count`` elements.
    """

    isa: Isa
    dtype: Dtype
    shape: Shape
    axis: int
    index_dtype: Literal["i32", "i64"]
    index_count: int

    @property
    def name(self) -> str:
        return f"gather_{self.index_dtype}__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(x, indices, out, outer, size, count, inner)``; ``inner`` in bytes."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "indices": "ptr", "out": "noalias"}
        parameters |= {"outer": "i64", "size": "i64", "count": "i64", "inner": "i64"}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        size, count, inner = b.value("size"), b.value("count"), b.value("inner")
        width = DTYPE_BYTES[self.index_dtype]
        with nest(b, [b.value("outer"), count]) as (block, i):
            raw = b.pointer("indices").load(self.index_dtype, i * width, 0)
            index = raw.sext("i64") if self.index_dtype == "i32" else raw
            index = b.select(index.lt(0), index + size, index)
            index = larger(smaller(index, size - 1), 0)
            source = b.pointer("x") + (block * size + index) * inner
            copy_bytes(b, source, b.pointer("out") + (block * count + i) * inner, inner)
        return b.ret()

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        outer = product(self.shape[: self.axis])
        inner = product(self.shape[self.axis + 1 :]) * DTYPE_BYTES[self.dtype]
        size = self.shape[self.axis]
        return [inputs[0], inputs[1], out, outer, size, self.index_count, inner]


@dataclass(frozen=True)
class InterpolateKernel(FunctionKernel):
    """``y[i] = sum_t x[indices[i, t]] * weights[i, t]`` along ``axis``, summed in order of t.

    Inputs: x f32 of ``shape``, indices i64 [count, taps] (all valid), weights f32 [count, taps].
    """

    isa: Isa
    shape: Shape
    axis: int
    count: int
    taps: int

    def __post_init__(self) -> None:
        if self.taps < 1:
            raise ValueError("an interpolation needs a tap")

    @property
    def name(self) -> str:
        return f"f32_interpolate__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(x, indices, weights, out, outer, size, count, inner, taps)``."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "indices": "ptr", "weights": "ptr", "out": "noalias"}
        parameters |= dict.fromkeys(("outer", "size", "count", "inner", "taps"), "i64")
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        size, count, inner = b.value("size"), b.value("count"), b.value("inner")
        with nest(b, [b.value("outer"), count]) as (block, i):
            plane = b.pointer("x") + block * size * inner * 4
            line = b.pointer("out") + (block * count + i) * inner * 4
            full = whole_vectors(inner)
            with b.loop(0, full, LANES) as j:
                line.store(self._sum(b, plane, i, j, None), j * 4)
            rest = inner - full
            with b.when(rest.ne(0)):
                line.store_first(self._sum(b, plane, i, full, rest), rest, full * 4)
        return b.ret()

    def _sum(
        self, b: Builder, plane: Pointer, i: Value, position: Value, rest: Value | None
    ) -> Value:
        taps = b.value("taps")

        def term(t: Value | int) -> Value:
            at = i * taps + t
            index = b.pointer("indices").load("i64", at * 8, 0)
            weight = b.pointer("weights").load("f32", at * 4, 0)
            offset = (index * b.value("inner") + position) * 4
            if rest is None:
                return plane.load_f32(offset) * weight
            return plane.load_first("f32", rest, offset) * weight

        state = [term(0)]
        with b.loop(1, taps, carry=state) as t:
            state[0] = state[0] + term(t)
        return state[0]

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        outer, inner = product(self.shape[: self.axis]), product(self.shape[self.axis + 1 :])
        size = self.shape[self.axis]
        return [*inputs[:3], out, outer, size, self.count, inner, self.taps]
