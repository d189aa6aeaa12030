"""Matrix product ``u8 [rows, k] x packed weights [n, k]`` with an epilogue.

Rows are done in strips, as many at a time as a second level cache holds; see ``product``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars
from uqfc.codegen.kernels.operands import GemmDims, Operands
from uqfc.codegen.kernels.padding import CHUNK, emit_padding
from uqfc.codegen.kernels.panel_constants import PanelConstants
from uqfc.codegen.kernels.product import LINES_BYTES, Product
from uqfc.codegen.kernels.reading import PLAIN, ROWS_BYTES, Reading, reading_of
from uqfc.codegen.kernels.tile import overlap_name, overlap_of, tile_sizes
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import PanelLayout, Storage, round_up

STORAGE_NAMES: dict[Storage, str] = {
    "s8": "i8c",
    "u4": "i4c",
    "u2": "i2c",
    "s16": "i16c",
}
MOST_BYTES = 512 * 1024
"""Aim for the size of the rows that all blocks of panels are applied to."""
DOMINATED = (3, 5, 9, 11)
"""Heights of tiles that are hardly ever faster than all others."""
ALIASED_BYTES = 2048
"""Rows that many bytes apart share a few sets of a first level cache: 4096 bytes are one way."""
MANY_CHANNELS = 128
"""Fewer channels do not read rows often enough for copying them to pay."""
LEAST_ROWS = 48
"""Fewer rows would load the weights too often."""
MANY_TILES = 16
"""Tiles of rows that parts share evenly enough."""


@dataclass(frozen=True)
class GemmSpec(PanelConstants[GemmDims]):
    """A matrix product of any number of rows, in tiles of ``tile_rows``."""

    isa: Isa
    storage: Storage
    tile_rows: int
    epilogue: Epilogue
    overlap: int = 0
    """As in ``Tile``."""
    reading: Reading = PLAIN

    @property
    def name(self) -> str:
        tile = f"{self.tile_rows}x{self.isa.panel}c4"
        tile += overlap_name(self.overlap) + self.reading.name
        weights = STORAGE_NAMES[self.storage]
        return f"u8_{weights}_gemm_{tile}_{self.epilogue.name}__{self.isa.name}"

    @property
    def product(self) -> Product:
        return Product(
            self.isa, self.storage, self.tile_rows, self.epilogue, self.overlap, self.reading
        )

    def layout(self, dims: GemmDims) -> PanelLayout:
        """Layout of the weights [n, k]."""
        return PanelLayout(dims.n, dims.k, self.storage, self.isa.panel)

    def scratch_bytes(self, dims: GemmDims) -> int:
        """Bytes of scratch memory: copied rows and what the product needs."""
        return self._copied_bytes(dims) + self.product.scratch_bytes(
            self.layout(dims), self.rows_bytes(dims)
        )

    def _copies(self, dims: GemmDims) -> bool:
        """Rows whose distance puts them into the same few sets of a cache are copied."""
        return dims.lda % ALIASED_BYTES == 0 and dims.n >= MANY_CHANNELS and dims.rows > 1

    def _pitch(self, dims: GemmDims) -> int:
        return round_up(dims.k, CHUNK) + CHUNK

    def _copied_bytes(self, dims: GemmDims) -> int:
        rows = min(self.most_strips(dims) * self.strip_rows(dims), dims.rows)
        return rows * self._pitch(dims) if self._copies(dims) else 0

    def rows_bytes(self, dims: GemmDims) -> int:
        """Bytes of the inputs and outputs of all rows."""
        return dims.rows * (dims.lda + dims.n * self.epilogue.element_bytes)

    def strip_rows(self, dims: GemmDims) -> int:
        """Rows that all panels of a block are applied to before the next ones.

        Their inputs and outputs are in the first level cache together; all rows, where blocks are
        single panels.
        """
        if self.rows_bytes(dims) <= ROWS_BYTES:
            return round_up(dims.rows, self.tile_rows)
        size = dims.lda + dims.n * self.epilogue.element_bytes
        return round_up(max(LINES_BYTES // size, LEAST_ROWS), self.tile_rows)

    def most_strips(self, dims: GemmDims) -> int:
        """Strips that all blocks are applied to before the next ones."""
        return max(1, MOST_BYTES // (dims.lda * self.strip_rows(dims)))

    def parameters(self) -> dict[str, str]:
        """Names and kinds of the function's parameters; ``ldc`` is in bytes.

        Rows ``begin … end - 1`` are computed, ``strips`` times ``strip`` at a time. They are copied
        to ``copies``, ``pitch`` bytes apart, if ``pitch`` is not 0.
        """
        parameters = {"a": "ptr", "lda": "i64", "begin": "i64", "end": "i64"}
        parameters |= {"strip": "i64", "strips": "i64", "copies": "ptr", "pitch": "i64"}
        return parameters | self.product.parameters(inside=False)

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        if function := find_function(module, self.name):
            return function
        product, copy = self.product.emit(module, isa), emit_padding(module, isa)
        b = Builder.function(module, isa, self.name, internal=True, **self.parameters())
        self._body(b, product, copy)
        return b.ret()

    def _body(self, b: Builder, product: Any, copy: Any) -> None:
        end, strip, pitch = b.value("end"), b.value("strip"), b.value("pitch")
        copies = pitch.ne(0)
        lda = b.select(copies, pitch, b.value("lda"))
        offsets = b.stack(8)
        offsets.store(b.i64(0))
        most = strip * b.value("strips")
        with b.loop(b.value("begin"), end, most) as row:
            rows = b.select((end - row).lt(most), end - row, most)
            full = (rows - 1) // strip
            a = b.pointer("a") + row * b.value("lda")
            with b.when(copies):
                zero, length = b.i64(0), pitch - CHUNK
                size = (rows, b.value("lda"), zero, length, length, pitch, b.i32(0))
                b.call(copy, a, b.pointer("copies"), zero, rows, *size)
            changed: dict[str, Value | Pointer] = {
                "a": b.select(copies, b.pointer("copies"), a),
                "lda": lda,
                "pixels": strip,
                "last_pixels": rows - full * strip,
                "lines": full + 1,
                "line": strip * lda,
                "chunk": b.i64(1),
                "offsets": offsets,
                "segments": b.i64(1),
                "out": b.pointer("out") + row * b.value("ldc"),
            }
            if self.epilogue.residual:
                changed["residual"] = b.pointer("residual") + row * b.value("ldr")
            b.call_with(product, changed)

    def call(
        self,
        b: Builder,
        operands: Operands,
        dims: GemmDims,
        scalars: Scalars,
        part: Part | None = None,
    ) -> None:
        """Emits a call; see ``kernels``. ValueError if a pointer is missing, or K is too short."""
        if not self.reading.fits(self.layout(dims), self.overlap):
            raise ValueError(f"{self.name} is not a kernel of {dims}")
        function = self.emit(b.module, b.isa)
        rows, channels = (0, dims.rows), None
        if part is not None and self._shares_rows(dims):
            rows = part.share(dims.rows, self.tile_rows)
        elif part is not None:
            channels = part.share(dims.n, self.isa.panel)
        layout = self.layout(dims)
        arguments: list[Pointer | Value | int] = [operands.x, dims.lda, *rows]
        arguments += [self.strip_rows(dims), self.most_strips(dims)]
        inner = operands
        if self._copies(dims):
            if operands.scratch is None:
                raise ValueError(f"{self.name} needs scratch memory")
            arguments += [operands.scratch, self._pitch(dims)]
            inner = replace(operands, scratch=operands.scratch + self._copied_bytes(dims))
        else:
            arguments += [operands.x, 0]
        arguments += self.product.arguments(
            inner,
            layout,
            self.rows_bytes(dims),
            dims.ldc,
            dims.ldr,
            scalars.int16_steps,
            channels,
        )
        b.call(function, *arguments, *self.epilogue.scalar_values(scalars))

    def splits(self, dims: GemmDims) -> bool:
        """Whether ``call`` can compute a part."""
        return max(self._tiles(dims)) > 1

    def _tiles(self, dims: GemmDims) -> tuple[int, int]:
        """Tiles of rows, panels of channels."""
        return -(-dims.rows // self.tile_rows), -(-dims.n // self.isa.panel)

    def _shares_rows(self, dims: GemmDims) -> bool:
        """Parts get rows; where these are few, channels."""
        rows, panels = self._tiles(dims)
        return rows >= min(panels, MANY_TILES)


def tile_heights(isa: Isa, rows: int) -> list[int]:
    """Rows that a tile for lines of ``rows`` rows may have, largest first: not all, to be few.

    Single rows are for products of one, or where no tile is high. Where tiles overlap, taller ones
    are no better; where K is too short for that, hardly.
    """
    most = min(rows, isa.tile_rows)
    if 0 < 2 * isa.overlapped_rows <= rows:
        most = isa.overlapped_rows
    least = 2 if most > 2 else 1
    return [r for r in range(most, least - 1, -1) if r == most or r not in DOMINATED]


def best_tile_rows(isa: Isa, rows: int, steps: int) -> int:
    """Rows of a tile for lines of ``rows`` rows; the largest of equally good ones.

    Segments of K are ``steps`` groups of four.
    """
    if rows == 1:
        return 1
    return min(tile_heights(isa, rows), key=lambda most: line_cost(isa, most, rows, steps))


def line_cost(isa: Isa, most: int, rows: int, steps: int) -> int:
    """What a line takes in tiles of at most ``most`` rows, in times of a row of a large tile.

    A tile costs its rows and 2 more: loads of weights, its start; 1 more where it overlaps others.
    """
    cost = 0
    for size in tile_sizes(most):
        start = 1 if size == most and overlap_of(isa, most, steps) else 2
        cost += rows // size * (size + start)
        rows %= size
    return cost


def gemm_spec(
    isa: Isa, dims: GemmDims, storage: Storage, epilogue: Epilogue, tile_rows: int | None = None
) -> GemmSpec:
    """The kernel for a product, in tiles of ``tile_rows`` or the best."""
    steps = -(-dims.k // 4)
    rows = tile_rows or best_tile_rows(isa, dims.rows, steps)
    spec = GemmSpec(isa, storage, rows, epilogue, overlap_of(isa, rows, steps, storage))
    reading = reading_of(spec.layout(dims), dims.rows, spec.rows_bytes(dims), spec.overlap)
    return replace(spec, reading=reading)
