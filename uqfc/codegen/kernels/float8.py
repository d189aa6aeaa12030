"""Codes of 8-bit floats in kernels: decoded in registers; ``uqfc.float8`` has the expressions."""

from __future__ import annotations

from uqfc.codegen.builder import Builder
from uqfc.codegen.elements import llvm_type
from uqfc.codegen.kernels.lanes import each_vector
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.float8 import Float8, finite_number, rounded_code


def load_numbers(source: Pointer, offset: Value, form: Float8, rest: Value | None = None) -> Value:
    """float32 of 16 codes at ``offset``, or of the first ``rest`` and zeros."""
    if rest is None:
        codes = source.load_s8_as_i32(offset)
    else:
        codes = source.load_first("i8", rest, offset).sext("i32")
    return finite_number(source.b, codes, form)


def codes_of(b: Builder, v: Value, scale: Value, form: Float8) -> Value:
    """``float8.quantize(v, scale)`` as int32 lanes."""
    return rounded_code(b, b.nan_to_zero(v / scale), form)


def multiply_add(b: Builder, total: Value, x: Value, w: Value) -> Value:
    """``total + x * w`` of decoded numbers: their product is exact, so fusing changes no bit."""
    if b.isa.name == "portable":
        return total + x * w
    return b.intrinsic(f"llvm.fma.v{LANES}f32", llvm_type("f32", LANES), x, w, total)


def expand(b: Builder, source: Pointer, target: Pointer, count: Value, form: Float8) -> None:
    """``count`` codes at ``source`` as float32 at ``target``; reads and writes nothing else."""

    def vector(i: Value, rest: Value | None) -> None:
        numbers = load_numbers(source, i, form, rest)
        if rest is None:
            target.store(numbers, i * 4)
        else:
            target.store_first(numbers, rest, i * 4)

    each_vector(b, count, vector)
