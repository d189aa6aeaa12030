"""Convolution on AMX, NHWC, without groups and without im2col: see ``conv`` and ``amx_strip``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.amx_product import AmxSpec
from uqfc.codegen.kernels.amx_strip import AmxStrip
from uqfc.codegen.kernels.epilogue import Scalars
from uqfc.codegen.kernels.operands import ConvDims, Operands
from uqfc.codegen.kernels.padding import PARAMETERS, emit_padding
from uqfc.codegen.kernels.strip import lines_from, offsets_bytes, store_offsets
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import PanelLayout

GEOMETRY: dict[str, str] = {
    "image": "i64",
    "out_height": "i64",
    "out_width": "i64",
    "strip_lines": "i64",
    "reach": "i64",
    "pad_y": "i64",
    "stride_y": "i64",
    "lda": "i64",
    "between": "i64",
    "kernel_height": "i64",
    "runs": "i64",
    "row_step": "i64",
    "run_step": "i64",
}
"""Bytes of an image; lines of output at a time; rows under a window; bytes between the windows of
neighbours; pixels from line to line if they are joined, else 0; bytes from kernel row to kernel row
and from run to run."""


@dataclass(frozen=True)
class AmxConvSpec(AmxSpec[ConvDims]):
    """A convolution that is not a matrix product and has no groups. ``storage`` is s8, u4 or u2."""

    padded: bool

    @property
    def operation(self) -> str:
        return "conv" if self.padded else "conv_valid"

    def layout(self, dims: ConvDims) -> PanelLayout:
        """Layout of the weights as [out_channels, kh * kw * in_channels]."""
        return self.product.layout(dims.out_channels, dims.taps, segments=dims.segments)

    def scratch_bytes(self, dims: ConvDims) -> int:
        """Bytes of scratch memory: offsets of segments, padded rows, what the product needs."""
        strip = AmxStrip.of(dims)
        product = self.product.scratch_bytes(self.layout(dims), strip.line_pixels(dims))
        return offsets_bytes(dims) + strip.bytes + product

    def splits(self, dims: ConvDims) -> bool:
        """Whether ``call`` can compute a part."""
        return dims.batch * dims.out_height > 1

    def call(
        self,
        b: Builder,
        operands: Operands,
        dims: ConvDims,
        scalars: Scalars,
        part: Part | None = None,
    ) -> None:
        """Emits a call; see ``kernels``. ValueError where the dims are not those of the spec."""
        strip = AmxStrip.of(dims)
        if dims.is_product or dims.groups != 1 or strip.padded != self.padded:
            raise ValueError(f"{self.name} is not the kernel of {dims}")
        if operands.scratch is None:
            raise ValueError(f"{self.name} needs scratch memory")
        offsets = operands.scratch
        padded_rows = offsets + offsets_bytes(dims)
        inner = replace(operands, scratch=padded_rows + strip.bytes)
        lines = dims.batch * dims.out_height
        begin, end = (0, lines) if part is None else part.share(lines)
        arguments: list[Pointer | Value | int] = [operands.x, begin, end]
        arguments += [offsets, padded_rows, *_geometry(dims, strip)]
        arguments += [dims.height, strip.image_line, strip.left, strip.copied]
        arguments += [strip.filled, strip.filled, scalars.pad_value]
        distances = dims.ldc, dims.out_channels
        arguments += self.product.arguments(inner, self.layout(dims), *distances)
        function = self.emit(b.module, b.isa)
        b.call(function, *arguments, *self.epilogue.scalar_values(scalars))

    def emit(self, module: Any, isa: Isa) -> Any:
        """``f(x, begin, end, offsets, strip, *GEOMETRY, *padding.PARAMETERS, …)``, emitted once.

        Lines ``begin … end - 1`` of the output are computed, of all images one after the other.
        """
        if function := find_function(module, self.name):
            return function
        product = self.product.emit(module, isa)
        padding = emit_padding(module, isa) if self.padded else None
        parameters = {"x": "ptr", "begin": "i64", "end": "i64", "offsets": "ptr", "strip": "ptr"}
        parameters |= GEOMETRY | PARAMETERS | self.product.parameters(inside=False)
        b = Builder.function(module, isa, self.name, internal=True, **parameters)
        _AmxConv(self, b, product, padding).run()
        return b.ret()


def _geometry(dims: ConvDims, strip: AmxStrip) -> list[int]:
    """The values of ``GEOMETRY``."""
    channels = dims.in_channels
    return [
        dims.height * dims.width * channels,
        dims.out_height,
        dims.out_width,
        strip.lines,
        dims.reach[0],
        dims.pad_begin[0],
        dims.stride[0],
        dims.stride[1] * channels,
        strip.filled // channels * strip.joined,
        dims.kernel[0],
        dims.segments // dims.kernel[0],
        dims.dilation[0] * strip.filled,
        dims.dilation[1] * channels,
    ]


class _AmxConv:
    """The body of an ``AmxConvSpec``."""

    def __init__(self, spec: AmxConvSpec, b: Builder, product: Any, padding: Any | None) -> None:
        self.spec = spec
        self.b = b
        self.product = product
        self.padding = padding

    def run(self) -> None:
        """Some lines of one image at a time."""
        b, get = self.b, self.b.value
        store_offsets(b)
        state = [get("begin")]
        with b.while_loop(lambda: state[0].lt(get("end")), state):
            line = state[0]
            image, y, lines = lines_from(b, line)
            self._lines(self._rows(image, y, lines), line, y, lines)
            state[0] = line + lines

    def _rows(self, image: Pointer, y: Value, lines: Value) -> Pointer:
        """The rows under some lines of output, padded if need be."""
        b, get = self.b, self.b.value
        first = y * get("stride_y") - get("pad_y")
        if self.padding is None:
            return image + first * get("pitch")
        count = (lines - 1) * get("stride_y") + get("reach")
        parameters = [get(name) for name in PARAMETERS]
        b.call(self.padding, image, b.pointer("strip"), first, count, *parameters)
        return b.pointer("strip")

    def _lines(self, rows: Pointer, line: Value, y: Value, lines: Value) -> None:
        """Joined lines are one. Where the image itself is read, so may be what is before them."""
        b, get = self.b, self.b.value
        pixel, width, between = line * get("out_width"), get("out_width"), get("between")
        joined = between.gt(0)
        changed: dict[str, Value | Pointer] = {
            "a": rows,
            "pixels": (lines - 1) * between + width,
            "lines": b.select(joined, b.i64(1), lines),
            "line": get("stride_y") * get("pitch"),
            "width": width,
            "pitch": b.select(joined, between, width),
            "behind": b.i64(0) if self.padding is not None else y * between,
            "segments": get("kernel_height") * get("runs"),
            "out": b.pointer("out") + pixel * get("ldc"),
        }
        if self.spec.epilogue.residual:
            changed["residual"] = b.pointer("residual") + pixel * get("ldr")
        b.call_with(self.product, changed)
