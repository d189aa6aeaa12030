"""FP8 from a float model to the binary: on a device that has nothing else, and next to INT8."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

import uqfc
from tests.networks import NetworkBuilder, integer, named, quantized
from tests.onnx_models import IMAGE, quantized_perceptron, residual_network, samples
from tests.passes.graphs import random_inputs, same_bits
from uqfc.cli import app
from uqfc.codegen.isa import isa_for
from uqfc.dialects import nn
from uqfc.dialects.tensors import shape_of
from uqfc.errors import FallbackError, TargetError, UqfcError
from uqfc.model import CompiledModel, build
from uqfc.targets import load_target, missing_cpu_features

TARGETS = ("avx512-vnni", "x86-64-v3", "x86-64", "fp8_only")
DTYPES = ("fp8_e4m3", "fp8_e5m2")
LAYER_OPS = (nn.Conv2dOp, nn.LinearOp)
LAYERS = ("stem", "depthwise", "pointwise", "head")
on_every_target = pytest.mark.parametrize("target", TARGETS)


def skip_unless_runnable(target: str) -> None:
    missing = missing_cpu_features(load_target(target))
    if missing:
        pytest.skip(f"this CPU lacks {', '.join(missing)}, which {target} needs")


def compiled(strategy: str, target: str, **options: Any) -> CompiledModel:
    return uqfc.compile(
        residual_network(),
        target=target,
        quant_strategy=strategy,
        calibration_data=samples(IMAGE),
        **options,
    )


def layers(model: CompiledModel) -> dict[str, Any]:
    return {layer.name: layer for layer in model.layers if layer.weight_dtype is not None}


def check_bits(model: CompiledModel) -> None:
    for x in samples(IMAGE, 3, seed=7):
        expected = model.reference({"image": x})
        assert same_bits(expected["logits"], model.run({"image": x})["logits"])


# --- a device without integers --------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["mixed_int4_int8", "int4", "int8", "ternary", "binary"])
def test_integers_become_fp8_where_there_are_none(strategy: str) -> None:
    model = compiled(strategy, "fp8_only")
    requested = "int4" if strategy == "mixed_int4_int8" else strategy
    found = layers(model)
    assert tuple(found) == LAYERS
    for layer in found.values():
        assert (layer.requested, layer.chosen) == (requested, "fp8_e4m3")
        assert layer.reason == "unsupported_by_target"
        assert layer.activation_dtype == "fp8_e4m3"
        assert layer.op.startswith("qnn.float8_")
        assert layer.kernel.startswith("e4m3_e4m3_")
    for layer in model.layers:
        assert layer.activation_dtype in ("fp8_e4m3", "float32")
    for op in model.info["uqr"]["ops"]:
        assert op["weight_quant"]["dtype"] == "fp8_e4m3"
        assert op.get("activation_quant", {"dtype": "fp8_e4m3"})["dtype"] == "fp8_e4m3"
    check_bits(model)


def test_strict_lists_every_layer() -> None:
    with pytest.raises(FallbackError) as error:
        compiled("mixed_int4_int8", "fp8_only", strict=True)
    for name in LAYERS:
        assert f"{name}: requested int4, got fp8_e4m3 (unsupported_by_target)" in str(error.value)


def test_strict_on_the_command_line(tmp_path: Any) -> None:
    model, data = tmp_path / "net.onnx", tmp_path / "data.npz"
    model.write_bytes(residual_network().SerializeToString())
    np.savez(data, image=np.concatenate(samples(IMAGE)))
    arguments = ["compile", str(model), "--target", "fp8_only", "--calibrate", str(data)]
    arguments += ["--quant-strategy", "mixed_int4_int8", "-o", str(tmp_path / "net.o"), "--strict"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, FallbackError)


def test_a_model_of_integers_is_refused() -> None:
    message = "target fp8_only has no integers, but layer '.*' came with int4 weights"
    with pytest.raises(TargetError, match=message):
        uqfc.compile(quantized_perceptron(), target="fp8_only")


def test_a_device_without_fp8_uses_int8() -> None:
    for layer in layers(compiled("fp8_e5m2", "edge_device_v2")).values():
        assert (layer.requested, layer.chosen) == ("fp8_e5m2", "int8")
        assert layer.reason == "unsupported_by_target"


# --- on CPUs --------------------------------------------------------------------------------------


@on_every_target
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layer_gets_what_was_asked_for(dtype: str, target: str) -> None:
    skip_unless_runnable(target)
    model = compiled(dtype, target, strict=True)
    short, isa = dtype.removeprefix("fp8_"), isa_for(load_target(target)).name
    kernels = {name: layer.kernel for name, layer in layers(model).items()}
    for name, op in zip(LAYERS, ("conv", "dwconv", "gemm", "gemm"), strict=True):
        assert layers(model)[name].chosen == dtype
        assert kernels[name].startswith(f"e4m3_{short}_{op}_")
        assert kernels[name].endswith(f"__{isa}")
    check_bits(model)


def test_every_target_gives_the_same_bits() -> None:
    models = [compiled("fp8_e4m3", target) for target in TARGETS]
    (x,) = samples(IMAGE, 1, seed=8)
    assert len({m.reference({"image": x})["logits"].tobytes() for m in models}) == 1


def large_network() -> ModuleOp:
    """Layers of several tiles, and of rows, columns and channels that do not fill the last."""
    b = NetworkBuilder([(1, 13, 11, 40)], seed=1)

    def conv(x: SSAValue, outputs: int, kernel: int, **options: Any) -> SSAValue:
        inputs = shape_of(x)[-1] // options.get("groups", 1)
        weight = b.weights("plain", outputs, kernel, kernel, inputs)
        bias = b.constant(b.random.standard_normal(outputs))
        return b.layer(nn.Conv2dOp(x, weight, bias, **options))

    around = (1, 1, 1, 1)
    wide = conv(b.block.args[0], 70, 3, padding=around, activation=nn.fn("hard_swish"))
    small = conv(wide, 50, 1, strides=(2, 2))
    deep = conv(small, 50, 3, padding=around, groups=50, activation=nn.fn("relu"))
    grouped = conv(deep, 34, 3, padding=around, groups=2)
    y = conv(grouped, 50, 1, residual=small)
    rows = b.add(nn.ReshapeOp(y, (42, 50)))
    return named(b.module([b.linear(rows, 17), grouped]))


def test_weights_take_a_byte_each() -> None:
    """Multipliers are as many bytes as biases."""
    exact = large_network()
    taps = [np.prod(shape_of(op.weight)) for op in exact.walk() if isinstance(op, LAYER_OPS)]
    biases = [shape_of(op.weight)[0] * 4 for op in exact.walk() if isinstance(op, LAYER_OPS)]
    network = integer(quantized(exact, "fp8_e4m3"))
    model = build(network, load_target("x86-64"), "x86-64", "network", "fp8_e4m3")
    constants = [c for c in network.walk() if isinstance(c, nn.ConstantOp)]
    assert sum(c.array.nbytes for c in constants) == sum(taps) + 2 * sum(biases)
    aligned = 64 * len(constants)
    assert len(model.weights) <= sum(taps) + 2 * sum(biases) + aligned


@on_every_target
@pytest.mark.parametrize("dtype", DTYPES)
def test_layers_of_several_tiles(dtype: str, target: str) -> None:
    skip_unless_runnable(target)
    network = integer(quantized(large_network(), dtype))
    model = build(network, load_target(target), target, "network", dtype)
    names = [layer.kernel or "" for layer in model.layers if layer.weight_dtype is not None]
    short = dtype.removeprefix("fp8_")
    ops = [name.removeprefix(f"e4m3_{short}_").partition("_")[0] for name in names]
    assert ops == ["conv", "conv", "dwconv", "conv", "gemm", "gemm"]
    inputs = random_inputs(network)
    expected, actual = model.reference(inputs), model.run(inputs)
    assert all(same_bits(expected[name], actual[name]) for name in expected)


def test_next_to_integers_and_floats() -> None:
    """A value that layers of different types read is rounded for each."""
    widths = {"stem": "fp8_e4m3", "depthwise": "int8", "pointwise": "fp8_e5m2", "head": "float32"}
    model = compiled("int8", "x86-64", bit_widths=widths)
    assert {name: layer.chosen for name, layer in layers(model).items()} == widths
    assert {name: layers(model)[name].activation_dtype for name in LAYERS} == {
        "stem": "fp8_e4m3",
        "depthwise": "uint8",
        "pointwise": "fp8_e4m3",
        "head": "float32",
    }
    check_bits(model)


def test_the_answer_stays_near() -> None:
    """Not the contract, but a wrong scale anywhere would not pass: uncorrelated logits differ by
    twice their power; a mantissa of 3 bits loses 2**-9 of it per rounding at most."""
    model, exact = compiled("fp8_e4m3", "x86-64"), compiled("float32", "x86-64")
    images = samples(IMAGE, 16, seed=9)
    a = np.concatenate([model.run({"image": x})["logits"] for x in images]).astype(np.float64)
    b = np.concatenate([exact.run({"image": x})["logits"] for x in images]).astype(np.float64)
    assert np.sum((a - b) ** 2) < 0.02 * np.sum(b**2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"symmetric": False}, "layer 'stem': fp8_e4m3 weights are symmetric"),
        ({"granularity": "block"}, "weight granularity 'per_block'"),
    ],
)
def test_options_that_fp8_weights_do_not_have(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UqfcError, match=message):
        compiled("fp8_e4m3", "x86-64", weight_quant=options)


def test_one_scale_for_the_tensor() -> None:
    model = compiled("fp8_e4m3", "x86-64", weight_quant={"granularity": "tensor"}, strict=True)
    for op in model.info["uqr"]["ops"]:
        assert op["weight_quant"]["granularity"] == "per_tensor"
    check_bits(model)
