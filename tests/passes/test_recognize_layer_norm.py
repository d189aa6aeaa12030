from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tests.passes.graphs import GraphBuilder, applied, assert_exact, ops_of, outputs_of
from uqfc.dialects import nn
from uqfc.dialects.tensors import shape_of
from uqfc.elementary import evaluate_pow
from uqfc.passes.recognize_layer_norm import RecognizeLayerNormPass

Square = Callable[[GraphBuilder, SSAValue], SSAValue]


def by_product(b: GraphBuilder, d: SSAValue) -> SSAValue:
    return b.add(nn.MulOp(d, d))


def by_power(b: GraphBuilder, d: SSAValue) -> SSAValue:
    return b.add(nn.PowOp(d, b.constant(2.0)))


def decomposed(
    b: GraphBuilder,
    square: Square = by_product,
    axes: tuple[int, ...] = (2,),
    affine: tuple[int, ...] = (5,),
    twice: bool = False,
    kind: str = "mean",
) -> ModuleOp:
    """The ops that exporters write; ``twice`` subtracts the mean once more for the square."""
    x = b.block.args[0]
    mean = b.add(nn.ReduceOp(x, "mean", axes))
    d = b.add(nn.SubOp(x, mean))
    other = b.add(nn.SubOp(x, mean)) if twice else d
    variance = b.add(nn.ReduceOp(square(b, other), kind, axes))
    root = b.add(nn.UnaryOp(b.add(nn.AddOp(variance, b.constant(1e-5))), nn.fn("sqrt")))
    scaled = b.add(nn.MulOp(b.add(nn.DivOp(d, root)), b.weight(*affine)))
    return b.module([b.add(nn.AddOp(scaled, b.weight(*affine)), "norm")])


@pytest.mark.parametrize(
    ("axes", "affine"), [((2,), (5,)), ((2,), (1, 1, 5)), ((1, 2), (3, 5)), ((0, 1, 2), (2, 3, 5))]
)
@pytest.mark.parametrize("twice", [False, True])
def test_recognized_and_exact_with_products(
    axes: tuple[int, ...], affine: tuple[int, ...], twice: bool
) -> None:
    module = decomposed(GraphBuilder([(2, 3, 5)]), axes=axes, affine=affine, twice=twice)
    result = assert_exact(module, RecognizeLayerNormPass())
    (norm,) = ops_of(result, nn.LayerNormOp)
    assert norm.layer == "norm"
    assert shape_of(norm.scale) == (2, 3, 5)[-len(axes) :]
    assert not ops_of(result, nn.ReduceOp)


def test_bound_with_powers() -> None:
    module = decomposed(GraphBuilder([(64, 3, 5)]), by_power)
    result = applied(module, RecognizeLayerNormPass())
    assert ops_of(result, nn.LayerNormOp)
    d = np.linspace(-8, 8, 4001, dtype=np.float32)
    exact = d.astype(np.float64) ** 2
    power = evaluate_pow(d, np.full_like(d, 2.0))
    error = (np.abs(power - exact)[exact > 0] / exact[exact > 0]).max()
    (before,), (after,) = outputs_of(module), outputs_of(result)
    (norm,) = ops_of(result, nn.LayerNormOp)
    bias = norm.bias.owner.array  # pyright: ignore[reportAttributeAccessIssue] # a constant
    normalised = np.abs(before.astype(np.float64) - bias)
    assert (np.abs(before - after) <= (error / 2 + 2.0**-21) * normalised + 2.0**-22).all()


@pytest.mark.parametrize(
    ("axes", "affine", "kind"),
    [((0,), (5,), "mean"), ((1,), (5,), "mean"), ((2,), (3, 1), "mean"), ((2,), (5,), "sum")],
)
def test_not_recognized(axes: tuple[int, ...], affine: tuple[int, ...], kind: str) -> None:
    module = decomposed(GraphBuilder([(2, 3, 5)]), axes=axes, affine=affine, kind=kind)
    assert not ops_of(applied(module, RecognizeLayerNormPass()), nn.LayerNormOp)
