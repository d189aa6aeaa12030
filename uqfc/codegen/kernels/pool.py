"""Maximum and mean over windows of NHWC images, vectors along the channels.

Inputs may be read up to 64 bytes past their end.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.tensor import (
    DTYPE_BYTES,
    MEMORY_ELEMENTS,
    Argument,
    Dtype,
    FunctionKernel,
    nest,
    smaller,
)
from uqfc.codegen.kernels.window import PARAMETERS, WindowDims, taps_inside
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import LANES, Pointer, Value

MAX_LANES = {1: 64, 4: 16, 8: 8}
"""Lanes of vectors of elements of so many bytes."""


@dataclass(frozen=True)
class PoolKernel(FunctionKernel):
    """A fold over the taps of each window that are inside the image, in row-major order."""

    over_read = 64

    isa: Isa
    dims: WindowDims

    @property
    @abstractmethod
    def in_element(self) -> str:
        """Element of a load, as ``vector`` names it."""

    @property
    @abstractmethod
    def in_bytes(self) -> int: ...

    @property
    @abstractmethod
    def out_bytes(self) -> int: ...

    @property
    def lanes(self) -> int:
        return LANES

    @property
    def dilated(self) -> bool:
        return self.dims.dilation != (1, 1)

    @property
    def structure(self) -> str:
        """What of the sizes the code depends on."""
        apart = "_rows" if self.dims.pitch else ""
        return f"{self.lanes}{'_dilated' if self.dilated else ''}{apart}"

    def parameters(self) -> dict[str, str]:
        """More parameters of the emitted function, after ``PARAMETERS``."""
        return {}

    @abstractmethod
    def initial(self, b: Builder) -> Value:
        """What the fold starts from."""

    @abstractmethod
    def step(self, total: Value, tap: Value) -> Value:
        """The fold with one more tap."""

    @abstractmethod
    def finish(self, b: Builder, total: Value, count: Value) -> Value:
        """Lanes to store; ``count`` (i64) taps were inside."""

    def emit(self, module: Any) -> Any:
        """``f(x, out, *window.PARAMETERS, pitch if there is one, *parameters)``."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "out": "noalias", **dict.fromkeys(PARAMETERS, "i64")}
        parameters |= {"pitch": "i64"} if self.dims.pitch else {}
        parameters |= self.parameters()
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        self._loops(b)
        return b.ret()

    def _loops(self, b: Builder) -> None:
        channels, out_width = b.value("channels"), b.value("out_width")
        pitch = b.value("pitch") if self.dims.pitch else channels
        line = b.value("width") * channels * self.in_bytes
        image_bytes = b.value("height") * line
        with nest(b, [b.value("batch"), b.value("out_height")]) as (image, row):
            top, bottom, y = taps_inside(b, "y", row, dilated=self.dilated)
            lines = b.pointer("x") + image * image_bytes
            out_line = (image * b.value("out_height") + row) * out_width
            with b.loop(0, out_width) as column:
                left, right, x = taps_inside(b, "x", column, dilated=self.dilated)
                out = b.pointer("out") + (out_line + column) * pitch * self.out_bytes
                count = _extent(top, bottom) * _extent(left, right)
                with b.loop(0, channels, self.lanes) as channel:
                    state = [self.initial(b)]
                    with b.loop(top, bottom, carry=state) as ky:
                        at = lines + (y + ky * b.value("dilation_y")) * line
                        at = at + channel * self.in_bytes
                        with b.loop(left, right, carry=state) as kx:
                            pixel = (x + kx * b.value("dilation_x")) * channels
                            tap = at.load(self.in_element, pixel * self.in_bytes, self.lanes)
                            state[0] = self.step(state[0], tap)
                    result = self.finish(b, state[0], count)
                    store_channels(out + channel * self.out_bytes, result, channels - channel)

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        return [inputs[0], out, *self.dims.arguments]

    @property
    def splits(self) -> bool:
        return self.dims.batch == 1 < self.dims.out_height

    def share(self, arguments: list[Argument], part: Part) -> list[Argument]:
        """Some rows of the result: the image starts at another place of the padded one."""
        begin, end = part.share(self.dims.out_height)
        shared = list(arguments)
        height, pad = (2 + PARAMETERS.index(name) for name in ("out_height", "pad_y"))
        pixel = self.dims.pitch or self.dims.channels
        row_bytes = self.dims.out_width * pixel * self.out_bytes
        shared[1] = cast(Pointer, arguments[1]) + begin * row_bytes
        shared[height] = end - begin
        shared[pad] = -(begin * self.dims.stride[0]) + self.dims.pad_begin[0]
        return shared


def store_channels(out: Pointer, result: Value, rest: Value) -> None:
    """The lanes of ``result``, or as many as there are channels left."""
    with out.b.if_else(rest.ge(result.lanes)) as (whole, part):
        with whole:
            out.store(result)
        with part:
            out.store_first(result, smaller(rest, result.lanes))


def _extent(first: Value, stop: Value) -> Value:
    b = first.b
    return b.select(stop.gt(first), stop - first, b.i64(0))


def lowest(dtype: Dtype) -> float | int:
    """The least value of an element type, for integers as the bits are read (signed)."""
    match dtype:
        case "f32":
            return float("-inf")
        case "u8" | "i1":
            return 0
        case "i8":
            return -(2**7)
        case "i32":
            return -(2**31)
        case "i64":
            return -(2**63)


@dataclass(frozen=True)
class MaxPoolKernel(PoolKernel):
    """``nn.max_pool2d``: a NaN never wins; a window outside the image gives the lowest value."""

    dtype: Dtype

    @property
    def name(self) -> str:
        return f"{self.dtype}_max_pool_{self.structure}__{self.isa.name}"

    @property
    def in_element(self) -> str:
        return MEMORY_ELEMENTS[self.dtype]

    @property
    def in_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    @property
    def out_bytes(self) -> int:
        return self.in_bytes

    @property
    def lanes(self) -> int:
        return MAX_LANES[self.in_bytes]

    def initial(self, b: Builder) -> Value:
        return b.constant(self.in_element, lowest(self.dtype), self.lanes)

    def step(self, total: Value, tap: Value) -> Value:
        b = total.b
        if self.dtype in ("u8", "i1"):
            return b.intrinsic(f"llvm.umax.v{self.lanes}i8", total.ir.type, total, tap)
        return b.select(tap.gt(total), tap, total)

    def finish(self, b: Builder, total: Value, count: Value) -> Value:
        return total


@dataclass(frozen=True)
class AvgPoolKernel(PoolKernel):
    """``nn.avg_pool2d`` of float32: the sum, from +0.0, divided by the number of taps.

    With ``count_include_pad`` the divisor is the window's size.
    """

    count_include_pad: bool

    @property
    def name(self) -> str:
        pad = "_pad" if self.count_include_pad else ""
        return f"f32_avg_pool{pad}_{self.structure}__{self.isa.name}"

    @property
    def in_element(self) -> str:
        return "f32"

    @property
    def in_bytes(self) -> int:
        return 4

    @property
    def out_bytes(self) -> int:
        return 4

    def initial(self, b: Builder) -> Value:
        return b.f32(0.0, LANES)

    def step(self, total: Value, tap: Value) -> Value:
        return total + tap

    def finish(self, b: Builder, total: Value, count: Value) -> Value:
        if self.count_include_pad:
            count = b.value("kernel_height") * b.value("kernel_width")
        return total / b.to_float(count)
