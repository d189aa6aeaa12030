"""``out = activation(a @ w.T + bias + residual)`` in float32: the function that layers call.

Of 8-bit floats, w are codes, decoded in registers; the sum is multiplied by a multiplier per column
before anything is added, and the result may be quantized.

a [rows, k] and out [rows, n] have row strides; w [n, k] is dense. Rows are taken in blocks that
stay in the second level cache; within a block the tiles of a few columns come one after the
other. At the edges a tile computes its last row or column more than once and stores it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.elementwise_base import bits_of
from uqfc.codegen.kernels.float8 import codes_of
from uqfc.codegen.kernels.float_tile import FloatTile, dot_products, tile_for
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.vector import Pointer, Value
from uqfc.elementary import UNARY
from uqfc.float8 import Float8
from uqfc.numerics import Activation

BLOCK_BYTES = 256 * 1024
PARAMETERS: dict[str, str] = {
    "a": "ptr",
    "lda": "i64",
    "w": "ptr",
    "bias": "ptr",
    "residual": "ptr",
    "ldr": "i64",
    "out": "ptr",
    "ldc": "i64",
    "rows": "i64",
    "n": "i64",
    "k": "i64",
}
"""Strides in bytes. ``bias`` and ``residual`` are read if the product has them."""
FLOAT8_PARAMETERS: dict[str, str] = {"multiplier": "ptr", "scale": "f32"}
"""Added for weights of 8-bit floats; ``scale`` is used by a result of those."""


@dataclass(frozen=True)
class FloatEpilogue:
    """What is done with a sum: + bias, + residual, the activation, then rounding to ``output``."""

    bias: bool = False
    residual: bool = False
    activation: Activation | None = None
    output: Float8 | None = None

    @cached_property
    def name(self) -> str:
        """``[bias_][add_][activation_][to_format_]`` and nothing for none of them."""
        parts = ["bias"] if self.bias else []
        parts += ["add"] if self.residual else []
        if self.activation:
            parts += [self.activation.name, *map(bits_of, self.activation.params)]
        parts += [f"to_{self.output.short}"] if self.output else []
        return "".join(f"{p}_" for p in parts)

    @property
    def element_bytes(self) -> int:
        """Of the result."""
        return 1 if self.output else 4

    def apply(self, b: Builder, v: Value) -> Value:
        if not self.activation:
            return v
        return UNARY[self.activation.name].f32(b, v, *self.activation.params)


@dataclass(frozen=True)
class FloatProduct:
    """The function for products of at least ``tile.rows`` rows."""

    isa: Isa
    tile: FloatTile
    epilogue: FloatEpilogue
    w: Float8 | None = None
    """Format of the weights; None: float32."""

    @staticmethod
    def of(isa: Isa, rows: int, epilogue: FloatEpilogue, w: Float8 | None = None) -> FloatProduct:
        return FloatProduct(isa, tile_for(isa, rows), epilogue, w)

    @property
    def parameters(self) -> dict[str, str]:
        """Of the function."""
        return PARAMETERS if self.w is None else PARAMETERS | FLOAT8_PARAMETERS

    @property
    def name(self) -> str:
        tile = f"{self.tile.rows}x{self.tile.columns}"
        weights = "f32" if self.w is None else self.w.short
        return f"{weights}_gemm_{self.epilogue.name}{tile}__{self.isa.name}"

    def emit(self, module: Any) -> Any:
        """``f(*parameters)``. ``residual`` may be ``out``, if the result is float32."""
        if function := find_function(module, self.name):
            return function
        b = Builder.function(module, self.isa, self.name, internal=True, **self.parameters)
        rows, n, tile = b.value("rows"), b.value("n"), self.tile
        most = b.i64(BLOCK_BYTES) // (b.value("k") * 4) & -tile.rows
        most = b.select(most.lt(tile.rows), b.i64(tile.rows), most)
        with b.loop(0, rows, most) as first:
            stop = smaller(first + most, rows)
            with (
                b.loop(0, n, tile.columns) as column,
                b.loop(first, stop, tile.rows) as row,
            ):
                _TileEmitter(self, b, row, column).run()
        return b.ret()


class _TileEmitter:
    """One tile at ``row`` and ``column``."""

    def __init__(self, product: FloatProduct, b: Builder, row: Value, column: Value) -> None:
        self.b = b
        self.tile = product.tile
        self.epilogue = product.epilogue
        self.form = product.w
        last_row, last_column = b.value("rows") - 1, b.value("n") - 1
        self.rows = [smaller(row + r, last_row) for r in range(self.tile.rows)]
        self.row = row
        self.column = column
        self.columns = [smaller(column + c, last_column) for c in range(self.tile.columns)]

    def run(self) -> None:
        b, tile = self.b, self.tile
        a = [b.pointer("a") + r * b.value("lda") for r in self.rows]
        element = 4 if self.form is None else 1
        w = [b.pointer("w") + c * b.value("k") * element for c in self.columns]
        sums = dot_products(b, tile, a, w, b.value("k"), self.form)
        missing_rows = (self.row + tile.rows).gt(b.value("rows"))
        rest = b.value("n") - self.column
        with b.if_else(missing_rows | rest.lt(tile.columns)) as (edge, whole):
            with edge:
                self._finish(sums, smaller(rest, tile.columns))
            with whole:
                self._finish(sums, None)

    def _finish(self, sums: Value, count: Value | None) -> None:
        """Epilogue and stores; ``count`` columns and only rows that exist, if not None."""
        b, tile, v = self.b, self.tile, sums
        at = self.column * 4
        if self.form is not None:
            v = v * self._per_column("multiplier", count)
        if self.epilogue.bias:
            v = v + self._per_column("bias", count)
        if self.epilogue.residual:
            base, pitch = b.pointer("residual") + at, b.value("ldr")
            v = v + _join([self._load(base + r * pitch, count) for r in self.rows])
        v = self.epilogue.apply(b, v)
        if self.epilogue.output is not None:
            v = codes_of(b, v, b.value("scale"), self.epilogue.output).trunc("i8")
            at = self.column
        for r in range(tile.rows):
            part = v.shuffle(range(r * tile.columns, (r + 1) * tile.columns))
            target = b.pointer("out") + (self.row + r) * b.value("ldc") + at
            if count is None:
                target.store(part)
                continue
            with b.when((self.row + r).lt(b.value("rows"))):
                target.store_first(part, count)

    def _per_column(self, name: str, count: Value | None) -> Value:
        """A parameter with one float32 for each column, in the lanes of the sums."""
        columns = self._load(self.b.pointer(name) + self.column * 4, count)
        return columns.shuffle([*range(self.tile.columns)] * self.tile.rows)

    def _load(self, source: Pointer, count: Value | None) -> Value:
        columns = self.tile.columns
        if count is None:
            return source.load_f32(0, columns)
        return source.load_first("f32", count, 0, columns)


def _join(parts: Sequence[Value]) -> Value:
    """The lanes of all parts (a power of two of them) one after the other."""
    values = list(parts)
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [x.shuffle(range(2 * x.lanes), y) for x, y in pairs]
    return values[0]
