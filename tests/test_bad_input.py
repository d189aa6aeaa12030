"""Whatever is wrong with what a user gives: status 2, one message that names it, no file left.

Everything goes through the command line, from the files on disk to the status. What a command
raises would propagate out of ``main``: no case can pass with a traceback.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tests.codegen.toy import TARGET, WEIGHTS, make_info, needs_linker, toy_object
from uqfc.cli import main
from uqfc.codegen.artifact import write_shared_object
from uqfc.targets import load_target
from uqfc_runtime.artifact import ELF_MACHINES, TRAILER, make_trailer

SHAPE = (1, 3, 8, 8)
MEMORY_BOUND = 64 << 20
"""Bytes of arrays that refusing a model may take at most."""

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


HUGE = 2**40
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


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["x", "x=", "=1x3", "x=1x3x8x", "x=1x-3x8x8", "x=1x0x8x8", "x=axb", "x=1,3,8,8"]
)
def test_malformed_shape(text: str, tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(), "--shape", text)
    assert "--shape" in message
    assert text in message
    assert "NAME=1x3x224x224" in message


@pytest.mark.parametrize("text", ["x=1x3x8", "x=1x4x8x8", "z=1x3x8x8", f"x=1x3x{HUGE}x{HUGE}"])
def test_shape_that_does_not_fit_the_model(text: str, tmp_path: Path, capsys: Capture) -> None:
    model = make_model(shape=("N", 3, "H", "W"))
    assert f"'{text[0]}'" in compile_complaint(capsys, tmp_path, model, "--shape", text)


def test_dynamic_shape_that_nobody_gave(tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(shape=(1, 3, "H", 8)))
    assert "--shape x=" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no-such-pass", "no-such-pass"),
        ("fold-constants{", "fold-constants{"),
        (",,", ",,"),
        ("fold-constants{speed=9}", "speed"),
    ],
)
def test_wrong_pass_pipeline(text: str, named: str, tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(), "--pass-pipeline", text)
    assert named in message


def test_unknown_target(tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(), "--target", "avx512-vni")
    assert "'avx512-vni'" in message
    assert "did you mean avx512-vnni" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("= 1", "TOML"),
        ("name = 'mine'", "triple"),
        ("\x00", "TOML"),
        ("name = [" * 1000, "TOML"),
        ("isa = 'sse9'", "isa"),
        ("colour = 'red'", "colour"),
    ],
)
def test_malformed_target(text: str, named: str, tmp_path: Path, capsys: Capture) -> None:
    table = tmp_path / "mine.toml"
    table.write_text(text)
    message = compile_complaint(capsys, tmp_path, make_model(), "--target", table)
    assert "mine.toml" in message
    assert named in message


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"cpu": "no-such-cpu"}, "no-such-cpu"),
        ({"features": ["+no-such-feature"]}, "no-such-feature"),
        ({"isa": "vnni512"}, "avx512_vnni"),
        ({"isa": "avx2", "cpu_features": ["avx2", "fma", "bmi2"], "features": ["-avx2"]}, "-avx2"),
    ],
)
def test_targets_that_would_crash_the_compiler_or_the_binary(
    changes: dict[str, object], named: str, tmp_path: Path, capsys: Capture
) -> None:
    table = tmp_path / "mine.toml"
    table.write_text(target_table(**changes))
    assert named in compile_complaint(capsys, tmp_path, make_model(), "--target", table)


@needs_linker
def test_a_table_whose_cpu_lacks_what_its_kernels_use(tmp_path: Path) -> None:
    """The kernels' own features are always on: LLVM would end the process without them."""
    table, output = tmp_path / "mine.toml", tmp_path / "model.o"
    features = list(load_target("avx512-vnni").cpu_features)
    table.write_text(target_table(isa="vnni512", cpu="x86-64", cpu_features=features))
    onnx.save(make_model(), tmp_path / "model.onnx")
    images = as_npz(tmp_path / "c.npz", x=np.ones(SHAPE, np.float32))
    options = ["--target", str(table), "--calibrate", str(images)]
    assert main(["compile", str(tmp_path / "model.onnx"), "-o", str(output), *options]) == 0


@pytest.mark.parametrize("name", ["missing/model.o", "folder.o", "model.exe", "file/model.o"])
def test_unwritable_output(name: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "folder.o").mkdir()
    (tmp_path / "file").touch()
    message = compile_complaint(capsys, tmp_path, make_model(), "-o", tmp_path / name)
    assert name in message


# --- calibration data -----------------------------------------------------------------------------


def as_npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType] - objects, too
    return path


def with_one(value: float) -> Array:
    images = np.ones((3, *SHAPE[1:]), np.float32)
    images[1, 2, 3, 4] = value
    return images


CALIBRATION: dict[str, tuple[Callable[[Path], Path], str]] = {
    "wrong name": (lambda p: as_npz(p / "c.npz", z=np.ones(SHAPE, np.float32)), "'z'"),
    "wrong shape": (lambda p: as_npz(p / "c.npz", x=np.ones((4, 3, 8, 9), np.float32)), "'x'"),
    "wrong rank": (lambda p: as_npz(p / "c.npz", x=np.ones(7, np.float32)), "'x'"),
    "wrong dtype": (lambda p: as_npz(p / "c.npz", x=np.ones(SHAPE, np.int64)), "int64"),
    "NaN": (lambda p: as_npz(p / "c.npz", x=with_one(np.nan)), "'x': nan"),
    "infinite": (lambda p: as_npz(p / "c.npz", x=with_one(np.inf)), "sample 1"),
    "no samples": (lambda p: as_npz(p / "c.npz", x=np.ones((0, 3, 8, 8), np.float32)), "sample"),
    "objects": (lambda p: as_npz(p / "c.npz", x=np.array([{}], object)), "Python objects"),
    "no zip": (lambda p: written(p / "c.npz", b"PK\x03\x04 and nothing else"), "c.npz"),
    "no npy": (lambda p: written(p / "c.npy", b"\x93NUMPY\x01\x00\xff"), "c.npy"),
    "pickle": (lambda p: written(p / "c.npy", b"\x80\x04]."), "c.npy"),
    "other suffix": (lambda p: written(p / "c.csv", b"1,2"), "c.csv"),
    "missing": (lambda p: p / "c.npz", "c.npz"),
    "empty directory": (lambda p: made(p / "images"), "images"),
}


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("case", CALIBRATION)
def test_calibration_data(case: str, tmp_path: Path, capsys: Capture) -> None:
    make, named = CALIBRATION[case]
    options = ("--quant-strategy", "int8", "--calibrate", make(tmp_path))
    assert named in compile_complaint(capsys, tmp_path, make_model(), *options)


def test_no_calibration_data(tmp_path: Path, capsys: Capture) -> None:
    message = compile_complaint(capsys, tmp_path, make_model(), "--quant-strategy", "int4")
    assert "calibration data" in message
    assert ".npz" in message


# --- binaries -------------------------------------------------------------------------------------


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


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Takes ``x`` float32 [2, 20] and ``i`` uint8 [1]."""
    path = tmp_path / "toy.so"
    write_shared_object(path, [toy_object()], WEIGHTS, make_info(), TARGET)
    return path


def binary_complaints(capsys: Capture, binary: Path) -> list[str]:
    """What every command that reads a binary says about it."""
    return [
        *run_complaints(capsys, binary),
        complaint(capsys, binary.parent, "inspect", binary),
    ]


def run_complaints(capsys: Capture, binary: Path) -> list[str]:
    """What every command that would execute the binary says about it."""
    source = as_npz(binary.with_name("x.npz"), x=np.zeros((2, 20), np.float32))
    commands: list[list[object]] = [
        ["run", binary, "-i", source, "-o", binary.with_name("y.npz")],
        ["bench", binary],
        ["verify", binary],
    ]
    return [complaint(capsys, binary.parent, *command) for command in commands]


@needs_linker
def test_binary_for_cpu_features_that_are_missing(tmp_path: Path, capsys: Capture) -> None:
    table, output = tmp_path / "mine.toml", tmp_path / "model.so"
    table.write_text(target_table(cpu_features=["avx9000"]))
    model = tmp_path / "model.onnx"
    onnx.save(make_model(), model)
    options = ["--quant-strategy", "float32", "--target", str(table)]
    assert main(["compile", str(model), "-o", str(output), *options]) == 0
    capsys.readouterr()
    for message in run_complaints(capsys, output):
        assert "avx9000" in message
        assert "mine" in message
    assert main(["inspect", str(output)]) == 0
    assert "avx9000" in capsys.readouterr().out


@needs_linker
def test_binary_for_another_machine(binary: Path, capsys: Capture) -> None:
    content = binary.read_bytes()
    body, (_, offset, size, _) = content[: -TRAILER.size], TRAILER.unpack(content[-TRAILER.size :])
    other = ELF_MACHINES["aarch64"].to_bytes(2, "little")
    altered = body[:18] + other + body[20:]
    info = altered[offset : offset + size]
    binary.write_bytes(altered + make_trailer(altered, info))
    for message in run_complaints(capsys, binary):
        assert "toy.so" in message
        assert "aarch64" in message
    assert main(["inspect", str(binary)]) == 0


@needs_linker
@pytest.mark.parametrize("size", [0, 1, 55, 56, 64, 4096, -57, -56, -1])
def test_truncated_binary(size: int, binary: Path, capsys: Capture) -> None:
    binary.write_bytes(binary.read_bytes()[:size])
    assert all("toy.so" in message for message in binary_complaints(capsys, binary))


@needs_linker
def test_any_altered_byte_is_noticed(binary: Path, capsys: Capture) -> None:
    content = binary.read_bytes()
    spread = [*range(0, len(content) - TRAILER.size, 997)]
    for at in [*spread, *range(len(content) - TRAILER.size, len(content))]:
        altered = bytearray(content)
        altered[at] ^= 0x10
        binary.write_bytes(altered)
        assert "toy.so" in complaint(capsys, binary.parent, "inspect", binary)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", bytes(4096), b"UQFCBIN1" * 512])
def test_not_a_binary(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path / "toy.so", content)
    assert all("toy.so" in message for message in binary_complaints(capsys, path))


def test_missing_binary(tmp_path: Path, capsys: Capture) -> None:
    assert all("toy.so" in m for m in binary_complaints(capsys, tmp_path / "toy.so"))


# --- inputs at run time ---------------------------------------------------------------------------

X, INDEX = np.zeros((2, 20), np.float32), np.zeros(1, np.uint8)
INPUTS: dict[str, tuple[dict[str, object], str]] = {
    "wrong shape": ({"x": X.T, "i": INDEX}, "'x': expected float32[2, 20], got float32[20, 2]"),
    "wrong rank": ({"x": X[0], "i": INDEX}, "'x'"),
    "wrong dtype": ({"x": X, "i": INDEX.astype(np.int64)}, "'i': expected uint8[1], got int64[1]"),
    "missing": ({"x": X}, "missing input 'i'"),
    "surplus": ({"x": X, "i": INDEX, "z": INDEX}, "unknown input 'z'"),
    "objects": ({"x": np.array([{}], object), "i": INDEX}, "x.npz"),
}


@needs_linker
@pytest.mark.parametrize("case", INPUTS)
def test_inputs_at_run_time(case: str, binary: Path, capsys: Capture) -> None:
    arrays, message = INPUTS[case]
    source = as_npz(binary.with_name("x.npz"), **arrays)
    output = binary.with_name("y.npz")
    assert message in complaint(capsys, binary.parent, "run", binary, "-i", source, "-o", output)


@needs_linker
@pytest.mark.parametrize("name", ["missing/y.npz", "folder.npz", "y.csv"])
def test_unwritable_results(name: str, binary: Path, capsys: Capture) -> None:
    made(binary.with_name("folder.npz"))
    source = as_npz(binary.with_name("x.npz"), x=X, i=INDEX)
    output = binary.parent / name
    assert name in complaint(capsys, binary.parent, "run", binary, "-i", source, "-o", output)
