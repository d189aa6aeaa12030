"""Printing and parsing gives the same module, for every op, type and attribute there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp, StringAttr, f32, i32, i64
from xdsl.ir import Attribute, Block, Dialect, Operation, Region, SSAValue
from xdsl.parser import Parser

from tests.networks import (
    WindowChoice,
    calibrated,
    integer,
    kernel_context,
    networks,
    quantized_networks,
    run,
)
from uqfc.dialects import nn, qnn, quant
from uqfc.dialects import qkernel as qk
from uqfc.dialects.nn import FnAttr, Nn
from uqfc.dialects.nn.elementwise import PREDICATES
from uqfc.dialects.nn.movement import PAD_MODES
from uqfc.dialects.nn.reductions import REDUCTIONS
from uqfc.dialects.opaque import CallOp, Opaque
from uqfc.dialects.qkernel import Packing, PackingAttr, Qkernel
from uqfc.dialects.qnn import Epilogue, EpilogueAttr, Qnn
from uqfc.dialects.quant import STORAGE_RANGES, Quant, QuantParams, UniformType
from uqfc.dialects.tensors import (
    Array,
    f8_e4m3,
    f8_e5m2,
    i8,
    numpy_dtype,
    shape_of,
    tensor_type,
    ui8,
)
from uqfc.elementary import UNARY
from uqfc.numerics import ACTIVATIONS, Activation
from uqfc.passes.form_kernels import FormKernelsPass
from uqfc.passes.plan_memory import PlanMemoryPass

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
POSITIVE = st.floats(2.0**-149, float(np.finfo(np.float32).max), width=32)
BYTES = st.integers(0, 255)
NAMES = st.text(st.characters(codec="ascii"), max_size=8)
"""xDSL prints other characters as escaped bytes of UTF-8 and reads those as single characters."""


def parsed(text: str) -> ModuleOp:
    module = Parser(kernel_context(), text).parse_module()
    module.verify()
    return module


def assert_reads_back(module: ModuleOp) -> None:
    """The same module, and the same text again."""
    module.verify()
    text = str(module)
    again = parsed(text)
    assert again.is_structurally_equivalent(module), text
    assert str(again) == text


class Ops:
    """Makes operands and collects ops in the order in which they are made."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.made: list[Operation] = []

    def add(self, op: Operation) -> SSAValue:
        self.made.append(op)
        return op.results[0]

    def zeros(self, *shape: int, element: Attribute = f32) -> SSAValue:
        return self.add(nn.ConstantOp(np.zeros(shape, numpy_dtype(element)), element))

    def activation(self) -> FnAttr:
        name = self.draw(st.sampled_from(sorted(UNARY)))
        return nn.fn(name, *(self.draw(FINITE) for _ in range(UNARY[name].parameters)))

    def window(self) -> WindowChoice:
        pads = tuple(self.draw(st.integers(0, 3)) for _ in range(4))
        steps = tuple(self.draw(st.integers(1, 3)) for _ in range(4))
        return WindowChoice((2, 1), steps[:2], pads, steps[2:])

    def epilogue(self) -> Epilogue:
        return self.draw(epilogues())


@st.composite
def epilogues(draw: st.DrawFn) -> Epilogue:
    low, high = sorted((draw(BYTES), draw(BYTES)))
    activation = None
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(ACTIVATIONS)))
        params = tuple(draw(FINITE) for _ in range(UNARY[name].parameters))
        activation = Activation(name, params)
    return Epilogue(draw(BYTES), low, high, activation, draw(FINITE), draw(BYTES), draw(FINITE))


@st.composite
def parameters(draw: st.DrawFn, shape: tuple[int, int] = (4, 6)) -> QuantParams:
    """Of any storage, range and granularity, for a tensor of this shape."""
    storage = draw(st.sampled_from(sorted(STORAGE_RANGES)))
    low, high = STORAGE_RANGES[storage]
    is_float = storage.startswith("f8")
    if not is_float and draw(st.booleans()):
        low, high = sorted(draw(st.sets(st.integers(low, high), min_size=2, max_size=2)))
    axis = draw(st.sampled_from([None, 0, 1]))
    block = 0 if axis is None or is_float else draw(st.sampled_from([0, 0, 2, 4]))
    if axis is None:
        count = 1
    elif block:
        count = -(-shape[axis] // block) * shape[1 - axis]
    else:
        count = shape[axis]
    scales = draw(st.lists(POSITIVE, min_size=count, max_size=count))
    zero_points = st.just(0) if is_float else st.integers(low, high)
    zeros = draw(st.lists(zero_points, min_size=count, max_size=count))
    return QuantParams(storage, low, high, tuple(scales), tuple(zeros), axis, block)


def conv_operands(o: Ops, x: Attribute, weight: Attribute) -> tuple[SSAValue, SSAValue]:
    return o.zeros(1, 5, 6, 4, element=x), o.zeros(2, 2, 1, 2, element=weight)


def nn_conv2d(o: Ops) -> Operation:
    w, (x, weight) = o.window(), conv_operands(o, f32, f32)
    bias = o.zeros(2) if o.draw(st.booleans()) else None
    op = nn.Conv2dOp(x, weight, bias, strides=w.strides, padding=w.padding, groups=2)
    residual = o.zeros(*shape_of(op)) if o.draw(st.booleans()) else None
    activation = o.activation() if o.draw(st.booleans()) else None
    return nn.Conv2dOp(
        x,
        weight,
        bias,
        residual,
        strides=w.strides,
        padding=w.padding,
        groups=2,
        activation=activation,
    )


def integer_operands(o: Ops, channels: int) -> list[SSAValue]:
    integers = [o.zeros(channels, element=i32) for _ in range(2)]
    return [*integers, o.zeros(channels)]


def qnn_conv2d(o: Ops) -> Operation:
    w, element = o.window(), o.draw(st.sampled_from([ui8, f32, i32]))
    return qnn.QConv2dOp(
        [*conv_operands(o, ui8, i8), *integer_operands(o, 2)],
        None,
        strides=w.strides,
        padding=w.padding,
        dilations=(1, 1),
        groups=2,
        x_zero_point=o.draw(BYTES),
        epilogue=o.epilogue(),
        element=element,
    )


def qnn_linear(o: Ops) -> Operation:
    x, weight = o.zeros(2, 4, element=ui8), o.zeros(3, 4, element=i8)
    residual = o.zeros(2, 3, element=ui8) if o.draw(st.booleans()) else None
    operands = [x, weight, *integer_operands(o, 3)]
    return qnn.QLinearOp(operands, residual, x_zero_point=o.draw(BYTES), epilogue=o.epilogue())


def float8_element(o: Ops) -> Attribute:
    return o.draw(st.sampled_from([f8_e4m3, f8_e5m2]))


def float8_arguments(
    o: Ops, shape: tuple[int, ...]
) -> tuple[list[SSAValue | None], dict[str, Any]]:
    """Operands after x and weight, and what else a layer of 8-bit floats is given."""
    channels = shape[-1]
    operands: list[SSAValue | None] = [o.zeros(channels)]
    operands.append(o.zeros(channels) if o.draw(st.booleans()) else None)
    operands.append(o.zeros(*shape) if o.draw(st.booleans()) else None)
    options: dict[str, Any] = {}
    if o.draw(st.booleans()):
        options |= {"activation": o.activation()}
    if o.draw(st.booleans()):
        options |= {"scale": o.draw(POSITIVE), "element": float8_element(o)}
    return operands, options


def float8_conv2d(o: Ops) -> Operation:
    w, x_and_weight = o.window(), conv_operands(o, float8_element(o), float8_element(o))
    window: dict[str, Any] = {"strides": w.strides, "padding": w.padding, "groups": 2}
    plain = qnn.Float8Conv2dOp([*x_and_weight, o.zeros(2), None, None], **window)
    operands, options = float8_arguments(o, shape_of(plain))
    return qnn.Float8Conv2dOp([*x_and_weight, *operands], **window, **options)


def float8_linear(o: Ops) -> Operation:
    x, weight = (o.zeros(*shape, element=float8_element(o)) for shape in ((2, 4), (3, 4)))
    operands, options = float8_arguments(o, (2, 3))
    return qnn.Float8LinearOp([x, weight, *operands], **options)


def pool(kind: type[nn.Pool2dOp]) -> Callable[[Ops], Operation]:
    def make(o: Ops) -> Operation:
        w = o.window()
        return kind(o.zeros(1, 8, 8, 2), w.kernel, w.strides, w.padding, w.dilations)

    return make


def qnn_avg_pool(o: Ops) -> Operation:
    w, (low, high) = o.window(), sorted((o.draw(BYTES), o.draw(BYTES)))
    return qnn.QAvgPool2dOp(
        o.zeros(1, 8, 8, 2, element=ui8),
        o.zeros(o.draw(st.sampled_from([1, 2]))),
        (w.kernel, w.strides, w.padding, w.dilations),
        x_zero_point=o.draw(BYTES),
        zero_point=o.draw(BYTES),
        qmin=low,
        qmax=high,
    )


def qnn_binary(kind: type[qnn.QBinaryOp], *factors: str) -> Callable[[Ops], Operation]:
    def make(o: Ops) -> Operation:
        low, high = sorted((o.draw(BYTES), o.draw(BYTES)))
        zeros = (o.draw(BYTES), o.draw(BYTES), o.draw(BYTES))
        operands = o.zeros(2, 3, element=ui8), o.zeros(3, element=ui8)
        return kind(*operands, zeros, (low, high), {name: o.draw(FINITE) for name in factors})

    return make


def qnn_quantize(o: Ops) -> Operation:
    low, high = sorted((o.draw(BYTES), o.draw(BYTES)))
    return qnn.QuantizeOp(o.zeros(2, 3), o.draw(POSITIVE), o.draw(BYTES), low, high)


def launch(o: Ops) -> Operation:
    """Without inputs, with one, or writing into memory; kernel and scratch may be set."""
    block = Block(arg_types=[tensor_type((2, 3))])
    total = nn.AddOp(block.args[0], block.args[0])
    block.add_ops([total, qk.YieldOp(total)])
    op = qk.LaunchOp([o.zeros(2, 3)], Region(block))
    if o.draw(st.booleans()):
        arena = o.add(qk.ArenaOp(1024))
        view = o.add(qk.ViewOp(arena, 64 * o.draw(st.integers(0, 15)), (2, 3), f32))
        op = qk.LaunchOp([o.zeros(2, 3)], op.detach_region(0), into=view)
    return op


def unpack(o: Ops) -> Operation:
    return qk.UnpackOp(o.zeros(64, element=ui8), o.draw(packings()), (3, 4))


@st.composite
def packings(draw: st.DrawFn) -> Packing:
    sizes = st.integers(1, 2**31)
    storage = draw(st.sampled_from(["s8", "u4", "u2", "s16"]))
    return Packing(
        draw(st.sampled_from(["panels", "depthwise"])),
        storage,  # pyright: ignore[reportArgumentType] # one of them
        draw(sizes),
        draw(sizes),
        draw(sizes),
    )


def binary(kind: type[nn.BinaryOp]) -> Callable[[Ops], Operation]:
    def make(o: Ops) -> Operation:
        op = kind(o.zeros(2, 3), o.zeros(3))
        if isinstance(op, nn.FusableBinaryOp) and o.draw(st.booleans()):
            op.properties["activation"] = o.activation()
        return op

    return make


def cast(o: Ops) -> SSAValue:
    """A quantized value of type ``u8``."""
    return o.add(quant.QcastOp(o.zeros(2, 3), QuantParams.of("u8", 0.5, 3)))


INTS = st.integers(-(2**31), 2**31)

MAKERS: dict[type[Operation], Callable[[Ops], Operation]] = {
    nn.AvgPool2dOp: lambda o: nn.AvgPool2dOp(
        o.zeros(1, 4, 4, 1), (2, 2), count_include_pad=o.draw(st.booleans())
    ),
    nn.BroadcastOp: lambda o: nn.BroadcastOp(o.zeros(3), (2, 3)),
    nn.CastOp: lambda o: nn.CastOp(o.zeros(2), o.draw(st.sampled_from([i8, ui8, i32, i64]))),
    nn.CompareOp: lambda o: nn.CompareOp(
        o.zeros(2), o.zeros(2), o.draw(st.sampled_from(PREDICATES))
    ),
    nn.ConcatOp: lambda o: nn.ConcatOp(
        [o.zeros(2, 1) for _ in range(o.draw(st.integers(1, 3)))], o.draw(st.integers(0, 1))
    ),
    nn.ConstantOp: lambda o: nn.ConstantOp(o.draw(constants())),
    nn.Conv2dOp: nn_conv2d,
    nn.GatherOp: lambda o: nn.GatherOp(o.zeros(2, 3), o.zeros(2, element=i64), 1),
    nn.InterpolateOp: lambda o: nn.InterpolateOp(
        o.zeros(2, 3), o.zeros(4, 2, element=i64), o.zeros(4, 2), 1
    ),
    nn.LayerNormOp: lambda o: nn.LayerNormOp(o.zeros(2, 3), o.zeros(3), o.zeros(3), o.draw(FINITE)),
    nn.LinearOp: lambda o: nn.LinearOp(
        o.zeros(2, 4),
        o.zeros(3, 4),
        None,
        o.zeros(2, 3),
        activation=o.activation(),
    ),
    nn.LrnOp: lambda o: nn.LrnOp(
        o.zeros(1, 2, 2, 4), 3, o.draw(FINITE), o.draw(FINITE), o.draw(FINITE)
    ),
    nn.MatmulOp: lambda o: nn.MatmulOp(o.zeros(5, 2, 3), o.zeros(3, 4)),
    nn.MaxPool2dOp: pool(nn.MaxPool2dOp),
    nn.PadOp: lambda o: nn.PadOp(
        o.zeros(4),
        (o.draw(st.integers(0, 3)),),
        (1,),
        o.draw(st.floats(width=32, allow_nan=False)),
        o.draw(st.sampled_from(PAD_MODES)),
    ),
    nn.ReduceOp: lambda o: nn.ReduceOp(
        o.zeros(2, 3),
        o.draw(st.sampled_from(REDUCTIONS)),
        sorted(o.draw(st.sets(st.integers(0, 1)))),
    ),
    nn.ReshapeOp: lambda o: nn.ReshapeOp(o.zeros(2, 3), (6,)),
    nn.SelectOp: lambda o: nn.SelectOp(
        o.add(nn.CompareOp(o.zeros(2), o.zeros(2), "lt")), o.zeros(2), o.zeros(1)
    ),
    nn.SliceOp: lambda o: nn.SliceOp(
        o.zeros(4), (3,), (2,), (o.draw(st.sampled_from([-1, -2, -3])),)
    ),
    nn.SoftmaxOp: lambda o: nn.SoftmaxOp(o.zeros(2, 3), o.draw(st.integers(0, 1))),
    nn.TransposeOp: lambda o: nn.TransposeOp(o.zeros(2, 3, 1), o.draw(st.permutations([0, 1, 2]))),
    nn.UnaryOp: lambda o: nn.UnaryOp(o.zeros(2, 3), o.activation()),
    **{
        kind: binary(kind)
        for kind in (
            nn.AddOp,
            nn.DivOp,
            nn.MaximumOp,
            nn.MinimumOp,
            nn.MulOp,
            nn.PowOp,
            nn.SubOp,
        )
    },
    CallOp: lambda o: CallOp(
        [o.zeros(2, 3), o.zeros(4)],
        o.draw(NAMES),
        o.draw(st.integers(0, 9)),
        o.draw(st.integers(0, 9)),
        tuple(o.draw(st.lists(st.integers(1, 9), max_size=4))),
    ),
    quant.DcastOp: lambda o: quant.DcastOp(cast(o)),
    quant.ObserveOp: lambda o: quant.ObserveOp(o.zeros(2), o.draw(NAMES)),
    quant.QcastOp: lambda o: quant.QcastOp(o.zeros(4, 6), o.draw(parameters())),
    quant.ScastOp: lambda o: quant.ScastOp(cast(o), ui8),
    qnn.Float8Conv2dOp: float8_conv2d,
    qnn.Float8DequantizeOp: lambda o: qnn.Float8DequantizeOp(
        o.zeros(2, element=float8_element(o)), o.draw(POSITIVE)
    ),
    qnn.Float8LinearOp: float8_linear,
    qnn.Float8QuantizeOp: lambda o: qnn.Float8QuantizeOp(
        o.zeros(2, 3), o.draw(POSITIVE), float8_element(o)
    ),
    qnn.DequantizeOp: lambda o: qnn.DequantizeOp(
        o.zeros(2, element=ui8), o.draw(POSITIVE), o.draw(INTS)
    ),
    qnn.LookupOp: lambda o: qnn.LookupOp(o.zeros(2, element=ui8), o.zeros(256, element=ui8)),
    qnn.QAddOp: qnn_binary(qnn.QAddOp, "lhs_multiplier", "rhs_multiplier"),
    qnn.QAvgPool2dOp: qnn_avg_pool,
    qnn.QConv2dOp: qnn_conv2d,
    qnn.QLinearOp: qnn_linear,
    qnn.QMatmulOp: lambda o: qnn.QMatmulOp(
        o.zeros(2, 3, element=ui8), o.zeros(3, 2, element=ui8), o.draw(BYTES), o.draw(BYTES)
    ),
    qnn.QMulOp: qnn_binary(qnn.QMulOp, "multiplier"),
    qnn.QuantizeOp: qnn_quantize,
    qk.ArenaOp: lambda o: qk.ArenaOp(o.draw(st.integers(0, 2**40))),
    qk.LaunchOp: launch,
    qk.UnpackOp: unpack,
    qk.ViewOp: lambda o: qk.ViewOp(o.add(qk.ArenaOp(256)), 128, (3,), i32),
}
"""One maker for each op; ``qkernel.yield`` ends every launch."""


@st.composite
def constants(draw: st.DrawFn) -> Array:
    bits = draw(st.lists(st.integers(0, 2**32 - 1), max_size=200))
    return np.array(bits, np.uint32).view(np.float32)


DIALECTS: tuple[Dialect, ...] = (Nn, Opaque, Quant, Qnn, Qkernel)


@settings(max_examples=15)
@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.name)
@given(data=st.data())
def test_every_op(kind: type[Operation], data: st.DataObject) -> None:
    ops = Ops(data.draw)
    made = MAKERS[kind](ops)
    assert type(made) is kind
    if data.draw(st.booleans()):
        made.attributes["layer"] = StringAttr(data.draw(NAMES))
    assert_reads_back(ModuleOp([*ops.made, made]))


def test_no_op_was_forgotten() -> None:
    every = {op for dialect in DIALECTS for op in dialect.operations}
    assert every == {*MAKERS, qk.YieldOp}


def reads_back(attribute: Attribute) -> bool:
    return Parser(kernel_context(), str(attribute)).parse_attribute() == attribute


@given(parameters())
def test_quantized_types(params: QuantParams) -> None:
    assert reads_back(UniformType(params))
    assert reads_back(tensor_type((4, 6), UniformType(params)))


@given(epilogues())
def test_epilogues(epilogue: Epilogue) -> None:
    assert reads_back(EpilogueAttr(epilogue))


@given(packings())
def test_packings(packing: Packing) -> None:
    assert reads_back(PackingAttr(packing))


@given(
    st.sampled_from(sorted(UNARY)),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2),
)
def test_functions(name: str, params: list[float]) -> None:
    assert reads_back(nn.fn(name, *params[: UNARY[name].parameters]))


@settings(max_examples=15)
@given(networks(max_steps=8))
def test_float_and_observed_networks(module: ModuleOp) -> None:
    assert_reads_back(module)
    assert_reads_back(calibrated(module))


@settings(max_examples=15)
@given(quantized_networks())
def test_quantized_integer_and_planned_networks(module: ModuleOp) -> None:
    assert_reads_back(module)
    network = integer(module)
    assert_reads_back(network)
    assert_reads_back(run(network, FormKernelsPass(), PlanMemoryPass()))
