"""Convolution, NHWC, any kernel, stride, dilation, padding and groups, without im2col.

The input of one output pixel is, for each kernel row, a run of adjacent bytes (a run for each
kernel column with groups or dilation): the ``segments`` of K of a ``Product`` whose rows are the
pixels of a line of output. Images with padding are copied to a strip of padded rows first
(``padding``), others are read where they are. A pointwise convolution of stride 1 is a ``gemm``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.conv_lines import GEOMETRY, ROWS, ConvLines
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars
from uqfc.codegen.kernels.gemm import LEAST_ROWS, STORAGE_NAMES, best_tile_rows, tile_heights
from uqfc.codegen.kernels.operands import ConvDims, Operands
from uqfc.codegen.kernels.padding import CHUNK, PARAMETERS, emit_padding
from uqfc.codegen.kernels.panel_constants import PanelConstants
from uqfc.codegen.kernels.pixel_product import PixelProduct
from uqfc.codegen.kernels.pixel_window import TILE, Window
from uqfc.codegen.kernels.product import LINES_BYTES, Product
from uqfc.codegen.kernels.quantized_rows import PARAMETERS as QUANTIZED_PARAMETERS
from uqfc.codegen.kernels.quantized_rows import QuantizedRows
from uqfc.codegen.kernels.reading import PLAIN, Reading, reading_of
from uqfc.codegen.kernels.strip import Strip, offsets_bytes
from uqfc.codegen.kernels.tile import overlap_name, overlap_of
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import CHANNELS, PanelLayout, Storage

FEW_LINES = 4
"""Lines of output whose rows are quantized at a time: more are read while others are computed."""


@dataclass(frozen=True)
class ConvSpec(PanelConstants[ConvDims]):
    """A convolution that is not a matrix product. ``padded``: through a strip of padded rows.

    ``source``: x is a float32 NCHW image whose rows are quantized on their way to the strip.
    ``window``: pixels of the strip are ``window.pixel`` bytes, see ``PixelProduct``.
    """

    isa: Isa
    storage: Storage
    tile_rows: int
    padded: bool
    epilogue: Epilogue
    source: QuantizedRows | None = None
    overlap: int = 0
    """As in ``Tile``."""
    reading: Reading = PLAIN
    window: Window | None = None

    @property
    def name(self) -> str:
        tile = f"{self.tile_rows}x{self.panel}c4"
        tile += overlap_name(self.overlap) + self.reading.name
        op = "conv" if self.padded else "conv_valid"
        op += f"_{self.source.name}" if self.source else ""
        op += f"_{self.window.name}" if self.window else ""
        weights = STORAGE_NAMES[self.storage]
        return f"u8_{weights}_{op}_{tile}_{self.epilogue.name}__{self.isa.name}"

    @property
    def panel(self) -> int:
        """Output channels of a full panel of weights."""
        return CHANNELS if self.window else self.isa.panel

    @property
    def product(self) -> Product | PixelProduct:
        if self.window:
            return PixelProduct(self.isa, self.storage, self.window, self.epilogue)
        return Product(
            self.isa, self.storage, self.tile_rows, self.epilogue, self.overlap, self.reading
        )

    def layout(self, dims: ConvDims) -> PanelLayout:
        """Layout of the weights as [out_channels, kh * kw * in_channels / groups]."""
        n = dims.out_channels // dims.groups
        segments = self.window.taps if self.window else dims.segments
        return PanelLayout(n, dims.taps, self.storage, self.panel, dims.groups, segments)

    def scratch_bytes(self, dims: ConvDims) -> int:
        """Bytes of scratch memory: offsets of segments, padded rows, what the product needs."""
        product = self.product.scratch_bytes(self.layout(dims), self.rows_bytes(dims))
        line = self.window.line_bytes(dims.out_width) if self.window else 0
        return offsets_bytes(dims) + self._strip_bytes(dims) + product + line

    def _strip_bytes(self, dims: ConvDims) -> int:
        return self._strip(dims).bytes if self.padded else 0

    def _strip(self, dims: ConvDims) -> Strip:
        lines = FEW_LINES if self.source else dims.out_height
        return Strip.of(dims, lines, self._pixel(dims))

    def _pixel(self, dims: ConvDims) -> int:
        """Bytes of a pixel of the rows that windows are in."""
        return self.window.pixel if self.window else dims.in_channels

    def call(
        self,
        b: Builder,
        operands: Operands,
        dims: ConvDims,
        scalars: Scalars,
        part: Part | None = None,
    ) -> None:
        """Emits a call; see ``kernels``. ValueError where the dims are not those of the spec."""
        best = conv_spec(self.isa, dims, self.storage, self.epilogue, self.tile_rows, self.source)
        if self not in (best, in_pixels(best, dims)):
            raise ValueError(f"{self.name} is not the kernel of {dims}")
        if operands.scratch is None:
            raise ValueError(f"{self.name} needs scratch memory")
        offsets = operands.scratch
        strip = offsets + offsets_bytes(dims)
        inner = replace(operands, scratch=strip + self._strip_bytes(dims))
        layout = self.layout(dims)
        lines = dims.batch * dims.out_height
        begin, end = (0, lines) if part is None else part.share(lines)
        arguments: list[Pointer | Value | float] = [operands.x, begin, end]
        arguments += [offsets, strip, *self._geometry(dims, layout)]
        arguments += self._padding(dims, scalars.pad_value)
        arguments += self.product.arguments(
            inner,
            layout,
            self.rows_bytes(dims),
            dims.ldc,
            dims.out_channels,
            scalars.int16_steps,
        )
        function = self.emit(b.module, b.isa)
        b.call(function, *arguments, *self.epilogue.scalar_values(scalars))

    def splits(self, dims: ConvDims) -> bool:
        """Whether ``call`` can compute a part."""
        return dims.batch * dims.out_height > 1

    def _geometry(self, dims: ConvDims, layout: PanelLayout) -> list[int]:
        """The values of ``GEOMETRY``."""
        strip = self._strip(dims)
        pixel = self._pixel(dims)
        line = dims.width * dims.in_channels
        pitch = strip.pitch if self.padded else line
        return [
            dims.height * line * (4 if self.source else 1),
            dims.out_height,
            dims.out_width,
            strip.lines if self.padded else dims.out_height,
            self._chunk(dims),
            dims.reach[0],
            max(0, dims.reach[0] - dims.stride[0]),
            dims.pad_begin[0],
            dims.stride[0],
            dims.stride[1] * pixel,
            dims.kernel[0],
            dims.segments // dims.kernel[0],
            dims.dilation[0] * pitch,
            dims.dilation[1] * pixel,
            dims.groups,
            pixel // dims.groups,
            layout.group_bytes,
            layout.padded_n,
        ]

    def rows_bytes(self, dims: ConvDims) -> int:
        """Bytes of the input and the output."""
        inputs = dims.height * dims.width * dims.in_channels
        outputs = dims.out_height * dims.out_width * dims.out_channels
        return dims.batch * (inputs + outputs * self.epilogue.element_bytes)

    def _chunk(self, dims: ConvDims) -> int:
        """Lines whose inputs and outputs are in the first level cache together."""
        inputs = dims.stride[0] * dims.width * dims.in_channels
        outputs = dims.out_width * dims.out_channels * self.epilogue.element_bytes
        return max(1, LINES_BYTES // (inputs + outputs), -(-LEAST_ROWS // dims.out_width))

    def rows_parameters(self) -> dict[str, str]:
        """Parameters of what fills the strip. ``pitch`` is that of the image without one."""
        return QUANTIZED_PARAMETERS if self.source else PARAMETERS

    def _padding(self, dims: ConvDims, pad_value: int) -> list[float | int]:
        """The values of ``rows_parameters``."""
        line = dims.width * dims.in_channels
        if not self.padded:
            return [dims.height, line, 0, 0, line, line, pad_value]
        strip = self._strip(dims)
        if self.source is None:
            filled = strip.pitch - CHUNK
            return [dims.height, line, strip.left, strip.copied, filled, strip.pitch, pad_value]
        columns = strip.copied // self._pixel(dims)
        sizes = [dims.height, dims.width * 4, dims.height * dims.width * 4, strip.left, columns]
        return [*sizes, strip.pitch, pad_value, *self.source.values()]

    def emit(self, module: Any, isa: Isa) -> Any:
        """``f(x, begin, end, offsets, strip, *GEOMETRY, *those of the rows, …)``, emitted once.

        Lines ``begin … end - 1`` of the output are computed, of all images one after the other.
        """
        if function := find_function(module, self.name):
            return function
        product = self.product.emit(module, isa)
        padding = self._emit_rows(module, isa)
        parameters = {"x": "ptr", "begin": "i64", "end": "i64", "offsets": "ptr", "strip": "ptr"}
        parameters |= GEOMETRY
        parameters |= {ROWS + n: kind for n, kind in self.rows_parameters().items()}
        parameters |= self.product.parameters(inside=False)
        b = Builder.function(module, isa, self.name, internal=True, **parameters)
        ConvLines(self, b, product, padding).run()
        return b.ret()

    def _emit_rows(self, module: Any, isa: Isa) -> Any | None:
        """The function that fills the strip, if there is one."""
        if not self.padded:
            return None
        if self.source is None:
            spread = self.window is not None and self.window.channels < self.window.pixel
            return emit_padding(module, isa, spread=spread)
        return self.source.emit(
            module, isa, self.window.pixel if self.window else self.source.channels
        )


def in_pixels(spec: ConvSpec, dims: ConvDims) -> ConvSpec | None:
    """The kernel that does the same with a ``Window``, if there is one."""
    window = Window.of(spec.isa, dims, spec.storage, spec.epilogue)
    if window is None:
        return None
    return replace(spec, tile_rows=TILE, padded=True, overlap=0, reading=PLAIN, window=window)


def conv_tile_heights(isa: Isa, dims: ConvDims) -> list[int]:
    """Rows that a tile may have: pixels of a line of output, largest first; more than one."""
    least = min(2, isa.tile_rows)
    return [r for r in tile_heights(isa, max(dims.out_width, least)) if r >= least]


def conv_spec(
    isa: Isa,
    dims: ConvDims,
    storage: Storage,
    epilogue: Epilogue,
    tile_rows: int | None = None,
    source: QuantizedRows | None = None,
) -> ConvSpec:
    """The kernel for a convolution, in tiles of ``tile_rows`` pixels or the best.

    ``source``: of an image that it quantizes.

    ValueError if it is a matrix product.
    """
    if dims.is_product:
        raise ValueError("a pointwise convolution is a product of dims.product")
    steps = -(-dims.taps // dims.segments // 4)
    rows = tile_rows or max(best_tile_rows(isa, dims.out_width, steps), min(2, isa.tile_rows))
    padded = dims.is_padded or source is not None
    overlap = overlap_of(isa, rows, steps, storage)
    spec = ConvSpec(isa, storage, rows, padded, epilogue, source, overlap)
    reading = reading_of(spec.layout(dims), dims.pixels, spec.rows_bytes(dims), spec.overlap)
    return replace(spec, reading=reading)
