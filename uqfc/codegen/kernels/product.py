"""All panels of output channels applied to some lines of pixels: the core of ``gemm``, ``conv``.

Blocked for the caches: as many panels as a second level cache holds beside the pixels are expanded
(narrow weights) and then applied to a few lines at a time, whose inputs and outputs stay in the
first level. Where rows are few, a block is one panel; see ``reading``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.expand import emit_expand
from uqfc.codegen.kernels.int16_sums import sums_in_int16
from uqfc.codegen.kernels.operands import Operands
from uqfc.codegen.kernels.reading import PLAIN, ROWS_BYTES, Reading, Shares
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.kernels.tile import Tile, overlap_name
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import NARROW_BITS, PanelLayout, Storage, round_up, word_weights

BLOCK_BYTES = 256 * 1024
"""Aim for the size of the panels of a block."""
LINES_BYTES = 20 * 1024
"""Aim for the size of the inputs and outputs that a block of panels is applied to."""


@dataclass(frozen=True)
class Product:
    """``out = epilogue(a @ weights.T)`` for lines of pixels whose K are in segments; see ``Tile``.

    Panels of narrow weights are expanded to int8 in scratch memory if tiles do not decode them.
    """

    isa: Isa
    storage: Storage
    tile_rows: int
    epilogue: Epilogue
    overlap: int = 0
    """As in ``Tile``."""
    reading: Reading = PLAIN
    """As in ``Tile``; what is ahead is the next panel."""

    @property
    def expands(self) -> bool:
        return self.storage in NARROW_BITS and self.reading.bits == 8

    @property
    def sums_in_int16(self) -> bool:
        """Tiles need to know what fits int16."""
        return sums_in_int16(self.isa, self.tile(self.isa.panel).source)

    def scratch_bytes(self, layout: PanelLayout, rows_bytes: int) -> int:
        """Bytes of scratch memory: the expanded panels of a block."""
        if not self.expands:
            return 0
        return layout.padded_k * min(self.block_channels(layout, rows_bytes), layout.padded_n)

    def block_channels(self, layout: PanelLayout, rows_bytes: int) -> int:
        """Output channels of a block: whole panels, one where a cache holds all rows anyway.

        ``rows_bytes``: of the inputs and outputs of all rows.
        """
        words = 2 if self.storage == "s16" else 1
        panels = BLOCK_BYTES // (layout.padded_k * words * layout.panel)
        if rows_bytes <= ROWS_BYTES:
            panels = 1
        return min(max(1, panels) * layout.panel, round_up(layout.n, layout.panel))

    def tile(self, channels: int) -> Tile:
        lanes = min(channels, LANES)
        source = self.storage if self.storage in ("s8", "s16") else "s4"
        vectors = channels // lanes
        rows = self.tile_rows
        if self.overlap:  # as many sums as a full panel has
            rows = rows * self.isa.tile_vectors // vectors
        return Tile(rows, vectors, source, self.epilogue, lanes, self.overlap, self.reading)

    def parameters(self, *, inside: bool) -> dict[str, str]:
        """Names and kinds of the function's parameters, in the order of ``arguments``.

        ``inside``: those of the rows, too, which are as in ``Tile``; ``last_pixels`` are those of
        the last line. ``chunk`` lines at a time (1 if the last line is another), ``block`` of
        the channels ``first … stop - 1``, which are whole panels; ``panel_steps`` are the words of
        K of a packed channel. Tiles are pointers to functions: null for those that ``n`` channels
        do without.
        """
        parameters: dict[str, str] = {}
        if inside:
            parameters |= {"a": "ptr", "lda": "i64", "pixels": "i64", "last_pixels": "i64"}
            parameters |= {"lines": "i64", "line": "i64", "chunk": "i64"}
            parameters |= {"offsets": "ptr", "segments": "i64"}
        parameters |= {tile_name(c): "ptr" for c in self.isa.tile_channels}
        parameters |= {"steps": "i64", "panel_steps": "i64", "n": "i64"}
        parameters |= {"first": "i64", "stop": "i64", "block": "i64"}
        parameters |= {"int16_steps": "i64"} if self.sums_in_int16 else {}
        parameters |= {"weights": "ptr"}
        parameters |= {"addend": "ptr", "multiplier": "ptr", "scratch": "ptr"}
        parameters |= {"out": "ptr", "ldc": "i64"}
        parameters |= {"residual": "ptr", "ldr": "i64"} if self.epilogue.residual else {}
        return parameters | self.epilogue.scalars()

    def arguments(
        self,
        operands: Operands,
        layout: PanelLayout,
        rows_bytes: int,
        ldc: int,
        ldr: int,
        int16_steps: int,
        channels: tuple[Value, Value] | None = None,
    ) -> list[Pointer | Value | int]:
        """Of one group, before the scalars; ``ldc`` in elements. ValueError without a pointer.

        ``channels``: the first to be computed, of a panel, and the one after the last.
        """
        scratch = operands.scratch if self.expands else operands.x
        if scratch is None:
            raise ValueError("a product of narrow weights needs scratch memory")
        packed = word_weights(self.storage)
        arguments: list[Pointer | Value | int] = [*self._tiles(operands.out.b, layout.n)]
        arguments += [-(-layout.segment_k // 4), layout.padded_k // packed]
        arguments += [
            layout.n,
            *(channels or (0, layout.n)),
            self.block_channels(layout, rows_bytes),
        ]
        arguments += [int16_steps] if self.sums_in_int16 else []
        arguments += [operands.weights, operands.addend, operands.multiplier, scratch]
        arguments += [operands.out, ldc * self.epilogue.element_bytes]
        if self.epilogue.residual:
            if operands.residual is None:
                raise ValueError("a product that adds needs a residual")
            arguments += [operands.residual, ldr]
        return arguments

    def _tiles(self, b: Builder, n: int) -> list[Pointer]:
        """The tiles that ``n`` channels are divided into, emitted once, and null pointers."""
        sizes, rest = self.isa.tile_channels, n % self.isa.panel
        used = {self.isa.panel} if n >= self.isa.panel else set[int]()
        used |= {min(c for c in sizes if c >= rest)} if rest else set()
        emitted = {c: self.tile(c).emit(b.module, self.isa) for c in reversed(sizes) if c in used}
        return [b.address_of(emitted.get(c)) for c in sizes]

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once for all tiles with the same parameters."""
        activated = "_activated" if "reciprocal" in self.epilogue.scalars() else ""
        added = "_add" if self.epilogue.residual else ""
        weights = f"{self.storage}{self.reading.name}"
        if self.reading.prefetch:
            weights += f"_{self.tile_rows}{overlap_name(self.overlap)}"
        name = f"product_{weights}{added}_{self.epilogue.output}{activated}__{isa.name}"
        if function := find_function(module, name):
            return function
        expand = emit_expand(module, isa, self.storage) if self.expands else None
        parameters = self.parameters(inside=True)
        b = Builder.function(module, isa, name, internal=True, **parameters)
        _Panels(self, b, expand).run()
        return b.ret()


def tile_name(channels: int) -> str:
    """The parameter with the tile of so many channels."""
    return f"tile_{channels}"


class _Panels:
    """The loops of a ``Product``: blocks of panels, lines, panels."""

    def __init__(self, product: Product, b: Builder, expand: Any | None) -> None:
        self.product = product
        self.b = b
        self.tile = product.tile(product.isa.panel).parameters(product.isa)
        self.expand = expand
        self.panel = product.isa.panel
        words = b.value("panel_steps")
        self.stored = words * (8 if product.storage == "s16" else 4)
        self.used = words * word_weights(product.storage) if expand is not None else self.stored
        self.ahead: Shares | None = None
        if product.reading.prefetch:
            size = self.stored * self.panel
            self.ahead = Shares.of(b, size, product.tile_rows, product.overlap)
        self.zero_points: Pointer | None = None
        if product.storage in NARROW_BITS:
            padded = (b.value("n") + (LANES - 1)) & ~(LANES - 1)
            self.zero_points = b.pointer("weights") + words * padded * 4

    def run(self) -> None:
        b, stop, block = self.b, self.b.value("stop"), self.b.value("block")
        with b.loop(b.value("first"), stop, block) as first:
            count = smaller(stop - first, block)
            weights = b.pointer("weights") + first * self.stored
            if self.expand is not None:
                self._expand(self.expand, weights, first, count)
                weights = b.pointer("scratch")
            lines, chunk, pixels = b.value("lines"), b.value("chunk"), b.value("pixels")
            starts = {"a": b.pointer("a")}
            starts["out"] = b.pointer("out") + first * self.product.epilogue.element_bytes
            steps = [b.value("line") * chunk, b.value("ldc") * pixels * chunk]
            if self.product.epilogue.residual:
                starts["residual"] = b.pointer("residual") + first
                steps.append(b.value("ldr") * pixels * chunk)
            if self.ahead is not None:
                starts["ahead"] = b.pointer("weights") + (first + count) * self.stored
                steps.append(self.ahead.chunk)
            places = list(starts.values())
            with b.loop(0, lines, chunk, carry=places) as line:
                here = smaller(lines - line, chunk)
                is_last = (line + here).eq(lines)
                size = b.select(is_last, b.value("last_pixels"), pixels)
                rows = {"lines": here, "pixels": size, **dict(zip(starts, places, strict=True))}
                self._lines(weights, first, count, rows)
                places[:] = [p + step for p, step in zip(places, steps, strict=True)]

    def _expand(self, expand: Any, weights: Pointer, first: Value, count: Value) -> None:
        b = self.b
        assert self.zero_points is not None
        steps = b.value("panel_steps")
        with b.loop(0, count, self.panel) as channel:
            padded = (count - channel + (LANES - 1)) & ~(LANES - 1)
            channels = smaller(padded, b.i64(self.panel))
            source, target = weights + channel * self.stored, b.pointer("scratch")
            zero_points = self.zero_points + (first + channel)
            b.call(expand, source, zero_points, channels, steps, target + channel * self.used)

    def _lines(
        self,
        weights: Pointer,
        first: Value,
        count: Value,
        rows: Mapping[str, Value | Pointer],
    ) -> None:
        """Full panels, then the smallest that holds the rest."""
        b, panel = self.b, self.panel
        with b.loop(0, count - (panel - 1), panel) as channel:
            self._panel(weights, first, channel, panel, {**rows, "count": b.i64(panel)})
        channel = count & ~(panel - 1)
        left = count - channel
        sizes = self.product.isa.tile_channels
        for least, size in zip((0, *sizes), sizes, strict=False):
            with b.when(left.gt(least) & left.le(size)):
                self._panel(weights, first, channel, size, {**rows, "count": left})

    def _panel(
        self,
        weights: Pointer,
        first: Value,
        channel: Value,
        size: int,
        changed: dict[str, Value | Pointer],
    ) -> None:
        """The tile of ``size`` channels on the panel from ``first + channel`` on."""
        b = self.b
        moves = {"out": self.product.epilogue.element_bytes, "residual": 1}
        for name, element_bytes in moves.items():
            if name in changed:
                changed[name] = changed[name] + channel * element_bytes
        changed["weights"] = weights + channel * self.used
        for name in ("addend", "multiplier"):
            changed[name] = b.pointer(name) + (first + channel) * 4
        if self.zero_points is not None:
            changed["zero_points"] = self.zero_points + (first + channel)
        if self.ahead is not None:
            changed |= {"ahead_tile": self.ahead.tile, "ahead_step": self.ahead.step}
        b.call_through(tile_name(size), self.tile, changed)
