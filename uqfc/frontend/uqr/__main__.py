"""Writes the JSON Schema beside the models that it is made from."""

from __future__ import annotations

from pathlib import Path

from uqfc.frontend.uqr.document import schema_text

if __name__ == "__main__":
    (Path(__file__).parent / "schema.json").write_text(schema_text(), encoding="utf-8")
