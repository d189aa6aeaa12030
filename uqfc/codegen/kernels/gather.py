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
from uqfc.codegen.vector import Pointer, Value

SHORT = 16
"""Bytes of the chunk where runs are not longer than that."""
LONG = 64
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


def emit_gather(module: Any, isa: Isa, short: bool) -> Any:
    """``f(x, strip, row_bytes, first, count, *PARAMETERS)``, emitted once.

    Rows ``first … first + count - 1`` of the im2col matrix to ``strip``, ``row_bytes`` apart; up
    to 63 bytes after the last row are overwritten. ``short``: ``taps * length <= 16``.
    """
    name = f"im2col_{'short' if short else 'long'}__{isa.name}"
    if function := find_function(module, name):
        return function
    parameters = {"x": "ptr", "strip": "noalias", "row_bytes": "i64", "first": "i64"}
    parameters |= {"count": "i64", **PARAMETERS}
    b = Builder.function(module, isa, name, internal=True, **parameters)
    _Gather(b, SHORT if short else LONG).run()
    return b.ret()


class _Gather:
    """The body of ``im2col``."""

    def __init__(self, b: Builder, chunk: int) -> None:
        self.b = b
        self.chunk = chunk
        self.fill = b.value("pad_value").trunc("i8").splat(chunk)
        self.run_bytes = b.value("taps") * b.value("length")
        self.kernel_width = (b.value("runs") - 1) * b.value("dilation_x") + b.value("taps")
        self.kernel_height = (b.value("kernel_height") - 1) * b.value("dilation_y") + 1
        self.line = b.value("width") * b.value("pixel")

    def run(self) -> None:
        b, get = self.b, self.b.value
        out_width, out_height = get("out_width"), get("out_height")
        line = get("first") // out_width
        image = b.pointer("x") + line // out_height * get("image")
        state: list[Any] = [get("first") % out_width, line % out_height, image, b.pointer("strip")]
        with b.loop(0, get("count"), carry=state):
            column, row, image, strip = state
            self._pixel(image, strip, column, row)
            next_column = column + 1
            wraps = next_column.eq(out_width)
            next_row = b.select(wraps, row + 1, row)
            ends = next_row.eq(out_height)
            state[0] = b.select(wraps, b.i64(0), next_column)
            state[1] = b.select(ends, b.i64(0), next_row)
            state[2] = b.select(ends, image + get("image"), image)
            state[3] = strip + get("row_bytes")

    def _pixel(self, image: Pointer, strip: Pointer, column: Value, row: Value) -> None:
        b, get = self.b, self.b.value
        y = row * get("stride_y") - get("pad_y")
        x = column * get("stride_x") - get("pad_x")
        below = get("height") - self.kernel_height
        right = get("width") - self.kernel_width
        inside = y.ge(0) & x.ge(0) & y.le(below) & x.le(right)
        with b.if_else(inside) as (then, other):
            with then:
                self._inside(image + (y * self.line + x * get("pixel")), strip)
            with other:
                self._border(image, strip, y, x)

    def _inside(self, source: Pointer, strip: Pointer) -> None:
        b, get = self.b, self.b.value
        rows = [source, strip]
        with b.loop(0, get("kernel_height"), carry=rows):
            runs = list(rows)
            with b.loop(0, get("runs"), carry=runs):
                self._copy(runs[0], runs[1], self.run_bytes)
                runs[0] = runs[0] + get("dilation_x") * get("pixel")
                runs[1] = runs[1] + self.run_bytes
            rows[0] = rows[0] + get("dilation_y") * self.line
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
        with self.b.loop(0, size, self.chunk) as offset:
            target.store(source.load("i8", offset, self.chunk), offset)

    def _fill(self, target: Pointer, size: Value) -> None:
        with self.b.loop(0, size, self.chunk) as offset:
            target.store(self.fill, offset)
