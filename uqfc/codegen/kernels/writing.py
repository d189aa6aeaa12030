"""Sums of some rows of a tile to the outputs of an epilogue, several vectors at a time.

The sums may be registers of the kernel that made them or loads of a buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial

from uqfc.codegen.builder import Builder
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.saturating import PACKED, Saturation
from uqfc.codegen.vector import LANES, Pointer, Value

Rows = Callable[[int], Pointer]
"""The address of a row of a tile."""
Piece = Callable[[], None]
"""Emits a few instructions."""


class TileWriter:
    """Writes rows of ``lanes * vectors`` channels, of which the first ``count`` exist.

    Make it before the loops that use it, in a function that has the epilogue's scalars and the
    pointer ``multiplier`` to the multipliers of these channels, or else see ``at``.
    """

    def __init__(
        self, b: Builder, epilogue: Epilogue, vectors: int, count: Value, lanes: int = LANES
    ) -> None:
        self.b = b
        self.epilogue = epilogue
        self.vectors = vectors
        self.lanes = lanes
        self.multiplier = b.pointer("multiplier")
        self.count = count
        self.width = vectors * lanes
        self.full = count.ge(self.width)
        self.scalars = {name: b.value(name) for name in epilogue.scalars()}
        self.saturation: Saturation | None = None
        if epilogue.output == "u8":
            self.saturation = epilogue.saturation(b, self.scalars)

    def at(self, multiplier: Pointer, count: Value) -> TileWriter:
        """The same for other channels, in a loop over them."""
        other = copy(self)
        other.multiplier = multiplier
        other.count = count
        other.full = count.ge(self.width)
        return other

    def write(self, sums: Sequence[Value], out: Rows, residual: Rows | None) -> None:
        """``sums`` int32, row after row; all residuals of a row are read before it is written."""
        for piece in self.pieces(sums, out, residual):
            piece()

    def pieces(self, sums: Sequence[Value], out: Rows, residual: Rows | None) -> list[Piece]:
        """``write`` in pieces, for among other work: vectors, and the stores of some together."""
        pieces: list[Piece] = []
        rows = len(sums) // self.vectors
        multipliers = self._multipliers()
        together = max(1, PACKED * LANES // self.width) if self.saturation else 1
        for first in range(0, rows, together):
            chosen = range(first, min(rows, first + together))
            values: list[Value] = []
            for row in chosen:
                for v in range(self.vectors):
                    total = sums[row * self.vectors + v]
                    operands = (values, total, multipliers[v], residual, row, v)
                    pieces.append(partial(self._value, *operands))
            pieces.append(partial(self._finish, values, out, chosen))
        return pieces

    def _multipliers(self) -> list[Value | None]:
        if self.epilogue.output == "i32":
            return [None] * self.vectors
        vectors = range(self.vectors)
        return [self.multiplier.load_f32(v * LANES * 4, self.lanes) for v in vectors]

    def _value(
        self,
        values: list[Value],
        total: Value,
        multiplier: Value | None,
        residual: Rows | None,
        row: int,
        vector: int,
    ) -> None:
        """Appends what is then stored, or packed and stored."""
        extra = None
        if residual is not None:
            extra = residual(row).load_u8_as_i32(vector * LANES, self.lanes)
        values.append(self.epilogue.before_rounding(total, multiplier, extra, self.scalars))

    def _finish(self, values: list[Value], out: Rows, rows: Sequence[int]) -> None:
        """Stores the vectors of some rows."""
        if self.saturation:
            self._store_bytes(self.saturation, values, [out(row) for row in rows])
        else:
            self._store_words(values, out(rows[0]))

    def _store_bytes(
        self, saturation: Saturation, values: list[Value], rows: list[Pointer]
    ) -> None:
        """Rows that are one pack together."""
        if self.lanes < LANES:
            pairs = zip(values[::2], [*values[1::2], values[-1]], strict=False)
            values = [first.shuffle(range(LANES), second) for first, second in pairs]
        packed, width = saturation.pack(values), self.width
        parts = [packed.shuffle(range(i * width, (i + 1) * width)) for i in range(len(rows))]
        self._store(parts, rows, 0)

    def _store_words(self, values: list[Value], row: Pointer) -> None:
        for v, value in enumerate(values):
            self._store([value], [row + v * LANES * 4], v * LANES)

    def _store(self, parts: list[Value], rows: list[Pointer], first: int) -> None:
        """A vector of the channels from ``first`` on to each row."""
        rest = self.count - first
        if self.b.isa.masked_memory:
            for part, row in zip(parts, rows, strict=True):
                row.store_first(part, rest)
            return
        with self.b.if_else(self.full) as (whole, fewer):
            with whole:
                for part, row in zip(parts, rows, strict=True):
                    row.store(part)
            with fewer:
                rest = self.b.select(rest.gt(0), rest, self.b.i64(0))
                for part, row in zip(parts, rows, strict=True):
                    row.store_first(part, rest)
