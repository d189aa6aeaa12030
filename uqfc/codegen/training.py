"""Activation and quantization of a training step in one pass over memory, with their gradients.

``uqf_training_forward(x, real, q, count, scale, zero_point, low, high)``
    ``v = activation(x) / scale``, ``r = rne(clamp(v, low, high))``: float32 ``real = r * scale``
    and ui8 ``q = r + zero_point``.
``uqf_training_backward(g, x, out, sums, count, scale, low, high, reach)``
    ``out = g * activation'(x)`` where ``low - reach < v < high + reach``, else 0; and, for every
    ``CHUNK`` elements, 16 partial sums of ``g * (r - v)`` there, of ``g * r`` elsewhere.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from uqfc.codegen.builder import Builder, new_module
from uqfc.codegen.isa import Isa
from uqfc.codegen.jit import LoadedCode, compile_object, load
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.numerics import ACTIVATIONS, Activation

FORWARD, BACKWARD = "uqf_training_forward", "uqf_training_backward"
FORWARD_PARAMETERS = ("ptr", "ptr", "ptr", "i64", "f32", "i32", "f32", "f32")
BACKWARD_PARAMETERS = ("ptr", "ptr", "ptr", "ptr", "i64", "f32", "f32", "f32", "f32")
CHUNK = 1 << 16
"""Elements whose gradients are added up in float32."""


@lru_cache(maxsize=64)
def training_code(isa: Isa, activation: Activation | None) -> tuple[Any, Any, LoadedCode]:
    """The two functions for an activation, on this machine; the code lives as long as they do."""
    module = new_module(isa, "training")
    emit_forward(module, isa, activation)
    emit_backward(module, isa, activation)
    code = load(compile_object(module, isa), [FORWARD, BACKWARD])
    forward = code.function(FORWARD, *FORWARD_PARAMETERS)
    return forward, code.function(BACKWARD, *BACKWARD_PARAMETERS), code


def activated(b: Builder, activation: Activation | None, x: Value) -> Value:
    return x if activation is None else ACTIVATIONS[activation.name](b, x, *activation.params)


def emit_forward(module: Any, isa: Isa, activation: Activation | None) -> None:
    names = ("x", "real", "q", "count", "scale", "zero_point", "low", "high")
    b = Builder.function(
        module, isa, FORWARD, **dict(zip(names, FORWARD_PARAMETERS, strict=True))
    )
    x, real, q = (b.pointer(name) for name in names[:3])
    scale, zero_point = b.value("scale").splat(LANES), b.value("zero_point").splat(LANES)

    def compute(values: Value) -> tuple[Value, Value]:
        v = b.nan_to_zero(activated(b, activation, values) / scale)
        rounded = b.rint(b.clamp(v, b.value("low"), b.value("high")))
        return rounded * scale, (b.to_int(rounded) + zero_point).trunc("i8")

    count = b.value("count")
    rest = count & (LANES - 1)
    whole = count - rest
    with b.loop(0, whole, LANES) as i:
        wide, narrow = compute(x.load_f32(i * 4))
        real.store(wide, i * 4)
        q.store(narrow, i)
    with b.when(rest.ne(0)):
        wide, narrow = compute(x.load_first("f32", rest, whole * 4))
        real.store_first(wide, rest, whole * 4)
        q.store_first(narrow, rest, whole)
    b.ret()


def emit_backward(module: Any, isa: Isa, activation: Activation | None) -> None:
    names = ("g", "x", "out", "sums", "count", "scale", "low", "high", "reach")
    b = Builder.function(
        module, isa, BACKWARD, **dict(zip(names, BACKWARD_PARAMETERS, strict=True))
    )
    g, x, out, sums = (b.pointer(name) for name in names[:4])
    scale, reach = b.value("scale").splat(LANES), b.value("reach")
    low, high = b.value("low"), b.value("high")
    lowest, highest = (low - reach).splat(LANES), (high + reach).splat(LANES)
    zero = b.f32(0.0, LANES)

    def compute(gradient: Value, values: Value) -> tuple[Value, Value]:
        v = b.nan_to_zero(activated(b, activation, values) / scale)
        rounded = b.rint(b.clamp(v, low, high))
        inside = v.gt(lowest) & v.lt(highest)
        moved = gradient * b.select(inside, rounded - v, rounded)
        through = derivative(b, activation, values, gradient)
        return b.select(inside, through, zero), moved

    count = b.value("count")
    with b.loop(0, count, CHUNK) as start:
        end = smaller(start + CHUNK, count)
        rest = (end - start) & (LANES - 1)
        whole = end - rest
        total = [zero]
        with b.loop(start, whole, LANES, total) as i:
            passed, moved = compute(g.load_f32(i * 4), x.load_f32(i * 4))
            out.store(passed, i * 4)
            total[0] = total[0] + moved
        place: Pointer = sums + (start // CHUNK) * (4 * LANES)
        place.store(total[0])
        with b.when(rest.ne(0)):
            at = whole * 4
            passed, moved = compute(
                g.load_first("f32", rest, at), x.load_first("f32", rest, at)
            )
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
