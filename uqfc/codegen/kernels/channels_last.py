"""Vectors of several channels stored pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

from uqfc.codegen.vector import Pointer, Value


def _next_power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def channels_last(channels: Sequence[Value]) -> Value:
    """``c0[0], c1[0], …, c0[1], c1[1], …``: lanes are filled up to a power of two.

    Two to four vectors of the same type.
    """
    lanes, count = channels[0].lanes, len(channels)
    order = [c * lanes + i for i in range(lanes) for c in range(count)]
    order += [0] * (_next_power_of_two(len(order)) - len(order))
    return _concatenate(channels).shuffle(order)


def store_channels_last(out: Pointer, channels: Sequence[Value]) -> None:
    """Stores exactly the lanes of the channels."""
    lanes, count = channels[0].lanes, len(channels)
    order = [c * lanes + i for i in range(lanes) for c in range(count)]
    out.store(_concatenate(channels).shuffle(order))


def _concatenate(channels: Sequence[Value]) -> Value:
    """All lanes one after the other, filled up to the double of the first two channels."""
    lanes = channels[0].lanes
    pair = channels[0].shuffle(range(2 * lanes), channels[1])
    if len(channels) == 2:
        return pair
    last = channels[3] if len(channels) == 4 else channels[2]
    rest = channels[2].shuffle(range(2 * lanes), last)
    return pair.shuffle(range(4 * lanes), rest)
