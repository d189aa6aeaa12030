"""Multiply-accumulates and bytes of launches, against counting them."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from xdsl.dialects.builtin import ModuleOp

import uqfc
from tests.networks import NetworkBuilder, integer, named, quantized_networks, run
from tests.onnx_models import IMAGE, residual_network, samples
from uqfc.codegen.work import work_of
from uqfc.dialects import nn, qnn
from uqfc.dialects.qkernel import LaunchOp
from uqfc.dialects.tensors import numpy_dtype, shape_of, type_of
from uqfc.passes.form_kernels import FormKernelsPass
from uqfc.pipeline import kernel_passes


def launches(module: ModuleOp) -> list[LaunchOp]:
    return [op for op in module.walk() if isinstance(op, LaunchOp)]


@settings(max_examples=30)
@given(module=quantized_networks())
def test_every_product_of_a_layer_is_counted(module: ModuleOp) -> None:
    for launch in launches(run(integer(module), FormKernelsPass())):
        work = work_of(launch)
        expected = 0
        for op in launch.meaning:
            if isinstance(op, (nn.Conv2dOp, nn.LinearOp, qnn.IntegerLayerOp, qnn.Float8LayerOp)):
                outputs, weights = shape_of(op.result), shape_of(op.weight)
                channels = weights[0]
                expected += prod(outputs) // channels * prod(weights)
        assert work.macs == expected
        assert (work.kind is None) == (expected == 0)
        values = [*launch.inputs, *launch.outputs]
        assert work.bytes == sum(
            np.empty(shape_of(v), numpy_dtype(type_of(v).get_element_type())).nbytes for v in values
        )


def test_work_of_a_compiled_network() -> None:
    """By hand: stem 8x8x8 outputs of 27, depthwise of 9, pointwise of 8, head 5 of 8."""
    model = uqfc.compile(
        residual_network(), target="x86-64", quant_strategy="int4", calibration_data=samples(IMAGE)
    )
    works = {work.macs: work for work in map(work_of, launches(model.kernels)) if work.macs}
    assert list(works) == [512 * 27, 512 * 9, 512 * 8, 5 * 8]
    assert {work.kind for work in works.values()} == {"s4"}
    head = works[40]
    # 16 padded channels of 8 nibbles and a line of zero points; addends and multipliers
    assert head.constant_bytes == 16 * 4 + 64 + 2 * 5 * 4
    assert head.activation_bytes == 8 + 5 * 4


@pytest.mark.parametrize(("places", "copied"), [(1, 2), (2, 10)])
def test_parts_in_place_are_no_work(places: int, copied: int) -> None:
    """Eight channels are in place, and copied if they are needed once more; two are a constant."""
    b = NetworkBuilder([(1, 4, 3, 8)])
    x = b.add(nn.UnaryOp(b.block.args[0], nn.fn("relu")))
    constant = b.constant(b.random.standard_normal((1, 4, 3, 2)))
    total = b.add(nn.ConcatOp([*[x] * places, constant], 3))
    module = named(b.module([b.add(nn.UnaryOp(total, nn.fn("relu")))]))
    kernels = run(integer(module), *kernel_passes("x86-64"))
    (joining,) = [o for o in launches(kernels) if isinstance(o.meaning[-1], nn.ConcatOp)]
    assert joining.parts_in_place == (0,)
    assert work_of(joining).bytes == 2 * copied * 4 * 3 * 4
