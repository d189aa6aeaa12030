"""Whatever is in the file, an import ends with a module that verifies or with one clear error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, TensorProto, numpy_helper

from tests.frontend.single_op import make_model, node, normal
from tests.onnx_node.scoreboard import collect, freeze, is_tensor
from uqfc.errors import UqfcError
from uqfc.frontend import import_onnx

NUMBERS = st.sampled_from([-(2**63), -(2**31), -7, -2, -1, 0, 1, 2, 3, 5, 9, 2**31, 2**63 - 1])


def network() -> ModelProto:
    """A bit of everything."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], group=1),
        node("BatchNormalization", ["c", "b", "b", "b", "v"], ["n"], epsilon=1e-3),
        node("Clip", ["n", "lo", "hi"], ["r"]),
        node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], ceil_mode=1),
        node("QuantizeLinear", ["m", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Resize", ["d", "", "", "sizes"], ["u"], mode="linear"),
        node("ReduceMean", ["u"], ["g"], keepdims=0),
        node("Shape", ["u"], ["shape"]),
        node("Slice", ["shape", "from", "to"], ["batch"]),
        node("Concat", ["batch", "rest"], ["target"], axis=0),
        node("Reshape", ["u", "target"], ["f"]),
        node("Transpose", ["f"], ["t"], perm=[1, 0]),
        node("Gemm", ["f", "k"], ["y"], transB=1),
    ]
    constants: dict[str, Any] = {
        "w": normal(0, 4, 3, 3, 3),
        "b": normal(1, 4),
        "v": np.ones(4, np.float32),
        "k": normal(2, 5, 64),
        "lo": np.array(0, np.float32),
        "hi": np.array(6, np.float32),
        "s": np.array(0.05, np.float32),
        "z": np.array(3, np.uint8),
        "sizes": np.array([1, 4, 4, 4], np.int64),
        "from": np.array([0], np.int64),
        "to": np.array([1], np.int64),
        "rest": np.array([-1], np.int64),
    }
    return make_model(nodes, {"x": [1, 3, 8, 8]}, ["y", "g", "t"], constants)


def pick(draw: Any, items: Any) -> Any:
    """One of the messages of a model, which Hypothesis cannot compare or print well."""
    return items[draw(st.integers(0, len(items) - 1))]


def damage(model: ModelProto, draw: Any) -> None:
    """Change one thing: an attribute, an edge, a shape, a constant's values or type."""
    graph = model.graph
    target = pick(draw, graph.node)
    match draw(st.sampled_from(["attribute", "edge", "constant", "dims", "type", "input", "drop"])):
        case "attribute" if target.attribute:
            attribute = pick(draw, target.attribute)
            if attribute.type == AttributeProto.INT:
                attribute.i = draw(NUMBERS)
            elif attribute.type == AttributeProto.INTS:
                values = draw(st.lists(NUMBERS, max_size=5))
                del attribute.ints[:]
                attribute.ints.extend(values)
            elif attribute.type == AttributeProto.FLOAT:
                attribute.f = draw(st.floats(width=32))
            else:
                attribute.s = draw(st.binary(max_size=5))
        case "edge" if target.input:
            position = draw(st.integers(0, len(target.input) - 1))
            names = [o for n in graph.node for o in n.output] + [i.name for i in graph.initializer]
            target.input[position] = draw(st.sampled_from([*names, "", "x"]))
        case "constant":
            tensor = pick(draw, graph.initializer)
            dtype = draw(st.sampled_from([np.float32, np.int64, np.uint8]))
            values = np.array(draw(st.lists(NUMBERS, max_size=5)), np.int64).astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        case "dims":
            tensor = pick(draw, graph.initializer)
            dims = draw(st.lists(NUMBERS, max_size=4))
            del tensor.dims[:]
            tensor.dims.extend(dims)
        case "type":
            tensor = pick(draw, graph.initializer)
            tensor.data_type = draw(st.sampled_from(list(TensorProto.DataType.values())))
        case "input":
            shape = graph.input[0].type.tensor_type.shape
            pick(draw, shape.dim).dim_value = draw(NUMBERS)
        case _:
            graph.node.remove(target)


def outcome(model: ModelProto | bytes) -> str:
    """The message of the error that the import raises, or that it is fine."""
    try:
        import_onnx(model, source="net.onnx").verify()
    except UqfcError as error:
        return str(error)
    return "net.onnx: fine"


def test_the_network_itself_is_fine() -> None:
    assert outcome(network()) == "net.onnx: fine"


@settings(max_examples=150)
@given(st.data())
def test_damaged_models_end_in_a_clear_error(data: st.DataObject) -> None:
    model = network()
    for _ in range(data.draw(st.integers(1, 3))):
        damage(model, data.draw)
    assert outcome(model).startswith("net.onnx: ")


@settings(max_examples=100)
@given(st.integers(0), st.integers(0, 255))
def test_flipped_bytes_end_in_a_clear_error(position: int, value: int) -> None:
    data = bytearray(network().SerializeToString())
    data[position % len(data)] = value
    assert outcome(bytes(data)).startswith("net.onnx: ")


@pytest.mark.slow
def test_standard_cases_with_changed_attributes_end_in_a_clear_error() -> None:
    """Every node test of the standard with each integer attribute set to each odd value."""
    for case in collect():
        inputs = case.data_sets[0][0]
        if len(case.model.graph.node) != 1 or not all(is_tensor(v) for v in inputs):
            continue
        for position, attribute in enumerate(case.model.graph.node[0].attribute):
            for value in (-(2**40), -3, 0, 7, 2**40):
                model = ModelProto()
                model.CopyFrom(freeze(case.model, inputs, min(1, len(inputs))))
                changed = model.graph.node[0].attribute[position]
                if attribute.type == AttributeProto.INT:
                    changed.i = value
                elif attribute.type == AttributeProto.INTS and attribute.ints:
                    changed.ints[0] = value
                else:
                    continue
                assert outcome(model).startswith("net.onnx: ")
