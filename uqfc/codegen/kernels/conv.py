"""Convolution, NHWC, any kernel, stride, dilation, padding and groups.

Some hundred output pixels at a time are gathered to rows of a matrix (``gather``), which is then
multiplied like any other (``gemm``). A pointwise convolution of stride 1 is that product alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars
from uqfc.codegen.kernels.gather import CHUNKS, PARAMETERS, Gather, best_gather
from uqfc.codegen.kernels.gemm import STORAGE_NAMES, GemmSpec, gemm_spec
from uqfc.codegen.kernels.operands import ConvDims, GemmDims, Operands
from uqfc.codegen.vector import Pointer, Value
from uqfc.packing import I32, U8, PanelLayout, Scalar, Storage, round_up

STRIP_BYTES = 64 * 1024
"""Aim for the size of the gathered matrix: part of a second level cache."""
MOST_ROWS = 512
LEAST_ROWS = 48
"""Fewer rows would load the weights too often."""


@dataclass(frozen=True)
class ConvSpec:
    """A convolution of at least ``gemm.tile_rows`` output pixels.

    Without ``gather`` the input is the matrix already.
    """

    gemm: GemmSpec
    gather: Gather | None

    @property
    def name(self) -> str:
        if self.gather is None:
            return self.gemm.name
        tile = f"{self.gemm.tile_rows}x{self.gemm.isa.panel}c4"
        op = f"conv_{self.gather.name}"
        weights = STORAGE_NAMES[self.gemm.storage]
        return f"u8_{weights}_{op}_{tile}_{self.gemm.epilogue.name}__{self.gemm.isa.name}"

    def layout(self, dims: ConvDims) -> PanelLayout:
        """Layout of the weights as [out_channels, kh * kw * in_channels / groups]."""
        n = dims.out_channels // dims.groups
        return PanelLayout(n, dims.taps, self.gemm.storage, self.gemm.isa.panel, dims.groups)

    def pack(self, dims: ConvDims, weights: I32, zero_points: I32 | None = None) -> U8:
        """Bytes of the weights [out_channels, kh, kw, in_channels / groups]."""
        return self.layout(dims).pack(weights.reshape(dims.out_channels, -1), zero_points)

    def pad(self, dims: ConvDims, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Addends or multipliers [out_channels] as the kernel reads them."""
        return self.layout(dims).pad(values)

    def scratch_bytes(self, dims: ConvDims) -> int:
        """Bytes of scratch memory: the gathered rows and what the product needs."""
        product = self.gemm.scratch_bytes(self._gemm_dims(dims))
        return product if self.gather is None else self._strip_bytes(dims) + product

    def _gemm_dims(self, dims: ConvDims) -> GemmDims:
        """The product of one group over all pixels."""
        n = dims.out_channels // dims.groups
        lda = dims.in_channels if self.gather is None else round_up(dims.taps, 8)
        return GemmDims(dims.pixels, dims.taps, n, lda, dims.out_channels, dims.out_channels)

    def _strip_bytes(self, dims: ConvDims) -> int:
        rows = strip_rows(dims, self.gemm.tile_rows)
        return round_up(rows * round_up(dims.taps, 8) + CHUNKS[-1], 64)

    def call(self, b: Builder, operands: Operands, dims: ConvDims, scalars: Scalars) -> None:
        """Emits a call; see ``kernels``. ValueError where the dims are not those of the spec."""
        if conv_spec(self.gemm.isa, dims, self.gemm.storage, self.gemm.epilogue) != self:
            raise ValueError(f"{self.name} is not the kernel of {dims}")
        if self.gather is None:
            self.gemm.call(b, operands, self._gemm_dims(dims), scalars)
            return
        if operands.scratch is None:
            raise ValueError(f"{self.name} needs scratch memory")
        function = self._emit(b.module, b.isa, self.gather)
        layout = self.layout(dims)
        arguments: list[Pointer | int] = [operands.x, operands.scratch]
        arguments += [round_up(dims.taps, 8), dims.pixels, strip_rows(dims, self.gemm.tile_rows)]
        arguments += gather_arguments(dims, scalars.pad_value)
        arguments += [dims.groups, layout.group_bytes, layout.padded_n * 4]
        scratch = operands.scratch + self._strip_bytes(dims)
        inner = Operands(
            operands.x,
            operands.weights,
            operands.addend,
            operands.multiplier,
            operands.out,
            operands.residual,
            scratch,
        )
        arguments += self.gemm.arguments(inner, self._gemm_dims(dims))[2:]
        b.call(function, *arguments, *self.gemm.epilogue.scalar_values(scalars))

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once."""
        if self.gather is None:
            return self.gemm.emit(module, isa)
        return self._emit(module, isa, self.gather)

    def _emit(self, module: Any, isa: Isa, gather: Gather) -> Any:
        """``f(x, strip, row_bytes, pixels, strip_rows, *gather.PARAMETERS, groups, group_bytes,
        group_channels_bytes, *arguments of the product from its weights on)``."""
        if function := find_function(module, self.name):
            return function
        product = self.gemm.emit(module, isa)
        im2col = gather.emit(module, isa)
        parameters = {"x": "ptr", "strip": "noalias", "row_bytes": "i64", "pixels": "i64"}
        parameters |= {"strip_rows": "i64", **PARAMETERS, "groups": "i64"}
        parameters |= {"group_bytes": "i64", "group_channels_bytes": "i64"}
        own = self.gemm.parameters()
        parameters |= {name: kind for name, kind in own.items() if name not in {"a", "lda"}}
        b = Builder.function(module, isa, self.name, internal=True, **parameters)
        self._body(b, product, im2col, own)
        return b.ret()

    def _body(self, b: Builder, product: Any, im2col: Any, own: dict[str, str]) -> None:
        get = b.value
        pixels, most, row_bytes = get("pixels"), get("strip_rows"), get("row_bytes")
        size = self.gemm.epilogue.element_bytes
        geometry = [get(name) for name in PARAMETERS]
        with b.loop(0, get("groups")) as group, b.loop(0, pixels, most) as first:
            left = pixels - first
            rows = b.select(left.lt(most), left, most)
            x = b.pointer("x") + group * get("length")
            b.call(im2col, x, b.pointer("strip"), row_bytes, first, rows, *geometry)
            channel = group * get("n")
            channels_bytes = group * get("group_channels_bytes")
            changed: dict[str, Value | Pointer] = {
                "a": b.pointer("strip"),
                "lda": row_bytes,
                "weights": b.pointer("weights") + group * get("group_bytes"),
                "addend": b.pointer("addend") + channels_bytes,
                "multiplier": b.pointer("multiplier") + channels_bytes,
                "out": b.pointer("out") + (channel * size + first * get("ldc")),
                "rows": rows,
            }
            if self.gemm.epilogue.residual:
                residual = b.pointer("residual") + (channel + first * get("ldr"))
                changed["residual"] = residual
            arguments = [changed[n] if n in changed else b.argument(n) for n in own]
            b.call(product, *arguments)


def gather_arguments(dims: ConvDims, pad_value: int) -> list[Pointer | int]:
    """The values of ``gather.PARAMETERS``."""
    taps = dims.kernel[1] if _contiguous(dims) else 1
    return [
        dims.height,
        dims.width,
        dims.in_channels,
        dims.height * dims.width * dims.in_channels,
        dims.out_height,
        dims.out_width,
        dims.kernel[0],
        dims.kernel[1] // taps,
        taps,
        dims.in_channels // dims.groups,
        *dims.stride,
        *dims.dilation,
        *dims.pad_begin,
        pad_value,
    ]


def _contiguous(dims: ConvDims) -> bool:
    """A kernel row is adjacent bytes of the image."""
    return dims.groups == 1 and (dims.dilation[1] == 1 or dims.kernel[1] == 1)


def strip_rows(dims: ConvDims, tile_rows: int) -> int:
    """Pixels that are gathered at a time: what is left at the end is 0 or at least a tile."""
    pixels = dims.pixels
    most = max(LEAST_ROWS, min(MOST_ROWS, STRIP_BYTES // round_up(dims.taps, 8)))
    if pixels <= most:
        return pixels
    rests = {rows: pixels % rows for rows in range(most, tile_rows - 1, -1)}
    return next(rows for rows, rest in rests.items() if rest == 0 or rest >= tile_rows)


def conv_spec(isa: Isa, dims: ConvDims, storage: Storage, epilogue: Epilogue) -> ConvSpec:
    """The kernel for a convolution."""
    gemm = gemm_spec(isa, dims.pixels, storage, epilogue)
    same_size = (dims.height, dims.width) == (dims.out_height, dims.out_width)
    unit = dims.kernel == (1, 1) and dims.stride == (1, 1) and dims.groups == 1
    if unit and same_size and dims.pad_begin == (0, 0):
        return ConvSpec(gemm, None)
    taps = dims.kernel[1] if _contiguous(dims) else 1
    run_bytes = taps * (dims.in_channels // dims.groups)
    return ConvSpec(gemm, best_gather(dims.kernel[0], dims.kernel[1] // taps, run_bytes))
