"""Random small ``nn`` graphs as an importer would build them: images channel-first, image ops
wrapped in transposes. And what the tests of passes do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, ModuleOp
from xdsl.dialects.func import Func, FuncOp, ReturnOp
from xdsl.ir import Block, Region, SSAValue
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from uqfc.dialects import nn
from uqfc.dialects.nn import Nn
from uqfc.dialects.qnn import Qnn
from uqfc.dialects.quant import Quant
from uqfc.dialects.tensors import Array, shape_of, tensor_type
from uqfc.interpreter import Interpreter

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
FUNCTIONS = (
    nn.fn("relu"),
    nn.fn("clip", 0.0, 6.0),
    nn.fn("hard_swish"),
    nn.fn("hard_sigmoid", 1 / 6, 0.5),
    nn.fn("leaky_relu", 0.1),
)


def context() -> Context:
    ctx = Context()
    for dialect in (Builtin, Func, Nn, Quant, Qnn):
        ctx.load_dialect(dialect)
    return ctx


@dataclass
class GraphBuilder:
    """Appends ops to ``@main``; weights are small multiples of 1/16 from a seeded generator."""

    inputs: Sequence[tuple[int, ...]]
    seed: int = 0
    block: Block = field(init=False)

    def __post_init__(self) -> None:
        self.block = Block(arg_types=[tensor_type(shape) for shape in self.inputs])
        self.random = np.random.default_rng(self.seed)

    def add(self, op: nn.TensorOp, layer: str | None = None) -> SSAValue:
        if layer is not None:
            nn.with_layer(op, layer)
        self.block.add_op(op)
        return op.result

    def constant(self, value: Array | float) -> SSAValue:
        return self.add(nn.ConstantOp(np.asarray(value, np.float32)))

    def weight(self, *shape: int) -> SSAValue:
        return self.constant(self.random.integers(-32, 33, shape) / 16 + 1 / 128)

    def conv(self, x: SSAValue, channels: int, kernel: int = 1, **options: object) -> SSAValue:
        """A convolution of channel-first ``x`` with bias; ``groups`` is the only option."""
        groups = int(str(options.get("groups", 1)))
        inside = self.add(nn.TransposeOp(x, TO_NHWC))
        weight = self.weight(channels, kernel, kernel, shape_of(x)[1] // groups)
        pad = kernel // 2
        conv = nn.Conv2dOp(inside, weight, self.weight(channels), padding=(pad,) * 4, groups=groups)
        return self.add(nn.TransposeOp(self.add(conv, "conv"), TO_NCHW))

    def pool(self, x: SSAValue, kind: type[nn.Pool2dOp]) -> SSAValue:
        inside = self.add(nn.TransposeOp(x, TO_NHWC))
        return self.add(
            nn.TransposeOp(self.add(kind(inside, (2, 2), (1, 1), (0, 0, 1, 1))), TO_NCHW)
        )

    def shuffle(self, x: SSAValue, groups: int) -> SSAValue:
        n, c, h, w = shape_of(x)
        split = self.add(nn.ReshapeOp(x, (n, groups, c // groups, h, w)))
        swapped = self.add(nn.TransposeOp(split, (0, 2, 1, 3, 4)))
        return self.add(nn.ReshapeOp(swapped, (n, c, h, w)))

    def squeeze_excite(self, x: SSAValue) -> SSAValue:
        channels = shape_of(x)[1]
        mean = self.add(nn.ReduceOp(x, "mean", (2, 3)))
        inner = self.add(nn.UnaryOp(self.conv(mean, 2), nn.fn("relu")))
        gate = self.add(nn.UnaryOp(self.conv(inner, channels), nn.fn("hard_sigmoid", 0.2, 0.5)))
        return self.add(nn.MulOp(x, gate))

    def module(self, outputs: Sequence[SSAValue]) -> ModuleOp:
        self.block.add_op(ReturnOp(*outputs))
        types = ([a.type for a in self.block.args], [v.type for v in outputs])
        return ModuleOp([FuncOp("main", types, Region(self.block))])


Step = Callable[[GraphBuilder, SSAValue, st.DrawFn], SSAValue]


def channel_constant(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    channels = shape_of(x)[1]
    shapes = [(), (1,), (1, channels, 1, 1), (channels, 1, 1), shape_of(x)]
    return b.weight(*draw(st.sampled_from(shapes)))


def with_constant(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    kind = draw(st.sampled_from([nn.AddOp, nn.MulOp, nn.SubOp, nn.DivOp, nn.MaximumOp]))
    pair = [x, channel_constant(b, x, draw)]
    if draw(st.booleans()) and kind is not nn.DivOp:
        pair.reverse()
    return b.add(kind(*pair))


def sliced(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    shape = shape_of(x)
    axis = draw(st.sampled_from([1, 2, 3]))
    size = draw(st.integers(1, shape[axis]))
    start = draw(st.integers(0, shape[axis] - size))
    reverse = draw(st.booleans())
    starts = [start + size - 1 if i == axis and reverse else start * (i == axis) for i in range(4)]
    steps = [-1 if i == axis and reverse else 1 for i in range(4)]
    target = [size if i == axis else n for i, n in enumerate(shape)]
    return b.add(nn.SliceOp(x, starts, target, steps))


def padded(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    low, high = ([0, *(draw(st.integers(0, 1)) for _ in range(3))] for _ in range(2))
    return b.add(nn.PadOp(x, low, high, draw(st.sampled_from([0.0, -1.5]))))


def gathered(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    axis = draw(st.integers(1, 3))
    picks = draw(st.lists(st.integers(-2, 3), min_size=1, max_size=3))
    indices = b.add(nn.ConstantOp(np.asarray(picks, np.int64)))
    return b.add(nn.GatherOp(x, indices, axis))


def convolved(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    channels = shape_of(x)[1]
    if draw(st.booleans()):
        return b.conv(x, channels, 3, groups=channels)
    return b.conv(x, draw(st.sampled_from([2, 4])), draw(st.sampled_from([1, 3])))


def shuffled(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    del draw
    return b.shuffle(x, 2) if shape_of(x)[1] % 2 == 0 else x


def activated(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.UnaryOp(x, draw(st.sampled_from(FUNCTIONS))), "act")


def transposed(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.TransposeOp(x, (0, *draw(st.permutations([1, 2, 3])))))


STEPS: tuple[Step, ...] = (
    convolved,
    activated,
    with_constant,
    sliced,
    padded,
    gathered,
    shuffled,
    transposed,
    lambda b, x, _: b.squeeze_excite(x),
    lambda b, x, _: b.pool(x, nn.MaxPool2dOp),
    lambda b, x, _: b.pool(x, nn.AvgPool2dOp),
    lambda b, x, draw: b.add(nn.ReduceOp(x, draw(st.sampled_from(["mean", "max"])), (2, 3))),
    lambda b, x, _: b.add(nn.ConcatOp([x, x], 1)),
)


def combine(b: GraphBuilder, x: SSAValue, y: SSAValue, draw: st.DrawFn) -> SSAValue:
    """A binary op where the shapes broadcast, a concatenation where they fit, else ``x``."""
    kind = draw(st.sampled_from([nn.AddOp, nn.AddOp, nn.MulOp, nn.SubOp]))
    a, c = shape_of(x), shape_of(y)
    if all(m == n or 1 in (m, n) for m, n in zip(a, c, strict=True)):
        return b.add(kind(x, y))
    if a[0] == c[0] and a[2:] == c[2:]:
        return b.add(nn.ConcatOp([x, y], 1))
    return x


def tail(b: GraphBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    """Nothing, a softmax, or a classifier."""
    kind = draw(st.sampled_from(["none", "flatten", "pool"]))
    if kind == "none":
        return x
    if kind == "pool":
        x = b.add(nn.ReduceOp(x, "mean", (2, 3)))
    n, c, h, w = shape_of(x)
    flat = b.add(nn.ReshapeOp(x, (n, c * h * w)))
    return b.add(nn.LinearOp(flat, b.weight(3, c * h * w), b.weight(3)), "fc")


@st.composite
def graphs(draw: st.DrawFn, max_steps: int = 8) -> ModuleOp:
    """A verified module with one or two inputs [n, c, h, w] and one or two outputs."""
    shape = (draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 4])), 3, draw(st.integers(2, 4)))
    b = GraphBuilder([shape] * draw(st.integers(1, 2)), seed=draw(st.integers(0, 99)))
    alive: list[SSAValue] = list(b.block.args)
    for _ in range(draw(st.integers(1, max_steps))):
        x = draw(st.sampled_from(alive))
        if draw(st.integers(0, 3)) == 0:
            alive.append(combine(b, x, draw(st.sampled_from(alive)), draw))
        else:
            alive.append(draw(st.sampled_from(STEPS))(b, x, draw))
    outputs = [tail(b, alive[-1], draw)]
    if draw(st.booleans()):
        outputs.append(draw(st.sampled_from(alive)))
    module = b.module(outputs)
    module.verify()
    return module


# --- what is checked ------------------------------------------------------------------------------


def random_inputs(module: ModuleOp, seed: int = 0) -> dict[str, Array]:
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    random = np.random.default_rng(seed)
    return {
        f"input{i}": random.standard_normal(shape_of(a)).astype(np.float32) * 2
        for i, a in enumerate(function.body.block.args)
    }


def outputs_of(module: ModuleOp, seed: int = 0) -> list[Array]:
    return list(Interpreter().run(module, random_inputs(module, seed)).values())


def same_bits(a: Array, b: Array) -> bool:
    """Equal to the bit, but that any NaN equals any other."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype != np.float32:
        return bool((a == b).all())
    both_nan = np.isnan(a) & np.isnan(b)
    equal = np.ascontiguousarray(a).view(np.int32) == np.ascontiguousarray(b).view(np.int32)
    return bool((equal | both_nan).all())


def applied(module: ModuleOp, *passes: ModulePass) -> ModuleOp:
    """A verified copy after the passes; printing and parsing it must give the same module."""
    result = module.clone()
    for p in passes:
        p.apply(context(), result)
        result.verify()
    text = str(result)
    assert str(Parser(context(), text).parse_module()) == text
    return result


def assert_exact(module: ModuleOp, *passes: ModulePass) -> ModuleOp:
    """The law of an exact pass; gives the rewritten module."""
    result = applied(module, *passes)
    for before, after in zip(outputs_of(module), outputs_of(result), strict=True):
        assert same_bits(before, after), f"{before}\n{after}\n{module}\n{result}"
    return result


def assert_idempotent(module: ModuleOp, p: ModulePass) -> None:
    once = applied(module, p)
    assert str(applied(once, p)) == str(once)


OpT = TypeVar("OpT", bound=nn.TensorOp)


def ops_of(module: ModuleOp, *kinds: type[OpT]) -> list[OpT]:
    return [op for op in module.walk() if isinstance(op, kinds)]
