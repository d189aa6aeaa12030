"""Depthwise convolution, NHWC, one output channel per input channel.

Input rows are padded into a ring of rows in scratch memory (``rows``). For each output row and 16
channels the weights stay in registers while the kernel moves along the row: the bytes of four
vertically adjacent pixels are interleaved to one word per channel, which one dot product takes; a
column of such words serves all the outputs that it is under, if the stride and dilation allow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from uqfc.codegen.builder import Builder, find_function
from uqfc.codegen.isa import Isa
from uqfc.codegen.isa.dot import DotKind, Operand, dot_for
from uqfc.codegen.isa.interleave import interleave
from uqfc.codegen.kernels.epilogue import Epilogue, Scalars
from uqfc.codegen.kernels.gemm import STORAGE_NAMES
from uqfc.codegen.kernels.operands import ConvDims, Operands
from uqfc.codegen.kernels.rows import CHUNK, PARAMETERS, RowRing
from uqfc.codegen.kernels.tile import emit_expand
from uqfc.codegen.vector import LANES, Pointer, Value
from uqfc.packing import I32, U8, DepthwiseLayout, Scalar, Storage, round_up

MOST_TAPS = 81
"""Larger kernels would not fit the registers by far; ``conv`` takes them."""
_KINDS: dict[Storage, DotKind] = {"s8": "s8", "u4": "s4", "s16": "s16"}


@dataclass(frozen=True)
class DepthwiseSpec:
    """A depthwise convolution of one kernel size, horizontal stride and dilation."""

    isa: Isa
    storage: Storage
    kernel: tuple[int, int]
    stride_x: int
    dilation_x: int
    epilogue: Epilogue

    @property
    def name(self) -> str:
        height, width = self.kernel
        dilation = f"d{self.dilation_x}" if self.dilation_x > 1 else ""
        tile = f"{height}x{width}s{self.stride_x}{dilation}"
        weights = STORAGE_NAMES[self.storage]
        return f"u8_{weights}_dwconv_{tile}_{self.epilogue.name}__{self.isa.name}"

    def layout(self, dims: ConvDims) -> DepthwiseLayout:
        """Layout of the weights [channels, kh, kw]."""
        return DepthwiseLayout(dims.out_channels, self.kernel, self.storage)

    def pack(self, dims: ConvDims, weights: I32, zero_points: I32 | None = None) -> U8:
        """Bytes of the weights [channels, kh, kw] or [channels, kh, kw, 1]."""
        taps = weights.reshape(dims.out_channels, *self.kernel)
        return self.layout(dims).pack(taps, zero_points)

    def pad(self, dims: ConvDims, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Addends or multipliers [channels] as the kernel reads them."""
        return self.layout(dims).pad(values)

    def scratch_bytes(self, dims: ConvDims) -> int:
        """Bytes of scratch memory: the ring of rows, and INT4 weights expanded to int8."""
        return self._ring_bytes(dims) + self._expanded_bytes(dims)

    def _ring_bytes(self, dims: ConvDims) -> int:
        return _slots(dims) * _pitch(dims)

    def _expanded_bytes(self, dims: ConvDims) -> int:
        panels = self.layout(dims).panels
        return panels.padded_n * panels.padded_k if self.storage == "u4" else 0

    def call(self, b: Builder, operands: Operands, dims: ConvDims, scalars: Scalars) -> None:
        """Emits a call; see ``kernels``. ValueError where the dims are not those of the spec."""
        if depthwise_spec(self.isa, dims, self.storage, self.epilogue) != self:
            raise ValueError(f"{self.name} is not the kernel of {dims}")
        if operands.scratch is None or (self.epilogue.residual and operands.residual is None):
            raise ValueError(f"{self.name} needs scratch memory, and a residual if it adds one")
        arguments: list[Pointer | int] = [operands.x, operands.weights, operands.addend]
        arguments += [operands.multiplier, operands.out, operands.scratch]
        arguments += [operands.residual] if operands.residual and self.epilogue.residual else []
        line = dims.width * dims.in_channels
        copied = min(dims.width, _padded_width(dims) - dims.pad_begin[1]) * dims.in_channels
        arguments += [dims.height, line, dims.pad_begin[0], dims.pad_begin[1] * dims.in_channels]
        arguments += [max(0, copied), _pitch(dims), _slots(dims), scalars.pad_value]
        arguments += [dims.batch, dims.in_channels, dims.out_height, dims.out_width]
        arguments += [dims.stride[0], dims.dilation[0], self._ring_bytes(dims)]
        values = self.epilogue.scalar_values(scalars)
        b.call(self.emit(b.module, b.isa), *arguments, *values)

    def emit(self, module: Any, isa: Isa) -> Any:
        """The function, emitted once; the order of its parameters is that of ``call``."""
        if function := find_function(module, self.name):
            return function
        expand = emit_expand(module, isa) if self.storage == "u4" else None
        parameters = {"x": "ptr", "weights": "ptr", "addend": "ptr", "multiplier": "ptr"}
        parameters |= {"out": "ptr", "scratch": "ptr"}
        parameters |= {"residual": "ptr"} if self.epilogue.residual else {}
        parameters |= PARAMETERS
        parameters |= {"batch": "i64", "channels": "i64", "out_height": "i64", "out_width": "i64"}
        parameters |= {"stride_y": "i64", "dilation_y": "i64", "ring_bytes": "i64"}
        parameters |= self.epilogue.scalars()
        b = Builder.function(module, isa, self.name, internal=True, **parameters)
        _Depthwise(self, b, expand).run()
        return b.ret()


class _Depthwise:
    """The body of a ``DepthwiseSpec``."""

    def __init__(self, spec: DepthwiseSpec, b: Builder, expand: Any | None) -> None:
        self.spec = spec
        self.b = b
        self.height, self.width = spec.kernel
        self.words = -(-self.height // 4)
        self.dot = dot_for(spec.isa, _KINDS[spec.storage])
        groups = self.width * self.words
        self.panel_bytes = groups * 64 * self.dot.words
        self.weights = b.pointer("weights")
        if expand is not None:
            self._expand(expand, groups)
        overlap = self.width - spec.stride_x
        self.kept = overlap if spec.dilation_x == 1 and overlap > 0 else 0

    def _expand(self, expand: Any, groups: int) -> None:
        """INT4 weights to int8 after the ring; an odd number of groups has one more of padding."""
        b = self.b
        steps = -(-groups // 2)
        self.panel_bytes = 2 * steps * 64
        padded = (b.value("channels") + (LANES - 1)) & ~(LANES - 1)
        zero_points = self.weights + padded * (steps * 4)
        target = b.pointer("scratch") + b.value("ring_bytes")
        with b.loop(0, padded, LANES) as channel:
            packed = self.weights + channel * (steps * 4)
            out = target + channel * (steps * 8)
            b.call(expand, packed, zero_points + channel, LANES, steps, out)
        self.weights = target

    def run(self) -> None:
        b, get = self.b, self.b.value
        ring = RowRing(b, b.pointer("scratch"))
        size = self.spec.epilogue.element_bytes
        out_row_elements = get("out_width") * get("channels")
        with b.loop(0, get("batch")) as image_number:
            image = b.pointer("x") + image_number * get("height") * get("line")
            loaded = [b.i64(0)]
            with b.loop(0, get("out_height"), carry=loaded) as y:
                first = y * get("stride_y")
                loaded[0] = ring.advance(image, loaded[0], first)
                rows = [ring.row(first + get("dilation_y") * ky) for ky in range(self.height)]
                element = (image_number * get("out_height") + y) * out_row_elements
                with b.loop(0, get("channels"), LANES) as channel:
                    start = element + channel
                    residual = b.pointer("residual") + start if self._adds else None
                    out = b.pointer("out") + start * size
                    self._row([row + channel for row in rows], channel, out, residual)

    @property
    def _adds(self) -> bool:
        return self.spec.epilogue.residual

    def _row(
        self, rows: list[Pointer], channel: Value, out: Pointer, residual: Pointer | None
    ) -> None:
        """One output row of 16 channels."""
        b, get, spec = self.b, self.b.value, self.spec
        weights = self._load_weights(channel)
        addend = b.pointer("addend").load_i32(channel * 4)
        multiplier = None
        if spec.epilogue.output != "i32":
            multiplier = b.pointer("multiplier").load_f32(channel * 4)
        scalars = {name: get(name) for name in spec.epilogue.scalars()}
        rest = get("channels") - channel
        full = rest.ge(LANES)
        pixel = get("channels")
        columns = [self._column(rows, pixel * kx) for kx in range(self.kept)]
        state: list[Any] = [v for column in columns for v in _flat(column)]
        state += [b.i64(0), out, *([residual] if residual else [])]
        with b.loop(0, get("out_width"), carry=state):
            position, target = state[self._carried], state[self._carried + 1]
            columns = self._unflat(state)
            for kx in range(self.kept, self.width):
                columns.append(self._column(rows, position + pixel * (kx * spec.dilation_x)))
            sums = addend
            words = [word for column in columns for word in column]
            for word, weight in zip(words, weights, strict=True):
                sums = self.dot.add(sums, word, weight)
            extra = state[-1].load_u8_as_i32() if residual else None
            result = spec.epilogue.apply(sums, multiplier, extra, scalars)
            spec.epilogue.store(target, result, rest, full)
            kept = columns[self.width - self.kept :] if self.kept else []
            state[: self._carried] = [v for column in kept for v in _flat(column)]
            state[self._carried] = position + pixel * spec.stride_x
            state[self._carried + 1] = target + pixel * spec.epilogue.element_bytes
            if residual:
                state[-1] = state[-1] + pixel

    @property
    def _operand_words(self) -> int:
        """Values of a prepared activation."""
        return len(self.dot.activation(self.b.i32(0, LANES)))

    @property
    def _carried(self) -> int:
        return self.kept * self.words * self._operand_words

    def _unflat(self, state: list[Any]) -> list[list[Operand]]:
        size = self._operand_words
        values = [tuple(state[i : i + size]) for i in range(0, self._carried, size)]
        return [values[i : i + self.words] for i in range(0, len(values), self.words)]

    def _column(self, rows: list[Pointer], offset: Value) -> list[Operand]:
        """The words of one kernel column, four rows each."""
        loads = [row.load("i8", offset) for row in rows]
        return [
            self.dot.activation(interleave(loads[first : first + 4]))
            for first in range(0, self.height, 4)
        ]

    def _load_weights(self, channel: Value) -> list[Operand]:
        """Of each word of each column."""
        size = 64 * self.dot.words
        panel = self.weights + channel.shift_right_logical(4) * self.panel_bytes
        return [
            self.dot.weight(
                tuple(panel.load_i32(group * size + 64 * i) for i in range(self.dot.words))
            )
            for group in range(self.width * self.words)
        ]


def _flat(column: list[Operand]) -> list[Value]:
    return [value for operand in column for value in operand]


def _slots(dims: ConvDims) -> int:
    return (dims.kernel[0] - 1) * dims.dilation[0] + 1


def _padded_width(dims: ConvDims) -> int:
    """Pixels of a row that outputs depend on."""
    reach = (dims.kernel[1] - 1) * dims.dilation[1] + 1
    return (dims.out_width - 1) * dims.stride[1] + reach


def _pitch(dims: ConvDims) -> int:
    return round_up(_padded_width(dims) * dims.in_channels, CHUNK) + CHUNK


def depthwise_spec(isa: Isa, dims: ConvDims, storage: Storage, epilogue: Epilogue) -> DepthwiseSpec:
    """The kernel for a depthwise convolution.

    Raises ValueError if it has not one output channel per input channel, or too large a kernel:
    ``conv_spec`` takes those.
    """
    if not dims.groups == dims.in_channels == dims.out_channels:
        raise ValueError("a depthwise convolution has groups == in_channels == out_channels")
    if dims.kernel[0] * dims.kernel[1] > MOST_TAPS:
        raise ValueError(f"depthwise kernels have at most {MOST_TAPS} taps, got {dims.kernel}")
    stride_x, dilation_x = dims.stride[1], dims.dilation[1]
    return DepthwiseSpec(isa, storage, dims.kernel, stride_x, dilation_x, epilogue)
