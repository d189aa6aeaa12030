"""From the sums of a depthwise convolution to its outputs: epilogue, packing, stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.depthwise_geometry import VECTORS
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.saturating import Saturation
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import LINE


@dataclass(frozen=True)
class Line:
    """Outputs of one segment of a row: the element where it starts, and its pixels."""

    first: Value
    count: Value


@dataclass(frozen=True)
class Sum:
    """A vector of 16 channels of a block: int32, and what becomes of it until it is stored."""

    pixel: int
    row: int
    group: int
    value: Value
    part: int | None = None
    """Which 16 lanes of ``value`` it is, if that holds more than one."""

    @property
    def lanes(self) -> Value:
        """To be stored; taken out where they are, as one instruction does both."""
        if self.part is None:
            return self.value
        return self.value.shuffle(range(LANES * self.part, LANES * (self.part + 1)))


class Outputs:
    """Of a function that has ``out``, ``channels`` and what the epilogue needs."""

    def __init__(self, b: Builder, epilogue: Epilogue, pieces: int) -> None:
        self.b = b
        self.epilogue = epilogue
        self.pixel = b.value("channels")
        self.parts = b.stack(LINE * pieces)
        self.scalars = {name: b.value(name) for name in epilogue.scalars()}
        self.saturation: Saturation | None = None
        if epilogue.output == "u8":
            self.saturation = epilogue.saturation(b, self.scalars)

    def pieces(
        self,
        sums: Sequence[Sum],
        multipliers: dict[int, Value | None],
        places: list[Line],
    ) -> list[Sum]:
        """What is stored of sums of one group, in the order that their bytes are packed in.

        Or, if the output is not u8, of several groups.
        """
        vectors = self._before_rounding(sums, multipliers, places, self._residual)
        fours = [vectors[i : i + VECTORS] for i in range(0, len(vectors), VECTORS)]
        return [piece for four in fours for piece in self._packed(four)]

    def halves(
        self,
        sums: Sequence[Sum],
        multipliers: dict[int, Value | None],
        places: list[Line],
    ) -> list[Sum]:
        """Of sums of two groups of four, whose channels are in lanes: a vector of i16 of both."""
        assert self.saturation is not None
        vectors = self._before_rounding(sums, multipliers, places, self._residual_in_lanes)
        return [
            replace(first, value=self.saturation.pack_half(first.value, second.value))
            for first, second in zip(vectors[::2], vectors[1::2], strict=True)
        ]

    def joined(self, first: list[Sum], second: list[Sum]) -> list[Sum]:
        """The bytes of 64 channels: what is stored of two results of ``halves``."""
        assert self.saturation is not None
        return [
            replace(one, value=self.saturation.join_halves(one.value, other.value))
            for one, other in zip(first, second, strict=True)
        ]

    def _before_rounding(
        self,
        sums: Sequence[Sum],
        multipliers: dict[int, Value | None],
        places: list[Line],
        residual_of: Callable[[Line, Sum], Value],
    ) -> list[Sum]:
        """Sums as float32, or what else is the output."""
        vectors: list[Sum] = []
        for each in sums:
            residual = residual_of(places[each.row], each) if self.epilogue.residual else None
            operands = each.value, multipliers[each.group], residual, self.scalars
            vectors.append(replace(each, value=self.epilogue.before_rounding(*operands)))
        return vectors

    def _packed(self, vectors: list[Sum]) -> list[Sum]:
        """At most four vectors of float32 to bytes, if the output is u8."""
        if self.saturation is None:
            return vectors
        packed = self.saturation.pack([vector.value for vector in vectors])
        return [replace(vector, value=packed, part=i) for i, vector in enumerate(vectors)]

    def _residual(self, place: Line, at: Sum) -> Value:
        """Of 16 channels of the pixel of a sum; anything if there is no such pixel."""
        return self._pixel(place, at).load_u8_as_i32(at.group * LANES)

    def _residual_in_lanes(self, place: Line, at: Sum) -> Value:
        """The same of the channels of a group that are in lanes."""
        fours = [LANES * i + 4 * at.group for i in range(VECTORS)]
        in_lanes = [four + i for four in fours for i in range(4)]
        return self._pixel(place, at).load("i8", 0, LINE).shuffle(in_lanes).zext("i32")

    def _pixel(self, place: Line, at: Sum) -> Pointer:
        source = self.b.pointer("residual") + (place.first + self.pixel * at.pixel)
        return self.b.select(self.b.i64(at.pixel).lt(place.count), source, self.parts)

    def store(self, places: list[Line], pieces: list[Sum]) -> None:
        """All values of all pixels."""
        size = self.epilogue.element_bytes
        out = self.b.pointer("out")
        for piece in pieces:
            target = out + places[piece.row].first * size
            offset = self.pixel * (piece.pixel * size) + piece.group * (LANES * size)
            target.store(piece.lanes, offset)

    def store_some(self, places: list[Line], pieces: list[Sum], rest: Value) -> None:
        """The pixels that exist, and of each the ``rest`` channels that do."""
        for row, place in enumerate(places):
            self._store_in_turn(place, [piece for piece in pieces if piece.row == row], rest)

    def _store_in_turn(self, place: Line, pieces: list[Sum], rest: Value) -> None:
        """Of one row; in a loop, as code for a pixel's tail can be long."""
        b, size = self.b, self.epilogue.element_bytes
        for i, piece in enumerate(pieces):
            self.parts.store(piece.lanes, i * LINE)
        groups = [piece.group * LANES for piece in pieces if piece.pixel == 0]
        out = b.pointer("out") + place.first * size
        lanes = pieces[0].lanes.lanes
        with b.loop(0, smaller(place.count, len(pieces) // len(groups))) as p:
            part = self.parts + p * (LINE * len(groups))
            for i, channel in enumerate(groups):
                value = part.load(self.epilogue.element, i * LINE, lanes)
                target = out + (p * self.pixel + channel) * size
                self._store_first(target, value, rest - channel)

    def _store_first(self, target: Pointer, value: Value, count: Value) -> None:
        """At most ``count`` lanes."""
        if self.b.isa.masked_memory:
            target.store_first(value, count)
            return
        with self.b.if_else(count.ge(value.lanes)) as (full, tail):
            with full:
                target.store(value)
            with tail:
                target.store_first(value, count)
