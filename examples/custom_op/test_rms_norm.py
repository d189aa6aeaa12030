"""The pass keeps every bit, and the kernel has the bits of the meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array, shape_of, tensor_type
from uqfc.interpreter import Interpreter
from uqfc.model import build
from uqfc.targets import load_target, missing_cpu_features
from uqfc_rms_norm import FuseRmsNormPass, RmsNormOp

TARGETS = ("x86-64", "x86-64-v3", "avx512-vnni")
SIZES = st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 64, 65])
"""Around those of vectors."""
SHAPES = st.one_of(st.tuples(SIZES), st.tuples(st.integers(1, 3), st.integers(1, 4), SIZES))
SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = (settings.default or settings()).max_examples // 4
"""Where an example compiles a network."""
SPECIAL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3e38, -1e20], np.float32)


@dataclass
class Graph:
    """Appends ops to ``@main`` of one float32 input."""

    block: Block

    def add(self, op: nn.TensorOp) -> SSAValue:
        self.block.add_op(op)
        return op.result

    def constant(self, value: Array | float) -> SSAValue:
        return self.add(nn.ConstantOp(np.asarray(value, np.float32)))

    def commuted(self, kind: type[nn.BinaryOp], a: SSAValue, b: SSAValue, swap: bool) -> SSAValue:
        return self.add(kind(b, a) if swap else kind(a, b))


Write = Callable[[Graph, SSAValue], SSAValue]
"""Appends what the network computes of its input; gives the result."""


def network(shape: tuple[int, ...], write: Write) -> ModuleOp:
    block = Block(arg_types=[tensor_type(shape)])
    result = write(Graph(block), block.args[0])
    block.add_op(ReturnOp(result))
    return ModuleOp([FuncOp("main", ([tensor_type(shape)], [result.type]), Region(block))])


def decomposed(scale: Array, epsilon: float, swap: int = 0) -> Write:
    """RMS normalisation as the importer writes it; the bits of ``swap`` turn operands around."""

    def write(g: Graph, x: SSAValue) -> SSAValue:
        mean = g.add(nn.ReduceOp(g.add(nn.MulOp(x, x)), "mean", [len(shape_of(x)) - 1]))
        shifted = g.commuted(nn.AddOp, mean, g.constant(epsilon), bool(swap & 1))
        normal = g.add(nn.DivOp(x, g.add(nn.UnaryOp(shifted, nn.fn("sqrt")))))
        return g.commuted(nn.MulOp, normal, g.constant(scale), bool(swap & 2))

    return write


def random_floats(seed: int, *shape: int) -> Array:
    """Ordinary values; in every other array some special ones."""
    random = np.random.default_rng(seed)
    values = random.normal(size=shape).astype(np.float32)
    if random.random() < 0.5:
        return values
    return np.where(random.random(shape) < 0.1, random.choice(SPECIAL, shape), values)


def assert_same_bits(got: Array, want: Array) -> None:
    """Any NaN equals any NaN."""
    both = np.isnan(got) & np.isnan(want)
    zero = np.float32(0)
    np.testing.assert_array_equal(
        np.where(both, zero, got).view(np.int32), np.where(both, zero, want).view(np.int32)
    )


def norms_after(module: ModuleOp) -> int:
    """How many ``rms.norm`` the pass makes of a module."""
    FuseRmsNormPass().apply(Context(), module)
    module.verify()
    return sum(isinstance(op, RmsNormOp) for op in module.walk())


@given(shape=SHAPES, seed=SEEDS, epsilon=st.sampled_from([1e-6, 1e-5, 0.0]), swap=st.integers(0, 3))
@settings(deadline=None)
def test_the_pass_keeps_every_bit(
    shape: tuple[int, ...], seed: int, epsilon: float, swap: int
) -> None:
    module = network(shape, decomposed(random_floats(seed, shape[-1]), epsilon, swap))
    inputs = {"input0": random_floats(seed + 1, *shape)}
    before = Interpreter().run(module, inputs)["output0"]
    assert norms_after(module) == 1
    assert_same_bits(Interpreter().run(module, inputs)["output0"], before)


@pytest.mark.parametrize("target", TARGETS)
@given(shape=SHAPES, seed=SEEDS)
@settings(deadline=None, max_examples=EXAMPLES)
def test_the_kernel_has_the_bits_of_the_meaning(
    target: str, shape: tuple[int, ...], seed: int
) -> None:
    table = load_target(target)
    if missing := missing_cpu_features(table):
        pytest.skip(f"this CPU lacks {', '.join(missing)}")
    scale = random_floats(seed, shape[-1])
    module = network(shape, lambda g, x: g.add(RmsNormOp(x, g.constant(scale), 1e-6)))
    model = build(module, table, target, "rms", "float32")
    assert [layer.op for layer in model.layers] == ["rms.norm"]
    inputs = {"input0": random_floats(seed + 1, *shape)}
    assert_same_bits(model.run(inputs)["output0"], model.reference(inputs)["output0"])


# --- what must stay as it is --------------------------------------------------------------------


def parts(g: Graph, x: SSAValue, axis: int = 1, kind: str = "mean") -> tuple[SSAValue, SSAValue]:
    """``x * x`` reduced, and its root."""
    reduced = g.add(nn.ReduceOp(g.add(nn.MulOp(x, x)), kind, [axis]))
    shifted = g.add(nn.AddOp(reduced, g.constant(1e-6)))
    return reduced, g.add(nn.UnaryOp(shifted, nn.fn("sqrt")))


def scaled(g: Graph, normal: SSAValue, *shape: int) -> SSAValue:
    return g.add(nn.MulOp(normal, g.constant(np.ones(shape))))


def over_another_axis(g: Graph, x: SSAValue) -> SSAValue:
    return scaled(g, g.add(nn.DivOp(x, parts(g, x, axis=0)[1])), 4)


def of_the_maximum(g: Graph, x: SSAValue) -> SSAValue:
    return scaled(g, g.add(nn.DivOp(x, parts(g, x, kind="max")[1])), 4)


def by_the_reciprocal(g: Graph, x: SSAValue) -> SSAValue:
    inverse = g.add(nn.UnaryOp(parts(g, x)[1], nn.fn("reciprocal")))
    return scaled(g, g.add(nn.MulOp(x, inverse)), 4)


def of_another_tensor(g: Graph, x: SSAValue) -> SSAValue:
    other = g.add(nn.UnaryOp(x, nn.fn("relu")))
    return scaled(g, g.add(nn.DivOp(other, parts(g, x)[1])), 4)


def with_a_scale_for_each_element(g: Graph, x: SSAValue) -> SSAValue:
    return scaled(g, g.add(nn.DivOp(x, parts(g, x)[1])), 4, 4)


def with_an_epsilon_for_each_row(g: Graph, x: SSAValue) -> SSAValue:
    mean, _ = parts(g, x)
    shifted = g.add(nn.AddOp(mean, g.constant(np.arange(4.0).reshape(4, 1))))
    return scaled(g, g.add(nn.DivOp(x, g.add(nn.UnaryOp(shifted, nn.fn("sqrt"))))), 4)


def with_an_activation(g: Graph, x: SSAValue) -> SSAValue:
    result = scaled(g, g.add(nn.DivOp(x, parts(g, x)[1])), 4)
    product = result.owner
    assert isinstance(product, nn.MulOp)
    product.properties["activation"] = nn.fn("relu")
    return result


@pytest.mark.parametrize(
    "write",
    [
        over_another_axis,
        of_the_maximum,
        by_the_reciprocal,
        of_another_tensor,
        with_a_scale_for_each_element,
        with_an_epsilon_for_each_row,
        with_an_activation,
    ],
)
def test_another_function_stays_as_it_is(write: Write) -> None:
    assert norms_after(network((4, 4), write)) == 0
