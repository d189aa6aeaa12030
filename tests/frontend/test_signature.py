"""How dynamic dimensions become static."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from xdsl.dialects.builtin import ArrayAttr, ModuleOp

from tests.frontend.single_op import make_model, node
from uqfc.dialects.tensors import shape_of
from uqfc.errors import ModelError, UnsupportedError
from uqfc.frontend import import_onnx
from uqfc.frontend.signature import resolve_inputs
from uqfc.interpreter import main_function

Dimension = int | str | None


def relu(*shape: Dimension) -> Any:
    return make_model([node("Relu", ["x"], ["y"])], {"x": shape}, ["y"])


def add(left: list[Dimension], right: list[Dimension]) -> Any:
    return make_model([node("Add", ["a", "b"], ["y"])], {"a": left, "b": right}, ["y"])


def strings(module: ModuleOp, name: str) -> list[str]:
    attribute = main_function(module).attributes[name]
    assert isinstance(attribute, ArrayAttr)
    return [s.data for s in attribute]


def input_shapes(module: ModuleOp) -> list[tuple[int, ...]]:
    return [shape_of(a) for a in main_function(module).body.block.args]


def test_a_dynamic_batch_becomes_one_and_this_is_recorded() -> None:
    module = import_onnx(relu("batch", 3, 4))
    assert input_shapes(module) == [(1, 3, 4)]
    assert strings(module, "assumed_batch") == ["x"]


def test_a_given_batch_is_not_assumed() -> None:
    module = import_onnx(relu("batch", 3, 4), {"x": (7, 3, 4)})
    assert input_shapes(module) == [(7, 3, 4)]
    assert strings(module, "assumed_batch") == []


@pytest.mark.parametrize("name", ["height", "?", None])
def test_other_dynamic_dimensions_must_be_given(name: str | None) -> None:
    label = "dimension 2" if name is None else rf"dimension 2 \('{name if name != '?' else '.'}'\)"
    message = rf"input 'x': {label} is dynamic: .*--shape x=Nx3xN"
    with pytest.raises(ModelError, match=message):
        import_onnx(relu("n", 3, name))


def test_a_negative_one_is_dynamic() -> None:
    model = relu(1, 3)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert input_shapes(import_onnx(model)) == [(1, 3)]


def test_equal_names_are_equal_sizes() -> None:
    model = add(["n", "c"], ["n", "c"])
    assert input_shapes(import_onnx(model, {"b": (2, 5)})) == [(2, 5), (2, 5)]
    with pytest.raises(ModelError, match="input 'b': dimension 1 is 5, the given shape has 6"):
        import_onnx(model, {"a": (2, 5), "b": (2, 6)})


def test_an_assumed_batch_holds_for_all_inputs() -> None:
    model = add(["n", 4], [4, "n"])
    with pytest.raises(ModelError, match=r"input .b.: dimension 1 \(.n.\) is dynamic"):
        import_onnx(add(["m", 4], [4, "n"]))
    assert input_shapes(import_onnx(add(["n", 4], ["n", "n"]))) == [(1, 4), (1, 1)]
    assert input_shapes(import_onnx(model, {"b": (4, 4)})) == [(4, 4), (4, 4)]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3), "input 'x' has rank 3, the given shape"),
        ((1, 4, 4), "input 'x': dimension 1 is 3, the given shape has 4"),
        ((1, 3, -4), "input 'x': dimension 2 is -4, must be at least 1"),
        ((2**20, 3, 2**20), "input 'x' of shape .* takes .* bytes"),
    ],
)
def test_shapes_that_do_not_fit(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_onnx(relu("n", 3, "w"), {"x": shape})


def test_a_name_that_is_no_input() -> None:
    with pytest.raises(ModelError, match="no input 'image'; the inputs are: x"):
        import_onnx(relu(1, 2), {"image": (1, 2)})


def test_an_input_without_a_shape_needs_one() -> None:
    model = relu(1)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match=r"input 'x' has no shape: give one, e\.g\. --shape x="):
        import_onnx(model)
    assert input_shapes(import_onnx(model, {"x": (2, 3)})) == [(2, 3)]


def test_empty_and_untyped_inputs_are_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="input 'x': dimension 1 is 0: empty tensors"):
        import_onnx(relu(2, 0))
    model = relu(1)
    model.graph.input[0].CopyFrom(
        helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1])
    )
    with pytest.raises((UnsupportedError, ModelError), match="only tensors"):
        import_onnx(model)


def test_inputs_with_a_default_are_constants() -> None:
    """Files of IR version 3 list every initializer as an input, too."""
    weight = {"w": np.ones((3, 4), np.float32)}
    model = make_model(
        [node("MatMul", ["x", "w"], ["y"])], {"x": [2, 3], "w": [3, 4]}, ["y"], weight
    )
    assert strings(import_onnx(model), "input_names") == ["x"]


@pytest.mark.parametrize(("declared", "fits"), [([2, 3], True), (["n", 3], True), ([2, 4], False)])
def test_declared_outputs_are_checked(declared: list[Dimension], fits: bool) -> None:
    model = relu(2, 3)
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, declared)
    model.graph.output[0].CopyFrom(info)
    if fits:
        import_onnx(model)
        return
    with pytest.raises(ModelError, match=r"output 'y' is declared as \[2, 4\], .* \[2, 3\]"):
        import_onnx(model)


def test_declared_output_types_are_checked() -> None:
    model = relu(2, 3)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ModelError, match=r"output 'y' is declared as int64, but .* f32"):
        import_onnx(model)


def test_wider_and_narrower_types_are_recorded() -> None:
    types = {"x": TensorProto.FLOAT16, "y": TensorProto.FLOAT16}
    constants = {"c": np.ones(3, np.float16)}
    model = make_model([node("Add", ["x", "c"], ["y"])], {"x": [3]}, ["y"], constants, types=types)
    assert strings(import_onnx(model), "retyped") == [
        "input x: float16 as f32",
        "constants: float16 as f32",
        "output y: float16 as f32",
    ]


@given(
    st.lists(st.integers(1, 4) | st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4),
    st.data(),
)
def test_given_sizes_resolve_every_dimension(
    dimensions: list[Dimension], data: st.DataObject
) -> None:
    sizes = {n: data.draw(st.integers(1, 9)) for n in "abc"}
    wanted = tuple(sizes[d] if isinstance(d, str) else int(d or 0) for d in dimensions)
    model = add(dimensions, dimensions[::-1])
    signature = resolve_inputs(list(model.graph.input), {"a": wanted}, "model")
    assert signature.shapes == {"a": wanted, "b": wanted[::-1]}
    assert signature.assumed_batch == ()
