"""``nn.softmax``: ``e = exp(x - max(x)); e / strided_sum(e)`` over one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.lanes import (
    LaneSums,
    each_vector,
    fold_vectors,
    load_part,
    only_first,
    store_part,
)
from uqfc.codegen.kernels.tensor import Argument, FunctionKernel, Shape, product
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.elementary_exponential import exp

LOWEST = float("-inf")


@dataclass(frozen=True)
class SoftmaxKernel(FunctionKernel):
    """Softmax of float32 ``shape`` over ``axis``; ``out`` may be x."""

    isa: Isa
    shape: Shape
    axis: int

    @property
    def _inner(self) -> int:
        return product(self.shape[self.axis + 1 :])

    @property
    def name(self) -> str:
        where = "last" if self._inner == 1 else "middle"
        return f"f32_softmax_{where}__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(x, out, outer, count, inner)``."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "out": "ptr"}
        parameters |= {"outer": "i64", "count": "i64", "inner": "i64"}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        block = b.value("count") * b.value("inner") * 4
        sums = None if self._inner == 1 else LaneSums(b)
        with b.loop(0, b.value("outer")) as i:
            x, out = b.pointer("x") + i * block, b.pointer("out") + i * block
            if sums is None:
                _last_axis(b, x, out)
            else:
                _middle_axis(b, x, out, sums)
        return b.ret()

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        outer = product(self.shape[: self.axis])
        return [inputs[0], out, outer, self.shape[self.axis], self._inner]


def _last_axis(b: Builder, x: Pointer, out: Pointer) -> None:
    count = b.value("count")

    def greatest(state: Value, i: Value, rest: Value | None) -> Value:
        return b.maximum(state, only_first(load_part(x, i, rest), rest, LOWEST))

    lanes = fold_vectors(b, count, b.f32(LOWEST, LANES), greatest)
    width = LANES
    while width > 1:
        width //= 2
        lanes = b.maximum(lanes.shuffle(range(width)), lanes.shuffle(range(width, 2 * width)))
    top = lanes.extract(0)

    def exponentials(state: Value, i: Value, rest: Value | None) -> Value:
        e = exp(b, load_part(x, i, rest) - top)
        store_part(out, e, i, rest)
        return state + only_first(e, rest)

    total = b.tree_sum(fold_vectors(b, count, b.f32(0.0, LANES), exponentials))

    def quotients(i: Value, rest: Value | None) -> None:
        store_part(out, load_part(out, i, rest) / total, i, rest)

    each_vector(b, count, quotients)


def _middle_axis(b: Builder, x: Pointer, out: Pointer, sums: LaneSums) -> None:
    inner = b.value("inner")
    with b.loop(0, inner, LANES) as i:
        rest = inner - i
        with b.if_else(rest.ge(LANES)) as (whole, part):
            with whole:
                _columns(b, x, out, sums, i, None)
            with part:
                _columns(b, x, out, sums, i, rest)


def _columns(
    b: Builder, x: Pointer, out: Pointer, sums: LaneSums, column: Value, rest: Value | None
) -> None:
    """16 neighbouring columns, or ``rest`` of them, each with its own softmax."""
    count, inner = b.value("count"), b.value("inner")
    state = [b.f32(LOWEST, LANES)]
    with b.loop(0, count, carry=state) as r:
        state[0] = b.maximum(state[0], load_part(x, r * inner + column, rest))
    top = state[0]
    sums.clear()
    with b.loop(0, count) as r:
        e = exp(b, load_part(x, r * inner + column, rest) - top)
        store_part(out, e, r * inner + column, rest)
        sums.add(r, e)
    total = sums.total()
    with b.loop(0, count) as r:
        at = r * inner + column
        store_part(out, load_part(out, at, rest) / total, at, rest)
