"""Rows of a float32 NCHW image, quantized to padded NHWC rows in scratch memory.

What ``padding`` does for images of u8: a convolution that is the only reader of the quantized image
need not have it written to memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.elements import llvm_type
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.interleave import permute_dwords
from uqfc.codegen.kernels.channels_last import channels_last
from uqfc.codegen.kernels.padding import CHUNK, fill
from uqfc.codegen.kernels.quantizing import exact_reciprocal, quotients
from uqfc.codegen.kernels.saturating import PACKED, Known, Saturation, round_to_int
from uqfc.codegen.vector import LANES, Pointer, Value

PARAMETERS: dict[str, str] = {
    "height": "i64",
    "image_line": "i64",
    "plane": "i64",
    "left": "i64",
    "columns": "i64",
    "pitch": "i64",
    "pad_value": "i32",
    "scale": "f32",
    "reciprocal": "f32",
    "correction": "f32",
    "low": "f32",
    "high": "f32",
}
"""Rows of the image; bytes of a row of a plane, of a plane, of the padding at the left; pixels that
are quantized; bytes of a row of the strip; ``exact_reciprocal``; ``low``, ``high``: qmin and qmax
less the zero point, which is ``pad_value``."""

MOST_CHANNELS = 4
LEAST_INT = -(2**31)
"""What numbers that do not fit int32, and NaN, are converted to."""


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
    def reciprocal(self) -> tuple[float, float] | None:
        """``exact_reciprocal`` of the scale."""
        low, high = self.qmin - self.zero_point, self.qmax - self.zero_point
        return exact_reciprocal(self.scale, low, high)

    @property
    def name(self) -> str:
        """Of what is in the code."""
        division = "" if self.reciprocal else "_division"
        return f"quantized{self.channels}{division}{self.known.name}"

    @property
    def known(self) -> Known:
        """Of what is saturated."""
        return Known(whole=(self.qmin, self.qmax) == (0, 255), from_zero=self.zero_point == 0)

    def values(self) -> list[float | int]:
        """Of the last five parameters."""
        low, high = float(self.qmin - self.zero_point), float(self.qmax - self.zero_point)
        return [self.scale, *(self.reciprocal or (0.0, 0.0)), low, high]

    def emit(self, module: Any, isa: Isa, pixel: int) -> Any:
        """``f(image, strip, first, count, *PARAMETERS)``, emitted once; see ``emit_padding``.

        ``pixel``: bytes of one in the strip, the channels or 4. Nothing is read past the image.
        """
        name = f"{self.name}_rows{pixel}__{isa.name}"
        if function := find_function(module, name):
            return function
        parameters = {"image": "ptr", "strip": "noalias", "first": "i64", "count": "i64"}
        b = Builder.function(module, isa, name, internal=True, **parameters, **PARAMETERS)
        _Rows(self, b, pixel).run()
        return b.ret()


class _Rows:
    """The body of the function of ``QuantizedRows``."""

    def __init__(self, rows: QuantizedRows, b: Builder, pixel: int) -> None:
        self.b = b
        self.channels = rows.channels
        self.pixel = pixel
        self.reciprocal_is_exact = rows.reciprocal is not None
        low, high, zero_point = (b.value(name) for name in ("low", "high", "pad_value"))
        self.saturation = Saturation(b, low, high, zero_point, rows.known)

    def run(self) -> None:
        b, pixel = self.b, self.pixel
        first, left, pitch = b.value("first"), b.value("left"), b.value("pitch")
        target = [b.pointer("strip")]
        with b.loop(first, first + b.value("count"), carry=target) as row:
            inside = row.ge(0) & row.lt(b.value("height"))
            columns = b.select(inside, b.value("columns"), b.i64(0))
            fill(b, target[0], b.i64(0), left)
            source, body = b.pointer("image") + row * b.value("image_line"), target[0] + left
            self._row(source, body, columns)
            fill(b, target[0], left + columns * pixel, pitch - CHUNK)
            target[0] = target[0] + pitch

    def _row(self, source: Pointer, target: Pointer, columns: Value) -> None:
        """With the exact reciprocal, and once more without it if that gave no numbers."""
        b = self.b
        if not (self.reciprocal_is_exact and b.isa.name == "vnni512"):
            self._pixels(source, target, columns, self._quantized)
            return
        least = [b.i32(0, LANES)]

        def rounded(vectors: list[Value]) -> Value:
            words = [self._quotient(v) for v in vectors]
            name, kind = f"llvm.smin.v{LANES}i32", llvm_type("i32", LANES)
            least[:] = [reduce(lambda a, w: b.intrinsic(name, kind, a, w), words, least[0])]
            return self._packed(words)

        self._pixels(source, target, columns, rounded, least)
        with b.when(least[0].eq(LEAST_INT).bitcast(f"i{LANES}", 0).ne(0)):
            self._pixels(source, target, columns, self._quantized)

    def _pixels(
        self,
        source: Pointer,
        target: Pointer,
        columns: Value,
        quantize: Callable[[list[Value]], Value],
        carry: list[Value] | None = None,
    ) -> None:
        """16 pixels at a time; up to 15 more are written. ``quantize`` may change ``carry``."""
        b, pixel = self.b, self.pixel
        planes = [source + b.value("plane") * c for c in range(self.channels)]
        whole = columns & ~(LANES - 1)
        with b.loop(0, whole, LANES, carry=carry) as x:
            (target + x * pixel).store(quantize([p.load_f32(x * 4) for p in planes]))
        rest = b.select(columns.gt(whole), b.i64(1), b.i64(0))
        with b.loop(0, rest, carry=carry):
            vectors = [p.load_first("f32", columns - whole, whole * 4) for p in planes]
            (target + whole * pixel).store(quantize(vectors))

    def _quantized(self, vectors: list[Value]) -> Value:
        """16 pixels, and what fills the vector."""
        b = self.b
        bounds, zero_point = (b.value("low"), b.value("high")), b.value("pad_value")
        fast = self.reciprocal_is_exact
        values = quotients(b, vectors, b.value("scale"), fast)
        channels = [b.round_clamped(b.clamp(v, *bounds), zero_point).trunc("i8") for v in values]
        return channels_last([*channels, *channels[-1:] * (self.pixel - self.channels)])

    def _quotient(self, x: Value) -> Value:
        """As int32; the least of them if it does not fit, or is a NaN."""
        b = self.b
        correction = x * b.value("correction")
        return round_to_int(b, b.multiply_add(x, b.value("reciprocal").splat(LANES), correction))

    def _packed(self, words: list[Value]) -> Value:
        """As ``_quantized``, saturated."""
        b, pixel = self.b, self.pixel
        packed = self.saturation.pack_integers([*words, *words[-1:] * (PACKED - len(words))])
        in_lane = [4 * c + i for i in range(4) for c in range(pixel)]
        in_lane += [0] * (16 - len(in_lane))
        name = "llvm.x86.avx512.pshuf.b.512"
        pixels = b.intrinsic(name, llvm_type("i8", 64), packed, b.vector("i8", in_lane * 4))
        if pixel == PACKED:
            return pixels
        order = [4 * lane + i for lane in range(4) for i in range(pixel)]
        order += [0] * (LANES - len(order))
        return permute_dwords(pixels, order)
