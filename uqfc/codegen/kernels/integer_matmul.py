"""``qnn.matmul``: u8 x u8 with zero points to int32, both operands known at run time only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.batching import batch_walk, each_product
from uqfc.codegen.kernels.geometry import Walk
from uqfc.codegen.kernels.tensor import Shape, TensorKernel, smaller
from uqfc.codegen.vector import LANES, Pointer, Value

ROWS = 4


@dataclass(frozen=True)
class IntegerMatmulKernel(TensorKernel):
    """``sum((lhs - lhs_zero_point) * (rhs - rhs_zero_point))``, [..., M, K] x [..., K, N].

    The sum must fit int32, which K < 2**15 ensures. Nothing is read past the end of an input.
    """

    isa: Isa
    lhs: Shape
    rhs: Shape
    lhs_zero_point: int
    rhs_zero_point: int

    @cached_property
    def _batch(self) -> Walk:
        return batch_walk(self.lhs, self.rhs)

    @property
    def name(self) -> str:
        return f"u8_matmul_i32__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(a, w, out, m, k, n, za, zw)`` for one product; rows are dense."""
        if function := find_function(module, self.name):
            return function
        parameters = {"a": "ptr", "w": "ptr", "out": "noalias"}
        parameters |= {"m": "i64", "k": "i64", "n": "i64", "za": "i32", "zw": "i32"}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        n = b.value("n")
        with b.loop(0, b.value("m"), ROWS) as row, b.loop(0, n, LANES) as column:
            rest = n - column
            with b.if_else(rest.ge(LANES)) as (whole, part):
                with whole:
                    _tile(b, row, column, None)
                with part:
                    _tile(b, row, column, rest)
        return b.ret()

    def call(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None = None,
    ) -> None:
        function = self.emit(b.module)
        (m, k), n = self.lhs[-2:], self.rhs[-1]
        places = (inputs[0], inputs[1], out)
        with each_product(b, self._batch, places, (1, 1, 4)) as matrices:
            zero_points = (self.lhs_zero_point, self.rhs_zero_point)
            b.call(function, *matrices, m, k, n, *zero_points)


def _tile(b: Builder, row: Value, column: Value, rest: Value | None) -> None:
    """Some rows by 16 columns (the first ``rest`` of them if it is not None)."""
    k, n, last = b.value("k"), b.value("n"), b.value("m") - 1
    rows = [b.pointer("a") + smaller(row + r, last) * k for r in range(ROWS)]
    w = b.pointer("w") + column
    state = [b.i32(0, LANES)] * ROWS
    with b.loop(0, k, carry=state) as i:
        line = w + i * n
        bytes_ = line.load("i8") if rest is None else line.load_first("i8", rest)
        right = bytes_.zext("i32") - b.value("zw")
        for r, pointer in enumerate(rows):
            left = pointer.load("i8", i, 0).zext("i32") - b.value("za")
            state[r] = state[r] + right * left
    for r, total in enumerate(state):
        with b.when((row + r).le(last)):
            target = b.pointer("out") + ((row + r) * n + column) * 4
            if rest is None:
                target.store(total)
            else:
                target.store_first(total, rest)
