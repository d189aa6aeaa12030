from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from xdsl.dialects.builtin import f32, i32
from xdsl.ir import SSAValue

from tests.passes.graphs import GraphBuilder, applied, assert_exact, ops_of
from uqfc.dialects import nn
from uqfc.dialects.nn import TensorOp
from uqfc.elementary import UNARY
from uqfc.passes.fold_constants import FoldConstantsPass

AWKWARD = np.array([[0.0, -0.0, np.inf], [-np.inf, np.nan, 1e-40], [1.5, -2.5, 3e38]], np.float32)

MOVEMENT: dict[type[TensorOp], Callable[[SSAValue], TensorOp]] = {
    nn.ReshapeOp: lambda x: nn.ReshapeOp(x, (9,)),
    nn.TransposeOp: lambda x: nn.TransposeOp(x, (1, 0)),
    nn.BroadcastOp: lambda x: nn.BroadcastOp(x, (2, 3, 3)),
    nn.ConcatOp: lambda x: nn.ConcatOp([x, x], 1),
}
BINARY = (nn.AddOp, nn.SubOp, nn.MulOp, nn.DivOp)


def folded(make: Callable[[SSAValue], TensorOp], value: np.ndarray = AWKWARD) -> None:
    """The op on a constant must become a constant with the same bits as the interpreter's."""
    b = GraphBuilder([(1,)])
    x = b.add(nn.ConstantOp(value))
    result = assert_exact(b.module([b.add(make(x))]), FoldConstantsPass())
    assert {op.name for op in result.walk() if isinstance(op, TensorOp)} == {"nn.constant"}


@pytest.mark.parametrize("kind", MOVEMENT, ids=lambda k: k.name)
def test_movement(kind: type[TensorOp]) -> None:
    folded(MOVEMENT[kind])
    folded(MOVEMENT[kind], np.arange(9, dtype=np.int8).reshape(3, 3))


@pytest.mark.parametrize("kind", BINARY, ids=lambda k: k.name)
def test_binary(kind: type[nn.BinaryOp]) -> None:
    b = GraphBuilder([(1,)])
    x = b.add(nn.ConstantOp(AWKWARD))
    y = b.add(nn.ConstantOp(np.ascontiguousarray(AWKWARD[::-1])))
    assert_exact(b.module([b.add(kind(x, y)), b.add(kind(x, x))]), FoldConstantsPass())


@pytest.mark.parametrize("name", sorted(UNARY))
def test_unary(name: str) -> None:
    parameters = [0.25, 0.75][: UNARY[name].parameters]
    folded(lambda x: nn.UnaryOp(x, nn.fn(name, *parameters)))


def test_scalars_stay_scalars() -> None:
    folded(lambda x: nn.AddOp(x, x), np.array(2.5, np.float32))
    folded(lambda x: nn.UnaryOp(x, nn.fn("hard_swish")), np.array(2.5, np.float32))


def test_integer_arithmetic_and_activations_stay() -> None:
    b = GraphBuilder([(1,)])
    whole = b.add(nn.ConstantOp(np.ones(3, np.int32), i32))
    real = b.add(nn.ConstantOp(np.ones(3, np.float32), f32))
    total = nn.AddOp(real, real)
    total.properties["activation"] = nn.fn("relu")
    module = b.module([b.add(nn.AddOp(whole, whole)), b.add(total)])
    assert len(ops_of(applied(module, FoldConstantsPass()), nn.AddOp)) == 2
