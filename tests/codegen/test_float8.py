"""Kernels of 8-bit floats give the bits of the interpreter, at tile edges, on every ISA here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import f32
from xdsl.ir import Block, SSAValue

from tests.codegen.harness import SEEDS, convolution_dims
from tests.codegen.tensor_harness import (
    SIZES,
    SPECIAL_FLOATS,
    Array,
    check,
    every_isa,
    few_examples,
    operand,
    ordinary_floats,
    random_array,
    some_examples,
)
from tests.codegen.test_float_layers import conv_op
from uqfc.codegen.isa import VNNI512, Isa
from uqfc.codegen.kernels.elementwise import ElementwiseKernel, Input, Step
from uqfc.codegen.kernels.elementwise_float8 import Float8Dequantize, Float8Quantize
from uqfc.codegen.kernels.float8_depthwise import Float8DepthwiseKernel
from uqfc.codegen.kernels.float8_layer import Float8LayerKernel
from uqfc.codegen.kernels.float_product import FloatEpilogue
from uqfc.codegen.kernels.operands import ConvDims
from uqfc.dialects import nn, qnn
from uqfc.dialects.nn.base import FnAttr
from uqfc.dialects.qnn import FORMAT_OF
from uqfc.dialects.tensors import int_tuple, tensor_type
from uqfc.float8 import E4M3, E5M2, Float8, decode, encode
from uqfc.numerics import Activation

conv_dims = st.composite(convolution_dims)
FORMS = st.sampled_from([E4M3, E5M2])
ELEMENT_OF = {form: element for element, form in FORMAT_OF.items()}

EPILOGUES = st.sampled_from(
    [
        FloatEpilogue(),
        FloatEpilogue(output=E4M3),
        FloatEpilogue(bias=True, output=E5M2),
        FloatEpilogue(bias=True, activation=Activation("clip", (-1.0, 6.0)), output=E4M3),
        FloatEpilogue(bias=True, residual=True, activation=Activation("relu")),
        FloatEpilogue(residual=True, activation=Activation("silu"), output=E4M3),
        FloatEpilogue(bias=True, activation=Activation("hard_swish"), output=E4M3),
    ]
)


def random_codes(rng: np.random.Generator, form: Float8, *shape: int) -> Array:
    """Codes of any finite numbers, or of ordinary ones; zeros and denormals are among both."""
    if rng.random() < 0.5:
        magnitudes = rng.integers(0, form.largest_code, shape, endpoint=True)
        return (magnitudes | rng.choice([0, 128], shape)).astype(np.uint8)
    return encode(ordinary_floats(rng, *shape), form)


def codes(array: Array, form: Float8) -> SSAValue:
    return Block(arg_types=[tensor_type(array.shape, ELEMENT_OF[form])]).args[0]


def layer_of(
    rng: np.random.Generator, epilogue: FloatEpilogue, shape: tuple[int, ...]
) -> tuple[list[Array], list[SSAValue | None], dict[str, Any]]:
    """Arrays and operands after x and w, and the other arguments of the op."""
    arrays = [np.exp2(rng.uniform(-12, 2, shape[-1])).astype(np.float32)]
    arrays += [ordinary_floats(rng, shape[-1])] if epilogue.bias else []
    arrays += [ordinary_floats(rng, *shape)] if epilogue.residual else []
    given_operands = iter(map(operand, arrays))
    operands: list[SSAValue | None] = [next(given_operands)]
    operands.append(next(given_operands) if epilogue.bias else None)
    operands.append(next(given_operands) if epilogue.residual else None)
    keywords: dict[str, Any] = {"element": f32}
    if epilogue.output is not None:
        scale = float(np.float32(np.exp2(rng.uniform(-8, 3))))
        keywords |= {"scale": scale, "element": ELEMENT_OF[epilogue.output]}
    if epilogue.activation is not None:
        keywords["activation"] = FnAttr(epilogue.activation)
    return arrays, operands, keywords


def conv_layer(
    rng: np.random.Generator, dims: ConvDims, forms: tuple[Float8, Float8], epilogue: FloatEpilogue
) -> tuple[list[Array], qnn.Float8Conv2dOp]:
    x = random_codes(rng, forms[0], dims.batch, dims.height, dims.width, dims.in_channels)
    taps = dims.in_channels // dims.groups
    w = random_codes(rng, forms[1], dims.out_channels, *dims.kernel, taps)
    shape = (dims.batch, dims.out_height, dims.out_width, dims.out_channels)
    arrays, operands, keywords = layer_of(rng, epilogue, shape)
    like = conv_op(dims, x.astype(np.float32), w.astype(np.float32), {})
    window = {name: int_tuple(getattr(like, name)) for name in ("strides", "padding", "dilations")}
    values = [codes(x, forms[0]), codes(w, forms[1]), *operands]
    op = qnn.Float8Conv2dOp(values, groups=dims.groups, **window, **keywords)
    return [x, w, *arrays], op


def scale_of(op: qnn.Float8LayerOp) -> float:
    return 1.0 if op.scale is None else op.scale.value.data


@every_isa
@given(seed=SEEDS, rows=SIZES, k=SIZES, n=SIZES, x=FORMS, w=FORMS, epilogue=EPILOGUES)
@some_examples
def test_linear(
    isa: Isa,
    seed: int,
    rows: int,
    k: int,
    n: int,
    x: Float8,
    w: Float8,
    epilogue: FloatEpilogue,
) -> None:
    rng = np.random.default_rng(seed)
    left, right = random_codes(rng, x, rows, k), random_codes(rng, w, n, k)
    arrays, operands, keywords = layer_of(rng, epilogue, (rows, n))
    op = qnn.Float8LinearOp([codes(left, x), codes(right, w), *operands], **keywords)
    dims = ConvDims(1, 1, rows, k, 1, rows, n, (1, 1))
    kernel = Float8LayerKernel(isa, dims, x, w, epilogue, scale_of(op))
    check(isa, kernel, op, left, right, *arrays)


@every_isa
def test_linear_of_more_rows_than_are_decoded_at_a_time(isa: Isa) -> None:
    rng = np.random.default_rng(0)
    left, right = random_codes(rng, E4M3, 70, 2000), random_codes(rng, E4M3, 3, 2000)
    arrays, operands, keywords = layer_of(rng, FloatEpilogue(), (70, 3))
    op = qnn.Float8LinearOp([codes(left, E4M3), codes(right, E4M3), *operands], **keywords)
    dims = ConvDims(1, 1, 70, 2000, 1, 70, 3, (1, 1))
    check(isa, Float8LayerKernel(isa, dims, E4M3, E4M3), op, left, right, *arrays)


@every_isa
@given(
    seed=SEEDS,
    groups=st.sampled_from([1, 1, 2, 3]),
    channels=st.sampled_from([1, 2, 3, 5, 16, 17]),
    outputs=st.sampled_from([1, 2, 4, 5, 16, 17]),
    forms=st.tuples(FORMS, FORMS),
    epilogue=EPILOGUES,
    data=st.data(),
)
@some_examples
def test_conv(
    isa: Isa,
    seed: int,
    groups: int,
    channels: int,
    outputs: int,
    forms: tuple[Float8, Float8],
    epilogue: FloatEpilogue,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    inputs, outputs = groups * channels, groups * outputs
    dims = data.draw(conv_dims(in_channels=inputs, out_channels=outputs, groups=groups))
    arrays, op = conv_layer(rng, dims, forms, epilogue)
    check(isa, Float8LayerKernel(isa, dims, *forms, epilogue, scale_of(op)), op, *arrays)


@every_isa
@given(
    seed=SEEDS,
    channels=SIZES.filter(lambda n: n > 1),
    forms=st.tuples(FORMS, FORMS),
    epilogue=EPILOGUES,
    data=st.data(),
)
@few_examples
def test_depthwise(
    isa: Isa,
    seed: int,
    channels: int,
    forms: tuple[Float8, Float8],
    epilogue: FloatEpilogue,
    data: st.DataObject,
) -> None:
    rng = np.random.default_rng(seed)
    same = {"in_channels": channels, "out_channels": channels, "groups": channels}
    dims = data.draw(conv_dims(**same))
    arrays, op = conv_layer(rng, dims, forms, epilogue)
    check(isa, Float8DepthwiseKernel(isa, dims, epilogue, *forms, scale_of(op)), op, *arrays)


@every_isa
@pytest.mark.parametrize("form", [E4M3, E5M2], ids=["e4m3", "e5m2"])
def test_quantize(isa: Isa, form: Float8) -> None:
    """Every number, every tie between two, what is next to them, and special values."""
    numbers = decode(np.arange(128, dtype=np.uint8), form)
    numbers = numbers[np.isfinite(numbers)]
    ties = (numbers[1:] + numbers[:-1]) / np.float32(2)
    centres = np.concatenate([numbers, ties, numbers * np.float32(3)])
    around = [np.nextafter(centres, np.float32(d)) for d in (-np.inf, np.inf)]
    x = np.concatenate([centres, *around, SPECIAL_FLOATS])
    x = np.concatenate([x, -x]).astype(np.float32)
    for scale in (1.0, 0.37):
        op = qnn.Float8QuantizeOp(operand(x), scale, ELEMENT_OF[form])
        step = Step(Float8Quantize(op.scale.value.data, form), (0,))
        check(isa, ElementwiseKernel(isa, x.shape, (Input("f32", x.shape),), (step,)), op, x)


@every_isa
@given(seed=SEEDS, n=SIZES, form=FORMS)
@few_examples
def test_quantize_any_values(isa: Isa, seed: int, n: int, form: Float8) -> None:
    x = random_array(np.random.default_rng(seed), "f32", (3, n))
    op = qnn.Float8QuantizeOp(operand(x), 0.013, ELEMENT_OF[form])
    step = Step(Float8Quantize(op.scale.value.data, form), (0,))
    check(isa, ElementwiseKernel(isa, x.shape, (Input("f32", x.shape),), (step,)), op, x)


@every_isa
@pytest.mark.parametrize("form", [E4M3, E5M2], ids=["e4m3", "e5m2"])
def test_dequantize_all_finite_codes(isa: Isa, form: Float8) -> None:
    x = np.arange(256, dtype=np.uint8)
    x = x[(x & 127) <= form.largest_code]
    op = qnn.Float8DequantizeOp(codes(x, form), 0.37)
    step = Step(Float8Dequantize(op.scale.value.data, form), (0,))
    check(isa, ElementwiseKernel(isa, x.shape, (Input("u8", x.shape),), (step,)), op, x)


def test_names_say_what_they_multiply() -> None:
    dims = ConvDims(1, 5, 5, 8, 5, 5, 8, (3, 3), pad_begin=(1, 1))
    epilogue = FloatEpilogue(bias=True, output=E4M3)
    conv = Float8LayerKernel(VNNI512, dims, E4M3, E5M2, epilogue)
    assert conv.name == "e4m3_e5m2_conv_bias_to_e4m3_4x4__vnni512"
    depthwise = Float8DepthwiseKernel(VNNI512, ConvDims(1, 5, 5, 8, 3, 3, 8, (3, 3), groups=8))
    assert depthwise.name == "e4m3_e4m3_dwconv_3x3__vnni512"
    assert isinstance(
        conv_op(dims, np.zeros((1, 5, 5, 8)), np.zeros((8, 3, 3, 8)), {}), nn.Conv2dOp
    )
