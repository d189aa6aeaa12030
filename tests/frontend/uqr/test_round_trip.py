"""What ``write_uqr`` writes is read back as the same integer network, to the bit."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from xdsl.dialects.builtin import ModuleOp
from xdsl.rewriter import Rewriter

from tests.frontend.uqr import models
from tests.networks import (
    STORAGES,
    STRATEGIES,
    STYLES,
    RangeStyle,
    awkward_inputs,
    networks,
    quantized,
    run,
    with_given_weights,
)
from tests.passes.graphs import graphs, random_inputs, same_bits
from uqfc.dialects import nn
from uqfc.dialects.qnn import Float8LayerOp, IntegerLayerOp
from uqfc.dialects.quant import QcastOp, UniformType, uniform_of
from uqfc.dialects.tensors import shape_of, tensor_type
from uqfc.frontend import read_onnx
from uqfc.frontend.uqr import write_uqr
from uqfc.interpreter import Interpreter
from uqfc.pipeline import graph_passes, integer_passes


def fused(module: ModuleOp) -> ModuleOp:
    """After the graph passes, again and again: one run may leave something for the next."""
    before = ""
    while before != str(module):
        before = str(module)
        run(module, *graph_passes())
    return module


@st.composite
def fused_networks(draw: st.DrawFn) -> ModuleOp:
    """A quantized network whose quantize points were placed after fusion, as the compiler does."""
    module = fused(draw(networks()))
    kind = draw(st.sampled_from([*STRATEGIES, "file"]))
    if kind == "file":
        return with_given_weights(module, draw(st.sampled_from(sorted(STORAGES))))
    styles = draw(st.lists(st.sampled_from(STYLES), min_size=1, max_size=4))
    return quantized(module, kind, styles)


def layers_of(network: ModuleOp) -> list[tuple[str, list[bytes]]]:
    """The quantized layers in order: their text without names of values, and their constants.

    Parameters of functions are float32 wherever they are used; the IR may hold more digits.
    """
    found: list[tuple[str, list[bytes]]] = []
    for op in network.walk():
        if isinstance(op, IntegerLayerOp | Float8LayerOp):
            text = re.sub(r"#nn\.fn<[^>]*>", lambda part: as_float32(part.group()), str(op))
            constants = [v.owner for v in op.operands if isinstance(v.owner, nn.ConstantOp)]
            found.append((re.sub(r"%[\w.$-]+", "%", text), [c.array.tobytes() for c in constants]))
    return found


def as_float32(text: str) -> str:
    """The text with every number rounded to float32."""
    return re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: str(np.float32(number.group())), text)


def read_back(module: ModuleOp) -> ModuleOp:
    return run(read_onnx(write_uqr(module)).convert(), *graph_passes())


def assert_same_results(module: ModuleOp, other: ModuleOp) -> None:
    for inputs in (random_inputs(module, 1), awkward_inputs(module)):
        expected, actual = (Interpreter().run(m, inputs) for m in (module, other))
        assert list(expected) == list(actual)
        for name, array in expected.items():
            assert same_bits(array, actual[name]), f"{name}\n{module}\n{other}"


@settings(max_examples=25)
@given(fused_networks())
def test_the_integer_network_is_the_same(module: ModuleOp) -> None:
    onnx.checker.check_model(onnx.load_from_string(write_uqr(module)), full_check=True)
    expected, actual = (run(m, *integer_passes()) for m in (module.clone(), read_back(module)))
    assert_same_results(expected, actual)
    assert layers_of(actual) == layers_of(expected)


@settings(max_examples=10)
@given(networks(), st.sampled_from(["fp8_e4m3", "fp8_e5m2"]), st.sampled_from(STYLES))
def test_so_is_one_of_8_bit_floats(network: ModuleOp, strategy: str, style: RangeStyle) -> None:
    """In ONNX's own types: float8e4m3fn and float8e5m2 in QuantizeLinear and DequantizeLinear.

    Layers have the same codes and multipliers; two clamps behind one may become one activation.
    """
    module = quantized(fused(network), strategy, [style])
    written = onnx.load_from_string(write_uqr(module))
    onnx.checker.check_model(written, full_check=True)
    types = {t.data_type for t in written.graph.initializer if t.name.endswith("zero_point")}
    assert types <= {TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2}
    expected, actual = (run(m, *integer_passes()) for m in (module.clone(), read_back(module)))
    assert_same_results(expected, actual)
    constants = [[c for _, c in layers_of(network)] for network in (actual, expected)]
    assert constants[0] == constants[1]


@settings(max_examples=25)
@given(graphs())
def test_float_graphs_compute_the_same(module: ModuleOp) -> None:
    result = fused(module)
    assert_same_results(result, read_back(result))


def with_ranges(module: ModuleOp, limits: tuple[int, int]) -> ModuleOp:
    """A copy whose activations have integers of this range only, where they are integers."""
    copy = module.clone()
    for op in copy.walk():
        if isinstance(op, QcastOp):
            params = uniform_of(op.result)
            if params.float8 is not None:
                continue
            zero = min(max(params.zero_points[0], limits[0]), limits[1])
            changed = replace(params, qmin=limits[0], qmax=limits[1], zero_points=(zero,))
            kind = tensor_type(shape_of(op.x), UniformType(changed))
            Rewriter.replace_value_with_new_type(op.result, kind)
    copy.verify()
    return copy


@settings(max_examples=6)
@given(fused_networks(), st.sampled_from([(0, 15), (1, 255), (0, 127), (3, 9)]))
def test_ranges_of_activations_come_back(module: ModuleOp, limits: tuple[int, int]) -> None:
    narrow = with_ranges(module, limits)
    expected, actual = (run(m, *integer_passes()) for m in (narrow.clone(), read_back(narrow)))
    assert_same_results(expected, actual)
    assert layers_of(actual) == layers_of(expected)


def test_four_bit_activations_have_a_type_that_says_so() -> None:
    narrow = with_ranges(models.module(), (0, 15))
    graph = onnx.load_from_string(write_uqr(narrow)).graph
    zero_points = {n.input[2] for n in graph.node if n.op_type == "QuantizeLinear"}
    types = {t.data_type for t in graph.initializer if t.name in zero_points}
    assert types == {onnx.TensorProto.UINT4}
