from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tests.passes.graphs import GraphBuilder, applied, graphs, ops_of, outputs_of
from uqfc.dialects import nn
from uqfc.passes.affine_to_depthwise import AffineToDepthwisePass
from uqfc.passes.sink_transposes import SinkTransposes


@given(graphs())
def test_exact_but_for_the_sign_of_zero(module: ModuleOp) -> None:
    result = applied(module, SinkTransposes(), AffineToDepthwisePass())
    for before, after in zip(outputs_of(module), outputs_of(result), strict=True):
        assert np.array_equal(before, after, equal_nan=True)
    assert str(applied(result, AffineToDepthwisePass())) == str(result)


def image_layer(b: GraphBuilder) -> SSAValue:
    """Something that depends on a layer but is none: a maximum over windows."""
    conv = b.add(nn.Conv2dOp(b.block.args[0], b.weight(4, 1, 1, 4), b.weight(4)))
    return b.add(nn.MaxPool2dOp(conv, (2, 2)))


@pytest.mark.parametrize("shape", [(), (4,), (1, 1, 4), (1, 1, 1, 4)])
def test_product_and_sum_become_one_layer(shape: tuple[int, ...]) -> None:
    b = GraphBuilder([(2, 3, 3, 4)])
    product = b.add(nn.MulOp(b.weight(*shape), image_layer(b)))
    total = nn.AddOp(product, b.weight(4))
    total.properties["activation"] = nn.fn("relu")
    module = b.module([b.add(total, "bn")])
    result = applied(module, AffineToDepthwisePass())
    conv = ops_of(result, nn.Conv2dOp)[-1]
    assert not ops_of(result, nn.MulOp, nn.AddOp)
    assert (conv.layer, conv.activation) == ("bn", nn.fn("relu"))
    assert np.array_equal(outputs_of(module)[0], outputs_of(result)[0])


def test_a_product_with_another_reader_is_a_layer_of_its_own() -> None:
    b = GraphBuilder([(2, 3, 3, 4)])
    product = b.add(nn.MulOp(image_layer(b), b.weight(4)))
    module = b.module([b.add(nn.AddOp(product, b.weight(4))), product])
    result = applied(module, AffineToDepthwisePass())
    assert len(ops_of(result, nn.Conv2dOp)) == 3
    for before, after in zip(outputs_of(module), outputs_of(result), strict=True):
        assert np.array_equal(before, after)


def test_the_normalisation_of_an_input_stays() -> None:
    b = GraphBuilder([(2, 3, 3, 4)])
    scaled = b.add(nn.MulOp(b.block.args[0], b.weight(4)))
    module = b.module([b.add(nn.Conv2dOp(scaled, b.weight(4, 1, 1, 4)))])
    assert len(ops_of(applied(module, AffineToDepthwisePass()), nn.MulOp)) == 1


def test_constants_along_other_axes_stay() -> None:
    b = GraphBuilder([(2, 3, 3, 4)])
    module = b.module([b.add(nn.MulOp(image_layer(b), b.weight(1, 2, 2, 1)))])
    assert len(ops_of(applied(module, AffineToDepthwisePass()), nn.MulOp)) == 1
