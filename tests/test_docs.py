"""What the documentation says: its links lead somewhere, and its code runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

from tests.onnx_models import IMAGE, residual_network, samples
from uqfc.dialects import nn
from uqfc.dialects.tensors import tensor_type
from uqfc.targets import load_target

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of that language in a page of docs/."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_example_target_is_valid(tmp_path: Path) -> None:
    (table,) = blocks("howto-add-a-target.md", "toml")
    path = tmp_path / "device.toml"
    path.write_text(table)
    target = load_target(path)
    assert {*tomllib.loads(table), "no_code"} == set(type(target).model_fields)


def test_the_example_pass_does_what_it_says() -> None:
    namespace: dict[str, Any] = {"__name__": "example"}
    implementation, test = blocks("howto-write-a-pass.md", "python")
    exec(implementation, namespace)
    shape = tensor_type((2, 3))
    block = Block(arg_types=[shape])
    first = nn.UnaryOp(block.args[0], nn.fn("relu"))
    second = nn.UnaryOp(first, nn.fn("relu"))
    third = nn.UnaryOp(second, nn.fn("abs"))
    block.add_ops([first, second, third, ReturnOp(third)])
    module = ModuleOp([FuncOp("main", ([shape], [shape]), Region(block))])
    namespace["RemoveDoubleReluPass"]().apply(Context(), module)
    module.verify()
    assert [op.name for op in block.ops] == ["nn.unary", "nn.unary", "func.return"]
    exec(test, namespace)
    namespace["test_outputs_keep_their_bits"]()


def test_the_example_of_sensitivity_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where its checkpoint is
    (example,) = blocks("sensitivity.md", "python")
    exec(example, {"model": residual_network(), "images": samples(IMAGE)})
    ranking, predicted = capsys.readouterr().out.splitlines()
    assert sorted(eval(ranking)) == ["depthwise", "head", "pointwise", "stem"]
    assert float(predicted) > 0
