"""Activation and quantization of a training step in one pass over memory, with their gradients.

``uqf_training_forward(x, real, q, rows, count, scales, zero_points, qmin, qmax)``
    for each row of ``count`` elements, with its scale (float32) and zero point (i32): ``v =
    activation(x) / scale``, ``r = rne(clamp(v, qmin - zero_point, qmax - zero_point))``, float32
    ``real = r * scale`` and 8-bit ``q = r + zero_point``.
``uqf_training_backward(g, x, out, sums, rows, count, scales, zero_points, qmin, qmax, reach)``
    ``out = g * activation'(x)`` where ``v`` is within ``reach`` of the clamp's range, else 0; and,
    for each row and every ``CHUNK`` elements of it, 16 partial sums of ``g * (r - v)`` there, of
    ``g * r`` elsewhere.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import Isa
from uqfc.codegen.jit import compile_object, load
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import LANES, Value
from uqfc.numerics import ACTIVATIONS, Activation

FORWARD, BACKWARD = "uqf_training_forward", "uqf_training_backward"
_ROWS = {"rows": "i64", "count": "i64", "scales": "ptr", "zero_points": "ptr"}
_BOUNDS = {"qmin": "f32", "qmax": "f32"}
_FORWARD_PARAMETERS = {**dict.fromkeys(("x", "real", "q"), "ptr"), **_ROWS, **_BOUNDS}
_BACKWARD_PARAMETERS = {
    **dict.fromkeys(("g", "x", "out", "sums"), "ptr"),
    **_ROWS,
    **_BOUNDS,
    "reach": "f32",
}
CHUNK = 1 << 16
"""Elements whose gradients are added up in float32."""


@lru_cache(maxsize=64)
def training_code(isa: Isa, activation: Activation | None) -> tuple[Any, Any]:
    """The two functions for an activation, on this machine, which keep their code alive."""
    module = new_module(isa, "training")
    emit_forward(module, isa, activation)
    emit_backward(module, isa, activation)
    code = load(compile_object(module, isa), [FORWARD, BACKWARD])
    return (
        code.function(FORWARD, *_FORWARD_PARAMETERS.values()),
        code.function(BACKWARD, *_BACKWARD_PARAMETERS.values()),
    )


class Row:
    """The parameters of one row, in every lane."""

    def __init__(self, b: Builder, activation: Activation | None, row: Value) -> None:
        self.b, self.activation = b, activation
        self.scale = b.pointer("scales").load("f32", row * 4, 0).splat(LANES)
        self.zero_point = b.pointer("zero_points").load("i32", row * 4, 0).splat(LANES)
        zero = b.to_float(self.zero_point)
        self.low = b.value("qmin").splat(LANES) - zero
        self.high = b.value("qmax").splat(LANES) - zero

    def units(self, x: Value) -> Value:
        """``v``, in units of the scale."""
        return self.b.nan_to_zero(activated(self.b, self.activation, x) / self.scale)

    def rounded(self, v: Value) -> Value:
        return self.b.rint(self.b.clamp(v, self.low, self.high))


def activated(b: Builder, activation: Activation | None, x: Value) -> Value:
    return x if activation is None else ACTIVATIONS[activation.name](b, x, *activation.params)


def new_function(module: Any, isa: Isa, name: str, parameters: dict[str, str]) -> Builder:
    return Builder.function(module, isa, name, internal=False, returns=None, **parameters)


def emit_forward(module: Any, isa: Isa, activation: Activation | None) -> None:
    b = new_function(module, isa, FORWARD, _FORWARD_PARAMETERS)
    x, real, q = (b.pointer(name) for name in ("x", "real", "q"))
    count = b.value("count")
    rest = count & (LANES - 1)
    with b.loop(0, b.value("rows")) as index:
        row = Row(b, activation, index)

        def compute(values: Value, row: Row = row) -> tuple[Value, Value]:
            r = row.rounded(row.units(values))
            return r * row.scale, (b.to_int(r) + row.zero_point).trunc("i8")

        first = index * count
        end = first + count - rest
        with b.loop(first, end, LANES) as i:
            wide, narrow = compute(x.load_f32(i * 4))
            real.store(wide, i * 4)
            q.store(narrow, i)
        with b.when(rest.ne(0)):
            wide, narrow = compute(x.load_first("f32", rest, end * 4))
            real.store_first(wide, rest, end * 4)
            q.store_first(narrow, rest, end)
    b.ret()


def emit_backward(module: Any, isa: Isa, activation: Activation | None) -> None:
    b = new_function(module, isa, BACKWARD, _BACKWARD_PARAMETERS)
    g, x, out, sums = (b.pointer(name) for name in ("g", "x", "out", "sums"))
    zero, count = b.f32(0.0, LANES), b.value("count")
    reach = b.value("reach").splat(LANES)
    chunks = (count + (CHUNK - 1)) // CHUNK
    with b.loop(0, b.value("rows")) as index, b.loop(0, chunks) as chunk:
        row = Row(b, activation, index)
        lowest, highest = row.low - reach, row.high + reach

        def compute(gradient: Value, values: Value, row: Row = row) -> tuple[Value, Value]:
            v = row.units(values)
            r = row.rounded(v)
            inside = v.gt(lowest) & v.lt(highest)
            moved = gradient * b.select(inside, r - v, r)
            through = derivative(b, activation, values, gradient)
            return b.select(inside, through, zero), moved

        first = index * count + chunk * CHUNK
        length = smaller(count - chunk * CHUNK, b.i64(CHUNK))
        rest = length & (LANES - 1)
        end = first + length - rest
        total = [zero]
        with b.loop(first, end, LANES, total) as i:
            passed, moved = compute(g.load_f32(i * 4), x.load_f32(i * 4))
            out.store(passed, i * 4)
            total[0] = total[0] + moved
        place = sums + (index * chunks + chunk) * (4 * LANES)
        place.store(total[0])
        with b.when(rest.ne(0)):
            at = end * 4
            passed, moved = compute(g.load_first("f32", rest, at), x.load_first("f32", rest, at))
            out.store_first(passed, rest, at)
            place.store(total[0] + moved)
    b.ret()


def derivative(b: Builder, activation: Activation | None, x: Value, g: Value) -> Value:
    """``g`` times the activation's derivative at ``x``; 0 at the ends of what is clamped."""
    zero = b.f32(0.0, LANES)
    if activation is None:
        return g
    match activation.name, activation.params:
        case "relu", ():
            return b.select(x.gt(0.0), g, zero)
        case "clip", (low, high):
            return b.select(x.gt(low) & x.lt(high), g, zero)
        case "leaky_relu", (alpha,):
            return b.select(x.lt(0.0), g * alpha, g)
        case "hard_sigmoid", (alpha, beta):
            inner = x * alpha + beta
            return b.select(inner.gt(0.0) & inner.lt(1.0), g * alpha, zero)
        case "hard_swish", ():
            middle = g * (x * (1.0 / 3.0) + 0.5)
            return b.select(x.gt(-3.0), b.select(x.lt(3.0), middle, g), zero)
        case name, _:
            raise ValueError(f"activation {name} has no derivative here")
