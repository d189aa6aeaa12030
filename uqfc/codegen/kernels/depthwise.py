"""Depthwise convolution, NHWC, one output channel per input channel: sizes, packing, calls.

``depthwise_body`` has the code. A *step* is what is computed at a time of a column of outputs: one
output row, or two where the second needs no more words than the first (``Geometry``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import dot_for
from uqfc.codegen.isa.interleave import interleaves_wide
from uqfc.codegen.kernels.depthwise_body import KINDS, DepthwiseBody
from uqfc.codegen.kernels.depthwise_geometry import Geometry, blocks_of, pixels_of
from uqfc.codegen.kernels.depthwise_pairs import CHANNELS, PairsBody, sums_pairs
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars
from uqfc.codegen.kernels.gemm import STORAGE_NAMES
from uqfc.codegen.kernels.operands import ConvDims, Operands
from uqfc.codegen.kernels.panel_constants import PanelConstants
from uqfc.codegen.parts import Part
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import LINE, DepthwiseLayout, Storage, round_up

MOST_TAPS = 81
"""Larger kernels would not fit the registers by far; ``conv`` takes them."""
STRIP_BYTES = 24 * 1024
"""Aim for what a strip of steps reads of a cache line per pixel: half of a first level cache."""


@dataclass(frozen=True)
class DepthwiseSpec(PanelConstants[ConvDims]):
    """A depthwise convolution of one kernel size, stride and dilation."""

    isa: Isa
    storage: Storage
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    blocks: tuple[int, ...]
    """Channels that are done at a time: 64, 16, or 64 and for what is left 16; 32 in pairs."""
    epilogue: Epilogue
    odd: bool = False
    """Steps have two output rows, but the last one of an image."""
    pixels: int = 0
    """Outputs of a row that are done at a time where input columns are stored; 0: does not care."""
    twins: bool = False
    """64 channels of two outputs of a row are done at a time, not of one."""

    @property
    def name(self) -> str:
        height, width = self.kernel
        dilation = f"d{_pair(self.dilation)}" if self.dilation != (1, 1) else ""
        blocks = "".join(f"x{channels}" for channels in self.blocks)
        blocks = f"x2{blocks}" if self.twins else blocks
        pixels = f"p{self.pixels}" if self.pixels else ""
        odd = "odd" if self.odd else ""
        tile = f"{height}x{width}s{_pair(self.stride)}{dilation}{odd}{pixels}{blocks}"
        weights = STORAGE_NAMES[self.storage]
        return f"u8_{weights}_dwconv_{tile}_{self.epilogue.name}__{self.isa.name}"

    @property
    def pairs(self) -> bool:
        """Taps are summed in pairs."""
        return self.blocks == (CHANNELS,)

    @property
    def geometry(self) -> Geometry:
        """What one step covers."""
        shifts = not self.pairs and not dot_for(self.isa, KINDS[self.storage]).pairs
        geometry = Geometry.of(self.kernel, self.stride, self.dilation, shifts)
        return geometry.many(self.pixels, shifts) if self.pixels else geometry

    def layout(self, dims: ConvDims) -> DepthwiseLayout:
        """Layout of the weights [channels, kh, kw]."""
        return DepthwiseLayout(dims.out_channels, self.kernel, self.storage)

    def scratch_bytes(self, dims: ConvDims) -> int:
        """Bytes of scratch memory: a row of padding where outputs read pixels outside the image."""
        line = dims.width * dims.in_channels
        return round_up(line, LINE) + LINE if dims.is_padded else 0

    def steps(self, dims: ConvDims) -> int:
        """Steps of the batch: what ``begin`` and ``end`` of the function count."""
        return dims.batch * self._image_steps(dims)

    def _image_steps(self, dims: ConvDims) -> int:
        return -(-dims.out_height // self.geometry.rows)

    def _strip(self, dims: ConvDims) -> int:
        """Steps that all channels are done for before the next ones.

        All of an image where words stay for the next step, which reads what is new only.
        """
        if self.geometry.again:
            return self._image_steps(dims)
        row = dims.width * min(LINE, dims.in_channels)
        return max(1, STRIP_BYTES // (row * self.geometry.rows * dims.stride[0]))

    def splits(self, dims: ConvDims) -> bool:
        """Whether ``call`` can compute a part."""
        return self.steps(dims) > 1

    def call(
        self,
        b: Builder,
        operands: Operands,
        dims: ConvDims,
        scalars: Scalars,
        part: Part | None = None,
    ) -> None:
        """Emits a call; see ``kernels``. ValueError where the dims are not those of the spec."""
        best = depthwise_spec(self.isa, dims, self.storage, self.epilogue, fits_int16=self.pairs)
        if best != self:
            raise ValueError(f"{self.name} is not the kernel of {dims}")
        padding = operands.scratch if dims.is_padded else operands.x
        if padding is None or (self.epilogue.residual and operands.residual is None):
            raise ValueError(f"{self.name} needs scratch memory, and a residual if it adds one")
        steps = self.steps(dims)
        begin, end = (0, steps) if part is None else part.share(steps)
        arguments: list[Pointer | Value | int] = [operands.x, operands.weights, operands.addend]
        arguments += [operands.multiplier, operands.out, padding]
        arguments += [operands.residual] if operands.residual and self.epilogue.residual else []
        arguments += [begin, end, self._strip(dims), self._image_steps(dims)]
        arguments += [dims.height, dims.width, dims.in_channels, *dims.pad_begin]
        arguments += [dims.out_height, dims.out_width, self.scratch_bytes(dims)]
        values = self.epilogue.scalar_values(scalars)
        b.call(self.emit(b.module, b.isa), *arguments, scalars.pad_value, *values)

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once; steps ``begin … end - 1`` of the batch are computed."""
        if function := find_function(module, self.name):
            return function
        parameters = {"x": "ptr", "weights": "ptr", "addend": "ptr", "multiplier": "ptr"}
        parameters |= {"out": "ptr", "padding": "ptr"}
        parameters |= {"residual": "ptr"} if self.epilogue.residual else {}
        sizes = ("begin", "end", "strip", "image_steps", "height", "width", "channels", "pad_y")
        parameters |= dict.fromkeys((*sizes, "pad_x", "out_height", "out_width"), "i64")
        parameters |= {"padding_bytes": "i64", "pad_value": "i32"} | self.epilogue.scalars()
        b = Builder.function(module, isa, self.name, internal=True, **parameters)
        if self.pairs:
            PairsBody(b, self.geometry, self.storage, self.epilogue).run()
        else:
            body = DepthwiseBody(
                b,
                self.geometry,
                self.blocks,
                self.storage,
                self.epilogue,
                odd=self.odd,
                broad_pixels=2 if self.twins else 1,
            )
            body.run()
        return b.ret()


def _pair(values: tuple[int, int]) -> str:
    """``2`` for (2, 2), ``2x1`` for (2, 1)."""
    return str(values[0]) if values[0] == values[1] else f"{values[0]}x{values[1]}"


def depthwise_spec(
    isa: Isa,
    dims: ConvDims,
    storage: Storage,
    epilogue: Epilogue,
    *,
    fits_int16: bool = False,
) -> DepthwiseSpec:
    """The kernel for a depthwise convolution.

    ``fits_int16``: the weights prove that int16 holds their sums; see ``depthwise_pairs``.

    Raises ValueError if it has not one output channel per input channel, or too large a kernel:
    ``conv_spec`` takes those.
    """
    if not dims.groups == dims.in_channels == dims.out_channels:
        raise ValueError("a depthwise convolution has groups == in_channels == out_channels")
    if dims.kernel[0] * dims.kernel[1] > MOST_TAPS:
        raise ValueError(f"depthwise kernels have at most {MOST_TAPS} taps, got {dims.kernel}")
    narrow = DepthwiseSpec(
        isa, storage, dims.kernel, dims.stride, dims.dilation, (LANES,), epilogue
    )
    if fits_int16 and sums_pairs(isa, dims.in_channels, storage, epilogue):
        return replace(narrow, blocks=(CHANNELS,))
    spec = narrow
    if interleaves_wide(isa) and not narrow.geometry.is_held:
        spec = replace(narrow, pixels=pixels_of(dims.out_width))
    elif interleaves_wide(isa) and narrow.geometry.broad().is_held:
        blocks = blocks_of(dims.in_channels)
        fits = epilogue.output == "u8" and dims.out_width % 2 == 0
        fits = fits and narrow.geometry.broad(2).is_held
        twins = fits and (dims.stride[1] > 1 or dims.in_channels % LINE > 0)
        spec = replace(narrow, blocks=blocks, twins=twins and blocks != (LANES,))
    return replace(spec, odd=spec.geometry.rows == 2 and dims.out_height % 2 == 1)
