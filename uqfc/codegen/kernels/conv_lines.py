"""The lines of a convolution: their rows are found or made, and multiplied, some at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.padding import CHUNK
from uqfc.codegen.kernels.strip import lines_from, store_offsets
from uqfc.codegen.vector import Pointer, Value

if TYPE_CHECKING:
    from uqfc.codegen.kernels.conv import ConvSpec

ROWS = "rows_"
"""Starts the names of the parameters of what fills a strip."""
GEOMETRY: dict[str, str] = {
    "image": "i64",
    "out_height": "i64",
    "out_width": "i64",
    "strip_lines": "i64",
    "chunk": "i64",
    "reach": "i64",
    "overlap": "i64",
    "pad_y": "i64",
    "stride_y": "i64",
    "lda": "i64",
    "kernel_height": "i64",
    "runs": "i64",
    "row_step": "i64",
    "run_step": "i64",
    "groups": "i64",
    "group_inputs": "i64",
    "group_bytes": "i64",
    "group_channels": "i64",
}
"""Bytes of an image; lines of output that are padded, and computed, at a time; rows under a window,
and how many of them are under the next line's; bytes between the windows of neighbours, from kernel
row to kernel row and from run to run; input channels of a group, bytes of its weights, its padded
channels."""


class ConvLines:
    """The body of a ``ConvSpec``."""

    def __init__(self, spec: ConvSpec, b: Builder, product: Any, padding: Any | None) -> None:
        self.spec = spec
        self.b = b
        self.product = product
        self.padding = padding

    def run(self) -> None:
        b, get = self.b, self.b.value
        store_offsets(b)
        state = [get("begin"), b.i64(0)]
        with b.while_loop(lambda: state[0].lt(get("end")), state):
            line, kept = state
            image, y, lines = lines_from(b, line)
            kept = b.select(y.eq(0), b.i64(0), kept)
            self._groups(self._rows(image, y, lines, kept), line, lines)
            if self.padding is not None:
                kept = self._keep(lines)
            state[:] = [line + lines, kept]

    def _keep(self, lines: Value) -> Value:
        """Moves the rows that the next lines need, too, to the start; gives their number."""
        b, get = self.b, self.b.value
        strip, pitch, overlap = b.pointer("strip"), get(ROWS + "pitch"), get("overlap")
        source = strip + lines * get("stride_y") * pitch
        with b.loop(0, overlap * pitch, CHUNK) as offset:
            strip.store(source.load("i8", offset, CHUNK), offset)
        return overlap

    def _rows(self, image: Pointer, y: Value, lines: Value, kept: Value) -> Pointer:
        """The rows under some lines of output; of a strip the first ``kept`` are there."""
        b, get = self.b, self.b.value
        first = y * get("stride_y") - get("pad_y")
        pitch = get(ROWS + "pitch")
        if self.padding is None:
            return image + first * pitch
        count = (lines - 1) * get("stride_y") + get("reach")
        parameters = [get(ROWS + name) for name in self.spec.rows_parameters()]
        strip = b.pointer("strip")
        missing = (strip + kept * pitch, first + kept, count - kept)
        b.call(self.padding, image, *missing, *parameters)
        return strip

    def _groups(self, rows: Pointer, line: Value, lines: Value) -> None:
        b, get, epilogue = self.b, self.b.value, self.spec.epilogue
        pixel = line * get("out_width")
        with b.loop(0, get("groups")) as group:
            channel = group * get("n")
            padded = group * get("group_channels") * 4
            changed: dict[str, Value | Pointer] = {
                "a": rows + group * get("group_inputs"),
                "pixels": get("out_width"),
                "last_pixels": get("out_width"),
                "lines": lines,
                "line": get("stride_y") * get(ROWS + "pitch"),
                "segments": get("kernel_height") * get("runs"),
                "weights": b.pointer("weights") + group * get("group_bytes"),
                "addend": b.pointer("addend") + padded,
                "multiplier": b.pointer("multiplier") + padded,
                "out": b.pointer("out") + (pixel * get("ldc") + channel * epilogue.element_bytes),
            }
            if epilogue.residual:
                changed["residual"] = b.pointer("residual") + (pixel * get("ldr") + channel)
            b.call_with(self.product, changed)
