"""Moves with parameters from NumPy's point of view, and shape arithmetic that disappears."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper
from xdsl.dialects.builtin import ModuleOp

from tests.frontend.single_op import check_same, interpreted, make_model, node, normal
from uqfc.errors import ModelError
from uqfc.frontend import import_onnx
from uqfc.frontend.onnx_ops.movement import reshaped
from uqfc.interpreter import main_function

FEWER = settings(max_examples=60)


def op_names(module: ModuleOp) -> list[str]:
    return [op.name for op in main_function(module).body.block.ops]


def integers(values: Sequence[int]) -> Any:
    return np.array(values, np.int64)


@FEWER
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
def test_slice(data: st.DataObject, shape: tuple[int, ...]) -> None:
    axes = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    starts = [data.draw(st.integers(-9, 9)) for _ in axes]
    ends = [data.draw(st.integers(-9, 9)) for _ in axes]
    steps = [data.draw(st.sampled_from([-2, -1, 1, 2, 3])) for _ in axes]
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    picks = [slice(None)] * len(shape)
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        picks[axis] = slice(*bounds)
    wanted = x[tuple(picks)]
    if wanted.size == 0:
        return
    names = ("starts", "ends", "axes", "steps")
    values = (starts, ends, [a - len(shape) for a in axes], steps)
    constants = {n: integers(v) for n, v in zip(names, values, strict=True)}
    model = make_model([node("Slice", ["x", *names], ["y"])], {"x": shape}, ["y"], constants)
    np.testing.assert_array_equal(interpreted(model, {"x": x})[0], wanted)


@FEWER
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=5))
def test_pad(data: st.DataObject, shape: tuple[int, ...]) -> None:
    mode = data.draw(st.sampled_from(["constant", "reflect", "edge", "wrap"]))
    largest = [n - 1 for n in shape]
    low = [data.draw(st.integers(0, m)) for m in largest]
    high = [data.draw(st.integers(0, m)) for m in largest]
    x = normal(0, *shape)
    constants = {"p": integers([*low, *high])}
    model = make_model([node("Pad", ["x", "p"], ["y"], mode=mode)], {"x": shape}, ["y"], constants)
    untyped: Any = np.pad
    wanted = untyped(x, list(zip(low, high, strict=True)), mode=mode)
    np.testing.assert_array_equal(interpreted(model, {"x": x})[0], wanted)


def test_negative_pads_cut() -> None:
    x = normal(0, 4, 6)
    constants = {"p": integers([-1, 2, 0, -3]), "v": np.array(7, np.float32)}
    model = make_model([node("Pad", ["x", "p", "v"], ["y"])], {"x": x.shape}, ["y"], constants)
    wanted = np.pad(x[1:, :-3], [(0, 0), (2, 0)], constant_values=7)
    np.testing.assert_array_equal(interpreted(model, {"x": x})[0], wanted)


@given(hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), st.data())
def test_reshape_resolves_zeros_and_the_rest(shape: tuple[int, ...], data: st.DataObject) -> None:
    request = list(shape)
    copied = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    for axis in copied:
        request[axis] = 0
    open_axis = data.draw(st.integers(0, len(shape) - 1))
    if open_axis not in copied:
        request[open_axis] = -1
    assert tuple(reshaped(shape, request, False)) == shape


@pytest.mark.parametrize("request_", [[-1, -1], [5], [2, 2, 0, 0], [-2, 3], [4, -1]])
def test_reshapes_that_are_impossible(request_: list[int]) -> None:
    with pytest.raises(ModelError):
        reshaped((2, 3), request_, False)


@FEWER
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), st.integers(-3, 2))
def test_split_and_concat_are_inverse(
    data: st.DataObject, shape: tuple[int, ...], axis: int
) -> None:
    axis = axis % len(shape)
    cut = data.draw(st.integers(0, shape[axis]))
    if cut in (0, shape[axis]):
        return
    sizes = integers([cut, shape[axis] - cut])
    nodes = [
        node("Split", ["x", "s"], ["a", "b"], axis=axis),
        node("Concat", ["a", "b"], ["y"], axis=axis - len(shape)),
    ]
    x = normal(0, *shape)
    model = make_model(nodes, {"x": shape}, ["y", "a"], {"s": sizes})
    whole, part = interpreted(model, {"x": x})
    np.testing.assert_array_equal(whole, x)
    np.testing.assert_array_equal(part, np.split(x, [cut], axis)[0])


@pytest.mark.parametrize(("size", "count"), [(6, 3), (7, 3), (5, 4)])
def test_split_into_a_number_of_parts(size: int, count: int) -> None:
    names = [f"y{i}" for i in range(count)]
    model = make_model([node("Split", ["x"], names, num_outputs=count)], {"x": [size]}, names)
    if (count - 1) * -(-size // count) >= size:
        return
    check_same(model, {"x": normal(0, size)})


@FEWER
@given(hnp.mutually_broadcastable_shapes(num_shapes=2, min_side=1, max_side=4, max_dims=3))
def test_expand(both: hnp.BroadcastableShapes) -> None:
    source, target = both.input_shapes
    x = normal(0, *source)
    constants = {"s": integers(target)}
    model = make_model([node("Expand", ["x", "s"], ["y"])], {"x": source}, ["y"], constants)
    wanted = np.broadcast_to(x, np.broadcast_shapes(source, target))
    np.testing.assert_array_equal(interpreted(model, {"x": x})[0], wanted)


@pytest.mark.parametrize("indices", [[0], [2, -1], [[0, 1], [3, 3]], 1, [1, 2, 3]])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(indices: Any, axis: int) -> None:
    x = normal(0, 4, 4, 4)
    constants = {"i": np.array(indices, np.int64)}
    op = node("Gather", ["x", "i"], ["y"], axis=axis)
    model = make_model([op], {"x": x.shape}, ["y"], constants)
    np.testing.assert_array_equal(interpreted(model, {"x": x})[0], x.take(indices, axis))


def test_gather_outside_is_an_error() -> None:
    op = node("Gather", ["x", "i"], ["y"])
    model = make_model([op], {"x": [4]}, ["y"], {"i": integers([4])})
    with pytest.raises(ModelError, match="Gather 'y_node': an index is outside the 4 elements"):
        import_onnx(model)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    x = normal(0, 2, 12, 3, 5)
    there = node("DepthToSpace", ["x"], ["y"], blocksize=2, mode=mode)
    check_same(make_model([there], {"x": x.shape}, ["y"]), {"x": x})


def test_a_reshape_by_the_input_s_own_shape_leaves_no_arithmetic() -> None:
    """What PyTorch exports for ``x.view(x.size(0), -1)``."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Unsqueeze", ["batch", "axes"], ["batch1"]),
        node("Cast", ["batch1"], ["batchf"], to=TensorProto.FLOAT),
        node("Floor", ["batchf"], ["batchr"]),
        node("Cast", ["batchr"], ["batch2"], to=TensorProto.INT64),
        node("Concat", ["batch2", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": np.array(0, np.int64), "axes": integers([0]), "rest": integers([-1])}
    module = import_onnx(make_model(nodes, {"x": [2, 3, 4]}, ["y"], constants))
    assert op_names(module) == ["nn.reshape", "func.return"]


def test_ops_that_only_feed_a_shape_are_removed() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Shape", ["r"], ["s"]),
        node("Reshape", ["x", "s"], ["y"]),
    ]
    assert op_names(import_onnx(make_model(nodes, {"x": [2, 3]}, ["y"]))) == ["func.return"]


def test_unregistered_ops_fold_where_all_is_constant() -> None:
    nodes = [
        node("NonZero", ["c"], ["places"]),
        node("Squeeze", ["places", "axis"], ["flat"]),
        node("Gather", ["x", "flat"], ["y"], axis=0),
    ]
    constants = {"c": np.array([0, 5, 0, 2], np.float32), "axis": integers([0])}
    x = normal(0, 4)
    model = make_model(nodes, {"x": [4]}, ["y"], constants)
    np.testing.assert_array_equal(interpreted(model, {"x": x})[0], x[[1, 3]])


@pytest.mark.parametrize(
    ("attribute", "value", "wanted"),
    [
        ("value_float", 1.5, np.float32(1.5)),
        ("value_floats", [1.0, 2.0], np.array([1, 2], np.float32)),
        ("value_int", 7, np.int64(7)),
        ("value_ints", [7, 8], np.array([7, 8])),
        ("value", numpy_helper.from_array(np.array([[True]])), np.array([[True]])),
    ],
)
def test_constants(attribute: str, value: Any, wanted: Any) -> None:
    data_type = helper.np_dtype_to_tensor_dtype(np.asarray(wanted).dtype)
    op = helper.make_node("Constant", [], ["y"], **{attribute: value})
    model = make_model([op], {}, ["y"], types={"y": data_type})
    np.testing.assert_array_equal(interpreted(model, {})[0], wanted)


def test_range_has_the_length_of_the_standard() -> None:
    constants = {n: np.array(v, np.float32) for n, v in {"a": 1, "b": 2, "d": 0.3}.items()}
    model = make_model([node("Range", ["a", "b", "d"], ["y"])], {}, ["y"], constants)
    # Three roundings (of the step, the product and the sum) of 2**-24 each are < 1e-6.
    np.testing.assert_allclose(interpreted(model, {})[0], [1, 1.3, 1.6, 1.9], rtol=1e-6)


def test_a_number_of_parts_that_is_not_that_of_the_outputs() -> None:
    model = make_model([node("Split", ["x"], ["a", "b"], num_outputs=2**40)], {"x": [4]}, ["a"])
    with pytest.raises(ModelError, match=r"'num_outputs' is 1099511627776 for 2 outputs"):
        import_onnx(model)
