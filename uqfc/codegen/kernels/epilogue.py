"""From int32 sums to an output: what every integer kernel does last, 16 channels at a time.

With ``acc`` the sum (its addend included), ``m`` the channel's multiplier and ``r`` the residual:

1. u8:                  ``zp + rne(clamp(f32(acc) * m, low, high))``
2. u8, residual:        ``v = f32(acc) * m + f32(r - zr) * mr; zp + rne(clamp(v, low, high))``
3. u8, activation:      ``v`` as in 1 or 2; ``zp + rne(clamp(act(v) * reciprocal, low, high))``
4. f32:                 ``v`` as in 1 or 2, then the activation if there is one
5. i32:                 ``acc``

Every operation is rounded by itself; what ``fuses`` does has the same results. Activations that
are clamps are bounds, not activations, when the output is u8.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import SUMS_OF_PAIRS
from uqfc.codegen.kernels.activate import activate
from uqfc.codegen.kernels.saturating import NOTHING_KNOWN, Known, Saturation
from uqfc.codegen.vector import Pointer, Value
from uqfc.numerics import Activation
from uqfc.packing import Scalar

LINEAR = 2**23
"""As a float32 the integers above it, as far as its double, add to its bits as to its value."""
LINEAR_BITS = int(np.float32(LINEAR).view(np.int32))
Output: TypeAlias = Literal["u8", "f32", "i32"]


@dataclass(frozen=True)
class Scalars:
    """Scalar operands; those that an epilogue does not use are ignored.

    ``low``, ``high``: ``qmin - zero_point`` and ``qmax - zero_point``, within ±2**22;
    ``residual_multiplier``: ``mr``; ``reciprocal``: float32(1 / sy); ``pad_value``: the zero point
    of ``x``, which convolutions pad with; ``int16_steps``: see ``int16_sums``, what is given is
    right for all weights.
    """

    low: float = 0.0
    high: float = 255.0
    zero_point: int = 0
    residual_zero_point: int = 0
    residual_multiplier: float = 1.0
    reciprocal: float = 1.0
    pad_value: int = 0
    int16_steps: int = SUMS_OF_PAIRS


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
    known: Known = NOTHING_KNOWN
    """Of values that are rounded to u8."""

    def __post_init__(self) -> None:
        if self.output == "i32" and (self.activation or self.residual):
            raise ValueError("an i32 epilogue has neither activation nor residual")
        if self.output == "u8" and self.activation and self.activation.bounds:
            raise ValueError(f"'{self.activation.name}' is a clamp: give it as the scalars' bounds")

    @property
    def name(self) -> str:
        """``[activation_][add_]output[_known]``; parameters are hexadecimal float32 bits."""
        parts = [self.output]
        if self.residual:
            parts.insert(0, "add")
        if self.activation:
            bits = [struct.pack(">f", p).hex() for p in self.activation.params]
            parts.insert(0, "_".join([self.activation.name, *bits]))
        return "_".join(parts) + self.known.name

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

    def fuses(self, isa: Isa) -> bool:
        """Whether sums become floats and are multiplied in one instruction, exactly.

        Their addends have the bits of ``2**23`` as a float then (``constants``): what is not
        negative is ``2**23 + sum`` as a float, and subtracting ``2**23 * multiplier``, which is
        exact, leaves their product, rounded once. What is negative stays below zero, where a zero
        point of 0 makes it 0 anyway.
        """
        plain = self.output == "u8" and self.activation is None and not self.residual
        return plain and self.known.small and isa.name != "portable"

    def constants(self, isa: Isa, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Addends (int32) or multipliers (float32) as ``before_rounding`` wants them."""
        if values.dtype != np.int32 or not self.fuses(isa):
            return values
        return (values.view(np.int32) + np.int32(LINEAR_BITS)).view(values.dtype)

    def saturation(self, b: Builder, scalars: Mapping[str, Value]) -> Saturation:
        """Rounds what ``before_rounding`` gives to u8; only for that output."""
        low, high, zero_point = (scalars[name] for name in ("low", "high", "zero_point"))
        return Saturation(b, low, high, zero_point, self.known)

    def before_rounding(
        self,
        sums: Value,
        multiplier: Value | None,
        residual: Value | None,
        scalars: Mapping[str, Value],
    ) -> Value:
        """The output lanes (int32 or float32); for u8 those that are then clamped and rounded.

        ``sums`` int32, ``multiplier`` float32 (None for i32), ``residual`` int32 in [0, 255].
        """
        b = sums.b
        if multiplier is None:
            return sums
        if self.fuses(b.isa):
            return b.multiply_add(b.as_float(sums), multiplier, multiplier * -float(LINEAR))
        v = b.to_float(sums) * multiplier
        if residual is not None:
            offset = b.to_float(residual - scalars["residual_zero_point"])
            v = v + offset * scalars["residual_multiplier"]
        if self.activation:
            v = activate(b, self.activation, v) if self.output == "u8" else self.activation(b, v)
        if self.output == "u8" and self.activation:
            v = v * scalars["reciprocal"]
        return v

    def apply(
        self,
        sums: Value,
        multiplier: Value | None,
        residual: Value | None,
        scalars: Mapping[str, Value],
    ) -> Value:
        """The output lanes: int32 in [0, 255] for u8, else as in ``before_rounding``."""
        v = self.before_rounding(sums, multiplier, residual, scalars)
        if self.output != "u8":
            return v
        clamped = sums.b.clamp(v, scalars["low"], scalars["high"])
        return sums.b.round_clamped(clamped, scalars["zero_point"])

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
