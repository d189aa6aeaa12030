"""From the sums of a depthwise convolution to its outputs: epilogue, packing, stores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.depthwise_geometry import VECTORS, Geometry
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
        g: Geometry,
        sums: Iterable[Sum],
        multipliers: list[Value | None],
        places: list[Line],
    ) -> list[Sum]:
        """What is stored of sums, which come in the order that their bytes are packed in.

        Bytes of all groups are one vector, the first one's.
        """
        pieces: list[Sum] = []
        vectors: list[Sum] = []
        for each in sums:
            residual = self._residual(places[each.row], each.group, each.pixel)
            value = self.epilogue.before_rounding(
                each.value, multipliers[each.group], residual, self.scalars
            )
            vectors.append(replace(each, value=value))
            if len(vectors) == VECTORS:
                pieces += self._packed(g, vectors)
                vectors = []
        return pieces + (self._packed(g, vectors) if vectors else [])

    def _packed(self, g: Geometry, vectors: list[Sum]) -> list[Sum]:
        """Vectors of float32 to bytes, if the output is u8."""
        if self.saturation is None:
            return vectors
        packed = self.saturation.pack([vector.value for vector in vectors])
        if g.groups > 1:
            return [replace(vectors[0], value=packed)]
        return [replace(vector, value=packed, part=i) for i, vector in enumerate(vectors)]

    def _residual(self, place: Line, group: int, p: int) -> Value | None:
        """Of pixel ``p``; anything if there is no such pixel."""
        if not self.epilogue.residual:
            return None
        element = place.first + self.pixel * p
        source = self.b.pointer("residual") + element
        exists = self.b.i64(p).lt(place.count)
        return self.b.select(exists, source, self.parts).load_u8_as_i32(group * LANES)

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
