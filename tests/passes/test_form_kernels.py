from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import ReturnOp
from xdsl.ir import Block, BlockArgument

import uqfc
from tests.networks import (
    NetworkBuilder,
    assert_kernels_exact,
    awkward_inputs,
    integer,
    networks,
    quantized_networks,
)
from tests.onnx_models import IMAGE, residual_network, samples
from tests.passes.graphs import GraphBuilder
from uqfc.dialects import nn
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import shape_of
from uqfc.interpreter import Interpreter
from uqfc.passes.form_kernels import MOST_INPUTS, FormKernelsPass, reads_past_end


def launches(module: ModuleOp) -> list[LaunchOp]:
    return [op for op in module.walk() if isinstance(op, LaunchOp)]


def main_block(module: ModuleOp) -> Block:
    return next(op.regions[0].block for op in module.ops if op.name == "func.func")


def formed(b: GraphBuilder, *outputs: object) -> ModuleOp:
    return assert_kernels_exact(b.module(list(outputs)), FormKernelsPass())  # pyright: ignore[reportArgumentType]


@settings(max_examples=25)
@given(quantized_networks())
def test_exact_on_integers(module: ModuleOp) -> None:
    assert_kernels_exact(integer(module), FormKernelsPass())


@settings(max_examples=25)
@given(networks(max_steps=8))
def test_exact_on_floats(module: ModuleOp) -> None:
    assert_kernels_exact(module, FormKernelsPass())


@settings(max_examples=25)
@given(quantized_networks())
def test_what_the_memory_plan_needs(module: ModuleOp) -> None:
    result = assert_kernels_exact(integer(module), FormKernelsPass())
    block = main_block(result)
    for op in block.ops:
        assert isinstance(op, LaunchOp | nn.ReshapeOp | nn.ConstantOp | ReturnOp)
    last = block.last_op
    assert isinstance(last, ReturnOp)
    for value in last.operands:
        assert isinstance(value.owner, LaunchOp)
        assert value.uses.get_length() == 1
    for launch in launches(result):
        assert len(launch.inputs) <= max(MOST_INPUTS, len(launch.meaning[0].operands))
        for index, value in enumerate(launch.inputs):
            assert not (isinstance(value.owner, Block) and reads_past_end(launch, index))


def test_a_chain_of_elementwise_ops_is_one_kernel() -> None:
    b = NetworkBuilder([(1, 2, 3, 4)] * 2)
    x, y = b.block.args
    total = b.add(nn.AddOp(x, y))
    gate = b.add(nn.UnaryOp(total, nn.fn("hard_sigmoid", 0.2, 0.5)))
    turned = b.add(nn.TransposeOp(gate, (0, 1, 2, 3)))
    result = formed(b, b.add(nn.MulOp(turned, y)))
    assert [len(launch.meaning) for launch in launches(result)] == [2, 2]


def test_a_value_with_two_readers_ends_its_kernel() -> None:
    b = NetworkBuilder([(1, 2, 3, 4)])
    x = b.add(nn.UnaryOp(b.block.args[0], nn.fn("relu")))
    result = formed(b, b.add(nn.AddOp(b.add(nn.UnaryOp(x, nn.fn("neg"))), x)))
    assert [len(launch.meaning) for launch in launches(result)] == [1, 2]


def test_broadcasting_ends_a_kernel() -> None:
    """The smaller operand is computed once, not once per element of the larger."""
    b = NetworkBuilder([(1, 1, 1, 4), (1, 3, 3, 4)])
    gate = b.add(nn.UnaryOp(b.block.args[0], nn.fn("sigmoid")))
    result = formed(b, b.add(nn.MulOp(b.block.args[1], gate)))
    assert len(launches(result)) == 2


def test_fusion_stops_at_the_most_inputs() -> None:
    b = NetworkBuilder([(2, 3)] * (MOST_INPUTS + 3))
    total = b.block.args[0]
    for argument in b.block.args[1:]:
        total = b.add(nn.AddOp(total, argument))
    result = formed(b, total)
    assert [len(launch.inputs) for launch in launches(result)] == [MOST_INPUTS, 4]


def test_results_that_no_kernel_makes_are_copied() -> None:
    b = NetworkBuilder([(2, 3)])
    x = b.block.args[0]
    doubled = b.add(nn.AddOp(x, x))
    flat = b.add(nn.ReshapeOp(doubled, (6,)))
    result = formed(b, x, b.constant(np.ones(1)), flat, doubled, doubled)
    last = main_block(result).last_op
    assert last is not None
    assert len(launches(result)) == 6
    assert [shape_of(v) for v in last.operands] == [(2, 3), (1,), (6,), (2, 3), (2, 3)]


def test_a_stem_quantizes_its_image() -> None:
    model = uqfc.compile(
        residual_network(), target="x86-64", quant_strategy="int8", calibration_data=samples(IMAGE)
    )
    first = launches(model.kernels)[0]
    assert isinstance(first.inputs[0], BlockArgument)
    names = [op.name for op in first.meaning]
    assert names == ["nn.transpose", "qnn.quantize", "qnn.conv2d"]
    assert "conv_quantized3" in first.kernel_name
    image = {"image": samples(IMAGE)[0]}
    for name, value in model.reference(image).items():
        assert np.array_equal(model.run(image)[name], value)


def test_inputs_that_are_read_past_their_end_are_copied_first() -> None:
    b = NetworkBuilder([(1, 4)])
    module = b.module([b.linear(b.block.args[0], 3)])
    copy, linear = launches(assert_kernels_exact(module, FormKernelsPass()))
    assert isinstance(copy.inputs[0].owner, Block)
    assert linear.inputs[0] is copy.outputs[0]
    assert Interpreter().run(module, awkward_inputs(module))
