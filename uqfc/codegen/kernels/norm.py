"""``nn.layer_norm`` and ``nn.lrn`` of float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.elementwise_base import bits_of
from uqfc.codegen.kernels.lanes import each_vector, fold_vectors, load_part, only_first, store_part
from uqfc.codegen.kernels.tensor import Argument, FunctionKernel, Shape, product
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.elementary_special import power as float_power


@dataclass(frozen=True)
class LayerNormKernel(FunctionKernel):
    """Normalises the last ``rank`` axes of ``shape``. Inputs: x, scale, bias; ``out`` may be x."""

    isa: Isa
    shape: Shape
    rank: int
    epsilon: float

    @property
    def name(self) -> str:
        return f"f32_layer_norm__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(x, scale, bias, out, rows, count, epsilon)``."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "scale": "ptr", "bias": "ptr", "out": "ptr"}
        parameters |= {"rows": "i64", "count": "i64", "epsilon": "f32"}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        with b.loop(0, b.value("rows")) as row:
            offset = row * b.value("count") * 4
            _normalise(b, b.pointer("x") + offset, b.pointer("out") + offset)
        return b.ret()

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        cut = len(self.shape) - self.rank
        rows, count = product(self.shape[:cut]), product(self.shape[cut:])
        return [*inputs[:3], out, rows, count, float(self.epsilon)]


def _normalise(b: Builder, x: Pointer, out: Pointer) -> None:
    count, scale, bias = b.value("count"), b.pointer("scale"), b.pointer("bias")
    divisor = b.to_float(count)
    zero = b.f32(0.0, LANES)

    def add(state: Value, i: Value, rest: Value | None) -> Value:
        return state + load_part(x, i, rest)

    mean = b.tree_sum(fold_vectors(b, count, zero, add)) / divisor

    def add_square(state: Value, i: Value, rest: Value | None) -> Value:
        d = only_first(load_part(x, i, rest) - mean, rest)
        return state + d * d

    variance = b.tree_sum(fold_vectors(b, count, zero, add_square)) / divisor
    deviation = b.sqrt(variance + b.value("epsilon"))

    def finish(i: Value, rest: Value | None) -> None:
        normal = (load_part(x, i, rest) - mean) / deviation
        y = normal * load_part(scale, i, rest) + load_part(bias, i, rest)
        store_part(out, y, i, rest)

    each_vector(b, count, finish)


@dataclass(frozen=True)
class LrnKernel(FunctionKernel):
    """Local response normalisation over the last axis (see ``nn.lrn``); ``out`` may be x."""

    isa: Isa
    shape: Shape
    size: int
    alpha: float
    beta: float
    bias: float

    @property
    def name(self) -> str:
        return f"f32_lrn_{bits_of(self.beta)}__{self.isa.name}"

    @property
    def _before(self) -> int:
        return (self.size - 1) // 2

    @property
    def scratch_bytes(self) -> int:
        """The squares of a pixel's channels with zeros on both sides, and a vector's overhang."""
        return (self.shape[-1] + self.size - 1 + 2 * LANES) * 4

    def emit(self, module: Any) -> Any:
        """``f(x, out, squares, rows, channels, size, before, alpha, bias)``."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "out": "ptr", "squares": "noalias"}
        parameters |= dict.fromkeys(("rows", "channels", "size", "before"), "i64")
        parameters |= {"alpha": "f32", "bias": "f32"}
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        squares, channels = b.pointer("squares"), b.value("channels")
        zero = b.f32(0.0, LANES)
        with b.loop(0, channels + b.value("size") + (LANES - 1), LANES) as i:
            squares.store(zero, i * 4)
        with b.loop(0, b.value("rows")) as row:
            offset = row * channels * 4
            self._row(b, b.pointer("x") + offset, b.pointer("out") + offset)
        return b.ret()

    def _row(self, b: Builder, x: Pointer, out: Pointer) -> None:
        squares, channels = b.pointer("squares"), b.value("channels")

        def square(i: Value, rest: Value | None) -> None:
            v = load_part(x, i, rest)
            store_part(squares, v * v, i + b.value("before"), rest)

        each_vector(b, channels, square)

        def finish(i: Value, rest: Value | None) -> None:
            total = [b.f32(0.0, LANES)]
            with b.loop(0, b.value("size"), carry=total) as t:
                total[0] = total[0] + squares.load_f32((i + t) * 4)
            base = b.value("alpha").splat(LANES) * total[0] + b.value("bias")
            power = float_power(b, base, b.f32(self.beta, LANES))
            store_part(out, load_part(x, i, rest) / power, i, rest)

        each_vector(b, channels, finish)

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        assert scratch is not None
        rows, channels = product(self.shape[:-1]), self.shape[-1]
        alpha = float(np.float32(self.alpha) / np.float32(self.size))
        sizes = (rows, channels, self.size, self._before)
        return [inputs[0], out, scratch, *sizes, alpha, float(self.bias)]
