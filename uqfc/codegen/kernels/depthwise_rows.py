"""Where a depthwise convolution finds its input rows: in the image, or in a row of padding."""

from __future__ import annotations

from uqfc.codegen.builder import Builder
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import LINE


class InputRows:
    """Rows of a function that has ``x``, ``padding`` and the sizes of a ``DepthwiseSpec``."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.line = b.value("width") * b.value("channels")

    def fill_padding(self) -> None:
        """Before any row is used."""
        b = self.b
        fill = b.value("pad_value").trunc("i8").splat(LINE)
        with b.loop(0, b.value("padding_bytes"), LINE) as offset:
            b.pointer("padding").store(fill, offset)

    def row(self, above: Value, row: Value) -> Pointer:
        """A row of an image that has ``above`` rows before it, or the row of padding."""
        b = self.b
        source = b.pointer("x") + (above + row) * self.line
        return b.select(row.below(b.value("height")), source, b.pointer("padding"))
