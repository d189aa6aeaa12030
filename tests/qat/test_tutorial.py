"""The cells of docs/tutorial_qat.md run, on few images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fashion_mnist"
IMAGES = 256


def test_the_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.chdir(tmp_path)
    data = pytest.importorskip("data")
    content = np.load(EXAMPLE / "test_images.npz")

    def few(directory: Path, split: str) -> tuple[Any, Any]:
        del directory, split
        return content["images"][:IMAGES], content["labels"][:IMAGES]

    monkeypatch.setattr(data, "load_split", few)
    text = (ROOT / "docs" / "tutorial_qat.md").read_text()
    cells = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile(cell, "tutorial_qat.md", "exec"), names)
    assert names["result"].history
    assert (tmp_path / "mobilenet_v3_int4.so").exists()
