"""Float32 depthwise convolution of few taps, vectors along the channels.

The sum of an output has the contract's order with the tap as index: partial sum ``tap % 16``, from
+0.0, then the pairwise tree. Taps outside the image are read from a line of zeros. x may be read
up to 64 bytes past its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.kernels.copying import CopyKernel
from uqfc.codegen.kernels.float_linear import next_inputs
from uqfc.codegen.kernels.float_product import FloatEpilogue
from uqfc.codegen.kernels.lanes import each_vector, load_part, store_part
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.codegen.kernels.tensor import Argument, FunctionKernel, nest
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import round_up

MOST_TAPS = 64
SIZES = ("batch", "height", "width", "channels", "out_height", "out_width")
STEPS = ("stride_y", "stride_x", "dilation_y", "dilation_x", "pad_y", "pad_x")


@dataclass(frozen=True)
class FloatDepthwiseKernel(FunctionKernel):
    """Inputs: x, w [c, kh, kw, 1], then bias [c] and residual if there are.

    ``out`` may be the residual. ValueError unless every group has one input and one output
    channel and there are at most ``MOST_TAPS`` taps.
    """

    over_read = 64
    element_bytes: ClassVar[int] = 4
    """Of x."""
    extra_parameters: ClassVar[dict[str, str]] = {}
    """Of the function, after the others."""

    isa: Isa
    dims: ConvDims
    epilogue: FloatEpilogue = field(default_factory=FloatEpilogue)

    def __post_init__(self) -> None:
        d = self.dims
        if not d.groups == d.in_channels == d.out_channels or self._taps > MOST_TAPS:
            raise ValueError(f"not a depthwise convolution of at most {MOST_TAPS} taps: {d}")

    @property
    def _taps(self) -> int:
        return self.dims.kernel[0] * self.dims.kernel[1]

    @property
    def _formats(self) -> str:
        return "f32"

    @property
    def name(self) -> str:
        kernel = "x".join(map(str, self.dims.kernel))
        return f"{self._formats}_dwconv_{self.epilogue.name}{kernel}__{self.isa.name}"

    @property
    def scratch_bytes(self) -> int:
        """A line of zeros and the weights, taps first."""
        return self._zeros_bytes + self._taps * self.dims.in_channels * 4

    @property
    def _zeros_bytes(self) -> int:
        return round_up(self.dims.in_channels, LANES) * 4

    def emit(self, module: Any) -> Any:
        """``f(x, w, bias, residual, out, zeros, *SIZES, *STEPS, *extra_parameters)``."""
        if function := find_function(module, self.name):
            return function
        pointers = ("x", "w", "bias", "residual", "out", "zeros")
        parameters = dict[str, str].fromkeys(pointers, "ptr")
        parameters |= dict.fromkeys((*SIZES, *STEPS), "i64") | self.extra_parameters
        b = Builder.function(module, self.isa, self.name, internal=True, **parameters)
        channels = b.value("channels")
        with b.loop(0, channels, LANES) as i:
            b.pointer("zeros").store(b.f32(0.0, LANES), i * 4)
        loops = [b.value("batch"), b.value("out_height"), b.value("out_width")]
        with nest(b, loops) as (image, row, column):
            taps = self._tap_pointers(b, image, row, column)
            pixel = (image * b.value("out_height") + row) * b.value("out_width") + column
            first = pixel * channels
            out = b.pointer("out") + first * self.epilogue.element_bytes
            self._pixel(b, taps, out, b.pointer("residual") + first * 4)
        return b.ret()

    def _tap_pointers(self, b: Builder, image: Value, row: Value, column: Value) -> list[Pointer]:
        """Where each tap's channels are: in the image, or the zeros."""
        get = b.value
        height, width, channels = get("height"), get("width"), get("channels")
        base = b.pointer("x") + image * height * width * channels * self.element_bytes
        pointers: list[Pointer] = []
        for ky in range(self.dims.kernel[0]):
            y = row * get("stride_y") - get("pad_y") + get("dilation_y") * ky
            row_inside = y.ge(0) & y.lt(height)
            for kx in range(self.dims.kernel[1]):
                x = column * get("stride_x") - get("pad_x") + get("dilation_x") * kx
                inside = row_inside & x.ge(0) & x.lt(width)
                place = base + (y * width + x) * channels * self.element_bytes
                pointers.append(b.select(inside, place, b.pointer("zeros")))
        return pointers

    def _pixel(self, b: Builder, taps: list[Pointer], out: Pointer, residual: Pointer) -> None:
        channels = b.value("channels")

        def vector(i: Value, rest: Value | None) -> None:
            partial: list[Value | None] = [None] * LANES
            for t, tap in enumerate(taps):
                weights = load_part(b.pointer("w") + channels * (4 * t), i, rest)
                total = partial[t % LANES]
                start = b.f32(0.0, LANES) if total is None else total
                partial[t % LANES] = self._accumulate(start, tap, i, weights)
            v = self._scaled(b, _tree(partial), i, rest)
            if self.epilogue.bias:
                v = v + load_part(b.pointer("bias"), i, rest)
            if self.epilogue.residual:
                v = v + load_part(residual, i, rest)
            self._store(b, out, self.epilogue.apply(b, v), i, rest)

        each_vector(b, channels, vector)

    def _accumulate(self, total: Value, tap: Pointer, i: Value, weights: Value) -> Value:
        """A tap's products added to a partial sum."""
        return total + tap.load_f32(i * 4) * weights

    def _scaled(self, b: Builder, v: Value, i: Value, rest: Value | None) -> Value:
        """The sums, before anything is added."""
        return v

    def _store(self, b: Builder, out: Pointer, v: Value, i: Value, rest: Value | None) -> None:
        store_part(out, v, i, rest)

    def arguments(
        self, inputs: Sequence[Pointer], out: Pointer, scratch: Pointer | None
    ) -> list[Argument]:
        bias, residual = next_inputs(self.epilogue, inputs)
        return self._arguments(inputs[0], bias, residual, out, scratch)

    def _arguments(
        self,
        x: Pointer,
        bias: Pointer,
        residual: Pointer,
        out: Pointer,
        scratch: Pointer | None,
    ) -> list[Argument]:
        assert scratch is not None
        d = self.dims
        sizes = (d.batch, d.height, d.width, d.in_channels, d.out_height, d.out_width)
        steps = (*d.stride, *d.dilation, *d.pad_begin)
        return [x, scratch + self._zeros_bytes, bias, residual, out, scratch, *sizes, *steps]

    def call(
        self,
        b: Builder,
        inputs: Sequence[Pointer],
        out: Pointer,
        scratch: Pointer | None = None,
    ) -> None:
        if scratch is None:
            raise ValueError(f"{self.name} needs scratch memory")
        self._prepare(b, inputs[1], scratch)
        super().call(b, inputs, out, scratch)

    def _prepare(self, b: Builder, weights: Pointer, scratch: Pointer) -> None:
        """Weights, taps first, after the zeros."""
        taps, channels = self._taps, self.dims.in_channels
        copy = CopyKernel(self.isa, 4, (taps, channels), (1, taps), (channels, 1))
        copy.call(b, [weights], scratch + self._zeros_bytes)


def _tree(partial: Sequence[Value | None]) -> Value:
    """``numerics.tree_sum`` where missing sums are +0.0: adding that changes no other sum."""
    values = list(partial)
    while len(values) > 1:
        half = len(values) // 2
        values = [_add(values[i], values[half + i]) for i in range(half)]
    assert values[0] is not None
    return values[0]


def _add(x: Value | None, y: Value | None) -> Value | None:
    if x is None or y is None:
        return y if x is None else x
    return x + y
