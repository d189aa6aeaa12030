"""The integer network on torch tensors: the interpreter's bits, on every device there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.dialects.builtin import ModuleOp, UnregisteredOp, f32, i1, i32
from xdsl.ir import Attribute, SSAValue

import uqfc
from tests.networks import (
    NetworkBuilder,
    awkward_inputs,
    integer,
    named,
    networks,
    quantized,
    quantized_networks,
    with_observers,
)
from tests.passes.graphs import graphs, same_bits
from uqfc.dialects import nn, qnn
from uqfc.dialects.qnn import Epilogue
from uqfc.dialects.tensors import Array, shape_of, tensor_type, ui8
from uqfc.errors import InputError, UqfcError
from uqfc.interpreter import Interpreter, main_function

torch = pytest.importorskip("torch")

from uqfc.qat.integer import layers  # noqa: E402
from uqfc.qat.integer_network import IntegerNetwork  # noqa: E402

EXAMPLE = Path(uqfc.__file__).parents[1] / "examples" / "fashion_mnist"

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ),
]
on_every_device = pytest.mark.parametrize("device", DEVICES)


def outputs_of(network: IntegerNetwork, inputs: dict[str, Array]) -> dict[str, Array]:
    tensors = {name: torch.from_numpy(x.copy()) for name, x in inputs.items()}
    return {name: y.cpu().numpy() for name, y in network(tensors).items()}


def check(module: ModuleOp, device: str, runs: int, seed: int = 0) -> None:
    """``runs`` inputs at once give what the interpreter gives for one after the other."""
    each = [awkward_inputs(module, seed + i) for i in range(runs)]
    expected = [Interpreter().run(module, inputs) for inputs in each]
    joined = {name: np.concatenate([x[name] for x in each]) for name in each[0]}
    found = outputs_of(IntegerNetwork(module, device), joined)
    assert list(found) == list(expected[0])
    for name, y in found.items():
        whole = np.concatenate([e[name] for e in expected])
        assert same_bits(whole, y), f"{name}: {differing(whole, y)}\n{module}"


def differing(expected: Array, found: Array) -> str:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{expected.dtype} {expected.shape}, got {found.dtype} {found.shape}"
    where = np.argwhere(expected != found)
    return f"{len(where)} of {found.size} differ, the first at {where[:1].tolist()}"


@on_every_device
@settings(max_examples=60)
@given(module=quantized_networks(), runs=st.sampled_from([1, 3]))
def test_quantized_networks(device: str, module: ModuleOp, runs: int) -> None:
    check(integer(module), device, runs)


@on_every_device
@settings(max_examples=20)
@given(module=networks(), runs=st.sampled_from([1, 3]))
def test_float_networks_too(device: str, module: ModuleOp, runs: int) -> None:
    check(module, device, runs)


@on_every_device
@settings(max_examples=30)
@given(module=graphs(), runs=st.sampled_from([1, 3]))
def test_graphs_as_importers_make_them(device: str, module: ModuleOp, runs: int) -> None:
    check(module, device, runs)


# --- single ops -----------------------------------------------------------------------------------

Make = Callable[[NetworkBuilder, list[SSAValue]], SSAValue]


def op(kind: Any, *arguments: Any, **options: Any) -> Make:
    """Makes the op of the inputs."""
    return lambda b, inputs: b.add(kind(*inputs, *arguments, **options))


def cast_there_and_back(element: Attribute) -> Make:
    return lambda b, x: b.add(nn.CastOp(b.add(nn.CastOp(x[0], element)), f32))


def integers(kind: Any) -> Make:
    """Of int32 operands."""

    def make(b: NetworkBuilder, inputs: list[SSAValue]) -> SSAValue:
        return b.add(kind(*(b.add(nn.CastOp(x, i32)) for x in inputs)))

    return make


def selected(b: NetworkBuilder, inputs: list[SSAValue]) -> SSAValue:
    x, y = inputs
    return b.add(nn.SelectOp(b.add(nn.CompareOp(x, y, "ge")), x, y))


def gathered(b: NetworkBuilder, inputs: list[SSAValue]) -> SSAValue:
    """Indices that only the run knows."""
    return b.add(nn.GatherOp(inputs[0], b.add(nn.CastOp(inputs[1], i32)), 1))


def product_of_bytes(b: NetworkBuilder, inputs: list[SSAValue]) -> SSAValue:
    left, right = (b.add(qnn.QuantizeOp(x, 0.02, z)) for x, z in zip(inputs, (3, 200), strict=True))
    return b.add(qnn.QMatmulOp(left, right, 3, 200))


def normalized(b: NetworkBuilder, inputs: list[SSAValue]) -> SSAValue:
    shape = shape_of(inputs[0])[-2:]
    scale, bias = b.weights("plain", *shape), b.weights("plain", *shape)
    return b.add(nn.LayerNormOp(inputs[0], scale, bias, 1e-5))


def resampled(b: NetworkBuilder, inputs: list[SSAValue]) -> SSAValue:
    indices = b.add(nn.ConstantOp(np.array([[0, 1], [2, 2], [1, 0]], np.int64)))
    return b.add(nn.InterpolateOp(inputs[0], indices, b.weights("plain", 3, 2), 1))


def of_constants(b: NetworkBuilder, inputs: list[SSAValue]) -> SSAValue:
    """An op that no input reaches, and a constant of a lower rank."""
    fixed = b.add(nn.MulOp(b.weights("plain", 4), b.weights("plain", 5, 1)))
    return b.add(nn.SubOp(inputs[0], fixed))


IMAGE = (1, 3, 5, 4)
OPS: dict[str, tuple[Make, list[tuple[int, ...]]]] = {
    "softmax": (op(nn.SoftmaxOp, 2), [IMAGE]),
    "softmax of the batch": (op(nn.SoftmaxOp, 0), [(2, 3)]),
    "layer_norm": (normalized, [IMAGE]),
    "lrn": (op(nn.LrnOp, 3, 1e-2, 0.75, 1.0), [IMAGE]),
    "interpolate": (resampled, [IMAGE]),
    "div": (op(nn.DivOp), [IMAGE, (5, 1)]),
    "pow": (op(nn.PowOp), [IMAGE, IMAGE]),
    "maximum": (op(nn.MaximumOp), [IMAGE, (3, 1, 4)]),
    "minimum": (op(nn.MinimumOp), [(4,), IMAGE]),
    "select": (selected, [IMAGE, (1, 1, 5, 4)]),
    "integer div": (integers(nn.DivOp), [(2, 6), (6,)]),
    "integer mul": (integers(nn.MulOp), [(2, 6), (6,)]),
    "integer maximum": (integers(nn.MaximumOp), [(2, 6), (6,)]),
    "cast to i32": (cast_there_and_back(i32), [IMAGE]),
    "cast to ui8": (cast_there_and_back(ui8), [IMAGE]),
    "cast to i1": (cast_there_and_back(i1), [IMAGE]),
    "gather": (gathered, [(1, 6, 3), (1, 2)]),
    "matmul": (op(nn.MatmulOp), [(1, 2, 3, 17), (2, 17, 5)]),
    "matmul of bytes": (product_of_bytes, [(2, 3, 20), (20, 5)]),
    "matmul of many bytes": (product_of_bytes, [(1, 500), (500, 2)]),
    "transpose of the batch": (op(nn.TransposeOp, (2, 0, 1)), [(2, 3, 5)]),
    "concat of batches": (op(lambda *x: nn.ConcatOp(x, 0)), [(1, 4), (2, 4)]),
    "reshape of the batch": (op(nn.ReshapeOp, (3, 2, 10)), [IMAGE]),
    "broadcast": (op(nn.BroadcastOp, (2, 3, 5, 4)), [(3, 1, 4)]),
    "backwards": (op(nn.SliceOp, (0, 2, 4, 0), (1, 2, 3, 4), (1, -2, -1, 1)), [IMAGE]),
    "pad of a mode": (op(nn.PadOp, (0, 1, 1, 0), (0, 1, 0, 0), mode="reflect"), [IMAGE]),
    "constants": (of_constants, [IMAGE]),
    **{
        f"reduce {kind}": (op(nn.ReduceOp, kind, (0, 2)), [(2, 3, 37)])
        for kind in ("sum", "mean", "max", "min", "prod")
    },
}


@on_every_device
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("name", OPS)
def test_single_ops(device: str, name: str, runs: int) -> None:
    make, shapes = OPS[name]
    b = NetworkBuilder(shapes)
    check(named(b.module([make(b, list(b.block.args))])), device, runs)


def test_outputs_that_are_inputs_or_constants() -> None:
    b = NetworkBuilder([(1, 4)])
    check(named(b.module([b.block.args[0], b.weights("plain", 2, 3)])), "cpu", 3)


# --- types of the sums ----------------------------------------------------------------------------


def linear_network(k: int, weight: Array) -> ModuleOp:
    b = NetworkBuilder([(1, k)])
    linear = nn.LinearOp(b.block.args[0], b.constant(weight), b.constant(np.full(1, 0.5)))
    return integer(quantized(named(b.module([b.layer(linear)])), "int8"))


@on_every_device
@pytest.mark.parametrize(("k", "dtype"), [(400, "float32"), (1000, "float64")])
def test_sums_that_float32_would_round_are_made_in_float64(device: str, k: int, dtype: str) -> None:
    """All weights are 127 steps: sums reach 255 * 127 * k."""
    module = linear_network(k, np.ones((1, k), np.float32))
    (layer,) = [o for o in module.walk() if isinstance(o, qnn.QLinearOp)]
    constants = layers.layer_constants(layer, torch.device(device))
    assert constants is not None
    assert constants.weight.bound == 255 * 127 * k
    assert constants.weight.values.dtype == getattr(torch, dtype)
    check(module, device, 3)


def test_a_sum_that_could_exceed_int32_is_refused() -> None:
    b = NetworkBuilder([(1, 2)])
    x = b.add(qnn.QuantizeOp(b.block.args[0], 0.1, 0))
    weight = b.add(nn.ConstantOp(np.full((1, 2), 127, np.int8)))
    zero = b.add(nn.ConstantOp(np.zeros(1, np.int32)))
    addend = b.add(nn.ConstantOp(np.array([2**31 - 10], np.int32)))
    factor = b.add(nn.ConstantOp(np.ones(1, np.float32)))
    operands = [x, weight, zero, addend, factor]
    made = qnn.QLinearOp(operands, None, x_zero_point=0, epilogue=Epilogue())
    module = named(b.module([b.layer(made)]))
    with pytest.raises(UqfcError, match=r"qnn\.linear 'layer1': a sum could exceed int32"):
        IntegerNetwork(module)


# --- the real network -----------------------------------------------------------------------------


def pictures(name: str, count: int) -> Array:
    """Real images, float32 [count, 3, 64, 64]: doubled in size, with a border."""
    with np.load(EXAMPLE / name) as file:
        grey = file["images"][:count].astype(np.float32) / np.float32(255)
    doubled = grey.repeat(2, axis=1).repeat(2, axis=2)
    framed = np.pad(doubled, ((0, 0), (4, 4), (4, 4)))
    return np.repeat((framed - np.float32(0.286))[:, None] / np.float32(0.353), 3, axis=1)


@pytest.mark.parametrize("strategy", ["int8", "int4"])
def test_fashion_mnist_gives_the_compiled_kernels_bits(strategy: str) -> None:
    calibration, images = pictures("calibration_images.npz", 8), pictures("test_images.npz", 100)
    model = uqfc.compile(
        EXAMPLE / "mobilenet_v3_small.onnx",
        quant_strategy=strategy,
        calibration_data=list(calibration[:, None]),
    )
    for device in ("cpu", *["cuda"] * torch.cuda.is_available()):
        network = IntegerNetwork(model.network).to(device)
        (logits,) = network(torch.from_numpy(images)).values()
        found = logits.cpu().numpy()
        for image, row in zip(images[:, None], found[:, None], strict=True):
            assert same_bits(np.asarray(model(image)), row)


# --- inputs ---------------------------------------------------------------------------------------


def two_inputs() -> IntegerNetwork:
    b = NetworkBuilder([(1, 3), (2, 3)])
    return IntegerNetwork(named(b.module([b.add(nn.AddOp(*b.block.args))])))


def test_inputs_in_order_or_by_name() -> None:
    network = two_inputs()
    x, y = torch.ones(2, 3), torch.ones(4, 3)
    by_name = network({"input0": x, "input1": y})
    assert torch.equal(network(x, y)["output0"], by_name["output0"])
    assert by_name["output0"].shape == (4, 3)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (((1, 3),), r"1 input\(s\); the network takes: input0, input1"),
        (((1, 4), (2, 3)), r"'input0' is float32 \[1, 4\], the network takes float32 \[1n, 3\]"),
        (((1, 3), (3, 3)), r"'input1' is float32 \[3, 3\], the network takes float32 \[2n, 3\]"),
        (((0, 3), (2, 3)), r"'input0' is float32 \[0, 3\]"),
        (((2, 3), (2, 3)), r"the inputs are 1, 2 times the batch"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(
    inputs: tuple[tuple[int, int], ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        two_inputs()(*(torch.zeros(shape) for shape in inputs))


def test_other_names_and_types_are_refused() -> None:
    x, y = torch.zeros(1, 3), torch.zeros(2, 3)
    with pytest.raises(InputError, match="'input0' is float64"):
        two_inputs()(x.double(), y)
    with pytest.raises(InputError, match="input 'input1' is missing"):
        two_inputs()({"input0": x})


def test_an_op_without_a_meaning_is_named() -> None:
    b = NetworkBuilder([(1, 3)])
    module = with_observers(named(b.module([b.linear(b.block.args[0], 2)])))
    unknown = UnregisteredOp.with_name("mine.op").create(result_types=[tensor_type((1, 3))])
    function = main_function(module)
    first = function.body.block.first_op
    assert first is not None
    function.body.block.insert_op_before(unknown, first)
    with pytest.raises(UqfcError, match="has no meaning"):
        IntegerNetwork(module)
