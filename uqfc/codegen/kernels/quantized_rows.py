"""Rows of a float32 NCHW image, quantized to padded NHWC rows in scratch memory.

What ``padding`` does for images of u8: a convolution that is the only reader of the quantized image
need not have it written to memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.interleave import interleave
from uqfc.codegen.kernels.padding import CHUNK, fill
from uqfc.codegen.kernels.quantizing import NEAR_TIE, quotients, reciprocal_is_safe
from uqfc.codegen.kernels.saturating import PACKED, Saturation, round_to_int
from uqfc.codegen.vector import LANES, Pointer, Value, llvm_type

PARAMETERS: dict[str, str] = {
    "height": "i64",
    "image_line": "i64",
    "plane": "i64",
    "left": "i64",
    "columns": "i64",
    "pitch": "i64",
    "pad_value": "i32",
    "scale": "f32",
    "low": "f32",
    "high": "f32",
}
"""Rows of the image; bytes of a row of a plane, of a plane, of the padding at the left; pixels that
are quantized; bytes of a row of the strip; ``low``, ``high``: qmin and qmax less the zero point,
which is ``pad_value``."""

MOST_CHANNELS = 4
LARGEST_INT = 0x7FFFFFFF
"""All bits of a float but its sign."""


@dataclass(frozen=True)
class QuantizedRows:
    """``clamp(rne(x / scale) + zero_point, qmin, qmax)`` of planes of ``channels``."""

    channels: int
    scale: float
    zero_point: int
    qmin: int
    qmax: int

    def __post_init__(self) -> None:
        if not 2 <= self.channels <= MOST_CHANNELS:
            raise ValueError(f"rows of 2 to {MOST_CHANNELS} channels, got {self.channels}")

    @property
    def name(self) -> str:
        """Of what is in the code."""
        division = "" if reciprocal_is_safe(self.scale) else "_division"
        return f"quantized{self.channels}{division}"

    def values(self) -> list[float | int]:
        """Of the last three parameters."""
        return [self.scale, float(self.qmin - self.zero_point), float(self.qmax - self.zero_point)]

    def emit(self, module: Any, isa: Isa) -> Any:
        """``f(image, strip, first, count, *PARAMETERS)``, emitted once; see ``emit_padding``.

        Nothing is read past the image.
        """
        name = f"{self.name}_rows__{isa.name}"
        if function := find_function(module, name):
            return function
        parameters = {"image": "ptr", "strip": "noalias", "first": "i64", "count": "i64"}
        b = Builder.function(module, isa, name, internal=True, **parameters, **PARAMETERS)
        self._body(b)
        return b.ret()

    def _body(self, b: Builder) -> None:
        first, left, pitch = b.value("first"), b.value("left"), b.value("pitch")
        target = [b.pointer("strip")]
        with b.loop(first, first + b.value("count"), carry=target) as row:
            inside = row.ge(0) & row.lt(b.value("height"))
            columns = b.select(inside, b.value("columns"), b.i64(0))
            fill(b, target[0], b.i64(0), left)
            source, body = b.pointer("image") + row * b.value("image_line"), target[0] + left
            self._row(b, source, body, columns)
            fill(b, target[0], left + columns * self.channels, pitch - CHUNK)
            target[0] = target[0] + pitch

    def _row(self, b: Builder, source: Pointer, target: Pointer, columns: Value) -> None:
        """16 pixels at a time; up to 15 more are written."""
        planes = [source + b.value("plane") * c for c in range(self.channels)]
        whole = columns & ~(LANES - 1)
        with b.loop(0, whole, LANES) as x:
            self._store(b, target + x * self.channels, [p.load_f32(x * 4) for p in planes])
        with b.when((columns - whole).gt(0)):
            rest = [p.load_first("f32", columns - whole, whole * 4) for p in planes]
            self._store(b, target + whole * self.channels, rest)

    def _store(self, b: Builder, target: Pointer, pixels: list[Value]) -> None:
        fast = reciprocal_is_safe(self.scale)
        if not (fast and b.isa.name == "vnni512"):
            self._store_each(b, target, pixels, fast)
            return
        clear, words = self._rounded(b, [v * (1.0 / b.value("scale")) for v in pixels])
        with b.if_else(clear) as (then, other):
            with then:
                target.store(self._pixels(b, words))
            with other:
                self._store_each(b, target, pixels, False)

    def _store_each(self, b: Builder, target: Pointer, pixels: list[Value], fast: bool) -> None:
        bounds = b.value("low"), b.value("high")
        scale, zero_point = b.value("scale"), b.value("pad_value")
        values = quotients(b, pixels, scale, fast)
        channels = [b.round_clamped(b.clamp(v, *bounds), zero_point) for v in values]
        target.store(interleave([c.trunc("i8") for c in channels]))

    def _saturation(self, b: Builder) -> Saturation:
        return Saturation(b, b.value("low"), b.value("high"), b.value("pad_value"))

    def _rounded(self, b: Builder, quotients: list[Value]) -> tuple[Value, list[Value]]:
        """Whether no quotient is near a tie, a NaN or far away, and all of them as int32."""
        limited = self._saturation(b).limited
        words = [round_to_int(b, limited(q)) for q in quotients]
        distances = [
            b.as_int(q - b.to_float(word)) & LARGEST_INT
            for q, word in zip(quotients, words, strict=True)
        ]
        farthest = distances[0]
        kind = llvm_type("i32", LANES)
        for distance in distances[1:]:
            farthest = b.intrinsic(f"llvm.smax.v{LANES}i32", kind, farthest, distance)
        near = farthest.lt(b.as_int(b.f32(NEAR_TIE, LANES)))
        return near.bitcast(f"i{LANES}", 0).eq(-1), words

    def _pixels(self, b: Builder, words: list[Value]) -> Value:
        """16 pixels of ``channels`` bytes, saturated, and what fills 64 bytes."""
        channels = self.channels
        filled = [*words, *[words[-1]] * (PACKED - channels)]
        packed = self._saturation(b).pack_integers(filled)
        in_lane = [4 * c + i for i in range(4) for c in range(channels)]
        in_lane += [0] * (16 - len(in_lane))
        name = "llvm.x86.avx512.pshuf.b.512"
        pixels = b.intrinsic(name, llvm_type("i8", 64), packed, b.vector("i8", in_lane * 4))
        order = [4 * lane + i for lane in range(4) for i in range(channels)]
        order += [0] * (LANES - len(order))
        name = "llvm.x86.avx512.permvar.si.512"
        dwords = pixels.bitcast("i32", LANES)
        return b.intrinsic(name, llvm_type("i32", LANES), dwords, b.vector("i32", order))
