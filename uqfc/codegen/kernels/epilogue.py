"""From int32 sums to an output: what every integer kernel does last, 16 channels at a time.

With ``acc`` the sum (its addend included), ``m`` the channel's multiplier and ``r`` the residual:

1. u8:                  ``zp + rne(clamp(f32(acc) * m, low, high))``
2. u8, residual:        ``v = f32(acc) * m + f32(r - zr) * mr; zp + rne(clamp(v, low, high))``
3. u8, activation:      ``v`` as in 1 or 2; ``zp + rne(clamp(act(v) * reciprocal, low, high))``
4. f32:                 ``v`` as in 1 or 2, then the activation if there is one
5. i32:                 ``acc``

Every operation is rounded by itself. Activations that are clamps are bounds, not activations,
when the output is u8.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.numerics import Activation

Output: TypeAlias = Literal["u8", "f32", "i32"]


@dataclass(frozen=True)
class Scalars:
    """Scalar operands; those that an epilogue does not use are ignored.

    ``low``, ``high``: ``qmin - zero_point`` and ``qmax - zero_point``, within ±2**22;
    ``residual_multiplier``: ``mr``; ``reciprocal``: float32(1 / sy); ``pad_value``: the zero point
    of ``x``, which convolutions pad with.
    """

    low: float = 0.0
    high: float = 255.0
    zero_point: int = 0
    residual_zero_point: int = 0
    residual_multiplier: float = 1.0
    reciprocal: float = 1.0
    pad_value: int = 0


ARGUMENTS: dict[str, str] = {
    "low": "f32",
    "high": "f32",
    "zero_point": "i32",
    "residual_zero_point": "i32",
    "residual_multiplier": "f32",
    "reciprocal": "f32",
}
"""The scalars that epilogues take, in the order of their parameters."""


@dataclass(frozen=True)
class Epilogue:
    """What is done with the sums of a kernel.

    ``activation`` may be a clamp only for float32 output; ``i32`` takes no activation or residual.
    """

    output: Output
    activation: Activation | None = None
    residual: bool = False

    def __post_init__(self) -> None:
        if self.output == "i32" and (self.activation or self.residual):
            raise ValueError("an i32 epilogue has neither activation nor residual")
        if self.output == "u8" and self.activation and self.activation.bounds:
            raise ValueError(f"'{self.activation.name}' is a clamp: give it as the scalars' bounds")

    @property
    def name(self) -> str:
        """``[activation_][add_]output``; parameters are the hexadecimal bits of their float32."""
        parts = [self.output]
        if self.residual:
            parts.insert(0, "add")
        if self.activation:
            bits = [struct.pack(">f", p).hex() for p in self.activation.params]
            parts.insert(0, "_".join([self.activation.name, *bits]))
        return "_".join(parts)

    @property
    def element(self) -> str:
        """Element type of the output in memory."""
        return "i8" if self.output == "u8" else self.output

    @property
    def element_bytes(self) -> int:
        return 1 if self.output == "u8" else 4

    def scalars(self) -> dict[str, str]:
        """The scalar parameters that this epilogue needs: names and element types."""
        used: set[str] = set()
        if self.output == "u8":
            used |= {"low", "high", "zero_point"}
            used |= {"reciprocal"} if self.activation else set()
        if self.residual:
            used |= {"residual_zero_point", "residual_multiplier"}
        return {name: kind for name, kind in ARGUMENTS.items() if name in used}

    def scalar_values(self, scalars: Scalars) -> list[float | int]:
        """The values of ``scalars()`` in order, as arguments of a call."""
        values = {f.name: getattr(scalars, f.name) for f in fields(scalars)}
        return [
            float(values[name]) if kind == "f32" else int(values[name])
            for name, kind in self.scalars().items()
        ]

    def apply(
        self,
        sums: Value,
        multiplier: Value | None,
        residual: Value | None,
        scalars: Mapping[str, Value],
    ) -> Value:
        """The output lanes: int32 in [0, 255] for u8, else float32 or int32.

        ``sums`` int32, ``multiplier`` float32 (None for i32), ``residual`` int32 in [0, 255].
        """
        b = sums.b
        if multiplier is None:
            return sums
        v = b.to_float(sums) * multiplier
        if residual is not None:
            offset = b.to_float(residual - scalars["residual_zero_point"])
            v = v + offset * scalars["residual_multiplier"]
        if self.activation:
            v = self.activation(b, v)
        if self.output == "f32":
            return v
        if self.activation:
            v = v * scalars["reciprocal"]
        clamped = b.clamp(v, scalars["low"], scalars["high"])
        return b.round_clamped(clamped, scalars["zero_point"])

    def store(self, out: Pointer, result: Value, count: Value | None, full: Value | None) -> None:
        """Stores all lanes if ``full`` (a scalar i1) or not given, else the first ``count``."""
        lanes = result.trunc("i8") if self.output == "u8" else result
        if full is None or count is None:
            out.store(lanes)
            return
        with result.b.if_else(full) as (then, other):
            with then:
                out.store(lanes)
            with other:
                out.store_first(lanes, count)


def emit_tile_epilogue(module: Any, isa: Isa, epilogue: Epilogue, vectors: int) -> Any:
    """``f(sums, rows, count, multiplier, out, ldc, [residual, ldr,] scalars…)``, emitted once.

    ``sums`` is int32 [rows, 16 * vectors]; the first ``count`` channels are stored; ``ldc`` and
    ``ldr`` are in bytes.
    """
    name = f"epilogue_{epilogue.name}_{vectors * LANES}__{isa.name}"
    if function := find_function(module, name):
        return function
    parameters = {"sums": "ptr", "rows": "i64", "count": "i64", "multiplier": "ptr"}
    parameters |= {"out": "ptr", "ldc": "i64"}
    parameters |= {"residual": "ptr", "ldr": "i64"} if epilogue.residual else {}
    b = Builder.function(module, isa, name, internal=True, **parameters, **epilogue.scalars())
    emitter = _TileEpilogue(epilogue, b, vectors)
    count = b.value("count")
    with b.if_else(count.ge(vectors * LANES)) as (whole, partial):
        with whole:
            emitter.rows(b.i64(0), vectors, None)
        with partial, b.loop(0, count, LANES) as channel:
            emitter.rows(channel, 1, count - channel)
    return b.ret()


class _TileEpilogue:
    """The loop over the rows of a tile."""

    def __init__(self, epilogue: Epilogue, b: Builder, vectors: int) -> None:
        self.epilogue = epilogue
        self.b = b
        self.row_bytes = 4 * LANES * vectors
        self.scalars = {name: b.value(name) for name in epilogue.scalars()}

    def rows(self, channel: Value, vectors: int, count: Value | None) -> None:
        """All rows of some vectors; of the first ``count`` channels if it is given."""
        b, epilogue = self.b, self.epilogue
        multipliers = [self._multiplier(channel + v * LANES) for v in range(vectors)]
        full = None if count is None else count.ge(LANES)
        cursor = [b.pointer("sums") + channel * 4]
        cursor.append(b.pointer("out") + channel * epilogue.element_bytes)
        if epilogue.residual:
            cursor.append(b.pointer("residual") + channel)
        with b.loop(0, b.value("rows"), carry=cursor):
            for v, multiplier in enumerate(multipliers):
                first = v * LANES
                residual = cursor[2].load_u8_as_i32(first) if epilogue.residual else None
                sums = cursor[0].load_i32(first * 4)
                result = epilogue.apply(sums, multiplier, residual, self.scalars)
                out = cursor[1] + first * epilogue.element_bytes
                epilogue.store(out, result, count, full)
            cursor[0] = cursor[0] + self.row_bytes
            cursor[1] = cursor[1] + b.value("ldc")
            if epilogue.residual:
                cursor[2] = cursor[2] + b.value("ldr")

    def _multiplier(self, channel: Value) -> Value | None:
        if self.epilogue.output == "i32":
            return None
        return self.b.pointer("multiplier").load_f32(channel * 4)
