from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from tests.networks import NetworkBuilder, networks
from tests.passes.graphs import applied, assert_exact
from uqfc.dialects import nn
from uqfc.dialects.tensors import Array
from uqfc.passes.equalize_layers import EqualizeLayersPass
from uqfc.passes.support.quantizable import LAYERS


def ranges(module: ModuleOp) -> tuple[Array, Array]:
    """Largest weight that makes, and that reads, each channel between two layers."""
    first, second = [op for op in module.walk() if isinstance(op, LAYERS)]
    w1, w2 = (layer.weight.owner for layer in (first, second))
    assert isinstance(w1, nn.ConstantOp)
    assert isinstance(w2, nn.ConstantOp)
    a, b = np.abs(w1.array), np.abs(w2.array)
    depthwise = isinstance(second, nn.Conv2dOp) and second.is_depthwise
    reads = b if depthwise else np.moveaxis(b, -1, 0)
    return a.reshape(len(a), -1).max(axis=1), reads.reshape(len(a), -1).max(axis=1)


def pair(
    seed: int,
    exponents: list[int],
    activation: nn.FnAttr | None = None,
    depthwise: bool = False,
    also_returned: bool = False,
) -> ModuleOp:
    """Two convolutions; output channel i of the first is scaled by ``2**exponents[i]``."""
    channels = len(exponents)
    b = NetworkBuilder([(1, 3, 3, 2)], seed)
    scale = np.exp2(exponents).reshape(-1, 1, 1, 1)
    weight = b.constant(b.random.uniform(0.5, 1, (channels, 1, 1, 2)) * scale)
    bias = b.constant(b.random.standard_normal(channels))
    first = b.layer(nn.Conv2dOp(b.block.args[0], weight, bias, activation=activation))
    shape = (channels, 2, 2, 1) if depthwise else (4, 2, 2, channels)
    second = nn.Conv2dOp(
        first, b.constant(b.random.uniform(0.5, 1, shape)), groups=channels if depthwise else 1
    )
    outputs = [b.layer(second)]
    return b.module([*outputs, first] if also_returned else outputs)


EXPONENTS = st.lists(st.integers(-10, 10), min_size=2, max_size=5)
HOMOGENEOUS = (None, nn.fn("relu"), nn.fn("leaky_relu", 0.1))


@settings(max_examples=25)
@given(networks(max_steps=8))
def test_exact(module: ModuleOp) -> None:
    assert_exact(module, EqualizeLayersPass())


@settings(max_examples=25)
@given(st.integers(0, 99), EXPONENTS, st.sampled_from(HOMOGENEOUS), st.booleans())
def test_ranges_agree_within_a_factor_two(
    seed: int, exponents: list[int], activation: nn.FnAttr | None, depthwise: bool
) -> None:
    """The scale is the square root of the ratio, rounded to a power of two: off by sqrt(2)."""
    result = assert_exact(pair(seed, exponents, activation, depthwise), EqualizeLayersPass())
    made, read = ranges(result)
    ratio = np.maximum(made, read) / np.minimum(made, read)
    assert (ratio <= 2 * (1 + 2**-22)).all()


@pytest.mark.parametrize("activation", [nn.fn("clip", 0.0, 6.0), nn.fn("hard_swish")])
def test_other_activations_do_not_commute_with_scaling(activation: nn.FnAttr) -> None:
    module = pair(1, [5, -5], activation)
    assert str(applied(module, EqualizeLayersPass())) == str(module)


def test_a_value_that_others_read_is_left_alone() -> None:
    module = pair(1, [5, -5], also_returned=True)
    assert str(applied(module, EqualizeLayersPass())) == str(module)
