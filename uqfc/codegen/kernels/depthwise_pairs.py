"""Depthwise convolution in int16 sums of pairs of taps: AVX2, where weights prove that they fit.

``vpmaddubsw`` multiplies two taps of 16 channels and adds them as int16. Pairs are taps of two rows
of a kernel column, and in the last row of an odd number of rows two taps of it (the last of an odd
number has a weight of 0 beside it). 32 channels are done at a time, the last ones of a pixel
together with some that are done already. Unpacking two rows of 32 bytes within lanes of 128 bits
gives channels 0-7, 16-23 (``LOW``) and 8-15, 24-31; the even and the odd int16 of both are widened
and rounded apart, and a last shuffle puts their bytes in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import YMM_LANES, add_evens, dot_for, pair_products
from uqfc.codegen.kernels.depthwise_geometry import Geometry
from uqfc.codegen.kernels.depthwise_rows import InputRows
from uqfc.codegen.kernels.depthwise_weights import Weights
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.int16_sums import MOST_WEIGHT
from uqfc.codegen.kernels.tensor import larger, smaller
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import I32, LINE, Storage

CHANNELS = 32
"""Channels at a time: the bytes of a register."""
PIXELS = 4
"""Outputs of a row that are computed together."""
YMM_BYTES = 4 * YMM_LANES
HALF = 8
"""Channels of a lane of 128 bits that are in ``LOW``."""
LOW = [lane * 2 * HALF + i for lane in (0, 1) for i in range(HALF)]
HIGH = [channel + HALF for channel in LOW]
IN_ORDER = [HALF * (i % 2) + i // 2 for i in range(2 * HALF)]
"""Bytes of a lane that holds eight even channels, then eight odd ones."""

Addresses: TypeAlias = dict[tuple[int, int], Pointer]
"""Of kernel rows in input columns."""


def fits_int16(weights: I32, zero_points: I32) -> bool:
    """Whether int16 holds the sum of all taps of weights [channels, kh, kw], whatever the input."""
    centred = (weights - zero_points[:, None, None]).reshape(len(weights), -1)
    largest = np.maximum(centred, 0).sum(axis=1), np.maximum(-centred, 0).sum(axis=1)
    return max(int(sums.max(initial=0)) for sums in largest) <= MOST_WEIGHT


def sums_pairs(isa: Isa, channels: int, storage: Storage, epilogue: Epilogue) -> bool:
    """Whether weights that fit are done this way."""
    narrow = storage in ("u4", "u2") and isa.name == "avx2"
    return narrow and channels >= CHANNELS and epilogue.output == "u8" and not epilogue.residual


@dataclass(frozen=True)
class Pair:
    """Two taps: of rows ``ky``, ``ky + 1`` of a column, or of columns ``kx``, ``kx + 1`` of a row.

    ``single``: the second tap does not exist.
    """

    ky: int
    kx: int
    vertical: bool
    single: bool = False


def pairs_of(kernel: tuple[int, int]) -> list[Pair]:
    """All taps of a kernel."""
    height, width = kernel
    pairs = [Pair(ky, kx, True) for ky in range(0, height - 1, 2) for kx in range(width)]
    if height % 2:
        last = height - 1
        pairs += [Pair(last, kx, False, kx + 1 == width) for kx in range(0, width, 2)]
    return pairs


class PairsBody:
    """Emits the body of the function of a ``DepthwiseSpec``; a step is an output row."""

    def __init__(
        self, b: Builder, geometry: Geometry, storage: Storage, epilogue: Epilogue
    ) -> None:
        self.b = b
        self.geometry = geometry
        self.epilogue = epilogue
        self.pixel = b.value("channels")
        self.rows = InputRows(b)
        self.pairs = pairs_of(geometry.kernel)
        dot = dot_for(b.isa, "s4")
        self.stored = Weights(b, geometry, dot, storage, 3, multipliers=False)
        self.words = b.stack(len(self.stored.places) * 3 * LINE)
        self.weights = b.stack(len(self.pairs) * 2 * YMM_BYTES)
        self.addends, self.multipliers = b.stack(2 * LINE), b.stack(2 * LINE)
        self.scalars = {name: b.value(name) for name in epilogue.scalars()}
        self.saturation = epilogue.saturation(b, self.scalars)

    # --- loops ---------------------------------------------------------------------------------

    def run(self) -> None:
        b, get = self.b, self.b.value
        self.rows.fill_padding()
        inside = self._inside()
        with b.loop(get("begin"), get("end"), get("strip")) as first:
            last = smaller(first + get("strip"), get("end"))
            image = first // get("out_height")
            start = [image * get("height"), first - image * get("out_height")]
            with b.loop(0, self.pixel, CHANNELS) as wanted:
                channel = smaller(wanted, self.pixel - CHANNELS)
                self._prepare(channel)
                state = list(start)
                with b.loop(first, last, carry=state) as row:
                    above, y = state
                    self._row(above, y, row, channel, inside)
                    ends = (y + 1).ge(get("out_height"))
                    state[0] = above + b.select(ends, get("height"), b.i64(0))
                    state[1] = b.select(ends, b.i64(0), y + 1)

    def _inside(self) -> tuple[Value, Value]:
        """First output of a row that reads no padding of columns, and the one after the last."""
        b, get, stride = self.b, self.b.value, self.geometry.stride[1]
        room = get("width") + get("pad_x") - self.geometry.span
        after = b.select(room.ge(0), larger(room, 0) // stride + 1, b.i64(0))
        begin = smaller((get("pad_x") + (stride - 1)) // stride, get("out_width"))
        return begin, larger(smaller(after, get("out_width")), begin)

    def _row(
        self, above: Value, y: Value, out_row: Value, channel: Value, inside: tuple[Value, Value]
    ) -> None:
        """Outputs in blocks, the last of which may overlap the one before, or one by one if few."""
        b, g, get = self.b, self.geometry, self.b.value
        top = y * g.stride[0] - get("pad_y")
        rows = [self.rows.row(above, top + ky * g.dilation[0]) for ky in range(g.kernel[0])]
        rows = [row + channel for row in rows]
        width = get("out_width")
        out = b.pointer("out") + (out_row * width * self.pixel + channel)
        last = width - PIXELS
        with b.loop(0, b.select(last.ge(0), width, b.i64(0)), PIXELS) as begin:
            x = smaller(begin, last)
            target = out + x * self.pixel
            with b.if_else(x.ge(inside[0]) & (x + PIXELS).le(inside[1])) as (whole, partial):
                with whole:
                    self._outputs(self._addresses(rows, x, PIXELS), PIXELS, target)
                with partial:
                    self._outputs(self._padded(rows, x, PIXELS), PIXELS, target)
        with b.loop(0, b.select(last.ge(0), b.i64(0), width)) as x:
            self._outputs(self._padded(rows, x, 1), 1, out + x * self.pixel)

    def _addresses(self, rows: list[Pointer], x: Value, pixels: int) -> Addresses:
        """Of the taps of outputs from ``x`` on, which are all inside."""
        left = (x * self.geometry.stride[1] - self.b.value("pad_x")) * self.pixel
        starts = [row + left for row in rows]
        return {
            (ky, q): start + self.pixel * q
            for ky, start in enumerate(starts)
            for q in self._columns(pixels)
        }

    def _padded(self, rows: list[Pointer], x: Value, pixels: int) -> Addresses:
        """Of the taps of outputs from ``x`` on, of padding where they are outside."""
        b, g = self.b, self.geometry
        addresses: Addresses = {}
        for q in self._columns(pixels):
            column = x * g.stride[1] - b.value("pad_x") + q
            exists = column.below(b.value("width"))
            for ky, row in enumerate(rows):
                source = row + column * self.pixel
                addresses[ky, q] = b.select(exists, source, b.pointer("padding"))
        return addresses

    def _columns(self, pixels: int) -> list[int]:
        """Input columns of some outputs, from the first of them on."""
        taps = [(p, kx) for p in range(pixels) for kx in range(self.geometry.kernel[1])]
        return sorted({self.geometry.column(p, kx) for p, kx in taps})

    # --- outputs -------------------------------------------------------------------------------

    def _outputs(self, addresses: Addresses, pixels: int, out: Pointer) -> None:
        """Some outputs of a row."""
        sums: list[list[Value | None]] = [[None, None] for _ in range(pixels)]
        for ky in sorted({pair.ky for pair in self.pairs}):
            for q in self._columns(pixels):
                used = self._used(ky, q, pixels)
                if not used:
                    continue
                operands = self._operands(addresses, ky, q, [pair for _, pair in used])
                for p, pair in used:
                    for half, operand in enumerate(operands):
                        place = self.pairs.index(pair) * 2 + half
                        offset = place * YMM_BYTES
                        weights = self.weights.load("i32", offset, YMM_LANES, align=YMM_BYTES)
                        products = pair_products((operand,), (weights,))
                        before = sums[p][half]
                        sums[p][half] = products if before is None else before + products
        for p, (low, high) in enumerate(sums):
            assert low is not None
            assert high is not None
            (out + self.pixel * p).store(self._rounded(low, high))

    def _used(self, ky: int, q: int, pixels: int) -> list[tuple[int, Pair]]:
        """Outputs, and their pairs that start at an input column."""
        return [
            (p, pair)
            for p in range(pixels)
            for pair in self.pairs
            if pair.ky == ky and self.geometry.column(p, pair.kx) == q
        ]

    def _operands(self, addresses: Addresses, ky: int, q: int, pairs: list[Pair]) -> list[Value]:
        """The pairs of bytes of ``LOW`` and ``HIGH``; where no second is needed, any."""
        first = addresses[ky, q].load("i8", 0, CHANNELS)
        if pairs[0].vertical:
            second = addresses[ky + 1, q].load("i8", 0, CHANNELS)
        else:
            place = ky, q + self.geometry.dilation[1]
            second = addresses[place].load("i8", 0, CHANNELS) if place in addresses else first
        halves = [[c + CHANNELS * which for c in half for which in (0, 1)] for half in (LOW, HIGH)]
        return [first.shuffle(order, second).bitcast("i32", YMM_LANES) for order in halves]

    def _rounded(self, low: Value, high: Value) -> Value:
        """32 u8, in order, of their sums."""
        parts: list[Value] = []
        for odd in (0, 1):
            widened = [self._widened(half, odd) for half in (low, high)]
            sums = widened[0].shuffle(range(LANES), widened[1])
            offset = odd * LINE
            sums = sums + self.addends.load("i32", offset, align=LINE)
            multiplier = self.multipliers.load("f32", offset, align=LINE)
            parts.append(self.epilogue.before_rounding(sums, multiplier, None, self.scalars))
        return self.saturation.pack_in_two_lanes(parts[0], parts[1]).shuffle(
            [lane * 2 * HALF + IN_ORDER[i] for lane in (0, 1) for i in range(2 * HALF)]
        )

    def _widened(self, sums: Value, odd: int) -> Value:
        """The even or odd int16 as int32."""
        return sums.bitcast("i32", YMM_LANES) >> 16 if odd else add_evens(sums)

    # --- operands of a block of channels -------------------------------------------------------

    def _prepare(self, channel: Value) -> None:
        """Weights, addends and multipliers of 32 channels, in the order that sums have."""
        b = self.b
        offset = channel & (LANES - 1)
        groups = b.select(offset.eq(0), b.i64(2), b.i64(3))
        self.stored.prepare(channel - offset, groups)
        places = self.stored.places
        with b.loop(0, groups) as group:
            source = self.stored.memory + group * self.stored.group_bytes
            for i, place in enumerate(places):
                self.words.store(self.stored.load(source, place)[0], group * LINE + i * 3 * LINE)
        words = [
            self.words.load_i32(offset * 4 + i * 3 * LINE, CHANNELS) for i in range(len(places))
        ]
        for i, pair in enumerate(self.pairs):
            taps = self._taps(words, pair)
            for half, order in enumerate((LOW, HIGH)):
                self.weights.store(taps.shuffle(order), (2 * i + half) * YMM_BYTES, align=YMM_BYTES)
        for name, kind, target in (
            ("addend", "i32", self.addends),
            ("multiplier", "f32", self.multipliers),
        ):
            values = b.pointer(name).load(kind, channel * 4, CHANNELS)
            for odd in (0, 1):
                order = [*LOW[odd::2], *HIGH[odd::2]]
                target.store(values.shuffle(order), odd * LINE, align=LINE)

    def _taps(self, words: list[Value], pair: Pair) -> Value:
        """The weights of a pair, i16 [32]: the first in the lower byte."""
        per_column = len(words) // self.geometry.kernel[1]
        word, byte = divmod(pair.ky, 4)
        moved = words[pair.kx * per_column + word].shift_right_logical(8 * byte)
        if pair.vertical:
            return moved.trunc("i16")
        first = (moved & 0xFF).trunc("i16")
        if pair.single:
            return first
        other = words[(pair.kx + 1) * per_column + word].shift_right_logical(8 * byte)
        return first | (other & 0xFF).trunc("i16") << 8
