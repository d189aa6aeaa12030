"""Whole models, and errors that list everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load_tensor
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.func import Func
from xdsl.parser import Parser

from tests.frontend.single_op import expected, interpreted, make_model, node, normal
from tests.models import catalog
from uqfc.dialects import nn
from uqfc.dialects.quant import Quant
from uqfc.errors import ModelError, UnsupportedError
from uqfc.frontend import import_onnx
from uqfc.interpreter import Interpreter, input_names, main_function

LIGHT = sorted(catalog.light_models().items())


def test_every_unsupported_node_is_listed() -> None:
    nodes = [
        node("Einsum", ["x"], ["a"], equation="ij->ji"),
        node("Relu", ["a"], ["b"]),
        node("NonZero", ["b"], ["c"]),
        node("Mystery", ["x"], ["d"], domain="my.ops"),
        node("Resize", ["x", "", "s"], ["e"], antialias=1, mode="linear"),
    ]
    constants = {"s": np.array([1, 2], np.float32)}
    types = {"c": TensorProto.INT64}
    outputs = ["c", "d", "e"]
    model = make_model(nodes, {"x": [3, 4]}, outputs, constants, types=types)
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(model, source="mine.onnx")
    names = [(n.op, n.name) for n in caught.value.nodes]
    assert names == [
        ("Einsum", "a_node"),
        ("NonZero", "c_node"),
        ("Mystery", "d_node"),
        ("Resize", "e_node"),
    ]
    assert "mine.onnx: 4 unsupported node(s)" in str(caught.value)
    assert "Mystery 'd_node': no converter for this op of domain 'my.ops'" in str(caught.value)


def test_subgraphs_are_unsupported() -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    branch.output[0].type.tensor_type.shape.SetInParent()
    choice = node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    types = {"c": TensorProto.BOOL}
    model = make_model([choice], {"x": [3], "c": []}, ["y"], types=types)
    with pytest.raises(UnsupportedError, match="If 'y_node': no converter"):
        import_onnx(model)


def test_shapes_that_do_not_fit_name_the_node() -> None:
    model = make_model([node("Add", ["x", "b"], ["y"])], {"x": [3, 4], "b": [5]}, ["y"])
    with pytest.raises(ModelError, match=r"net\.onnx: Add 'y_node': shapes .* do not broadcast"):
        import_onnx(model, source="net.onnx")


def test_nodes_without_a_name_are_called_by_their_output_and_names_are_unique() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"], name="twice"),
        helper.make_node("Abs", ["b"], ["y"], name="twice"),
    ]
    module = import_onnx(make_model(nodes, {"x": [3]}, ["y"]))
    layers = [nn.layer_name(op) for op in main_function(module).body.block.ops]
    assert layers == ["a", "twice", "twice#2", ""]


def test_values_named_by_numbers_have_names_that_can_be_copied() -> None:
    """Passes give the name of what they replace to what replaces it."""
    nodes = [node("Relu", ["x"], ["1"]), node("Neg", ["1"], ["/2"]), node("Abs", ["/2"], ["y.3"])]
    block = main_function(import_onnx(make_model(nodes, {"x": [3]}, ["y.3"]))).body.block
    hints = [op.results[0].name_hint for op in block.ops if op.results]
    assert hints == ["v1", "v", "y"]


def test_a_graph_that_only_passes_on() -> None:
    nodes = [node("Identity", ["x"], ["y"]), node("Dropout", ["c"], ["z"])]
    constants = {"c": normal(0, 2)}
    model = make_model(nodes, {"x": [3]}, ["y", "z"], constants)
    x = normal(1, 3)
    passed, constant = interpreted(model, {"x": x})
    np.testing.assert_array_equal(passed, x)
    np.testing.assert_array_equal(constant, constants["c"])


def test_the_module_can_be_printed_and_parsed() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"], group=2, pads=[1, 1, 1, 1]),
        node("QuantizeLinear", ["a", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Clip", ["d", "lo", "hi"], ["y"]),
    ]
    constants = {
        "w": normal(0, 4, 1, 3, 3),
        "s": np.array(0.05, np.float32),
        "z": np.array(3, np.uint8),
        "lo": np.array(0, np.float32),
        "hi": np.array(6, np.float32),
    }
    module = import_onnx(make_model(nodes, {"x": [1, 2, 5, 5]}, ["y"], constants))
    context = Context()
    for dialect in (Builtin, Func, nn.Nn, Quant):
        context.load_dialect(dialect)
    parsed = Parser(context, str(module)).parse_module()
    parsed.verify()
    assert parsed.is_structurally_equivalent(module)


def test_no_model_is_changed_by_its_import_twice() -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {"x": [3]}, ["y"])
    assert str(import_onnx(model)) == str(import_onnx(model))


@pytest.mark.models
@pytest.mark.parametrize(("name", "path"), LIGHT, ids=[n for n, _ in LIGHT])
def test_light_models_compute_their_stored_outputs(name: str, path: Path) -> None:
    module = import_onnx(path)
    (input_name,) = input_names(main_function(module))
    interpreter = Interpreter(fast_float=True)
    (actual,) = interpreter.run(module, {input_name: catalog.light_input()}).values()
    stored = path.with_name(f"light_{name}_output_0.pb")
    wanted = load_tensor(str(stored))
    from onnx import numpy_helper

    # The tolerances with which the ONNX standard's own runner compares these models.
    np.testing.assert_allclose(actual, numpy_helper.to_array(wanted), rtol=1e-3, atol=1e-7)


@pytest.mark.models
def test_the_pretrained_classifier_agrees_with_onnx_runtime() -> None:
    path = catalog.ppocr_model()
    if path is None:
        pytest.skip("rapidocr-onnxruntime is not installed")
    import onnx

    x = np.clip(normal(0, *catalog.PPOCR_INPUT_SHAPE), -1, 1)
    module = import_onnx(path, {"x": x.shape})
    (actual,) = Interpreter(fast_float=True).run(module, {"x": x}).values()
    (wanted,) = expected(onnx.load_model(str(path)), {"x": x})
    # Probabilities, at most 1: 50 layers whose sums (k <= 500) are rounded in another order, each
    # by sqrt(k) * 2**-24 = 1.3e-6 of its size as errors of both signs add, and sqrt(50) of those.
    np.testing.assert_allclose(actual, wanted, atol=1e-5)
