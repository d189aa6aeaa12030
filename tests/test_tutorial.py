"""The tutorial's code is that of its example, and what it says happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern

import compare
import uqfc
from tests.codegen.harness import SEEDS
from tests.codegen.tensor_harness import (
    SIZES,
    check,
    every_isa,
    operand,
    ordinary_floats,
    random_array,
    some_examples,
)
from uqfc.codegen.isa import Isa
from uqfc.codegen.lowering import LOWERINGS
from uqfc.dialects import nn
from uqfc.elementary import UNARY
from uqfc.errors import UnsupportedError, UqfcError
from uqfc.interpreter import MEANINGS
from uqfc.passes.support.rewriting import apply_patterns, replace_named
from uqfc_rms_norm import FuseRmsNormPass, RmsNormOp
from uqfc_rms_norm.kernel import RmsNormKernel

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "custom_op"
TUTORIAL = (ROOT / "docs" / "tutorial_custom_op.md").read_text()
FENCE = r"^```(\w*)\n(.*?)^```"


def quotations() -> list[tuple[str, str]]:
    """Each file that the tutorial quotes, and the quoted text."""
    named = re.compile(r"^\[`[^`]+`\]\(\.\./([^)]+)\)\n\n" + FENCE, re.MULTILINE | re.DOTALL)
    return [(match[1], match[3]) for match in named.finditer(TUTORIAL)]


def blocks() -> list[tuple[str, str]]:
    """Language and text of each block of the tutorial."""
    return re.findall(FENCE, TUTORIAL, re.MULTILINE | re.DOTALL)


def scripts() -> list[str]:
    """The Python blocks that are no quotation, in order."""
    quoted = {text for _, text in quotations()}
    return [text for language, text in blocks() if language == "python" and text not in quoted]


def test_all_files_are_quoted() -> None:
    names = {Path(path).name for path, _ in quotations()}
    assert names >= {path.name for path in (EXAMPLE / "uqfc_rms_norm").glob("*.py")}


@pytest.mark.parametrize(("path", "text"), quotations(), ids=[path for path, _ in quotations()])
def test_quotations_are_the_files(path: str, text: str) -> None:
    assert text in (ROOT / path).read_text()


def test_the_tutorial_compiles_an_int4_network(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(scripts()[0], "tutorial", "exec"), {"__name__": "tutorial"})
    printed = capsys.readouterr().out
    assert printed.count("rms.norm f32_rms_norm__") == 2
    assert "_i4" in printed


class SquareOfRelu(RewritePattern):
    """``r * r`` for what a ReLU gives."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: nn.MulOp, rewriter: PatternRewriter, /) -> None:
        if op.lhs is op.rhs:
            replace_named(rewriter, op, nn.UnaryOp(op.lhs, nn.fn("squared_relu")))


class FuseSquaredReluPass(ModulePass):
    name = "fuse-squared-relu"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        apply_patterns(op, SquareOfRelu())


def squared_relu_network() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = {"up": random.standard_normal((8, 24)), "down": random.standard_normal((24, 4))}
    nodes = [
        helper.make_node("MatMul", ["x", "up"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Mul", ["r", "r"], ["s"]),
        helper.make_node("MatMul", ["s", "down"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "squared_relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("strategy", "op"), [("float32", "nn.unary"), ("int8", "qnn.lookup")])
def test_a_function_instead_of_an_op(
    monkeypatch: pytest.MonkeyPatch, strategy: str, op: str
) -> None:
    monkeypatch.setitem(UNARY, "squared_relu", UNARY["relu"])  # so that it is gone after the test
    exec(compile(scripts()[1], "tutorial", "exec"), {"__name__": "tutorial"})
    data = [{"x": ordinary_floats(np.random.default_rng(i), 3, 8)} for i in range(8)]
    model = uqfc.compile(
        squared_relu_network(),
        quant_strategy=strategy,
        calibration_data=data,
        pass_pipeline=[FuseSquaredReluPass()],
    )
    assert op in [layer.op for layer in model.layers]
    np.testing.assert_array_equal(model.run(data[0])["y"], model.reference(data[0])["y"])


def test_the_example_compares(capsys: pytest.CaptureFixture[str]) -> None:
    """What the tutorial says it prints, but for the instruction set and the time."""
    compare.main()
    printed = capsys.readouterr().out
    shown = next(t for language, t in blocks() if not language and "kernels without" in t)
    assert machine_independent(printed) == machine_independent(shown)


def machine_independent(text: str) -> str:
    return re.sub(r"\S+__\w+|time \S+", "…", text)


# --- the kernel by itself -----------------------------------------------------------------------


@every_isa
@given(seed=SEEDS, rows=st.integers(1, 3), width=SIZES, in_place=st.booleans())
@some_examples
def test_the_kernel_stays_within_bounds(
    isa: Isa, seed: int, rows: int, width: int, in_place: bool
) -> None:
    random = np.random.default_rng(seed)
    x, scale = random_array(random, "f32", (rows, width)), ordinary_floats(random, width)
    op = RmsNormOp(operand(x), operand(scale), 1e-5)
    kernel = RmsNormKernel(isa, (rows, width), op.epsilon.value.data)
    check(isa, kernel, op, x, scale, in_place=0 if in_place else None)


# --- installed ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the package is installed: its metadata is on the path."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    site = tmp_path_factory.mktemp("site")
    folder = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {place}" for name, place in entries.items())])
        for group, entries in project["entry-points"].items()
    ]
    (folder / "entry_points.txt").write_text("\n\n".join(groups))
    paths = [str(p) for p in (site, EXAMPLE, ROOT, ROOT / "runtime")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_uqfc_opt_finds_pass_and_dialect(installed: dict[str, str], tmp_path: Path) -> None:
    module = tmp_path / "norm.mlir"
    modules: dict[str, str] = {}
    uqfc.compile(
        compare.one_norm(4, 8),
        quant_strategy="float32",
        trace=lambda name, op: modules.update({name: str(op)}),
    )
    module.write_text(modules["eliminate-dead-code"])
    opt = ["-m", "uqfc.opt", str(module)]
    fused = run([*opt, "--passes", "fuse-rms-norm,eliminate-dead-code"], installed)
    assert fused.count("rms.norm") == 1
    assert "nn.reduce" not in fused
    module.write_text(fused)
    assert run(opt, installed) == fused


def test_the_command_line_finds_the_pass(installed: dict[str, str], tmp_path: Path) -> None:
    model, binary = tmp_path / "gated.onnx", tmp_path / "gated.o"
    onnx.save(compare.gated_network(), model)
    main = "import sys; from uqfc.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["-c", main, "compile", str(model), "--quant-strategy", "float32"]
    run([*command, "--pass-pipeline", "fuse-rms-norm", "-o", str(binary)], installed)
    assert b"rms.norm" in binary.read_bytes()


@pytest.mark.parametrize("table", [LOWERINGS, MEANINGS], ids=["kernel", "meaning"])
def test_what_is_missing_is_named_as_the_tutorial_says(
    monkeypatch: pytest.MonkeyPatch, table: dict[type[Operation], Any]
) -> None:
    monkeypatch.delitem(table, RmsNormOp)
    with pytest.raises((UnsupportedError, NotImplementedError)) as error:
        uqfc.compile(
            compare.one_norm(4, 8), quant_strategy="float32", pass_pipeline=[FuseRmsNormPass()]
        ).reference({"x": np.zeros((4, 8), np.float32)})
    message = re.sub("'y'", "'…'", str(error.value)).splitlines()[-1].strip()
    assert f"| `{message}` |" in TUTORIAL


def test_without_the_package_the_pass_is_unknown() -> None:
    with pytest.raises(UqfcError, match="fuse-rms-norm"):
        uqfc.compile(
            compare.one_norm(4, 8), quant_strategy="float32", pass_pipeline="fuse-rms-norm"
        )
