from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from tests.passes.graphs import GraphBuilder, applied, graphs, ops_of
from uqfc.dialects import nn
from uqfc.dialects.nn import FnAttr
from uqfc.dialects.tensors import Array
from uqfc.interpreter import Interpreter
from uqfc.passes.recognize_idioms import RecognizeIdiomsPass

GRID = np.linspace(-8, 8, 4001, dtype=np.float32)

Idiom = Callable[[GraphBuilder, SSAValue], SSAValue]


def unary(b: GraphBuilder, x: SSAValue, name: str, *params: float) -> SSAValue:
    return b.add(nn.UnaryOp(x, nn.fn(name, *params)))


def mul(b: GraphBuilder, x: SSAValue, y: SSAValue | float) -> SSAValue:
    return b.add(nn.MulOp(x, y if isinstance(y, SSAValue) else b.constant(y)))


def div(b: GraphBuilder, x: SSAValue, y: float) -> SSAValue:
    return b.add(nn.DivOp(x, b.constant(y)))


def plus(b: GraphBuilder, x: SSAValue, y: SSAValue | float) -> SSAValue:
    return b.add(nn.AddOp(x, y if isinstance(y, SSAValue) else b.constant(y)))


def bounds(b: GraphBuilder, x: SSAValue, low: float, high: float) -> SSAValue:
    at_least = b.add(nn.MaximumOp(x, b.constant(low)))
    return b.add(nn.MinimumOp(b.constant(high), at_least))


def relu6_of_three(b: GraphBuilder, x: SSAValue) -> SSAValue:
    return unary(b, plus(b, x, 3.0), "clip", 0.0, 6.0)


def erf_plus_one(b: GraphBuilder, x: SSAValue) -> SSAValue:
    return plus(b, unary(b, div(b, x, 2**0.5), "erf"), 1.0)


def tanh_plus_one(b: GraphBuilder, x: SSAValue) -> SSAValue:
    cube = mul(b, mul(b, x, x), x)
    inner = mul(b, plus(b, x, mul(b, cube, 0.044715)), (2 / np.pi) ** 0.5)
    return plus(b, unary(b, inner, "tanh"), 1.0)


def power_tanh_plus_one(b: GraphBuilder, x: SSAValue) -> SSAValue:
    cube = b.add(nn.PowOp(x, b.constant(3.0)))
    inner = mul(b, plus(b, mul(b, cube, 0.044715), x), (2 / np.pi) ** 0.5)
    return plus(b, unary(b, inner, "tanh"), 1.0)


def half_times(gate: Idiom) -> list[Idiom]:
    """``0.5 * x * gate(x)`` in each grouping."""
    return [
        lambda b, x: mul(b, mul(b, x, 0.5), gate(b, x)),
        lambda b, x: mul(b, mul(b, x, gate(b, x)), 0.5),
        lambda b, x: mul(b, x, mul(b, gate(b, x), 0.5)),
        lambda b, x: mul(b, b.constant(0.5), mul(b, gate(b, x), x)),
        lambda b, x: div(b, mul(b, gate(b, x), x), 2.0),
    ]


IDIOMS: dict[FnAttr, list[Idiom]] = {
    nn.fn("relu"): [
        lambda b, x: b.add(nn.MaximumOp(x, b.constant(0.0))),
        lambda b, x: unary(b, unary(b, x, "relu"), "relu"),
    ],
    nn.fn("clip", 0.0, 6.0): [
        lambda b, x: bounds(b, x, 0.0, 6.0),
        lambda b, x: unary(b, unary(b, x, "relu"), "clip", -1.0, 6.0),
        lambda b, x: unary(b, unary(b, x, "clip", -1.0, 6.0), "relu"),
        lambda b, x: b.add(nn.MinimumOp(unary(b, x, "relu"), b.constant(6.0))),
    ],
    nn.fn("hard_sigmoid", 1 / 6, 0.5): [
        lambda b, x: div(b, relu6_of_three(b, x), 6.0),
        lambda b, x: mul(b, relu6_of_three(b, x), 1 / 6),
        lambda b, x: div(b, bounds(b, plus(b, b.constant(3.0), x), 0.0, 6.0), 6.0),
    ],
    nn.fn("hard_sigmoid", 0.25, 0.5): [
        lambda b, x: unary(b, plus(b, mul(b, x, 0.25), 0.5), "clip", 0.0, 1.0),
    ],
    nn.fn("hard_swish"): [
        lambda b, x: mul(b, x, unary(b, x, "hard_sigmoid", 1 / 6, 0.5)),
        lambda b, x: mul(b, unary(b, x, "hard_sigmoid", 0.16666667, 0.5), x),
        lambda b, x: div(b, mul(b, x, relu6_of_three(b, x)), 6.0),
        lambda b, x: mul(b, mul(b, x, relu6_of_three(b, x)), 0.16666667),
        lambda b, x: mul(b, x, div(b, relu6_of_three(b, x), 6.0)),
        lambda b, x: mul(b, x, mul(b, relu6_of_three(b, x), 1 / 6)),
        lambda b, x: mul(b, div(b, x, 6.0), relu6_of_three(b, x)),
    ],
    nn.fn("silu"): [
        lambda b, x: mul(b, x, unary(b, x, "sigmoid")),
        lambda b, x: mul(b, unary(b, x, "sigmoid"), x),
    ],
    nn.fn("mish"): [lambda b, x: mul(b, x, unary(b, unary(b, x, "softplus"), "tanh"))],
    nn.fn("gelu"): half_times(erf_plus_one),
    nn.fn("gelu_tanh"): [*half_times(tanh_plus_one), *half_times(power_tanh_plus_one)],
}
VARIANTS = [
    pytest.param(fn, idiom, id=f"{fn.data.name}-{i}")
    for fn, idioms in IDIOMS.items()
    for i, idiom in enumerate(idioms)
]


def evaluate(module: ModuleOp, x: Array) -> Array:
    (result,) = Interpreter().run(module, {"input0": x}).values()
    return result


@pytest.mark.parametrize(("fn", "idiom"), VARIANTS)
def test_recognized_within_the_bound(fn: FnAttr, idiom: Idiom) -> None:
    b = GraphBuilder([GRID.shape])
    module = b.module([idiom(b, b.block.args[0])])
    result = applied(module, RecognizeIdiomsPass())
    (value,) = list(result.walk())[-1].operands
    op = value.owner
    assert isinstance(op, nn.UnaryOp)
    assert op.fn.data.name == fn.data.name
    # A parameter is recovered from float32 constants with one division: 2**-23 = 1.2e-7.
    assert op.fn.data.params == pytest.approx(fn.data.params, rel=1e-6)
    assert op.x is next(o for o in result.walk() if o.name == "func.func").regions[0].block.args[0]
    before, after = evaluate(module, GRID), evaluate(result, GRID)
    assert (np.abs(before - after) <= 1e-4 * np.abs(before) + 2.0**-20).all()


@pytest.mark.parametrize(
    "almost",
    [
        lambda b, x: mul(b, x, unary(b, x, "hard_sigmoid", 0.2, 0.5)),
        lambda b, x: div(b, unary(b, plus(b, x, 2.0), "clip", 0.0, 6.0), 6.0),
        lambda b, x: div(b, relu6_of_three(b, x), 5.0),
        lambda b, x: mul(b, mul(b, x, 0.25), erf_plus_one(b, x)),
        lambda b, x: mul(b, unary(b, x, "relu"), unary(b, x, "sigmoid")),
        lambda b, x: b.add(nn.MaximumOp(x, b.constant(np.array([0.0, 1.0, 2.0])))),
    ],
)
def test_not_recognized(almost: Idiom) -> None:
    b = GraphBuilder([(3,)])
    module = b.module([almost(b, b.block.args[0])])
    result = applied(module, RecognizeIdiomsPass())
    names = [str(op.fn) for op in ops_of(result, nn.UnaryOp)]
    assert names == [str(op.fn) for op in ops_of(module, nn.UnaryOp)]


@pytest.mark.parametrize(
    ("first", "second"),
    list(permutations([(0.0, 6.0), (-1.0, 1.0), (2.0, 3.0), (-3.0, -2.0), (-1e30, 0.5)], 2)),
)
def test_two_clips_are_one(first: tuple[float, float], second: tuple[float, float]) -> None:
    b = GraphBuilder([GRID.shape])
    x = unary(b, unary(b, b.block.args[0], "clip", *first), "clip", *second)
    module = b.module([x])
    result = applied(module, RecognizeIdiomsPass())
    assert np.array_equal(evaluate(module, GRID), evaluate(result, GRID))
    last = list(result.walk())[-1].operands[0].owner
    assert isinstance(last, nn.UnaryOp)
    assert not isinstance(last.x.owner, nn.UnaryOp)


def test_the_layer_name_is_that_of_the_last_op() -> None:
    b = GraphBuilder([(4,)])
    x = b.block.args[0]
    module = b.module([b.add(nn.MulOp(x, unary(b, x, "sigmoid")), "act")])
    result = applied(module, RecognizeIdiomsPass())
    assert [op.layer for op in ops_of(result, nn.UnaryOp) if op.fn.data.name == "silu"] == ["act"]


@given(st.data())
def test_any_graph_stays_valid(data: st.DataObject) -> None:
    module = data.draw(graphs())
    once = applied(module, RecognizeIdiomsPass())
    assert str(applied(once, RecognizeIdiomsPass())) == str(once)
