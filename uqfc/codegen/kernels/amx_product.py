"""All panels of output channels applied to some rows on AMX: core of ``amx_gemm``, ``amx_conv``."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa, amx
from uqfc.codegen.kernels.amx_tile import BLOCK_ROWS, AmxTile
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.expand import emit_expand
from uqfc.codegen.kernels.gemm import STORAGE_NAMES
from uqfc.codegen.kernels.operands import Operands
from uqfc.codegen.kernels.panel_constants import Dims, PanelConstants
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import NARROW_BITS, PanelLayout, Storage, round_up, word_weights

PART_BYTES = 32 * 1024
"""Of a panel that all rows meet before the next part: most of a first level cache."""
ROWS: dict[str, str] = {
    "a": "ptr",
    "lda": "i64",
    "pixels": "i64",
    "lines": "i64",
    "line": "i64",
    "width": "i64",
    "pitch": "i64",
    "behind": "i64",
    "offsets": "ptr",
    "segments": "i64",
}
"""Parameters that say where the rows are; see ``AmxTile``."""


@dataclass(frozen=True)
class Parts:
    """How the K of a panel are cut: segments at a time, and blocks of 64 of each of them."""

    segments: int
    steps: int
    count: int

    @staticmethod
    def of(layout: PanelLayout) -> Parts:
        """Several segments, one, or some blocks of one at a time; parts are of similar size."""
        steps = -(-layout.segment_k // amx.TILE_K)
        most = max(1, PART_BYTES // (layout.panel * amx.TILE_K))
        if steps > most:
            in_segment = -(-steps // most)
            return Parts(1, -(-steps // in_segment), layout.segments * in_segment)
        count = -(-layout.segments // (most // steps))
        segments = -(-layout.segments // count)
        return Parts(segments, steps, -(-layout.segments // segments))


@dataclass(frozen=True)
class AmxProduct:
    """``product.Product`` on matrix tiles; weights are s8, u4 or u2, segments multiples of 64."""

    isa: Isa
    storage: Storage
    epilogue: Epilogue

    @property
    def expands(self) -> bool:
        return self.storage in NARROW_BITS

    def layout(self, n: int, k: int, groups: int = 1, segments: int = 1) -> PanelLayout:
        """Layout of weights [n, k] of each group."""
        panel = self.isa.panel
        return PanelLayout(n, k, self.storage, panel, groups, segments, unit=amx.TILE_K)

    def scratch_bytes(self, layout: PanelLayout, rows: int) -> int:
        """Bytes of scratch memory for lines of at most ``rows``: an expanded panel, sums."""
        kept = rows if Parts.of(layout).count > 1 else BLOCK_ROWS
        return self._expanded_bytes(layout) + round_up(kept, BLOCK_ROWS) * layout.panel * 4

    def _expanded_bytes(self, layout: PanelLayout) -> int:
        return layout.padded_k * layout.panel if self.expands else 0

    def parameters(self, *, inside: bool) -> dict[str, str]:
        """Names and kinds of the function's parameters; ``inside``: with ``ROWS``."""
        parameters = dict(ROWS) if inside else {}
        parameters |= {"steps": "i64", "part": "i64", "part_steps": "i64", "panel_steps": "i64"}
        parameters |= {"n": "i64", "weights": "ptr", "addend": "ptr", "multiplier": "ptr"}
        parameters |= {"scratch": "ptr", "sums": "ptr", "out": "ptr", "ldc": "i64"}
        parameters |= {"residual": "ptr", "ldr": "i64"} if self.epilogue.residual else {}
        return parameters | self.epilogue.scalars()

    def arguments(
        self, operands: Operands, layout: PanelLayout, ldc: int, ldr: int
    ) -> list[Pointer | int]:
        """Of one group, before the scalars; ``ldc`` in elements. ValueError without a pointer."""
        if operands.scratch is None:
            raise ValueError("a product on matrix tiles needs scratch memory")
        parts, packed = Parts.of(layout), word_weights(self.storage)
        steps = -(-layout.segment_k // amx.TILE_K)
        arguments: list[Pointer | int] = [steps, parts.segments, parts.steps]
        arguments += [layout.padded_k // packed, layout.n]
        arguments += [operands.weights, operands.addend, operands.multiplier, operands.scratch]
        arguments += [operands.scratch + self._expanded_bytes(layout)]
        arguments += [operands.out, ldc * self.epilogue.element_bytes]
        if self.epilogue.residual:
            if operands.residual is None:
                raise ValueError("a product that adds needs a residual")
            arguments += [operands.residual, ldr]
        return arguments

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        size = f"{BLOCK_ROWS}x{isa.panel}"
        name = f"product_{self.storage}_{size}_{self.epilogue.name}__amx"
        if function := find_function(module, name):
            return function
        vectors = range(isa.tile_vectors, 0, -1)
        tiles = {v: AmxTile(v, self.epilogue).emit(module, isa) for v in vectors}
        expand = emit_expand(module, isa, self.storage) if self.expands else None
        parameters = self.parameters(inside=True)
        b = Builder.function(module, isa, name, internal=True, **parameters)
        _Panels(self, b, tiles, expand).run()
        return b.ret()


class _Panels:
    """The loop of an ``AmxProduct`` over panels: expand it if it is INT4, apply it to all rows."""

    def __init__(
        self, product: AmxProduct, b: Builder, tiles: dict[int, Any], expand: Any | None
    ) -> None:
        self.product = product
        self.b = b
        self.tiles = tiles
        self.expand = expand

    def run(self) -> None:
        """Full panels, then one of the fewest vectors that hold the rest."""
        b, n, panel = self.b, self.b.value("n"), self.product.isa.panel
        with b.loop(0, n - (panel - 1), panel) as first:
            self._panel(first, b.i64(panel), panel // LANES)
        first = n & ~(panel - 1)
        rest = n - first
        for vectors in self.tiles:
            above = rest.gt((vectors - 1) * LANES)
            with b.when(above & rest.le(vectors * LANES)):
                self._panel(first, rest, vectors)

    def _panel(self, first: Value, count: Value, vectors: int) -> None:
        b, epilogue, words = self.b, self.product.epilogue, self.b.value("panel_steps")
        weights = b.pointer("weights") + first * words * 4
        if self.expand is not None:
            padded = (b.value("n") + (LANES - 1)) & ~(LANES - 1)
            zero_points = b.pointer("weights") + padded * words * 4 + first
            target = b.pointer("scratch")
            b.call(self.expand, weights, zero_points, vectors * LANES, words, target)
            weights = target
        changed: dict[str, Value | Pointer] = {
            "weights": weights,
            "addend": b.pointer("addend") + first * 4,
            "multiplier": b.pointer("multiplier") + first * 4,
            "count": count,
            "out": b.pointer("out") + first * epilogue.element_bytes,
        }
        if epilogue.residual:
            changed["residual"] = b.pointer("residual") + first
        b.call_with(self.tiles[vectors], changed)


@dataclass(frozen=True)
class AmxSpec(PanelConstants[Dims]):
    """What products and convolutions on matrix tiles share."""

    isa: Isa
    storage: Storage
    epilogue: Epilogue

    @property
    @abstractmethod
    def operation(self) -> str:
        """What the name says that it computes."""

    @property
    def name(self) -> str:
        tile = f"{BLOCK_ROWS}x{self.isa.panel}c{amx.TILE_K}"
        weights = STORAGE_NAMES[self.storage]
        return f"u8_{weights}_{self.operation}_{tile}_{self.epilogue.name}__amx"

    @property
    def product(self) -> AmxProduct:
        return AmxProduct(self.isa, self.storage, self.epilogue)
