"""Damaged, inconsistent and malicious files: one clear error each, before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.frontend.single_op import F32, interpreted, make_model, node, normal, save
from uqfc.errors import ModelError, UnsupportedError
from uqfc.frontend import import_onnx
from uqfc.frontend.loading import prepare, skeleton


def relu_model() -> ModelProto:
    return make_model([node("Relu", ["x"], ["y"])], {"x": [2, 3]}, ["y"])


def linear_model() -> ModelProto:
    weight = {"w": normal(0, 3, 4)}
    return make_model([node("MatMul", ["x", "w"], ["y"])], {"x": [2, 3]}, ["y"], weight)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read: No such file"):
        import_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize("data", [b"hello, this is no model at all", b"\x00" * 100, b""])
def test_something_else_than_a_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"m\.onnx: not an ONNX model"):
        import_onnx(path)


def test_every_truncation_of_a_model_is_an_error() -> None:
    data = linear_model().SerializeToString()
    for length in range(0, len(data), 3):
        with pytest.raises((ModelError, UnsupportedError)):
            import_onnx(data[:length])


def corrupt(change: Callable[[ModelProto], None]) -> ModelProto:
    model = linear_model()
    change(model)
    return model


def test_raw_data_of_the_wrong_length() -> None:
    def change(model: ModelProto) -> None:
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]

    with pytest.raises(ModelError, match=r"initializer 'w' holds 44 bytes; .*float needs 48"):
        import_onnx(corrupt(change))


@pytest.mark.parametrize("dims", [(2**31, 2**31), (2**40,), (1 << 62, 2)])
def test_huge_tensors_are_refused_before_allocation(dims: tuple[int, ...]) -> None:
    def change(model: ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    with pytest.raises(ModelError, match=r"initializer 'w' of shape .* takes \d+ bytes"):
        import_onnx(corrupt(change))


def test_negative_dimensions() -> None:
    def change(model: ModelProto) -> None:
        model.graph.initializer[0].dims[0] = -3

    with pytest.raises(ModelError, match=r"initializer 'w' has a negative dimension: \[-3, 4\]"):
        import_onnx(corrupt(change))


@pytest.mark.parametrize(
    ("op", "parameter"),
    [
        ("ConstantOfShape", [2**20, 2**20]),
        ("Expand", [2**20, 2**20, 3]),
        ("Tile", [2**30]),
    ],
)
def test_results_that_would_be_huge(op: str, parameter: list[int]) -> None:
    shape = np.array(parameter, np.int64)
    inputs = ["s"] if op == "ConstantOfShape" else ["x", "s"]
    model = make_model([node(op, inputs, ["y"])], {"x": [3]}, ["y"], {"s": shape})
    with pytest.raises(ModelError, match=rf"{op} 'y_node': the .*result of shape .* bytes"):
        import_onnx(model)


def test_a_cycle_names_its_nodes() -> None:
    nodes = [node("Relu", ["c"], ["a"]), node("Neg", ["a"], ["b"]), node("Abs", ["b"], ["c"])]
    model = make_model(nodes, {"x": [1]}, ["c"])
    with pytest.raises(ModelError, match=r"cycle: a_node -> b_node -> c_node -> a_node"):
        import_onnx(model)


def test_a_node_that_uses_itself() -> None:
    model = make_model([node("Add", ["x", "y"], ["y"])], {"x": [1]}, ["y"])
    with pytest.raises(ModelError, match="cycle: y_node -> y_node"):
        import_onnx(model)


def test_nodes_out_of_order() -> None:
    nodes = [node("Relu", ["a"], ["y"]), node("Neg", ["x"], ["a"])]
    with pytest.raises(ModelError, match=r"Relu 'y_node' uses 'a' before node 'a_node'"):
        import_onnx(make_model(nodes, {"x": [1]}, ["y"]))


def test_an_undefined_value() -> None:
    model = make_model([node("Relu", ["q"], ["y"])], {"x": [1]}, ["y"])
    with pytest.raises(ModelError, match=r"Relu 'y_node' uses 'q', which nothing computes"):
        import_onnx(model)


def test_an_output_that_nothing_computes() -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {"x": [1]}, ["z"])
    with pytest.raises(ModelError, match="graph output 'z' is never computed"):
        import_onnx(model)


@pytest.mark.parametrize("twice", ["node", "initializer", "input"])
def test_duplicate_names(twice: str) -> None:
    model = linear_model()
    graph = model.graph
    if twice == "node":
        graph.node.append(node("Relu", ["x"], ["y"]))
    elif twice == "initializer":
        graph.initializer.append(graph.initializer[0])
    else:
        graph.input.append(graph.input[0])
    with pytest.raises(ModelError, match="is defined more than once"):
        import_onnx(model)


@pytest.mark.parametrize("opset", [1, 8, 1000])
def test_opsets_out_of_range(opset: int) -> None:
    model = relu_model()
    model.opset_import[0].version = opset
    with pytest.raises(UnsupportedError, match=rf"opset {opset} is not supported; 9 to \d+ are"):
        import_onnx(model)


def test_unknown_attributes_and_wrong_numbers_of_inputs() -> None:
    model = make_model([node("Relu", ["x"], ["y"], slope=0.5)], {"x": [1]}, ["y"])
    with pytest.raises(ModelError, match="slope"):
        import_onnx(model)
    with pytest.raises(ModelError, match="model: "):
        import_onnx(make_model([node("Add", ["x"], ["y"])], {"x": [1]}, ["y"]))


def external_model(tmp_path: Path, location: str = "weights.bin") -> Path:
    path = tmp_path / "m.onnx"
    model = linear_model()
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    stored = onnx.load_model(str(path), load_external_data=False)
    stored.graph.initializer[0].external_data[0].value = location
    path.write_bytes(stored.SerializeToString())
    return path


def test_external_data(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    module = import_onnx(path)
    assert str(module) == str(import_onnx(linear_model()))


def test_missing_external_data(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"initializer 'w': external data 'weights.bin' cannot"):
        import_onnx(path)


def test_external_data_that_is_too_short(tmp_path: Path) -> None:
    path = external_model(tmp_path)
    os.truncate(tmp_path / "weights.bin", 40)
    with pytest.raises(ModelError, match="initializer 'w'"):
        import_onnx(path)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin", ""])
def test_external_data_outside_of_the_directory(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\x00" * 48)
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external_model(inner, location)
    with pytest.raises(ModelError, match="external data"):
        import_onnx(path)


def test_external_data_through_a_link(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\x00" * 48)
    inner = tmp_path / "inner"
    inner.mkdir()
    path = external_model(inner)
    (inner / "weights.bin").unlink()
    (inner / "weights.bin").symlink_to(secret)
    with pytest.raises(ModelError, match="external data"):
        import_onnx(path)


def test_external_data_of_a_model_without_a_path(tmp_path: Path) -> None:
    data = external_model(tmp_path).read_bytes()
    with pytest.raises(ModelError, match="stored in another file; give the model by its path"):
        import_onnx(data)


def test_functions_of_the_model_are_inlined() -> None:
    body = [node("Mul", ["v", "v"], ["s"]), node("Add", ["s", "v"], ["r"])]
    imports = [helper.make_opsetid("", 21)]
    function = helper.make_function("mine", "Polynomial", ["v"], ["r"], body, imports)
    call = node("Polynomial", ["x"], ["y"], domain="mine")
    model = make_model([call], {"x": [3]}, ["y"])
    model.functions.append(function)
    x = normal(1, 3)
    np.testing.assert_array_equal(interpreted(model, {"x": x})[0], x * x + x)


def test_defaults_of_attributes_reach_the_bodies_of_standard_functions() -> None:
    """ONNX's inliner leaves them out: the mean would be over all axes."""
    call = node("MeanVarianceNormalization", ["x"], ["y"])
    x = normal(2, 2, 3, 4, 5)
    actual = interpreted(make_model([call], {"x": x.shape}, ["y"]), {"x": x})[0]
    centred = x - x.mean((0, 2, 3), keepdims=True)
    wanted = centred / np.sqrt((centred**2).mean((0, 2, 3), keepdims=True))
    # Sums of 40 terms in float32 (40 * 2**-23 = 5e-6), squared and divided: a few times that of
    # values up to 3. A mean over all axes would be wrong by the spread of the means, 0.1 and more.
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_the_model_given_is_not_changed() -> None:
    model = linear_model()
    before = model.SerializeToString(deterministic=True)
    prepare(model, "model", None)
    assert model.SerializeToString(deterministic=True) == before


def test_the_skeleton_has_no_weights() -> None:
    bare = skeleton(linear_model())
    assert [i.name for i in bare.graph.input] == ["x", "w"]
    assert bare.ByteSize() < 300


def test_typed_data_and_raw_data_are_the_same(tmp_path: Path) -> None:
    weight = normal(3, 3, 4)
    raw, typed = linear_model(), linear_model()
    raw.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    typed.graph.initializer[0].CopyFrom(
        helper.make_tensor("w", F32, weight.shape, weight.reshape(-1).tolist())
    )
    save(typed, tmp_path / "typed.onnx")
    assert str(import_onnx(raw)) == str(import_onnx(tmp_path / "typed.onnx"))


def test_typed_data_of_the_wrong_length() -> None:
    model = linear_model()
    tensor = TensorProto(name="w", data_type=F32, dims=[3, 4], float_data=[1.0, 2.0])
    model.graph.initializer[0].CopyFrom(tensor)
    with pytest.raises(ModelError, match="initializer 'w' cannot be read"):
        import_onnx(model)
