"""Rows of an NHWC image with their padding, one after the other in scratch memory.

In such a strip every window of a convolution is inside, and a kernel row is adjacent bytes.
"""

from __future__ import annotations

from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.vector import Pointer, Value

CHUNK = 64
PARAMETERS: dict[str, str] = {
    "height": "i64",
    "image_line": "i64",
    "left": "i64",
    "copied": "i64",
    "filled": "i64",
    "pitch": "i64",
    "pad_value": "i32",
}
"""Rows of the image; bytes of one, of its padding at the left, of what is copied of it, of a row of
the strip without and with what follows it."""


def emit_padding(module: Any, isa: Isa, *, spread: bool = False) -> Any:
    """``f(image, strip, first, count, *PARAMETERS)``, emitted once.

    Rows ``first … first + count - 1`` of the image, which need not exist, to ``strip``. Copies and
    fills are whole chunks in ascending order, of which the next one overwrites what is too much: up
    to 63 bytes after the last row are written, and up to 63 bytes after the image are read.
    ``spread``: pixels of three bytes take four in the strip.
    """
    name = f"pad_rows{'_spread' if spread else ''}__{isa.name}"
    if function := find_function(module, name):
        return function
    parameters = {"image": "ptr", "strip": "noalias", "first": "i64", "count": "i64", **PARAMETERS}
    b = Builder.function(module, isa, name, internal=True, **parameters)
    left, pitch, height = b.value("left"), b.value("pitch"), b.value("height")
    target = [b.pointer("strip")]
    with b.loop(b.value("first"), b.value("first") + b.value("count"), carry=target) as row:
        inside = row.ge(0) & row.lt(height)
        copied = b.select(inside, b.value("copied"), b.i64(0))
        fill(b, target[0], b.i64(0), left)
        source, body = b.pointer("image") + row * b.value("image_line"), target[0] + left
        cursor = [source]
        with b.loop(0, copied, CHUNK, carry=cursor) as offset:
            chunk = cursor[0].load("i8", 0, CHUNK)
            body.store(_spread(b, chunk) if spread else chunk, offset)
            cursor[0] = cursor[0] + (CHUNK * 3 // 4 if spread else CHUNK)
        fill(b, target[0], left + copied, b.value("filled"))
        target[0] = target[0] + pitch
    return b.ret()


def _spread(b: Builder, chunk: Value) -> Value:
    """The first 48 bytes, three in each dword: first four dwords a lane, then within lanes."""
    dwords = chunk.bitcast("i32", 16).shuffle([3 * (i // 4) + i % 4 for i in range(16)])
    lane = [3 * pixel + min(channel, 2) for pixel in range(4) for channel in range(4)]
    order = [16 * (i // 16) + lane[i % 16] for i in range(CHUNK)]
    return dwords.bitcast("i8", CHUNK).shuffle(order)


def fill(b: Builder, target: Pointer, start: Value, end: Value) -> None:
    """The parameter ``pad_value`` in whole chunks from offset ``start`` to at least ``end``."""
    value = b.value("pad_value").trunc("i8").splat(CHUNK)
    with b.loop(start, end, CHUNK) as offset:
        target.store(value, offset)
