"""Means over windows of quantized NHWC images, and over whole images.

Inputs may be read up to 64 bytes past their end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.pool import PoolKernel, store_channels
from uqfc.codegen.kernels.tensor import Argument, nest, smaller
from uqfc.codegen.vector import LANES, Pointer, Value

BLOCK = 64
"""Bytes that are summed together."""
SUMMED = 256
"""Bytes whose sum fits 16 bits."""
TOGETHER = {"vnni512": (3, 2), "avx2": (3, 1)}
"""Pixels that are summed apart, so that no addition waits for the one before: of a block, and of
two blocks side by side. Other machines have registers for one pixel of one block."""


@dataclass(frozen=True)
class QuantizedAvgPoolKernel(PoolKernel):
    """``qnn.avg_pool2d``: inputs are x u8 and the multipliers, f32 [1] or [kernel size].

    ``zp + rne(clamp(f32(sum of x - x_zero_point) * multipliers[taps inside - 1], …))``.
    """

    multipliers: int
    x_zero_point: int
    zero_point: int
    qmin: int = 0
    qmax: int = 255

    @property
    def name(self) -> str:
        return f"u8_avg_pool_{self._choice}_{self.structure}__{self.isa.name}"

    @property
    def _choice(self) -> Literal["m1", "mn"]:
        return "m1" if self.multipliers == 1 else "mn"

    @property
    def in_element(self) -> str:
        return "i8"

    @property
    def in_bytes(self) -> int:
        return 1

    @property
    def out_bytes(self) -> int:
        return 1

    def parameters(self) -> dict[str, str]:
        floats = {"low": "f32", "high": "f32"}
        return {"multipliers": "ptr", "x_zero_point": "i32", "zero_point": "i32", **floats}

    @property
    def lanes(self) -> int:
        return 4 * LANES if self.dims.channels > 2 * LANES else LANES

    def initial(self, b: Builder) -> Value:
        return b.i32(0, self.lanes)

    def step(self, total: Value, tap: Value) -> Value:
        return total + tap.zext("i32")

    def finish(self, b: Builder, total: Value, count: Value) -> Value:
        sums = total - count.trunc("i32") * b.value("x_zero_point")
        index = b.i64(0)
        if self._choice == "mn":
            index = b.select(count.gt(0), count - 1, index)
        multiplier = b.pointer("multipliers").load("f32", index * 4, 0)
        v = b.nan_to_zero(b.to_float(sums) * multiplier)
        v = b.clamp(v, b.value("low"), b.value("high"))
        return b.round_clamped(v, b.value("zero_point")).trunc("i8")

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        low, high = float(self.qmin - self.zero_point), float(self.qmax - self.zero_point)
        zero_points = (self.x_zero_point, self.zero_point)
        return [inputs[0], out, *self.dims.arguments, inputs[1], *zero_points, low, high]


@dataclass(frozen=True)
class GlobalAvgPoolKernel(QuantizedAvgPoolKernel):
    """``QuantizedAvgPoolKernel`` of a window that is the image: blocks of channels, all pixels.

    Bytes are summed as words of 16 bits, whole words and their high bytes apart; modulo 2**16 the
    first sum is that of the low bytes plus 256 times the second. ``fold`` pixels of few channels
    are one of more.
    """

    @property
    def fold(self) -> int:
        channels = self.dims.channels
        fold = BLOCK // channels if channels in (LANES, 2 * LANES) else 1
        return fold if self.dims.height * self.dims.width % fold == 0 else 1

    @property
    def is_broad(self) -> bool:
        """Two blocks hold a pixel, so that each line of the cache is read once."""
        return BLOCK < self.dims.channels <= 2 * BLOCK and self.isa.name in TOGETHER

    @property
    def width(self) -> int:
        """Bytes of a pixel, or of ``fold`` pixels, that are summed together."""
        return 2 * BLOCK if self.is_broad else BLOCK

    @property
    def structure(self) -> str:
        return f"global_{self.width // self.fold}"

    def _loops(self, b: Builder) -> None:
        channels, pixels = b.value("channels"), b.value("height") * b.value("width")
        width = self.width // self.fold
        with (
            nest(b, [b.value("batch")]) as (image,),
            b.loop(0, channels, width) as channel,
        ):
            source = b.pointer("x") + (image * pixels * channels + channel)
            sums = self._sums(source, channels * self.fold, pixels // self.fold)
            even, odd = (self.finish(b, self._folded(s), pixels).zext("i16") for s in sums)
            result = (even | odd << 8).bitcast("i8", width)
            out = b.pointer("out") + (image * channels + channel)
            store_channels(out, result, channels - channel)

    def _sums(self, source: Pointer, pitch: Value, rows: Value) -> list[Value]:
        """Of the bytes in even and in odd places of rows that are ``pitch`` apart: i32."""
        b, words = source.b, self.width // 2
        together = TOGETHER.get(self.isa.name, (1,))[self.is_broad]
        total: list[Value] = [b.i32(0, words)] * 2
        with b.loop(0, rows, SUMMED, carry=total) as first:
            zeros = [b.constant("i16", 0, words)] * (2 * together)
            state: list[Any] = [*zeros, source + first * pitch]
            count = smaller(rows - first, SUMMED)
            whole = count // together * together
            with b.loop(0, whole, together, carry=state):
                _add_rows(state, pitch, together)
            with b.loop(whole, count, carry=state):
                _add_rows(state, pitch, 1)
            both, odd = (reduce(Value.__add__, state[i:-1:2]) for i in (0, 1))
            sums = both - (odd << 8), odd
            total[:] = [t + s.zext("i32") for t, s in zip(total, sums, strict=True)]
        return total

    def _folded(self, sums: Value) -> Value:
        """The sums of pixels that were one."""
        lanes = sums.lanes // self.fold
        parts = [sums.shuffle(range(lanes * i, lanes * (i + 1))) for i in range(self.fold)]
        return reduce(Value.__add__, parts)


def _add_rows(state: list[Any], pitch: Value, count: int) -> None:
    """Adds rows to as many pairs of sums, of words and of their high bytes.

    ``state`` is the pairs, and where the next row is.
    """
    lanes = state[0].lanes
    for i in range(count):
        words = (state[-1] + pitch * i).load("i16", 0, lanes)
        state[2 * i] = state[2 * i] + words
        state[2 * i + 1] = state[2 * i + 1] + words.shift_right_logical(8)
    state[-1] = state[-1] + pitch * count
