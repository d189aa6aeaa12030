"""Panels of narrow weights as int8: done once for a panel that several rows are multiplied by.

What follows a panel, mostly the next one, is asked for meanwhile: it is in the second level cache
when the rows have been multiplied. See ``reading`` for panels that are not expanded.
"""

from __future__ import annotations

from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.narrow import decoded, zero_bytes
from uqfc.codegen.vector import LANES, Value
from uqfc.packing import NARROW_BITS, Storage


def emit_expand(module: Any, isa: Isa, storage: Storage) -> Any:
    """``f(packed, zero_points, channels, steps, out)``: a ``u4`` or ``u2`` panel as int8.

    The result is ``w - zero point``. ``steps`` of 8 (16) K; ``channels`` is a multiple of 16;
    ``out`` int8 [2 (4) * steps][channels][4]. All channels of a full panel are done in one pass.
    """
    name = f"expand_{storage}__{isa.name}"
    if function := find_function(module, name):
        return function
    parameters = {"packed": "ptr", "zero_points": "ptr", "channels": "i64", "steps": "i64"}
    parameters |= {"out": "noalias"}
    b = Builder.function(module, isa, name, internal=True, **parameters)
    channels = b.value("channels")
    full = channels // isa.panel * isa.panel
    with b.loop(0, full, isa.panel) as channel:
        _expand_channels(b, storage, channel, isa.panel)
    with b.loop(full, channels, LANES) as channel:
        _expand_channels(b, storage, channel, LANES)
    return b.ret()


def _expand_channels(b: Builder, storage: Storage, first: Value, count: int) -> None:
    """``count`` channels, a multiple of 16."""
    bits = NARROW_BITS[storage]
    row = b.value("channels") * 4
    size = row * b.value("steps")
    zero_points = b.pointer("zero_points")
    zeros = [zero_bytes(zero_points, first + channel) for channel in range(0, count, LANES)]
    cursor = [b.pointer("packed") + first * 4, b.pointer("out") + first * 4]
    with b.loop(0, b.value("steps"), carry=cursor):
        for line, zeros_of_line in enumerate(zeros):
            place = cursor[0] + 4 * LANES * line
            words = place.load_i32()
            (place + size).prefetch(level=2)
            for part in range(8 // bits):
                values = decoded(words, bits, part, zeros_of_line)
                cursor[1].store(values, row * part + 4 * LANES * line)
        cursor[:] = [cursor[0] + row, cursor[1] + row * (8 // bits)]
