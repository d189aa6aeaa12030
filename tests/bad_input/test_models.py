"""Models that are refused: the file, and the graph in it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from tests.bad_input.complaints import (
    HUGE,
    Capture,
    compile_complaint,
    make_model,
    node,
)
from uqfc.cli import main

MEMORY_BOUND = 64 << 20
"""Bytes of arrays that refusing a model may take at most."""

# --- the model's file -----------------------------------------------------------------------------


def test_missing_model(tmp_path: Path, capsys: Capture) -> None:
    assert "model.onnx" in compile_complaint(capsys, tmp_path, None)


def test_model_is_a_directory(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "model.onnx").mkdir()
    assert "model.onnx" in compile_complaint(capsys, tmp_path, None)


@pytest.mark.parametrize("content", [b"", b"not a protobuf", b"\x89PNG\r\n\x1a\n", b"\x80\x04}."])
def test_not_a_model(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    assert "model.onnx: not an ONNX model" in compile_complaint(capsys, tmp_path, content)


def test_every_truncation_is_noticed(tmp_path: Path, capsys: Capture) -> None:
    whole = make_model().SerializeToString()
    for size in range(0, len(whole), 7):
        assert "model.onnx" in compile_complaint(capsys, tmp_path, whole[:size])


def test_missing_external_data(tmp_path: Path, capsys: Capture) -> None:
    model = make_model()
    onnx.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    (tmp_path / "w.bin").unlink()
    message = compile_complaint(capsys, tmp_path, None)
    assert "initializer 'w'" in message
    assert "w.bin" in message


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname"])
def test_external_data_outside_the_models_directory(
    location: str, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4 * 4 * 27))
    folder = tmp_path / "inner"
    folder.mkdir()
    model = make_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    assert "initializer 'w'" in compile_complaint(capsys, folder, model)


@settings(max_examples=40)
@given(data=st.data())
def test_a_corrupted_model_is_refused_or_compiled(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """No byte of a model can cause anything but an error message: ``main`` returns."""
    folder = tmp_path_factory.mktemp("corrupted")
    whole = bytearray(make_model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "model.onnx").write_bytes(whole)
    arguments = ["compile", str(folder / "model.onnx"), "-o", str(folder / "m.o")]
    status = main([*arguments, "--quant-strategy", "float32"])
    assert status in (0, 2)
    assert (folder / "m.o").exists() == (status == 0)


@pytest.mark.parametrize("name", ["first_conv", "Conv", "w"])
def test_names_are_text(tmp_path: Path, capsys: Capture, name: str) -> None:
    model = make_model([node("Conv", ["x", "w"], "y", "first_conv")])
    data = model.SerializeToString().replace(name.encode(), b"\xff" + name.encode()[1:])
    (tmp_path / "model.onnx").write_bytes(data)
    status = main(["compile", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "m.o")])
    assert status == 2
    message = capsys.readouterr().err
    assert "not UTF-8" in message
    assert not (tmp_path / "m.o").exists()


# --- the graph ------------------------------------------------------------------------------------


def test_cycle(tmp_path: Path, capsys: Capture) -> None:
    nodes = [
        node("Add", ["x", "b"], "a", "first"),
        node("Relu", ["a"], "b", "second"),
        node("Relu", ["b"], "y", "third"),
    ]
    message = compile_complaint(capsys, tmp_path, make_model(nodes))
    assert "cycle" in message
    assert "first" in message
    assert "second" in message


WRONG_SHAPES: dict[str, tuple[ModelProto, str]] = {
    "channels": (make_model(shape=(1, 5, 8, 8)), "first_conv"),
    "kernel larger than image": (make_model(shape=(1, 3, 2, 2)), "first_conv"),
    "broadcast": (
        make_model(
            [node("Add", ["x", "b"], "y", "the_add")],
            weights={"b": np.ones((1, 3, 8, 7), np.float32)},
        ),
        "the_add",
    ),
    "product": (
        make_model(
            [node("MatMul", ["x", "b"], "y", "the_matmul")],
            weights={"b": np.ones((9, 2), np.float32)},
        ),
        "the_matmul",
    ),
    "reshape": (
        make_model(
            [
                node("Constant", [], "s", "the_shape", value_ints=[5, 5]),
                node("Reshape", ["x", "s"], "y", "the_reshape"),
            ]
        ),
        "the_reshape",
    ),
    "declared output": (make_model(output_shape=(1, 9, 6, 6)), "output 'y'"),
    "permutation": (
        make_model([node("Transpose", ["x"], "y", "the_transpose", perm=[0, 1, 1, 2])]),
        "the_transpose",
    ),
}


@pytest.mark.parametrize("case", WRONG_SHAPES)
def test_shapes_that_do_not_fit(case: str, tmp_path: Path, capsys: Capture) -> None:
    model, name = WRONG_SHAPES[case]
    message = compile_complaint(capsys, tmp_path, model)
    assert name in message
    assert "model.onnx" in message


HUGE_MODELS: dict[str, tuple[ModelProto, str]] = {
    "negative input": (make_model(shape=(1, 3, -5, 8)), "'x'"),
    "zero input": (make_model(shape=(1, 3, 0, 8)), "'x'"),
    "huge input": (make_model(shape=(1, 3, HUGE, HUGE)), "'x'"),
    "huge by product": (make_model(shape=(1, 3, 1 << 17, 1 << 17)), "'x'"),
    "huge padding": (
        make_model(
            [node("Conv", ["x", "w"], "y", "padded", pads=[0, HUGE, 0, HUGE])],
            weights={"w": np.ones((4, 3, 3, 3), np.float32)},
        ),
        "padded",
    ),
    "negative stride": (
        make_model(
            [node("Conv", ["x", "w"], "y", "strided", strides=[-1, 1])],
            weights={"w": np.ones((4, 3, 3, 3), np.float32)},
        ),
        "strided",
    ),
    "huge fill": (
        make_model(
            [
                node("Constant", [], "s", "the_shape", value_ints=[1 << 20, 1 << 20]),
                node("ConstantOfShape", ["s"], "f", "the_fill"),
                node("Add", ["x", "f"], "y", "the_add"),
            ]
        ),
        "the_fill",
    ),
    "huge expansion": (
        make_model(
            [
                node("Constant", [], "s", "the_shape", value_ints=[1 << 30, 3, 8, 8]),
                node("Expand", ["x", "s"], "y", "the_expand"),
            ]
        ),
        "the_expand",
    ),
    "huge range": (
        make_model(
            [
                node("Constant", [], "a", "start", value_float=0.0),
                node("Constant", [], "b", "stop", value_float=1e12),
                node("Constant", [], "d", "step", value_float=1.0),
                node("Range", ["a", "b", "d"], "r", "the_range"),
                node("Relu", ["r"], "y", "last"),
            ]
        ),
        "the_range",
    ),
    "huge resize": (
        make_model(
            [
                node("Constant", [], "s", "scales", value_floats=[1.0, 1.0, 1e6, 1e6]),
                helper.make_node("Resize", ["x", "", "s"], ["y"], name="the_resize"),
            ]
        ),
        "the_resize",
    ),
}


@pytest.mark.parametrize("case", HUGE_MODELS)
def test_sizes_are_checked_before_anything_is_allocated(
    case: str, tmp_path: Path, capsys: Capture
) -> None:
    model, name = HUGE_MODELS[case]
    tracemalloc.start()
    message = compile_complaint(capsys, tmp_path, model)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert name in message
    assert peak < MEMORY_BOUND


def test_initializer_shorter_than_its_shape(tmp_path: Path, capsys: Capture) -> None:
    model = make_model()
    model.graph.initializer[0].dims[0] = HUGE
    assert "initializer 'w'" in compile_complaint(capsys, tmp_path, model)


def test_all_unsupported_nodes_are_listed(tmp_path: Path, capsys: Capture) -> None:
    nodes = [
        node("Loopy", ["x"], "a", "first_odd"),
        node("Relu", ["a"], "b", "fine"),
        node("Det", ["x"], "c", "second_odd"),
        node("Add", ["b", "c"], "y", "sum"),
    ]
    nodes[0].domain = "com.example"
    model = make_model(nodes)
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    message = compile_complaint(capsys, tmp_path, model)
    assert "2 unsupported node(s)" in message
    assert "Loopy 'first_odd'" in message
    assert "com.example" in message
    assert "Det 'second_odd'" in message
    assert "fine" not in message
