"""Bytes to floats without converting: ``BIAS + byte``, by interleaving with constant bytes.

``BIAS + byte`` has the bits ``0x4700_xx00`` where ``xx`` is the byte: ``2**15`` has the exponent
15, so the bits 8 to 15 of its 23 of mantissa are worth 1 to 128. That is 6 instructions for 64
bytes, of those that run on all ports of recent machines, where widening and converting take 8 that
run on half of them.
"""

from __future__ import annotations

from uqfc.codegen.isa.interleave import interleave_lanes
from uqfc.codegen.vector import Value

BIAS = 2.0**15
EXPONENT = 0x47
"""The highest byte of ``BIAS`` as a float32; its others are 0."""


def biased(block: Value) -> list[Value]:
    """64 i8 that stand for u8, as four f32 [16], each ``BIAS`` too large.

    Vector ``j`` has bytes ``4 j … 4 j + 3`` of each 16, which ``Saturation.pack_in_lanes`` undoes.
    """
    b = block.b
    zeros, exponents = (b.constant("i8", byte, block.lanes) for byte in (0, EXPONENT))
    return [b.as_float(word) for word in interleave_lanes([zeros, block, zeros, exponents])]
