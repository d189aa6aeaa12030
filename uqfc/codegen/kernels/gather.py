"""im2col: the inputs of some output pixels as rows of a matrix, padding filled in.

A row is ``kh`` kernel rows of ``runs`` runs; a run is ``taps`` pixels that are adjacent in the
image, of ``length`` bytes each. Without groups and dilation a kernel row is one run of ``kw``
pixels, otherwise ``kw`` runs of one. Copies and fills are done in whole chunks in ascending order:
what one writes too much the next one overwrites.
"""

from __future__ import annotations

from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import Pointer, Value

CHUNK = 64
PARAMETERS: dict[str, str] = {
    "height": "i64",
    "width": "i64",
    "pixel": "i64",
    "image": "i64",
    "out_height": "i64",
    "out_width": "i64",
    "kernel_height": "i64",
    "runs": "i64",
    "taps": "i64",
    "length": "i64",
    "stride_y": "i64",
    "stride_x": "i64",
    "dilation_y": "i64",
    "dilation_x": "i64",
    "pad_y": "i64",
    "pad_x": "i64",
    "pad_value": "i32",
}
"""Bytes of a pixel and of an image; the rest in pixels, ``length`` in bytes of a run's pixel."""


def emit_gather(module: Any, isa: Isa) -> Any:
    """``f(x, strip, row_bytes, first, count, *PARAMETERS)``, emitted once.

    Rows ``first … first + count - 1`` of the im2col matrix to ``strip``, ``row_bytes`` apart;
    up to ``CHUNK - 1`` bytes after the last row are overwritten.
    """
    name = f"im2col__{isa.name}"
    if function := find_function(module, name):
        return function
    parameters = {"x": "ptr", "strip": "noalias", "row_bytes": "i64", "first": "i64"}
    parameters |= {"count": "i64", **PARAMETERS}
    b = Builder.function(module, isa, name, internal=True, **parameters)
    _Gather(b).run()
    return b.ret()


def gather_arguments(dims: ConvDims, pad_value: int) -> list[Pointer | int]:
    """The values of ``PARAMETERS``, with elements of one byte."""
    runs = dims.segments // dims.kernel[0]
    return [
        dims.height,
        dims.width,
        dims.in_channels,
        dims.height * dims.width * dims.in_channels,
        dims.out_height,
        dims.out_width,
        dims.kernel[0],
        runs,
        dims.kernel[1] // runs,
        dims.in_channels // dims.groups,
        *dims.stride,
        *dims.dilation,
        *dims.pad_begin,
        pad_value,
    ]


class _Gather:
    """The body of the function: runs of pixels inside the image at once, others one by one."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        get = b.value
        self.fill = get("pad_value").trunc("i8").splat(CHUNK)
        self.run_bytes = get("taps") * get("length")
        self.line = get("width") * get("pixel")
        kernel_width = (get("runs") - 1) * get("dilation_x") + get("taps")
        kernel_height = (get("kernel_height") - 1) * get("dilation_y") + 1
        self.last_y = get("height") - kernel_height
        stride, pad = get("stride_x"), get("pad_x")
        self.inside_from = (pad + stride - 1) // stride
        room = get("width") - kernel_width + pad
        fits = (room + stride) // stride
        self.inside_to = b.select(room.lt(0), b.i64(0), smaller(fits, get("out_width")))

    def run(self) -> None:
        b, get = self.b, self.b.value
        out_width, out_height = get("out_width"), get("out_height")
        line = get("first") // out_width
        image = b.pointer("x") + line // out_height * get("image")
        state: list[Any] = [get("first") % out_width, line % out_height, image]
        state += [b.pointer("strip"), get("count")]
        with b.while_loop(lambda: state[4].gt(0), state):
            column, row, image, strip, left = state
            done = self._pixels(image, strip, column, row, left)
            next_column = column + done
            wraps = next_column.eq(out_width)
            next_row = b.select(wraps, row + 1, row)
            ends = next_row.eq(out_height)
            state[0] = b.select(wraps, b.i64(0), next_column)
            state[1] = b.select(ends, b.i64(0), next_row)
            state[2] = b.select(ends, image + get("image"), image)
            state[3] = strip + done * get("row_bytes")
            state[4] = left - done

    def _pixels(
        self, image: Pointer, strip: Pointer, column: Value, row: Value, left: Value
    ) -> Value:
        """One pixel, or as many as are inside in this row; returns their number."""
        b, get = self.b, self.b.value
        y = row * get("stride_y") - get("pad_y")
        x = column * get("stride_x") - get("pad_x")
        inside = y.ge(0) & y.le(self.last_y) & column.ge(self.inside_from)
        inside = inside & column.lt(self.inside_to)
        count = b.select(inside, smaller(self.inside_to - column, left), b.i64(1))
        with b.if_else(inside) as (then, other):
            with then:
                cursor = [image + (y * self.line + x * get("pixel")), strip]
                with b.loop(0, count, carry=cursor):
                    source, target = cursor
                    self._inside(source, target)
                    cursor[0] = source + get("stride_x") * get("pixel")
                    cursor[1] = target + get("row_bytes")
            with other:
                self._border(image, strip, y, x)
        return count

    def _inside(self, source: Pointer, strip: Pointer) -> None:
        b, get = self.b, self.b.value
        step = get("dilation_y") * self.line
        rows = [source, strip]
        with b.loop(0, get("kernel_height"), carry=rows):
            runs = list(rows)
            with b.loop(0, get("runs"), carry=runs):
                self._copy(runs[0], runs[1], self.run_bytes)
                runs[0] = runs[0] + get("dilation_x") * get("pixel")
                runs[1] = runs[1] + self.run_bytes
            rows[0] = rows[0] + step
            rows[1] = runs[1]

    def _border(self, image: Pointer, strip: Pointer, y: Value, x: Value) -> None:
        b, get = self.b, self.b.value
        taps, length = get("taps"), get("length")
        zero = b.i64(0)
        target = [strip]
        with b.loop(0, get("kernel_height"), carry=target) as ky:
            line = y + ky * get("dilation_y")
            missing = line.lt(0) | line.ge(get("height"))
            with b.loop(0, get("runs"), carry=target) as run:
                start = x + run * get("dilation_x")
                before = b.select(start.lt(0), zero - start, zero)
                before = b.select(before.gt(taps) | missing, taps, before)
                end = get("width") - start
                end = b.select(end.gt(taps), taps, end)
                end = b.select(end.lt(before), before, end)
                source = image + (line * self.line + (start + before) * get("pixel"))
                self._fill(target[0], before * length)
                self._copy(source, target[0] + before * length, (end - before) * length)
                self._fill(target[0] + end * length, (taps - end) * length)
                target[0] = target[0] + self.run_bytes

    def _copy(self, source: Pointer, target: Pointer, size: Value) -> None:
        """Where ``size`` is not 0: an empty run may point outside the image."""
        with self.b.loop(0, size, CHUNK) as offset:
            target.store(source.load("i8", offset, CHUNK), offset)

    def _fill(self, target: Pointer, size: Value) -> None:
        with self.b.loop(0, size, CHUNK) as offset:
            target.store(self.fill, offset)
