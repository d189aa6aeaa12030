"""``nn.reduce``: [outer, count, inner] over the middle; other axes are transposed there first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.elementwise_integers import divide, wrap
from uqfc.codegen.kernels.lanes import LaneSums, fold_vectors, load_part, store_part
from uqfc.codegen.kernels.movement import MovementKernel, transpose
from uqfc.codegen.kernels.tensor import (
    DTYPE_BYTES,
    MEMORY_ELEMENTS,
    Dtype,
    Shape,
    TensorKernel,
    product,
    to_lanes,
    to_memory,
    whole_vectors,
)
from uqfc.codegen.vector import LANES, Pointer, Value

ReduceKind: TypeAlias = Literal["sum", "mean", "max", "min", "prod"]


@dataclass(frozen=True)
class ReduceKernel(TensorKernel):
    """The reduction of ``shape`` over ``axes`` (distinct, sorted, of at least one element)."""

    isa: Isa
    dtype: Dtype
    shape: Shape
    axes: Shape
    kind: ReduceKind

    @cached_property
    def _middle(self) -> tuple[int, int, int] | None:
        """``(outer, count, inner)`` if the axes are neighbours, sizes of 1 left aside."""
        reduced = [i for i in self.axes if self.shape[i] != 1]
        if not reduced:
            return product(self.shape), 1, 1
        first, last = reduced[0], reduced[-1]
        between = [i for i in range(first, last) if i not in reduced and self.shape[i] != 1]
        if between:
            return None
        count = product(self.shape[first : last + 1])
        return product(self.shape[:first]), count, product(self.shape[last + 1 :])

    @cached_property
    def _sizes(self) -> tuple[int, int, int]:
        if self._middle:
            return self._middle
        count = product([self.shape[i] for i in self.axes])
        return product(self.shape) // count, count, 1

    @cached_property
    def _transpose(self) -> MovementKernel | None:
        if self._middle:
            return None
        kept = [i for i in range(len(self.shape)) if i not in self.axes]
        return transpose(self.isa, self.dtype, self.shape, (*kept, *self.axes))

    @property
    def scratch_bytes(self) -> int:
        """The transposed operand, if it has to be."""
        return 0 if self._middle else product(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def _strided(self) -> bool:
        return self.dtype == "f32" and self.kind in ("sum", "mean")

    @property
    def name(self) -> str:
        where = "last" if self._sizes[2] == 1 else "middle"
        return f"{self.dtype}_{self.kind}_{where}__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(x, out, outer, count, inner)``."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "out": "noalias"}
        parameters |= {"outer": "i64", "count": "i64", "inner": "i64"}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        width = DTYPE_BYTES[self.dtype]
        block = b.value("count") * b.value("inner") * width
        sums = LaneSums(b) if self._strided and self._sizes[2] != 1 else None
        with b.loop(0, b.value("outer")) as i:
            x = b.pointer("x") + i * block
            out = b.pointer("out") + i * b.value("inner") * width
            if self._sizes[2] == 1:
                self._last(b, x, out)
            else:
                self._middle_axis(b, x, out, sums)
        return b.ret()

    def _last(self, b: Builder, x: Pointer, out: Pointer) -> None:
        count = b.value("count")
        if self._strided:
            total = fold_vectors(
                b,
                count,
                b.f32(0.0, LANES),
                lambda s, i, rest: s + load_part(x, i, rest),
            )
            out.store(self._finish(b.tree_sum(total)))
            return
        out.store(to_memory(self.dtype, self._fold(b, x, b.i64(0), 0)))

    def _middle_axis(self, b: Builder, x: Pointer, out: Pointer, sums: LaneSums | None) -> None:
        inner, width = b.value("inner"), DTYPE_BYTES[self.dtype]
        if sums is None:
            full = whole_vectors(inner)
            with b.loop(0, full, LANES) as i:
                out.store(to_memory(self.dtype, self._fold(b, x, i, LANES)), i * width)
            with b.loop(full, inner) as i:
                out.store(to_memory(self.dtype, self._fold(b, x, i, 0)), i * width)
            return
        with b.loop(0, inner, LANES) as i:
            rest = inner - i
            with b.if_else(rest.ge(LANES)) as (whole, part):
                with whole:
                    self._strided_column(b, x, out, sums, i, None)
                with part:
                    self._strided_column(b, x, out, sums, i, rest)

    def _strided_column(
        self, b: Builder, x: Pointer, out: Pointer, sums: LaneSums, i: Value, rest: Value | None
    ) -> None:
        sums.clear()
        with b.loop(0, b.value("count")) as r:
            sums.add(r, load_part(x, r * b.value("inner") + i, rest))
        store_part(out, self._finish(sums.total()), i, rest)

    def _fold(self, b: Builder, x: Pointer, i: Value, lanes: int) -> Value:
        """The fold of 16 columns from ``i`` on, or (``lanes`` 0) of one, in order of the rows."""
        width, element = DTYPE_BYTES[self.dtype], MEMORY_ELEMENTS[self.dtype]

        def row(r: Value | int) -> Value:
            offset = (b.value("inner") * r + i) * width
            return to_lanes(self.dtype, x.load(element, offset, lanes))

        state = [row(0)]
        with b.loop(1, b.value("count"), carry=state) as r:
            state[0] = self._step(state[0], row(r))
        return self._finish(state[0])

    def _step(self, x: Value, y: Value) -> Value:
        b = x.b
        match self.kind:
            case "max" if self.dtype == "i1":
                return x | y
            case "min" if self.dtype == "i1":
                return x & y
            case "sum" | "mean":
                return wrap(self.dtype, x + y)
            case "max":
                return b.select(y.gt(x), y, x)
            case "min":
                return b.select(y.lt(x), y, x)
            case "prod":
                return wrap(self.dtype, x * y)

    def _finish(self, total: Value) -> Value:
        if self.kind != "mean":
            return total
        b, count = total.b, total.b.value("count")
        if self.dtype == "f32":
            return total / b.to_float(count)
        divisor = count if total.element == "i64" else count.trunc("i32")
        return divide(total, divisor.splat(total.lanes) if total.lanes else divisor)

    def call(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None = None,
    ) -> None:
        source = inputs[0]
        if self._transpose:
            if scratch is None:
                raise ValueError(f"{self.name} needs scratch memory")
            self._transpose.call(b, inputs, scratch)
            source = scratch
        b.call(self.emit(b.module), source, out, *self._sizes)
