"""A convolution of few taps of small pixels: the weights of 16 channels stay in registers.

A tap is one dot product, of a pixel of four bytes in all lanes with the tap's weights of all
channels, and neighbours of a line share the pixels that they have in common. ``tight_pixels`` need
fewer. While the sums of a tile are made, the outputs of the tile before it are finished: their
instructions alternate, because dot products and epilogues are short of different parts of a core,
and it does not look so far ahead by itself.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import dot_for
from uqfc.codegen.kernels.epilogue import Epilogue
from uqfc.codegen.kernels.expand import emit_expand
from uqfc.codegen.kernels.operands import Operands
from uqfc.codegen.kernels.pixel_window import PIXEL, TILE, Window
from uqfc.codegen.kernels.saturating import PACKED
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.kernels.tight_pixels import WORD, store_last_bytes, tight_words
from uqfc.codegen.vector import LANES, VECTOR_BYTES, Pointer, Value
from uqfc.packing import CHANNELS, NARROW_BITS, PanelLayout, Storage, word_weights


@dataclass(frozen=True)
class PixelProduct:
    """``out = epilogue(windows @ weights.T)`` for lines of at least ``TILE`` pixels."""

    isa: Isa
    storage: Storage
    window: Window
    epilogue: Epilogue

    @property
    def expands(self) -> bool:
        return self.storage in NARROW_BITS

    def scratch_bytes(self, layout: PanelLayout, rows_bytes: int) -> int:
        """Bytes of scratch memory: an expanded panel, however many rows."""
        return layout.padded_k * CHANNELS if self.expands else 0

    def parameters(self, *, inside: bool) -> dict[str, str]:
        """Names and kinds of the function's parameters, in the order of ``arguments``.

        ``inside``: those of the rows, too: ``lines`` (``line`` bytes of ``a`` apart) of ``pixels``,
        kernel rows ``row_step`` bytes apart. ``panel_steps`` are the words of a packed channel.
        """
        parameters: dict[str, str] = {}
        if inside:
            parameters |= {"a": "ptr", "pixels": "i64", "lines": "i64", "line": "i64"}
            parameters |= {"row_step": "i64"}
        parameters |= {"panel_steps": "i64", "n": "i64", "weights": "ptr", "addend": "ptr"}
        parameters |= {"multiplier": "ptr", "scratch": "ptr", "out": "noalias", "ldc": "i64"}
        return parameters | self.epilogue.scalars()

    def arguments(
        self,
        operands: Operands,
        layout: PanelLayout,
        rows_bytes: int,
        ldc: int,
        ldr: int,
        int16_steps: int,
    ) -> list[Pointer | Value | int]:
        """Before the scalars; ``ldc`` in elements. ValueError without scratch memory.

        The parameters are those of ``Product``; not all are used.
        """
        if operands.scratch is None:
            raise ValueError("a product of pixels needs scratch memory")
        steps = layout.padded_k // word_weights(self.storage)
        pointers = [operands.weights, operands.addend, operands.multiplier, operands.scratch]
        return [steps, layout.n, *pointers, operands.out, ldc]

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        size = f"{self.window.name}_{TILE}x{CHANNELS}"
        name = f"pixels_{self.storage}_{size}_{self.epilogue.name}__{isa.name}"
        if function := find_function(module, name):
            return function
        expand = emit_expand(module, isa, self.storage) if self.expands else None
        b = Builder.function(module, isa, name, internal=True, **self.parameters(inside=True))
        channels = b.value("n")
        with b.loop(0, channels, CHANNELS) as first:
            _Panel(self, b, first, expand).run()
        return b.ret()


class _Panel:
    """16 channels of all lines."""

    def __init__(self, product: PixelProduct, b: Builder, first: Value, expand: Any | None) -> None:
        self.product = product
        self.window = product.window
        self.b = b
        self.dot = dot_for(b.isa, "s8")
        self.last = b.pointer("scratch")
        words = b.value("panel_steps")
        panel = b.pointer("weights") + first * words * PIXEL
        if expand is not None:
            padded = (b.value("n") + (CHANNELS - 1)) & -CHANNELS
            zero_points = b.pointer("weights") + (padded * words * PIXEL + first)
            line = (b.value("pixels") * WORD + (VECTOR_BYTES - 1)) & -VECTOR_BYTES
            expanded = self.last + (line if self.window.tight else 0)
            b.call(expand, panel, zero_points, b.i64(CHANNELS), words, expanded)
            panel = expanded
        taps = [panel.load_i32(VECTOR_BYTES * tap) for tap in range(self.window.taps)]
        taps = tight_words(taps) if self.window.tight else taps
        self.weights = [self.dot.weight((tap,)) for tap in taps]
        self.addend = (b.pointer("addend") + first * 4).load_i32()
        self.multiplier = (b.pointer("multiplier") + first * 4).load_f32()
        self.out = b.pointer("out") + first
        self.count = b.value("n") - first
        self.scalars = {name: b.value(name) for name in product.epilogue.scalars()}
        self.saturation = product.epilogue.saturation(b, self.scalars)

    def run(self) -> None:
        """Line by line; the last tile of a line begins where it ends with the line."""
        b, pixels, window = self.b, self.b.value("pixels"), self.window
        ldc = b.value("ldc")
        lines = [b.pointer("a"), self.out]
        with b.loop(0, b.value("lines"), carry=lines):
            row, out = lines
            if window.tight:
                store_last_bytes(b, row, b.value("row_step"), pixels, self.last)
            state: list[Any] = [out, *self._sums(row, b.i64(0), iter(()))]
            with b.loop(TILE, pixels, TILE, carry=state) as pixel:
                before, *sums = state
                here = smaller(pixel, pixels - TILE)
                finishing = self._finish(sums, before)
                state[:] = [out + here * ldc, *self._sums(row, here, finishing)]
            for _ in self._finish(state[1:], state[0]):
                pass
            lines[:] = [row + b.value("line"), out + pixels * ldc]

    def _sums(self, line: Pointer, pixel: Value, meanwhile: Iterator[None]) -> list[Value]:
        """Of the tile from a pixel on; after every few dot products comes a step of ``meanwhile``.

        ``line``: where the first window of the line begins.
        """
        window, step = self.window, self.b.value("row_step")
        start = line + pixel * (window.stride * window.pixel)
        rows = [start + step * y for y in range(window.height)] + [self.last + pixel * WORD]
        words: dict[tuple[int, int], Any] = {}
        sums = [self.addend] * TILE
        for done, dot in enumerate(window.dots(), 1):
            place = dot.row, dot.offset
            if place not in words:
                words[place] = self.dot.broadcast(rows[dot.row].load_i32(dot.offset, 0))
            total = sums[dot.pixel]
            sums[dot.pixel] = self.dot.add(total, words[place], self.weights[dot.weight])
            if done % window.words == 0:
                next(meanwhile, None)
        for _ in meanwhile:
            pass
        return sums

    def _finish(self, sums: list[Value], out: Pointer) -> Generator[None]:
        """Writes the outputs of a tile, in as many steps as it has pixels."""
        epilogue, ldc = self.product.epilogue, self.b.value("ldc")
        for first in range(0, TILE, PACKED):
            values: list[Value] = []
            for total in sums[first : first + PACKED]:
                values.append(epilogue.before_rounding(total, self.multiplier, None, self.scalars))
                yield
            packed = self.saturation.pack(values)
            if self.window.joined:
                out.store(packed, first * CHANNELS)
                continue
            for i in range(PACKED):
                part = packed.shuffle(range(LANES * i, LANES * (i + 1)))
                target = out + ldc * (first + i)
                if self.window.whole:
                    target.store(part)
                else:
                    target.store_first(part, self.count)
