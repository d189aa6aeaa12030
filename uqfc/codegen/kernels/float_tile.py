"""A tile of float32 dot products: sums along K in 16 strided lanes, then the pairwise tree.

Every product is rounded, then added (``numerics.strided_matmul``). The lanes of a vector are the
partial sums of one output, so the trees of all outputs of a tile are done together: each level
halves the lanes of an output and packs two outputs' halves into one vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uqfc.codegen.builder import Builder
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.float8 import load_numbers, multiply_add
from uqfc.codegen.kernels.tensor import whole_vectors
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.float8 import Float8


@dataclass(frozen=True)
class FloatTile:
    """``rows`` by ``columns`` outputs (powers of two, at most 16 together)."""

    rows: int
    columns: int

    @property
    def outputs(self) -> int:
        return self.rows * self.columns


TILES: dict[str, FloatTile] = {
    "vnni512": FloatTile(4, 4),
    "avx2": FloatTile(2, 2),
    "portable": FloatTile(1, 2),
}
ROW_TILES: dict[str, FloatTile] = {
    "vnni512": FloatTile(1, 8),
    "avx2": FloatTile(1, 4),
    "portable": FloatTile(1, 2),
}
"""For products of few rows."""


def tile_for(isa: Isa, rows: int) -> FloatTile:
    """The tile for a product of ``rows`` rows: 16 lanes of each sum in registers."""
    best = TILES[isa.name]
    return best if rows >= best.rows else ROW_TILES[isa.name]


def dot_products(
    b: Builder,
    tile: FloatTile,
    a: Sequence[Pointer],
    w: Sequence[Pointer],
    k: Value,
    form: Float8 | None = None,
) -> Value:
    """``sum_k a[r][k] * w[c][k]`` in lane ``r * columns + c``; reads ``k`` elements of each.

    With a ``form``, ``w`` are codes of it, and ``a`` numbers of some format of 8-bit floats.
    """
    state = [b.f32(0.0, LANES)] * tile.outputs
    full = whole_vectors(k)
    with b.loop(0, full, LANES, carry=state) as i:
        _accumulate(
            state,
            [p.load_f32(i * 4) for p in a],
            [p.load_f32(i * 4) if form is None else load_numbers(p, i, form) for p in w],
            form is not None,
        )
    rest = k - full
    with b.loop(full, k, LANES, carry=state) as i:
        _accumulate(
            state,
            [p.load_first("f32", rest, i * 4) for p in a],
            [
                p.load_first("f32", rest, i * 4) if form is None else load_numbers(p, i, form, rest)
                for p in w
            ],
            form is not None,
        )
    return sum_lanes(state)


def _accumulate(
    state: list[Value], a: Sequence[Value], w: Sequence[Value], products_are_exact: bool
) -> None:
    for r, left in enumerate(a):
        for c, right in enumerate(w):
            i = r * len(w) + c
            if products_are_exact:
                state[i] = multiply_add(left.b, state[i], left, right)
            else:
                state[i] = state[i] + left * right


def sum_lanes(vectors: Sequence[Value]) -> Value:
    """``numerics.tree_sum`` of each vector, vector i's in lane i."""
    values, width = list(vectors), LANES
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [_add_halves(x, y, width) for x, y in pairs]
        width //= 2
    total = values[0]
    while width > 1:
        low = _low_halves(total.lanes, width)
        total = total.shuffle(low) + total.shuffle([i + width // 2 for i in low])
        width //= 2
    return total


def _low_halves(lanes: int, width: int) -> list[int]:
    """The lower half of each group of ``width`` lanes."""
    return [i for i in range(lanes) if i % width < width // 2]


def _add_halves(x: Value, y: Value, width: int) -> Value:
    """Halves of each group of ``width`` lanes added: groups of x, then groups of y."""
    low = _low_halves(2 * LANES, width)
    return x.shuffle(low, y) + x.shuffle([i + width // 2 for i in low], y)
