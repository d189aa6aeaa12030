"""From the sums of a depthwise convolution to its outputs: epilogue, packing, stores."""

from __future__ import annotations

from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.depthwise_geometry import VECTORS, Geometry
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.saturating import Saturation
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import LANES, Value


@dataclass(frozen=True)
class Line:
    """Outputs of one segment of a row: the element where it starts, and its pixels."""

    first: Value
    count: Value


class Outputs:
    """Of a function that has ``out``, ``channels`` and what the epilogue needs."""

    def __init__(self, b: Builder, epilogue: Epilogue) -> None:
        self.b = b
        self.epilogue = epilogue
        self.pixel = b.value("channels")
        self.parts = b.stack(VECTORS * LANES * epilogue.element_bytes)
        self.scalars = {name: b.value(name) for name in epilogue.scalars()}
        self.saturation: Saturation | None = None
        if epilogue.output == "u8":
            low, high, zero_point = (self.scalars[n] for n in ("low", "high", "zero_point"))
            self.saturation = Saturation(b, low, high, zero_point, epilogue.known)

    def values(
        self, sums: list[Value], multipliers: list[Value | None], place: Line
    ) -> list[Value]:
        """What is stored of the outputs of one row: all bytes together, or each vector."""
        pixels = VECTORS // len(multipliers)
        values = [
            self.epilogue.before_rounding(
                total,
                multipliers[i // pixels],
                self._residual(place, i // pixels, i % pixels),
                self.scalars,
            )
            for i, total in enumerate(sums)
        ]
        return values if self.saturation is None else [self.saturation.pack(values)]

    def _residual(self, place: Line, group: int, p: int) -> Value | None:
        """Of pixel ``p``; anything if there is no such pixel."""
        if not self.epilogue.residual:
            return None
        element = place.first + self.pixel * p
        source = self.b.pointer("residual") + element
        exists = self.b.i64(p).lt(place.count)
        return self.b.select(exists, source, self.parts).load_u8_as_i32(group * LANES)

    def _pieces(self, g: Geometry, parts: list[Value]) -> list[tuple[int, int, Value]]:
        """Pixel, first channel and value of each store."""
        if g.groups > 1:
            return [(0, LANES * i, value) for i, value in enumerate(parts)]
        if self.saturation is None:
            return [(p, 0, value) for p, value in enumerate(parts)]
        slices = [range(LANES * p, LANES * (p + 1)) for p in range(VECTORS)]
        return [(p, 0, parts[0].shuffle(lanes)) for p, lanes in enumerate(slices)]

    def store(self, g: Geometry, place: Line, parts: list[Value]) -> None:
        """All values of all pixels."""
        size = self.epilogue.element_bytes
        out = self.b.pointer("out") + place.first * size
        for p, channel, value in self._pieces(g, parts):
            out.store(value, self.pixel * (p * size) + channel * size)

    def store_some(self, g: Geometry, place: Line, parts: list[Value], rest: Value) -> None:
        """The pixels that exist, and of each the ``rest`` channels that do."""
        b, size = self.b, self.epilogue.element_bytes
        out = b.pointer("out") + place.first * size
        if g.groups > 1:
            with b.when(place.count.gt(0)):
                for _, channel, value in self._pieces(g, parts):
                    (out + channel * size).store_first(value, rest - channel)
            return
        for p, value in enumerate(parts):
            self.parts.store(value, p * 64)
        with b.loop(0, smaller(place.count, VECTORS)) as p:
            value = self.parts.load(self.epilogue.element, p * (LANES * size))
            target = out + p * self.pixel * size
            with b.if_else(rest.ge(LANES)) as (full, tail):
                with full:
                    target.store(value)
                with tail:
                    target.store_first(value, rest)
