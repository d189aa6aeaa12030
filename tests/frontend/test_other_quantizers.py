"""Models that other tools quantized: they become integer networks, and ONNX Runtime agrees.

Each model is cut into one piece per quantized tensor, and both sides get the same random integers,
so that no piece sees what another one rounded. Both compute one real value, uqfc from an exact sum,
ONNX Runtime in float32. In units of a layer's sum (input scale times weight scale) they differ by

- half a unit, as uqfc rounds the bias to one;
- ``27 * 3 * 2**-8``: at most 27 terms below 2**16 units, each from 3 roundings of 2**-24;
- ``27 * 2**-4``: as many additions, whose results stay below ``27 * 2**16 < 2**21`` units,

less than 4 units together, and in the head, with 8 terms, less than 1. ``steps_of_a_unit`` is below
1/4, which is asserted: the values that are rounded are less than one step apart, and so the
integers are equal, or one step apart where a tie lies between. Other ops are a few float32
operations on values of at most 255 steps, 2**-16 steps each.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, shape_inference
from onnx.utils import Extractor
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from xdsl.dialects.builtin import ModuleOp

import uqfc
from tests.onnx_models import IMAGE, residual_network, samples
from tests.passes.graphs import same_bits
from uqfc.dialects import nn
from uqfc.dialects.qnn import IntegerLayerOp
from uqfc.dialects.tensors import Array, element_of, ui8
from uqfc.frontend import read_onnx
from uqfc.interpreter import Interpreter
from uqfc.passes.select_bit_width import Decision, Reason, decision_of
from uqfc.passes.support.quantizable import LAYERS
from uqfc.pipeline import graph_passes, integer_passes, run_passes

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.onnx"))
INTEGERS: dict[int, Any] = {TensorProto.UINT8: np.uint8, TensorProto.INT8: np.int8}
RUNS = 5

U8, S8, U4, S4 = QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt4, QuantType.QInt4
OPTIONS: dict[str, dict[str, Any]] = {
    "u8 s8": {"activation_type": U8, "weight_type": S8},
    "u8 s8 channels": {"activation_type": U8, "weight_type": S8, "per_channel": True},
    "u8 u8 channels": {"activation_type": U8, "weight_type": U8, "per_channel": True},
    "s8 s8 channels": {"activation_type": S8, "weight_type": S8, "per_channel": True},
    "u8 s4 channels": {"activation_type": U8, "weight_type": S4, "per_channel": True},
    "u8 u4": {"activation_type": U8, "weight_type": U4},
    "s8 u4 channels": {"activation_type": S8, "weight_type": U4, "per_channel": True},
    "symmetric": {
        "activation_type": S8,
        "weight_type": S8,
        "per_channel": True,
        "extra_options": {"ActivationSymmetric": True},
    },
    "7 bits": {"activation_type": U8, "weight_type": S8, "reduce_range": True},
    "pairs for each reader": {
        "activation_type": U8,
        "weight_type": S8,
        "extra_options": {"DedicatedQDQPair": True, "QDQKeepRemovableActivations": True},
    },
}


class Samples(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = iter([{"image": x} for x in samples(IMAGE, 8)])

    def get_next(self) -> dict[str, Array] | None:  # pyright: ignore[reportIncompatibleMethodOverride] # None ends
        return next(self.left, None)


def quantized(folder: Path, **options: Any) -> onnx.ModelProto:
    """``residual_network`` as ONNX Runtime's static quantizer leaves it."""
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(residual_network(), source)
    how: dict[str, Any] = {"quant_format": QuantFormat.QDQ, **options}
    quantize_static(source, target, Samples(), **how)
    return onnx.load(target)


def integer_network(model: onnx.ModelProto) -> ModuleOp:
    module = read_onnx(model).convert()
    run_passes(module, [*graph_passes(), *integer_passes()])
    return module


def onnx_runtime(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """What the ONNX specification says: op by op."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def pieces(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """The model from quantized tensors, and its input, to the next quantized tensor or output."""
    inferred = shape_inference.infer_shapes(model, strict_mode=True)
    graph = inferred.graph
    made = {name for node in graph.node for name in node.output}
    boundaries = [
        value.name
        for value in graph.value_info
        if value.type.tensor_type.elem_type in INTEGERS and value.name in made
    ]
    sources = [*(value.name for value in graph.input), *boundaries]
    for name in [*boundaries, *(value.name for value in graph.output)]:
        reached = inputs_of(graph, name, set(sources) - {name})
        yield Extractor(inferred).extract_model(reached, [name])


def inputs_of(graph: onnx.GraphProto, name: str, sources: set[str]) -> list[str]:
    """Those of ``sources`` that ``name`` is computed from without passing another of them."""
    makers = {output: node for node in graph.node for output in node.output}
    found: dict[str, None] = {}
    pending = [name]
    while pending:
        value = pending.pop()
        if value in sources:
            found[value] = None
        elif value in makers:
            pending += makers[value].input
    return list(found)


def random_inputs(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        if kind.elem_type in INTEGERS:
            limits = np.iinfo(INTEGERS[kind.elem_type])
            drawn = random.integers(limits.min, limits.max + 1, shape)
            inputs[value.name] = drawn.astype(INTEGERS[kind.elem_type])
        else:
            inputs[value.name] = random.standard_normal(shape).astype(np.float32)
    return inputs


def steps_of_a_unit(module: ModuleOp) -> float:
    """The largest unit of the sums of the piece's layer, in units of its result: steps, or 1."""
    largest = 0.0
    for op in module.walk():
        if isinstance(op, IntegerLayerOp):
            multiplier, e = op.multiplier.owner, op.epilogue.data
            assert isinstance(multiplier, nn.ConstantOp)
            over = e.reciprocal if element_of(op.result) == ui8 and e.activation else 1.0
            largest = max(largest, float(multiplier.array.max()) * over)
    return largest


def check_pieces(model: onnx.ModelProto) -> None:
    differing = total = 0
    for piece in pieces(model):
        module, session = integer_network(piece), onnx_runtime(piece)
        for seed in range(RUNS):
            inputs = random_inputs(piece, seed)
            (found,) = Interpreter().run(module, inputs).values()
            (expected,) = (np.asarray(y) for y in session.run(None, inputs))
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            error = np.abs(found.astype(np.float64) - expected)
            if found.dtype == np.float32:
                assert error.max() <= steps_of_a_unit(module), piece.graph.output[0].name
                continue
            assert steps_of_a_unit(module) < 1 / 4
            assert error.max() <= 1, piece.graph.output[0].name
            differing += np.count_nonzero(error)
            total += error.size
    assert differing <= total / 100  # ties are rare


def check_network(model: onnx.ModelProto, weights: str) -> None:
    """All layers run on integers, and the kernels give what the interpreter gives."""
    compiled = uqfc.compile(model, target="x86-64", strict=True, cache=False)
    layers = [op for op in compiled.network.walk() if isinstance(op, IntegerLayerOp)]
    assert {decision_of(op) for op in layers} == {Decision(weights, weights, Reason.REQUESTED)}
    assert len(layers) == 4
    assert not any(isinstance(op, LAYERS) for op in compiled.network.walk())
    for image in samples(IMAGE, 3, seed=7):
        inputs = {"image": image}
        expected, found = compiled.reference(inputs), compiled.run(inputs)
        assert all(same_bits(expected[name], found[name]) for name in expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_onnx_runtimes_static_quantizer(name: str, tmp_path: Path) -> None:
    model = quantized(tmp_path, **OPTIONS[name])
    check_network(model, "int4" if OPTIONS[name]["weight_type"] in (U4, S4) else "int8")
    check_pieces(model)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_nncf_and_pt2e(path: Path) -> None:
    """Made by the scripts beside the files."""
    model = onnx.load(path)
    check_network(model, "int8")
    check_pieces(model)


def test_the_fixtures_are_there() -> None:
    names = [path.stem for path in FIXTURES]
    assert names == ["nncf_mixed", "nncf_performance", "pt2e_x86", "pt2e_xnnpack"]


@pytest.mark.parametrize("weights", [U8, S8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_operator_form(weights: QuantType, per_channel: bool, tmp_path: Path) -> None:
    """On these images no tie is crossed on the way, so that the last result is off by a step at
    most."""
    options: dict[str, Any] = {
        "activation_type": U8,
        "weight_type": weights,
        "per_channel": per_channel,
    }
    model = quantized(tmp_path, quant_format=QuantFormat.QOperator, **options)
    check_network(model, "int8")
    module, session = integer_network(model), onnx_runtime(model)
    last = next(n for n in model.graph.node if n.output[0] == "logits")
    assert last.op_type == "DequantizeLinear"
    scales = [t for t in model.graph.initializer if t.name == last.input[1]]
    (step,) = (float(onnx.numpy_helper.to_array(t)) for t in scales)
    for image in samples(IMAGE, RUNS, seed=3):
        (expected,) = session.run(None, {"image": image})
        found = Interpreter().run(module, {"image": image})["logits"]
        assert np.abs(found - expected).max() <= step * (1 + 2.0**-20)
