"""What is wrong with what a user gives: status 2, one message that names it, no file left.

Everything goes through the command line, from the files on disk to the status. What a command
raises would propagate out of ``main``: no case can pass with a traceback.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from uqfc.cli import main
from uqfc.targets import load_target

SHAPE = (1, 3, 8, 8)
HUGE = 2**40
"""More than there is memory for."""

Array = NDArray[np.float32]
Capture = pytest.CaptureFixture[str]


def make_model(
    nodes: list[onnx.NodeProto] | None = None,
    *,
    shape: tuple[int | str, ...] = SHAPE,
    output: str = "y",
    output_shape: tuple[int, ...] | None = None,
    weights: dict[str, Array] | None = None,
) -> ModelProto:
    """A model of one input ``x`` and one output; by default a convolution and a ReLU."""
    if nodes is None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"], name="first_conv"),
            helper.make_node("Relu", ["c"], ["y"], name="last_relu"),
        ]
        weights = {"w": np.ones((4, 3, 3, 3), np.float32), **(weights or {})}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(w, name) for name, w in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(op: str, inputs: list[str], output: str, name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], name=name, **attributes)


@contextmanager
def unchanged(folder: Path) -> Generator[None]:
    """The files below ``folder`` are the same after the block."""
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    yield
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before


def complaint(capsys: Capture, folder: Path, *arguments: object) -> str:
    """Stderr of a command that fails with status 2, leaving ``folder`` as it was."""
    with unchanged(folder):
        assert main([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def compile_complaint(
    capsys: Capture, folder: Path, model: ModelProto | bytes | None, *options: object
) -> str:
    """Stderr of compiling ``model`` to float32, unless ``options`` say otherwise."""
    path = folder / "model.onnx"
    if model is not None:
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    default = () if "--quant-strategy" in options else ("--quant-strategy", "float32")
    output = () if "-o" in options else ("-o", folder / "model.o")
    return complaint(capsys, folder, "compile", path, *output, *default, *options)


def as_npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType] - objects, too
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def made(path: Path) -> Path:
    path.mkdir()
    return path


def target_table(**changes: object) -> str:
    """A target's TOML; it differs from x86-64 by ``changes``."""
    fields = {**load_target("x86-64").model_dump(mode="json"), "name": "mine", **changes}
    return "\n".join(f"{k} = {as_toml(v)}" for k, v in fields.items() if v is not None)


def as_toml(value: Any) -> str:
    """An inline value."""
    if isinstance(value, dict):
        items = [f"{k} = {as_toml(v)}" for k, v in value.items() if v is not None]
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_toml(each) for each in value) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)
