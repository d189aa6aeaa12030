from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tests.passes.graphs import (
    GraphBuilder,
    applied,
    assert_idempotent,
    graphs,
    ops_of,
    outputs_of,
    random_inputs,
)
from uqfc.dialects import nn
from uqfc.dialects.tensors import shape_of
from uqfc.numerics import F64
from uqfc.passes.fold_batch_norm import FoldBatchNormPass

KINDS = (nn.MulOp, nn.AddOp, nn.SubOp, nn.DivOp)


def affine(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    """``x`` with a constant of one value per channel, or one value, in either order."""
    kind = draw(st.sampled_from(KINDS))
    channels = shape_of(x)[-1]
    shape = draw(st.sampled_from([(), (1,), (channels,), (1, channels)]))
    constant = b.weight(*shape)
    swap = draw(st.booleans()) and kind is not nn.DivOp
    return b.add(kind(constant, x) if swap else kind(x, constant))


@st.composite
def affine_chains(draw: st.DrawFn) -> ModuleOp:
    """``input -> [linear] -> one to four affine ops``."""
    depth = draw(st.integers(1, 40))
    b = GraphBuilder([(3, depth)], seed=draw(st.integers(0, 99)))
    x: SSAValue = b.block.args[0]
    if draw(st.booleans()):
        bias = b.weight(4) if draw(st.booleans()) else None
        x = b.add(nn.LinearOp(x, b.weight(4, depth), bias), "fc")
    for _ in range(draw(st.integers(1, 4))):
        x = affine(b, x, draw)
    if draw(st.booleans()):
        x = b.add(nn.UnaryOp(x, nn.fn("relu")))
    return b.module([x])


def magnitudes(module: ModuleOp) -> tuple[F64, int]:
    """The sum of the terms' magnitudes at the output, and how often a term is rounded."""
    values: dict[SSAValue, F64] = {}
    block = next(op for op in module.walk() if op.name == "func.func").regions[0].block
    values[block.args[0]] = np.abs(random_inputs(module)["input0"].astype(np.float64))
    rounds = 6
    result = np.zeros(0)
    for op in block.ops:
        if isinstance(op, nn.ConstantOp):
            values[op.result] = np.abs(op.array.astype(np.float64))
            continue
        if not isinstance(op, nn.TensorOp):
            continue
        operands = [values[v] for v in op.operands]
        match op:
            case nn.LinearOp():
                rounds += ceil(operands[0].shape[1] / 16)
                result = operands[0] @ operands[1].T + (operands[2] if len(operands) > 2 else 0)
            case nn.MulOp():
                result = operands[0] * operands[1]
            case nn.DivOp():
                result = operands[0] / operands[1]
            case nn.AddOp() | nn.SubOp():
                result = operands[0] + operands[1]
            case _:
                result = operands[0]
        rounds += isinstance(op, KINDS)
        values[op.result] = result
    return result, rounds


@given(affine_chains())
def test_bound(module: ModuleOp) -> None:
    """The law in the pass's documentation."""
    result = applied(module, FoldBatchNormPass())
    (before,), (after,) = outputs_of(module), outputs_of(result)
    total, rounds = magnitudes(module)
    difference = np.abs(before.astype(np.float64) - after.astype(np.float64))
    assert (difference <= 2 * rounds * 2.0**-24 * total * (1 + 1e-6)).all()


@given(affine_chains())
def test_what_is_left_of_a_chain(module: ModuleOp) -> None:
    """Nothing after a layer; one product and one sum otherwise, but for subtractions from and
    divisions by, which only a layer takes in."""
    result = applied(module, FoldBatchNormPass())
    if ops_of(module, nn.LinearOp):
        assert not ops_of(result, *KINDS)
    elif not ops_of(module, nn.SubOp, nn.DivOp):
        assert len(ops_of(result, *KINDS)) <= 2


@given(graphs())
def test_any_graph_stays_valid(module: ModuleOp) -> None:
    assert_idempotent(module, FoldBatchNormPass())


def layer_with(b: GraphBuilder, **options: bool) -> SSAValue:
    x = b.block.args[0]
    activation = nn.fn("relu") if options.get("activation") else None
    residual = x if options.get("residual") else None
    return b.add(nn.LinearOp(x, b.weight(4, 4), None, residual, activation=activation))


@pytest.mark.parametrize("obstacle", ["activation", "residual", "reader"])
def test_not_folded(obstacle: str) -> None:
    b = GraphBuilder([(2, 4)])
    layer = layer_with(b, **{obstacle: True})
    scaled = b.add(nn.MulOp(layer, b.weight(4)))
    module = b.module([scaled, layer] if obstacle == "reader" else [scaled])
    result = applied(module, FoldBatchNormPass())
    assert len(ops_of(result, nn.MulOp)) == 1


def test_spatial_constant_is_not_per_channel() -> None:
    b = GraphBuilder([(2, 4)])
    module = b.module([b.add(nn.MulOp(layer_with(b), b.weight(2, 1)))])
    assert len(ops_of(applied(module, FoldBatchNormPass()), nn.MulOp)) == 1


def test_layer_keeps_its_name() -> None:
    b = GraphBuilder([(2, 4)])
    layer = b.add(nn.LinearOp(b.block.args[0], b.weight(4, 4)), "fc")
    module = b.module([b.add(nn.MulOp(layer, b.weight(4)), "bn")])
    (fused,) = ops_of(applied(module, FoldBatchNormPass()), nn.LinearOp)
    assert fused.layer == "fc"
