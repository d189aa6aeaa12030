"""The kernel of ``rms.norm``, and the lowering that chooses it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.lanes import each_vector, fold_vectors, load_part, store_part
from uqfc.codegen.kernels.tensor import Argument, FunctionKernel, Shape
from uqfc.codegen.lowering import Choice, lowering, tensor_choice
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import shape_of
from uqfc_rms_norm.dialect import RmsNormOp


@dataclass(frozen=True)
class RmsNormKernel(FunctionKernel):
    """Inputs: x float32 ``shape``, scale float32 [last axis]. ``out`` may be x."""

    isa: Isa
    shape: Shape
    epsilon: float

    @property
    def name(self) -> str:
        return f"f32_rms_norm__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(x, scale, out, rows, count, epsilon)``: sizes are arguments, so that all share it."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "scale": "ptr", "out": "ptr"}
        parameters |= {"rows": "i64", "count": "i64", "epsilon": "f32"}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        with b.loop(0, b.value("rows")) as row:
            offset = row * b.value("count") * 4
            normalise(b, b.pointer("x") + offset, b.pointer("out") + offset)
        return b.ret()

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        return [*inputs, out, prod(self.shape[:-1]), self.shape[-1], self.epsilon]


def normalise(b: Builder, x: Pointer, out: Pointer) -> None:
    """One row. ``rest`` is None for whole vectors, else how many elements the last one has."""
    count = b.value("count")

    def add_square(total: Value, i: Value, rest: Value | None) -> Value:
        v = load_part(x, i, rest)  # zeros beyond the end: they add +0.0
        return total + v * v

    total = b.tree_sum(fold_vectors(b, count, b.f32(0.0, LANES), add_square))
    rms = b.sqrt(total / b.to_float(count) + b.value("epsilon"))

    def finish(i: Value, rest: Value | None) -> None:
        y = load_part(x, i, rest) / rms * load_part(b.pointer("scale"), i, rest)
        store_part(out, y, i, rest)

    each_vector(b, count, finish)


@lowering(RmsNormOp)
def rms_norm(launch: LaunchOp, op: RmsNormOp, isa: Isa) -> Choice:
    kernel = RmsNormKernel(isa, shape_of(op.x), op.epsilon.value.data)
    return tensor_choice(kernel, op.operands)
