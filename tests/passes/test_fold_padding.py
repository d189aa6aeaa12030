from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp

from tests.passes.graphs import GraphBuilder, assert_exact, ops_of
from uqfc.dialects import nn
from uqfc.dialects.tensors import int_tuple
from uqfc.passes.fold_padding import FoldPaddingPass


@st.composite
def padded_networks(draw: st.DrawFn) -> ModuleOp:
    """A pad, in any direction and of any kind, before a convolution or a pool."""
    b = GraphBuilder([(2, 3, 4, 2)], seed=draw(st.integers(0, 99)))
    low, high = ([draw(st.integers(0, 2)) for _ in range(4)] for _ in range(2))
    if draw(st.booleans()):
        low[0] = low[3] = high[0] = high[3] = 0
    value, mode = draw(st.sampled_from([(0.0, "constant"), (1.0, "constant"), (0.0, "edge")]))
    x = b.add(nn.PadOp(b.block.args[0], low, high, value, mode))
    padding = draw(st.sampled_from([(0, 0, 0, 0), (1, 0, 1, 2)]))
    kind = draw(st.sampled_from(["conv", "mean", "mean with padding", "max"]))
    if kind == "conv":
        weight = b.weight(3, 2, 2, 2 + low[3] + high[3])
        return b.module([b.add(nn.Conv2dOp(x, weight, b.weight(3), padding=padding))])
    if kind == "max":
        return b.module([b.add(nn.MaxPool2dOp(x, (2, 2), padding=padding))])
    counted = kind == "mean with padding"
    pool = nn.AvgPool2dOp(x, (2, 2), padding=padding, count_include_pad=counted)
    return b.module([b.add(pool)])


@given(padded_networks())
def test_exact(module: ModuleOp) -> None:
    assert_exact(module, FoldPaddingPass())


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zeros_are_folded(value: float) -> None:
    b = GraphBuilder([(1, 3, 3, 2)])
    x = b.add(nn.PadOp(b.block.args[0], (0, 1, 2, 0), (0, 3, 4, 0), value))
    conv = nn.Conv2dOp(x, b.weight(3, 2, 2, 2), padding=(1, 1, 1, 1))
    result = assert_exact(b.module([b.add(conv)]), FoldPaddingPass())
    (folded,) = ops_of(result, nn.Conv2dOp)
    assert int_tuple(folded.padding) == ((2, 3, 4, 5) if value == 0 else (1, 1, 1, 1))
    assert len(ops_of(result, nn.PadOp)) == (0 if value == 0 else 1)
