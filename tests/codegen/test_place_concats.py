"""Concatenations whose inputs are computed in place give the same bits, and are not run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, SSAValue

from tests.codegen import amx
from tests.networks import (
    NetworkBuilder,
    RangeStyle,
    assert_kernels_exact,
    awkward_inputs,
    integer,
    named,
    quantized,
    run,
)
from tests.passes.graphs import random_inputs
from tests.test_stages import TARGETS, differing, skip_unless_runnable
from uqfc.codegen import parts
from uqfc.dialects import nn
from uqfc.dialects.layouts import Layout, root
from uqfc.dialects.qkernel import LaunchOp, yielded
from uqfc.dialects.tensors import shape_of
from uqfc.interpreter import main_function
from uqfc.model import CompiledModel, build
from uqfc.passes.plan_memory import find_homes, home_of
from uqfc.pipeline import kernel_passes
from uqfc.targets import load_target

on_every_target = pytest.mark.parametrize("target", TARGETS)


@pytest.fixture(autouse=True, scope="module")
def emulated_amx() -> Generator[None]:
    with amx.emulated():
        yield


@pytest.fixture(autouse=True, scope="module")
def split_everything() -> Generator[None]:
    """The networks here are small: whatever can be split is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "LEAST_CYCLES", 0)
        yield


# --- random networks ------------------------------------------------------------------------------

STYLES: tuple[list[RangeStyle], ...] = (["seen"], ["wide"], ["seen", "wide", "positive"])
Step = Callable[[NetworkBuilder, SSAValue, st.DrawFn], SSAValue]
SIZES = st.sampled_from([1, 2, 3, 8, 17, 33])


def pointwise(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    relu = draw(st.sampled_from([None, nn.fn("relu")]))
    weight = b.weights("plain", draw(SIZES), 1, 1, shape_of(x)[3])
    return b.layer(nn.Conv2dOp(x, weight, activation=relu))


def residual(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    channels = shape_of(x)[3]
    bias = b.constant(b.random.standard_normal(channels))
    return b.layer(nn.Conv2dOp(x, b.weights("plain", channels, 1, 1, channels), bias, x))


def spatial(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    weight = b.weights("plain", draw(SIZES), 3, 3, shape_of(x)[3])
    return b.layer(nn.Conv2dOp(x, weight, padding=(1, 1, 1, 1)))


def grouped(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    channels = shape_of(x)[3]
    groups = draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0]))
    weight = b.weights("plain", channels, 3, 3, channels // groups)
    return b.layer(nn.Conv2dOp(x, weight, padding=(1, 1, 1, 1), groups=groups))


def pooled(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    kind = draw(st.sampled_from([nn.MaxPool2dOp, nn.AvgPool2dOp]))
    return b.add(kind(x, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)))


def activated(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.UnaryOp(x, nn.fn("hard_swish")))


def doubled(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.AddOp(x, x))


def gated(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.MulOp(x, b.add(nn.ReduceOp(x, "mean", (1, 2)))))


def sliced(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    shape = shape_of(x)
    axis = draw(st.sampled_from([1, 3, 3]))
    size = draw(st.integers(1, shape[axis]))
    start = draw(st.integers(0, shape[axis] - size))
    starts = [start if i == axis else 0 for i in range(4)]
    return b.add(nn.SliceOp(x, starts, [size if i == axis else n for i, n in enumerate(shape)]))


def flipped(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.TransposeOp(x, (0, 2, 1, 3)))


def reshaped(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    n, height, width, channels = shape_of(x)
    flat = b.add(nn.ReshapeOp(x, (n * height * width, channels)))
    return b.add(nn.ReshapeOp(flat, (n, width, height, channels)))


STEPS: tuple[Step, ...] = (
    pointwise,
    pointwise,
    residual,
    spatial,
    grouped,
    pooled,
    activated,
    doubled,
    gated,
    sliced,
    flipped,
    reshaped,
)


def joined(b: NetworkBuilder, alive: Sequence[SSAValue], draw: st.DrawFn) -> SSAValue:
    """Of values that fit the first one that is drawn; some may be the same."""
    first = draw(st.sampled_from(alive))
    axis = draw(st.sampled_from([0, 1, 2, 3, 3, 3]))

    def rest(value: SSAValue) -> list[int]:
        return [size for i, size in enumerate(shape_of(value)) if i != axis]

    fitting = [value for value in alive if rest(value) == rest(first)]
    others = draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=3))
    return b.add(nn.ConcatOp([first, *others], axis))


@st.composite
def networks(draw: st.DrawFn, max_steps: int = 8) -> ModuleOp:
    """Layers and movements of one image, or two, and concatenations of what they give."""
    size = st.sampled_from([1, 2, 3])
    shape = (draw(st.integers(1, 2)), draw(size), draw(size), draw(SIZES))
    b = NetworkBuilder([shape], seed=draw(st.integers(0, 99)))
    constant = b.constant(b.random.standard_normal((*shape[:3], 3)))
    alive = [b.block.args[0], constant, pointwise(b, b.block.args[0], draw)]
    for _ in range(draw(st.integers(1, max_steps))):
        recent = st.sampled_from(alive[-3:])
        if draw(st.booleans()):
            made = joined(b, alive, draw)
        else:
            made = draw(st.sampled_from(STEPS))(b, draw(recent), draw)
        if np.prod(shape_of(made)) <= 3000:
            alive.append(made)
    last = pointwise(b, draw(st.sampled_from(alive[1:])), draw)
    others = draw(st.lists(st.sampled_from(alive[-2:]), max_size=2, unique_by=id))
    return named(b.module([last, *others]))


@st.composite
def integer_networks(draw: st.DrawFn) -> ModuleOp:
    """Of any strategy; with ranges as they were seen, or twice as wide."""
    module = draw(networks())
    strategy = draw(st.sampled_from(["int8", "int4", "float", "fp8_e4m3"]))
    styles: list[RangeStyle] = draw(st.sampled_from(STYLES))
    return integer(module if strategy == "float" else quantized(module, strategy, styles))


def compiled(network: ModuleOp, target: str, threads: int = 1) -> CompiledModel:
    skip_unless_runnable(target)
    return build(network, load_target(target), target, "network", "int8", threads=threads)


@on_every_target
@settings(max_examples=25)
@given(network=integer_networks(), threads=st.sampled_from([1, 1, 3]))
def test_code_gives_the_bits_of_the_interpreter(
    target: str, network: ModuleOp, threads: int
) -> None:
    model = compiled(network, target, threads)
    for inputs in (random_inputs(network), awkward_inputs(network)):
        assert not differing(model.reference(inputs), model.run(inputs))


@settings(max_examples=40)
@given(network=integer_networks())
def test_every_level_means_the_same(network: ModuleOp) -> None:
    """After the memory plan values are in the arena: they would be lost where two overlap."""
    assert_kernels_exact(network, *kernel_passes("x86-64-v3"))


@settings(max_examples=40)
@given(network=integer_networks())
def test_parts_of_a_concatenation_are_apart(network: ModuleOp) -> None:
    launches = launches_of(run(network.clone(), *kernel_passes("x86-64-v3")[:-1]))
    homes = find_homes(launches)
    for launch in launches:
        op = yielded(launch.body).owner
        if isinstance(op, nn.ConcatOp):
            values = [root(launch.operand_of(op.inputs[i])) for i in launch.parts_in_place]
            elements = [elements_of(homes[value][1]) for value in values]
            whole = elements_of(home_of(launch.outputs[0], homes)[1])
            assert all(part <= whole for part in elements)
            assert not any(one & other for one, other in combinations(elements, 2))


def launches_of(module: ModuleOp) -> list[LaunchOp]:
    return [op for op in main_function(module).body.block.ops if isinstance(op, LaunchOp)]


def elements_of(layout: Layout) -> set[int]:
    """Their places in the buffer."""
    places = np.full(layout.shape, layout.offset)
    for axis, stride in enumerate(layout.strides):
        along = np.arange(layout.shape[axis]) * stride
        places += along.reshape([-1 if a == axis else 1 for a in range(len(layout.shape))])
    return set(places.ravel().tolist())


# --- what is placed -------------------------------------------------------------------------------


def network(*shape: int) -> tuple[NetworkBuilder, SSAValue]:
    b = NetworkBuilder([shape])
    return b, b.block.args[0]


def conv(b: NetworkBuilder, x: SSAValue, channels: int, kernel: int = 1) -> SSAValue:
    weight = b.weights("plain", channels, kernel, kernel, shape_of(x)[3])
    return b.layer(nn.Conv2dOp(x, weight, padding=(kernel // 2,) * 4))


def kernels_of(b: NetworkBuilder, *outputs: SSAValue, strategy: str = "int8") -> list[str]:
    """Meanings of the launches of the compiled network, whose results are checked."""
    module = named(b.module(list(outputs)))
    network = integer(quantized(module, strategy) if strategy else module)
    model = compiled(network, "x86-64-v3")
    inputs = random_inputs(module)
    assert not differing(model.reference(inputs), model.run(inputs))
    ops = [yielded(launch.body).owner for launch in launches_of(model.kernels)]
    return [op.name.partition(".")[2] for op in ops if not isinstance(op, Block)]


def relu(b: NetworkBuilder, x: SSAValue) -> SSAValue:
    return b.add(nn.UnaryOp(x, nn.fn("relu")))


def layer_and_pool(b: NetworkBuilder, x: SSAValue) -> SSAValue:
    pool = b.add(nn.MaxPool2dOp(x, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)))
    return conv(b, pool, 7)


@pytest.mark.parametrize("channels", [(1, 3), (5, 64), (17, 33)])
@pytest.mark.parametrize("images", [1, 2])
def test_branches_are_computed_in_place(images: int, channels: tuple[int, int]) -> None:
    b, image = network(images, 4, 5, 8)
    x = conv(b, image, 12)
    branches = [conv(b, x, channels[0]), conv(b, x, channels[1], 3), layer_and_pool(b, x)]
    pool = b.add(nn.AvgPool2dOp(x, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)))
    total = b.add(nn.ConcatOp([*branches, pool], 3))
    names = kernels_of(b, conv(b, total, 6))
    assert "concat" not in names
    assert names.count("conv2d") == 5


def test_a_densely_connected_block_is_one_buffer() -> None:
    """Every layer reads the first channels of what is all channels in the end."""
    b, image = network(1, 3, 3, 8)
    values = [conv(b, image, 8)]
    for _ in range(3):
        x = b.add(nn.ConcatOp(values, 3)) if len(values) > 1 else values[0]
        values.append(conv(b, relu(b, x), 5))
    last = relu(b, b.add(nn.ConcatOp(values, 3)))
    assert "concat" not in kernels_of(b, last, strategy="")


@pytest.mark.parametrize("axis", [0, 1])
def test_slices_that_follow_each_other_need_no_rows(axis: int) -> None:
    """Depthwise kernels write and read rows without gaps only."""
    b, image = network(1, 4, 3, 8)
    weights = [b.weights("plain", 8, 3, 3, 1) for _ in range(3)]
    x = conv(b, image, 8)
    made = [b.layer(nn.Conv2dOp(x, w, padding=(1, 1, 1, 1), groups=8)) for w in weights[:2]]
    total = b.add(nn.ConcatOp(made, axis))
    last = b.layer(nn.Conv2dOp(total, weights[2], padding=(1, 1, 1, 1), groups=8))
    assert "concat" not in kernels_of(b, last)


def test_only_what_cannot_be_placed_is_copied() -> None:
    """A depthwise result, a constant, the image and the second place of a value."""
    b, image = network(1, 4, 3, 8)
    x = relu(b, image)
    depthwise = b.layer(
        nn.Conv2dOp(image, b.weights("plain", 8, 3, 3, 1), groups=8, padding=(1,) * 4)
    )
    constant = b.constant(b.random.standard_normal((1, 4, 3, 2)))
    total = b.add(nn.ConcatOp([x, depthwise, constant, image, x], 3))
    network_of = integer(named(b.module([relu(b, total)])))
    launches = launches_of(compiled(network_of, "x86-64-v3").kernels)
    (copying,) = [o for o in launches if isinstance(yielded(o.body).owner, nn.ConcatOp)]
    assert copying.parts_in_place == (0,)


def test_readers_that_need_rows_without_gaps_keep_a_value_where_it_is() -> None:
    b, image = network(1, 4, 3, 8)
    x = conv(b, image, 8)
    y = conv(b, x, 8)
    spatial_reader = conv(b, x, 4, 3)
    total = b.add(nn.ConcatOp([x, y], 3))
    names = kernels_of(b, conv(b, total, 4), spatial_reader, strategy="")
    assert "concat" in names


def test_only_results_that_nothing_else_reads_are_parts_of_results() -> None:
    b, image = network(1, 4, 3, 8)
    x, y, z = (conv(b, image, channels) for channels in (8, 4, 2))
    total = b.add(nn.ConcatOp([x, y, z], 3))
    module = named(b.module([total, relu(b, x), z]))
    launches = launches_of(compiled(integer(module), "x86-64-v3").kernels)
    (copying,) = [o for o in launches if isinstance(yielded(o.body).owner, nn.ConcatOp)]
    assert copying.parts_in_place == (1,)


def test_detections_of_several_scales_are_written_into_the_result() -> None:
    b, image = network(1, 4, 4, 8)
    boxes: list[SSAValue] = []
    for size in (4, 2):
        made = conv(b, image, 12)
        small = b.add(nn.SliceOp(made, (0, 0, 0, 0), (1, size, size, 12), (1, 1, 1, 1)))
        boxes.append(b.add(nn.ReshapeOp(relu(b, small), (1, size * size * 3, 4))))
    assert "concat" not in kernels_of(b, b.add(nn.ConcatOp(boxes, 1)))


def test_halves_of_channels_are_read_where_they_are() -> None:
    b, image = network(1, 4, 3, 8)
    x = conv(b, image, 12)
    halves = [b.add(nn.SliceOp(x, (0, 0, 0, i), (1, 4, 3, 6))) for i in (0, 6)]
    y = b.add(nn.ConcatOp([conv(b, halves[0], 5), conv(b, halves[1], 3)], 3))
    assert set(kernels_of(b, conv(b, y, 4))) == {"quantize", "conv2d"}


def test_a_reshape_of_the_image_is_copied_to_rows_that_are_its_own() -> None:
    """The pitch is that of its rows, not of the image's, which are shorter."""
    b, image = network(2, 4, 3, 8)
    flat = b.add(nn.ReshapeOp(image, (2, 4, 24)))
    total = b.add(nn.ConcatOp([flat, relu(b, flat)], 2))
    assert "concat" not in kernels_of(b, relu(b, total), strategy="")
