"""Random small float networks on channels-last images, their quantized and their integer forms.

``networks()`` draws a module as it is after fusion: layers with bias, residual and activation.
``quantized(...)`` places quantize points and calibrated ranges in a copy, ``integer(...)`` converts
it. ``tests.passes.graphs`` has the graphs before fusion, and what both kinds of tests need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from hypothesis import strategies as st
from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, FloatAttr, ModuleOp, StringAttr, f64
from xdsl.ir import Operation, SSAValue
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from tests.passes.graphs import GraphBuilder, context, random_inputs, same_bits
from uqfc.calibration import quantize_weights
from uqfc.dialects import nn
from uqfc.dialects.opaque import Opaque
from uqfc.dialects.qkernel import Qkernel
from uqfc.dialects.quant import DcastOp, ObserveOp, QuantParams, ScastOp, UniformType
from uqfc.dialects.tensors import Array, Shape, i2, i4, i8, shape_of, ui2, ui4, ui8
from uqfc.interpreter import Interpreter, input_names, main_function, output_names
from uqfc.options import QuantStrategy
from uqfc.passes.fold_calibration import FoldCalibrationPass, set_range
from uqfc.passes.insert_observers import InsertObserversPass
from uqfc.passes.quantize_weights import QuantizeWeightsPass
from uqfc.passes.select_bit_width import SENSITIVITY, SelectBitWidthPass, decision_of
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import with_operand_list
from uqfc.pipeline import integer_passes

CHANNELS = (1, 2, 3, 8, 17, 33)
ACTIVATIONS = (
    None,
    nn.fn("relu"),
    nn.fn("clip", 0.0, 6.0),
    nn.fn("clip", -1.0, 1.0),
    nn.fn("clip", 0.5, 2.0),
    nn.fn("hard_swish"),
    nn.fn("hard_sigmoid", 0.2, 0.5),
    nn.fn("leaky_relu", 0.1),
)
CLAMPS = ACTIVATIONS[:5]
FUNCTIONS = (*(a for a in ACTIVATIONS if a is not None), nn.fn("sigmoid"), nn.fn("silu"))
STRATEGIES = [kind for kind in QuantStrategy if kind != QuantStrategy.FLOAT32]


@dataclass
class NetworkBuilder(GraphBuilder):
    """Appends channels-last ops; every layer gets a name of its own."""

    layers: int = 0

    def weights(self, style: str, *shape: int) -> SSAValue:
        """``plain``, a ``zero`` output channel, one ``outlier``, all ``tiny`` or all ``large``."""
        fan_in = max(1, int(np.prod(shape[1:])))
        values = self.random.standard_normal(shape) / np.sqrt(fan_in)
        match style:
            case "zero":
                values[0] = 0.0
            case "outlier":
                values.flat[-1] = 40.0
            case "tiny":
                values *= 2.0**-60
            case "large":
                values *= 2.0**40
            case _:
                pass
        return self.constant(values)

    def layer(self, op: nn.TensorOp) -> SSAValue:
        self.layers += 1
        return self.add(op, f"layer{self.layers}")

    def linear(self, x: SSAValue, outputs: int, activation: nn.FnAttr | None = None) -> SSAValue:
        weight = self.weights("plain", outputs, shape_of(x)[-1])
        bias = self.constant(self.random.standard_normal(outputs))
        return self.layer(nn.LinearOp(x, weight, bias, activation=activation))


Step: TypeAlias = Callable[[NetworkBuilder, SSAValue, st.DrawFn], SSAValue]

WEIGHT_STYLES = ("plain", "plain", "plain", "zero", "outlier", "tiny", "large")


@dataclass(frozen=True)
class WindowChoice:
    kernel: Shape
    strides: Shape
    padding: Shape
    dilations: Shape


@st.composite
def windows(draw: st.DrawFn, size: Shape) -> WindowChoice:
    """A window that fits an image of this height and width."""
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (2, 2), (1, 3), (4, 1)]))
    strides = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    padding = draw(
        st.sampled_from([(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 1)]).filter(
            lambda p: max(p) < max(kernel) or not any(p)
        )
    )
    dilations = draw(st.sampled_from([(1, 1), (1, 1), (2, 1)]))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if any(size[i] + padding[i] + padding[i + 2] < spans[i] for i in range(2)):
        return WindowChoice((1, 1), strides, (0, 0, 0, 0), (1, 1))
    return WindowChoice(kernel, strides, padding, dilations)


def convolved(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    _, height, width, channels = shape_of(x)
    window = draw(windows((height, width)))
    kind = draw(st.sampled_from(["dense", "dense", "depthwise", "grouped"]))
    outputs, groups = draw(st.sampled_from(CHANNELS)), 1
    if kind == "depthwise":
        outputs = groups = channels
    elif kind == "grouped" and channels % 2 == 0:
        outputs, groups = 6, 2
    style = draw(st.sampled_from(WEIGHT_STYLES))
    weight = b.weights(style, outputs, *window.kernel, channels // groups)
    bias = b.constant(b.random.standard_normal(outputs)) if draw(st.booleans()) else None
    conv = nn.Conv2dOp(
        x,
        weight,
        bias,
        strides=window.strides,
        padding=window.padding,
        dilations=window.dilations,
        groups=groups,
        activation=draw(st.sampled_from(ACTIVATIONS)),
    )
    return b.layer(conv)


def residual_block(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    """``activation(conv(conv(x)) + x)``."""
    channels = shape_of(x)[3]
    inner = b.layer(nn.Conv2dOp(x, b.weights("plain", 8, 1, 1, channels)))
    weight = b.weights("plain", channels, 3, 3, 8)
    bias = b.constant(b.random.standard_normal(channels))
    activation = draw(st.sampled_from(ACTIVATIONS))
    outer = nn.Conv2dOp(inner, weight, bias, x, padding=(1, 1, 1, 1), activation=activation)
    return b.layer(outer)


def squeeze_excite(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    channels = shape_of(x)[3]
    mean = b.add(nn.ReduceOp(x, "mean", (1, 2)))
    relu, gate = nn.fn("relu"), nn.fn("hard_sigmoid", 0.2, 0.5)
    squeezed = b.layer(nn.Conv2dOp(mean, b.weights("plain", 3, 1, 1, channels), activation=relu))
    excited = b.layer(nn.Conv2dOp(squeezed, b.weights("plain", channels, 1, 1, 3), activation=gate))
    return b.add(nn.MulOp(*draw(st.permutations([x, excited]))))


def activated(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.UnaryOp(x, draw(st.sampled_from(FUNCTIONS))))


def pooled(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    _, height, width, _ = shape_of(x)
    w = draw(windows((height, width)))
    arguments = (x, w.kernel, w.strides, w.padding, w.dilations)
    if draw(st.booleans()):
        return b.add(nn.MaxPool2dOp(*arguments))
    return b.add(nn.AvgPool2dOp(*arguments, count_include_pad=draw(st.booleans())))


def sliced(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    shape = shape_of(x)
    axis = draw(st.integers(1, 3))
    size = draw(st.integers(1, shape[axis]))
    start = draw(st.integers(0, shape[axis] - size))
    starts = [start if i == axis else 0 for i in range(4)]
    return b.add(nn.SliceOp(x, starts, [size if i == axis else n for i, n in enumerate(shape)]))


def padded(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    low, high = ([0, *(draw(st.integers(0, 1)) for _ in range(3))] for _ in range(2))
    return b.add(nn.PadOp(x, low, high, draw(st.sampled_from([0.0, 0.0, -1.5]))))


def gathered(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    picks = draw(st.lists(st.integers(-2, 3), min_size=1, max_size=3))
    indices = b.add(nn.ConstantOp(np.asarray(picks, np.int64)))
    return b.add(nn.GatherOp(x, indices, draw(st.integers(1, 3))))


def transposed(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.TransposeOp(x, (0, *draw(st.permutations([1, 2, 3])))))


def reshaped(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    n, height, width, channels = shape_of(x)
    return b.add(nn.ReshapeOp(x, (n, width, 1, height * channels)))


def averaged(b: NetworkBuilder, x: SSAValue, draw: st.DrawFn) -> SSAValue:
    return b.add(nn.ReduceOp(x, "mean", (1, 2)))


STEPS: tuple[Step, ...] = (
    convolved,
    convolved,
    convolved,
    residual_block,
    squeeze_excite,
    activated,
    pooled,
    sliced,
    padded,
    gathered,
    transposed,
    reshaped,
    averaged,
)


def combined(b: NetworkBuilder, x: SSAValue, y: SSAValue, draw: st.DrawFn) -> SSAValue:
    """A binary op where the shapes broadcast, a concatenation where they fit, else ``x``."""
    p, q = shape_of(x), shape_of(y)
    kind = draw(st.sampled_from(["add", "mul", "sub", "concat", "concat"]))
    if kind == "concat" and p[:3] == q[:3]:
        return b.add(nn.ConcatOp([x, y], 3))
    if not all(m == n or 1 in (m, n) for m, n in zip(p, q, strict=True)):
        return x
    if kind == "sub":
        return b.add(nn.SubOp(x, y))
    op = nn.MulOp(x, y) if kind == "mul" else nn.AddOp(x, y)
    activation = draw(st.sampled_from(ACTIVATIONS))
    if activation is not None:
        op.properties["activation"] = activation
    return b.add(op)


@st.composite
def networks(draw: st.DrawFn, max_steps: int = 5) -> ModuleOp:
    """A verified module with one or two inputs [n, h, w, c], at least one layer, 1 or 2 outputs."""
    sizes = st.sampled_from([1, 2, 3, 5, 7])
    shape = (draw(st.integers(1, 2)), draw(sizes), draw(sizes), draw(st.sampled_from(CHANNELS)))
    b = NetworkBuilder([shape] * draw(st.integers(1, 2)), seed=draw(st.integers(0, 99)))
    alive = [convolved(b, b.block.args[0], draw), *b.block.args]
    for _ in range(draw(st.integers(0, max_steps))):
        x = draw(st.sampled_from(alive[:3]))
        if draw(st.integers(0, 2)) == 0:
            made = combined(b, x, draw(st.sampled_from(alive)), draw)
        else:
            made = draw(st.sampled_from(STEPS))(b, x, draw)
        if np.prod(shape_of(made)) <= 3000:
            alive.insert(0, made)
    last = alive[0]
    if draw(st.booleans()):
        n, height, width, channels = shape_of(last)
        flat = b.add(nn.ReshapeOp(last, (n, height * width * channels)))
        last = b.linear(flat, draw(st.sampled_from([1, 5, 33])), draw(st.sampled_from(ACTIVATIONS)))
    outputs = [last]
    if draw(st.booleans()):
        outputs.append(draw(st.sampled_from(alive)))
    return named(b.module(outputs))


def named(module: ModuleOp) -> ModuleOp:
    """The verified module itself, its inputs and outputs named as an importer does."""
    function = main_function(module)
    for kind, names in (("input", input_names(function)), ("output", output_names(function))):
        function.attributes[f"{kind}_names"] = ArrayAttr([StringAttr(name) for name in names])
    module.verify()
    return module


# --- calibrated ranges ----------------------------------------------------------------------------

Ranges: TypeAlias = Mapping[str, tuple[float, float]]
RangeStyle: TypeAlias = Literal["seen", "half", "positive", "negative", "empty", "tiny", "wide"]
STYLES: tuple[RangeStyle, ...] = ("seen", "half", "positive", "negative", "empty", "tiny", "wide")


@dataclass
class Seen:
    """Collects the extremes of every quantize point."""

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])

    def __call__(self, op: Operation, results: Sequence[Array]) -> None:
        if isinstance(op, ObserveOp):
            low, high = self.ranges.get(op.point.data, (0.0, 0.0))
            x = np.clip(np.nan_to_num(results[0]), -1e30, 1e30)
            self.ranges[op.point.data] = min(low, float(x.min())), max(high, float(x.max()))


def styled(seen: tuple[float, float], style: RangeStyle) -> tuple[float, float]:
    """``positive`` and ``negative`` put the zero point at an end, ``empty`` gives scale 1."""
    low, high = seen
    match style:
        case "half":
            return low / 2, high / 2
        case "positive":
            return 0.0, max(high, -low)
        case "negative":
            return min(low, -high), 0.0
        case "empty":
            return 0.0, 0.0
        case "tiny":
            return low * 2.0**-40, high * 2.0**-40
        case "wide":
            return low * 8, high * 32
        case _:
            return low, high


def with_observers(module: ModuleOp) -> ModuleOp:
    result = module.clone()
    InsertObserversPass().apply(context(), result)
    result.verify()
    return result


def calibrated(module: ModuleOp, styles: Sequence[RangeStyle] = ("seen",)) -> ModuleOp:
    """A copy with quantize points; their ranges are what a run saw, styled in turn."""
    result = with_observers(module)
    seen = Seen()
    Interpreter(observe=seen).run(result, random_inputs(result))
    points = list(seen.ranges)
    for op in result.walk():
        if isinstance(op, ObserveOp):
            place = points.index(op.point.data)
            set_range(op, *styled(seen.ranges[op.point.data], styles[place % len(styles)]))
    return result


# --- quantized networks ---------------------------------------------------------------------------


def run(module: ModuleOp, *passes: ModulePass) -> ModuleOp:
    """The module itself, after the passes, verified after each."""
    for each in passes:
        each.apply(context(), module)
        module.verify()
    return module


def quantized(
    module: ModuleOp,
    strategy: str = "int8",
    styles: Sequence[RangeStyle] = ("seen",),
    target: str = "x86-64",
) -> ModuleOp:
    """A copy with folded calibration and quantized weights; every other layer is sensitive."""
    result = calibrated(module, styles)
    for index, op in enumerate(o for o in result.walk() if isinstance(o, LAYERS)):
        op.attributes[SENSITIVITY] = FloatAttr(float(index % 2), f64)
    passes = (SelectBitWidthPass(strategy, target), FoldCalibrationPass(), QuantizeWeightsPass())
    return run(result, *passes)


STORAGES = {
    "u8": (ui8, 0, 255),
    "i8": (i8, -128, 127),
    "u4": (ui4, 0, 15),
    "i4": (i4, -8, 7),
    "u2": (ui2, 0, 3),
    "i2": (i2, -2, 1),
}


def with_given_weights(module: ModuleOp, storage: str, per_channel: bool = True) -> ModuleOp:
    """A copy as a quantized model file gives it: asymmetric weights of any storage type."""
    result = run(calibrated(module), SelectBitWidthPass("int8", "x86-64"), FoldCalibrationPass())
    element, qmin, qmax = STORAGES[storage]
    for layer in [o for o in result.walk() if isinstance(o, LAYERS)]:
        if decision_of(layer) is None or not isinstance(layer.weight.owner, nn.ConstantOp):
            continue
        weight = np.asarray(layer.weight.owner.array, np.float32)
        axis = 0 if per_channel else None
        q = quantize_weights(weight, qmin, qmax, axis=axis, symmetric=False)
        params = QuantParams.of(storage, q.scale, q.zero_point, axis=axis)
        stored = nn.ConstantOp(q.q, element)
        cast = ScastOp(stored, UniformType(params))
        restored = DcastOp(cast)
        block = layer.parent_block()
        assert block is not None
        block.insert_ops_before([stored, cast, restored], layer)
        rebuilt = with_operand_list(layer, weight=restored)
        for key in ("requested", "weight_dtype", "reason"):
            rebuilt.attributes.pop(key, None)
        block.insert_op_before(rebuilt, layer)
        layer.result.replace_all_uses_with(rebuilt.result)
        layer.detach()
        layer.erase()
    result.verify()
    return result


@st.composite
def quantized_networks(draw: st.DrawFn, max_steps: int = 5) -> ModuleOp:
    """A network with quantize points of any strategy, or as a quantized model file has it."""
    module = draw(networks(max_steps))
    kind = draw(st.sampled_from([*STRATEGIES, "file"]))
    if kind == "file":
        storage = draw(st.sampled_from(sorted(STORAGES)))
        return with_given_weights(module, storage, draw(st.booleans()))
    styles = draw(st.lists(st.sampled_from(STYLES), min_size=1, max_size=4))
    return quantized(module, kind, styles)


def integer(module: ModuleOp) -> ModuleOp:
    """A copy after ``convert-to-integer`` and ``canonicalize-weights``."""
    return run(module.clone(), *integer_passes())


def awkward_inputs(module: ModuleOp, seed: int = 0) -> dict[str, Array]:
    """Random inputs with some NaN, infinite, huge and denormal elements."""
    inputs = random_inputs(module, seed)
    special = [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40, -0.0]
    for x in inputs.values():
        x.flat[:: max(1, x.size // 5)] = np.resize(special, x.flat[:: max(1, x.size // 5)].size)
    return inputs


def kernel_context() -> Context:
    """All dialects."""
    ctx = context()
    for dialect in (Opaque, Qkernel):
        if dialect.name not in {loaded.name for loaded in ctx.loaded_dialects}:
            ctx.load_dialect(dialect)
    return ctx


def assert_kernels_exact(module: ModuleOp, *passes: ModulePass) -> ModuleOp:
    """``assert_exact`` on levels down to kernels, and on awkward inputs, too."""
    result = named(module.clone())
    names = output_names(main_function(result))
    run(result, *passes)
    text = str(result)
    assert str(Parser(kernel_context(), text).parse_module()) == text
    for inputs in (random_inputs(module), awkward_inputs(module)):
        expected = Interpreter().run(module, inputs)
        actual = Interpreter().run(result, inputs)
        for name in names:
            assert same_bits(expected[name], actual[name]), f"{name}\n{module}\n{result}"
    return result
