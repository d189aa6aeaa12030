"""Convolution, NHWC, any kernel, stride, dilation, padding and groups, without im2col.

The input of one output pixel is, for each kernel row, a run of adjacent bytes (a run for each
kernel column with groups or dilation): the ``segments`` of K of a ``Product`` whose rows are the
pixels of a line of output. Images with padding are copied to a strip of padded rows first
(``padding``), others are read where they are. A pointwise convolution of stride 1 is a ``gemm``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars
from uqfc.codegen.kernels.gemm import LEAST_ROWS, STORAGE_NAMES, best_tile_rows, tile_heights
from uqfc.codegen.kernels.operands import ConvDims, Operands
from uqfc.codegen.kernels.padding import CHUNK, PARAMETERS, emit_padding
from uqfc.codegen.kernels.product import LINES_BYTES, Product
from uqfc.codegen.kernels.quantized_rows import PARAMETERS as QUANTIZED_PARAMETERS
from uqfc.codegen.kernels.quantized_rows import QuantizedRows
from uqfc.codegen.kernels.strip import Strip, offsets_bytes, store_offsets
from uqfc.codegen.kernels.tensor import smaller
from uqfc.codegen.kernels.tile import overlap_name, overlap_of
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import I32, U8, PanelLayout, Scalar, Storage

FEW_LINES = 4
"""Lines of output whose rows are quantized at a time: more are read while others are computed."""
ROWS = "rows_"
"""Starts the names of the parameters of what fills a strip."""
GEOMETRY: dict[str, str] = {
    "image": "i64",
    "out_height": "i64",
    "out_width": "i64",
    "strip_lines": "i64",
    "chunk": "i64",
    "reach": "i64",
    "overlap": "i64",
    "pad_y": "i64",
    "stride_y": "i64",
    "lda": "i64",
    "kernel_height": "i64",
    "runs": "i64",
    "row_step": "i64",
    "run_step": "i64",
    "groups": "i64",
    "group_inputs": "i64",
    "group_bytes": "i64",
    "group_channels": "i64",
}
"""Bytes of an image; lines of output that are padded, and computed, at a time; rows under a window,
and how many of them are under the next line's; bytes between the windows of neighbours, from kernel
row to kernel row and from run to run; input channels of a group, bytes of its weights, its padded
channels."""


@dataclass(frozen=True)
class ConvSpec:
    """A convolution that is not a matrix product. ``padded``: through a strip of padded rows.

    ``source``: x is a float32 NCHW image whose rows are quantized on their way to the strip.
    """

    isa: Isa
    storage: Storage
    tile_rows: int
    padded: bool
    epilogue: Epilogue
    source: QuantizedRows | None = None
    overlap: int = 0
    """As in ``Tile``."""

    @property
    def name(self) -> str:
        tile = f"{self.tile_rows}x{self.isa.panel}c4{overlap_name(self.overlap)}"
        op = "conv" if self.padded else "conv_valid"
        op += f"_{self.source.name}" if self.source else ""
        weights = STORAGE_NAMES[self.storage]
        return f"u8_{weights}_{op}_{tile}_{self.epilogue.name}__{self.isa.name}"

    @property
    def product(self) -> Product:
        return Product(self.isa, self.storage, self.tile_rows, self.epilogue, self.overlap)

    def layout(self, dims: ConvDims) -> PanelLayout:
        """Layout of the weights as [out_channels, kh * kw * in_channels / groups]."""
        n = dims.out_channels // dims.groups
        return PanelLayout(n, dims.taps, self.storage, self.isa.panel, dims.groups, dims.segments)

    def pack(self, dims: ConvDims, weights: I32, zero_points: I32 | None = None) -> U8:
        """Bytes of the weights [out_channels, kh, kw, in_channels / groups]."""
        return self.layout(dims).pack(weights.reshape(dims.out_channels, -1), zero_points)

    def pad(self, dims: ConvDims, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Addends or multipliers [out_channels] as the kernel reads them."""
        return self.layout(dims).pad(values)

    def scratch_bytes(self, dims: ConvDims) -> int:
        """Bytes of scratch memory: offsets of segments, padded rows, what the product needs."""
        product = self.product.scratch_bytes(self.layout(dims))
        return offsets_bytes(dims) + self._strip_bytes(dims) + product

    def _strip_bytes(self, dims: ConvDims) -> int:
        return self._strip(dims).bytes if self.padded else 0

    def _strip(self, dims: ConvDims) -> Strip:
        return Strip.of(dims, FEW_LINES if self.source else dims.out_height)

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
        if best != self:
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
        arguments += self.product.arguments(inner, layout, dims.out_channels, dims.out_channels)
        function = self.emit(b.module, b.isa)
        b.call(function, *arguments, *self.epilogue.scalar_values(scalars))

    def splits(self, dims: ConvDims) -> bool:
        """Whether ``call`` can compute a part."""
        return dims.batch * dims.out_height > 1

    def _geometry(self, dims: ConvDims, layout: PanelLayout) -> list[int]:
        """The values of ``GEOMETRY``."""
        strip = self._strip(dims)
        channels = dims.in_channels
        line = dims.width * channels
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
            dims.stride[1] * channels,
            dims.kernel[0],
            dims.segments // dims.kernel[0],
            dims.dilation[0] * pitch,
            dims.dilation[1] * channels,
            dims.groups,
            channels // dims.groups,
            layout.group_bytes,
            layout.padded_n,
        ]

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
        columns = strip.copied // dims.in_channels
        sizes = [dims.height, dims.width * 4, dims.height * dims.width * 4, strip.left, columns]
        return [*sizes, strip.pitch, pad_value, *self.source.values()]

    def emit(self, module: Any, isa: Isa) -> Any:
        """``f(x, begin, end, offsets, strip, *GEOMETRY, *those of the rows, …)``, emitted once.

        Lines ``begin … end - 1`` of the output are computed, of all images one after the other.
        """
        if function := find_function(module, self.name):
            return function
        product = self.product.emit(module, isa)
        padding = None
        if self.padded:
            padding = (self.source.emit if self.source else emit_padding)(module, isa)
        parameters = {"x": "ptr", "begin": "i64", "end": "i64", "offsets": "ptr", "strip": "ptr"}
        parameters |= GEOMETRY
        parameters |= {ROWS + n: kind for n, kind in self.rows_parameters().items()}
        parameters |= self.product.parameters(inside=False)
        b = Builder.function(module, isa, self.name, internal=True, **parameters)
        _Conv(self, b, product, padding).run()
        return b.ret()


class _Conv:
    """The body of a ``ConvSpec``."""

    def __init__(self, spec: ConvSpec, b: Builder, product: Any, padding: Any | None) -> None:
        self.spec = spec
        self.b = b
        self.product = product
        self.padding = padding

    def run(self) -> None:
        b, get = self.b, self.b.value
        store_offsets(b)
        state = [get("begin"), b.i64(0)]
        with b.while_loop(lambda: state[0].lt(get("end")), state):
            line, kept = state
            image = b.pointer("x") + line // get("out_height") * get("image")
            y = line % get("out_height")
            lines = smaller(get("out_height") - y, get("strip_lines"))
            lines = smaller(lines, get("end") - line)
            kept = b.select(y.eq(0), b.i64(0), kept)
            self._groups(self._rows(image, y, lines, kept), line, lines)
            if self.padding is not None:
                kept = self._keep(lines)
            state[:] = [line + lines, kept]

    def _keep(self, lines: Value) -> Value:
        """Moves the rows that the next lines need, too, to the start; gives their number."""
        b, get = self.b, self.b.value
        strip, pitch, overlap = b.pointer("strip"), get(ROWS + "pitch"), get("overlap")
        source = strip + lines * get("stride_y") * pitch
        with b.loop(0, overlap * pitch, CHUNK) as offset:
            strip.store(source.load("i8", offset, CHUNK), offset)
        return overlap

    def _rows(self, image: Pointer, y: Value, lines: Value, kept: Value) -> Pointer:
        """The rows under some lines of output; of a strip the first ``kept`` are there."""
        b, get = self.b, self.b.value
        first = y * get("stride_y") - get("pad_y")
        pitch = get(ROWS + "pitch")
        if self.padding is None:
            return image + first * pitch
        count = (lines - 1) * get("stride_y") + get("reach")
        parameters = [get(ROWS + name) for name in self.spec.rows_parameters()]
        strip = b.pointer("strip")
        missing = (strip + kept * pitch, first + kept, count - kept)
        b.call(self.padding, image, *missing, *parameters)
        return strip

    def _groups(self, rows: Pointer, line: Value, lines: Value) -> None:
        b, get, epilogue = self.b, self.b.value, self.spec.epilogue
        pixel = line * get("out_width")
        with b.loop(0, get("groups")) as group:
            channel = group * get("n")
            padded = group * get("group_channels") * 4
            changed: dict[str, Value | Pointer] = {
                "a": rows + group * get("group_inputs"),
                "pixels": get("out_width"),
                "last_pixels": get("out_width"),
                "lines": lines,
                "line": get("stride_y") * get(ROWS + "pitch"),
                "segments": get("kernel_height") * get("runs"),
                "weights": b.pointer("weights") + group * get("group_bytes"),
                "addend": b.pointer("addend") + padded,
                "multiplier": b.pointer("multiplier") + padded,
                "out": b.pointer("out") + (pixel * get("ldc") + channel * epilogue.element_bytes),
            }
            if epilogue.residual:
                changed["residual"] = b.pointer("residual") + (pixel * get("ldr") + channel)
            b.call_with(self.product, changed)


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
    return ConvSpec(isa, storage, rows, padded, epilogue, source, overlap)
