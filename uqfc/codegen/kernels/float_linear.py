"""``nn.linear`` and ``nn.matmul`` in float32. Nothing is read past the end of an input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.batching import batch_walk, each_product
from uqfc.codegen.kernels.copying import CopyKernel
from uqfc.codegen.kernels.float_product import FloatEpilogue, FloatProduct
from uqfc.codegen.kernels.tensor import (
    Argument,
    FunctionKernel,
    Shape,
    TensorKernel,
    product,
)
from uqfc.codegen.vector import Pointer


def next_inputs(epilogue: FloatEpilogue, inputs: Sequence[Pointer]) -> tuple[Pointer, Pointer]:
    """Bias and residual among ``[x, w, bias?, residual?]``; x stands for what is not there."""
    bias = inputs[2] if epilogue.bias else inputs[0]
    residual = inputs[2 + epilogue.bias] if epilogue.residual else inputs[0]
    return bias, residual


@dataclass(frozen=True)
class LinearKernel(FunctionKernel):
    """Inputs: x [rows, k], w [n, k], then bias [n] and residual [rows, n] if there are.

    ``out`` may be the residual.
    """

    isa: Isa
    rows: int
    k: int
    n: int
    epilogue: FloatEpilogue = field(default_factory=FloatEpilogue)

    @cached_property
    def _product(self) -> FloatProduct:
        return FloatProduct.of(self.isa, self.rows, self.epilogue)

    @property
    def name(self) -> str:
        return self._product.name

    def emit(self, module: Any) -> Any:
        return self._product.emit(module)

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        bias, residual = next_inputs(self.epilogue, inputs)
        pitch = self.n * 4
        sizes = (self.rows, self.n, self.k)
        return [inputs[0], self.k * 4, inputs[1], bias, residual, pitch, out, pitch, *sizes]


@dataclass(frozen=True)
class MatmulKernel(TensorKernel):
    """[..., M, K] x [..., K, N] with broadcast leading axes: the right side is transposed first."""

    isa: Isa
    lhs: Shape
    rhs: Shape

    @cached_property
    def _one_right_side(self) -> bool:
        """The whole product is one, of all rows of the left side."""
        return product(self.rhs[:-2]) == 1

    @cached_property
    def _linear(self) -> LinearKernel:
        rows = product(self.lhs[:-1]) if self._one_right_side else self.lhs[-2]
        return LinearKernel(self.isa, rows, self.lhs[-1], self.rhs[-1])

    @cached_property
    def _transpose(self) -> CopyKernel:
        k, n = self.rhs[-2:]
        return CopyKernel(self.isa, 4, (n, k), (1, n), (k, 1))

    @property
    def name(self) -> str:
        return f"{self._transpose.name}+{self._linear.name}"

    @property
    def scratch_bytes(self) -> int:
        """The transposed right side of one product."""
        return product(self.rhs[-2:]) * 4

    def call(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None = None,
    ) -> None:
        if scratch is None:
            raise ValueError(f"{self.name} needs scratch memory")
        if self._one_right_side:
            self._transpose.call(b, [inputs[1]], scratch)
            self._linear.call(b, [inputs[0], scratch], out)
            return
        walk = batch_walk(self.lhs, self.rhs)
        places = (inputs[0], inputs[1], out)
        with each_product(b, walk, places, (4, 4, 4)) as (left, right, target):
            self._transpose.call(b, [right], scratch)
            self._linear.call(b, [left, scratch], target)
