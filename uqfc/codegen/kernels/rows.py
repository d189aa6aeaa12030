"""A ring of padded input rows: what a convolution over rows reads instead of the image.

A row is ``pad_x`` pixels of padding, pixels of the image, and padding. Row ``r`` of the padded
image is in slot ``r % slots``; rows are loaded once each, in order, in whole chunks.
"""

from __future__ import annotations

from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.vector import Pointer, Value

CHUNK = 64
PARAMETERS: dict[str, str] = {
    "height": "i64",
    "line": "i64",
    "pad_y": "i64",
    "pad_bytes": "i64",
    "copy_bytes": "i64",
    "pitch": "i64",
    "slots": "i64",
    "pad_value": "i32",
}
"""Bytes of an image row, of its padding at the left, of what is copied of it, of a slot."""


@dataclass(frozen=True)
class RowRing:
    """The ring of one function, which has ``PARAMETERS``: ``slots * pitch`` bytes.

    ``pitch`` is the bytes of a padded row, and at least a chunk more for what is written too much.
    """

    b: Builder
    ring: Pointer

    def advance(self, image: Pointer, loaded: Value, first: Value) -> Value:
        """Loads rows ``max(loaded, first) … first + slots - 1``; returns the next ``loaded``."""
        b = self.b
        start = b.select(loaded.lt(first), first, loaded)
        end = first + b.value("slots")
        with b.loop(start, end) as row:
            self._load(image, row)
        return end

    def row(self, number: Value) -> Pointer:
        """The address of a row of the padded image that is in the ring."""
        return self.ring + number % self.b.value("slots") * self.b.value("pitch")

    def _load(self, image: Pointer, row: Value) -> None:
        b = self.b
        target = self.row(row)
        line = row - b.value("pad_y")
        inside = line.ge(0) & line.lt(b.value("height"))
        copied = b.select(inside, b.value("copy_bytes"), b.i64(0))
        left = b.value("pad_bytes")
        self._fill(target, b.i64(0), left)
        source = image + line * b.value("line")
        body = target + left
        with b.loop(0, copied, CHUNK) as offset:
            body.store(source.load("i8", offset, CHUNK), offset)
        self._fill(target, left + copied, b.value("pitch") - CHUNK)

    def _fill(self, target: Pointer, start: Value, end: Value) -> None:
        value = self.b.value("pad_value").trunc("i8").splat(CHUNK)
        with self.b.loop(start, end, CHUNK) as offset:
            target.store(value, offset)
