"""``uqfc-opt`` in process; what its passes print is in tests/filecheck."""

from __future__ import annotations

from pathlib import Path

import pytest

from uqfc.opt import main

MODULE = """
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = nn.reshape %x : tensor<4xf32> -> tensor<4xf32>
  %1 = nn.unary %0 {fn = #nn.fn<relu>} : tensor<4xf32> -> tensor<4xf32>
  func.return %0 : tensor<4xf32>
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.mlir"
    path.write_text(MODULE)
    return path


@pytest.mark.parametrize("option", ["-p", "--passes", "--pass-pipeline"])
def test_pipeline(option: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(source), option, "canonicalize-reshapes,eliminate-dead-code"])
    assert "nn." not in capsys.readouterr().out


def test_print_ir_after_all(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passes = ["canonicalize-reshapes", "eliminate-dead-code"]
    main([str(source), "-p", ",".join(passes), "--print-ir-after-all"])
    stages = capsys.readouterr().err.split("// -----// IR after ")
    assert [stage.split(" ", 1)[0] for stage in stages[1:]] == passes
    assert all("nn.reshape" not in stage for stage in stages[1:])


def test_output_file(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mlir"
    main([str(source), "-o", str(out)])
    assert "nn.reshape" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "no-such-pass"], "Unrecognized passes: ['no-such-pass']"),
        (["-p", "fold-constants{a=1}"], 'Provided arguments ["a"] not found'),
        (["-p", "fold-constants{{"], "Expected argument name here"),
        (["-o", "/no/such/folder/out.mlir"], "No such file or directory"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused([str(source), *arguments], message, capsys)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.mlir", None, "missing.mlir"),
        ("model.txt", MODULE, "Unrecognized file extension 'txt'"),
        ("model.mlir", MODULE.replace("nn.unary", "nn.none"), "nn.none is not registered"),
        ("model.mlir", MODULE.replace("tensor<4xf32>\n  %1", "tensor<5xf32>\n  %1"), "type"),
        ("model.mlir", MODULE.replace("<relu>", "<clip, 1.0>"), "'clip' takes 2 parameter(s)"),
    ],
)
def test_invalid_input(
    name: str,
    text: str | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    assert_refused([str(path)], message, capsys)


def assert_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, one error on stderr that holds ``message``, nothing on stdout."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    output = capsys.readouterr()
    assert end.value.code == 2
    assert output.err.startswith("uqfc-opt: error: ")
    assert message in output.err
    assert "Traceback" not in output.err
    assert output.out == ""
