"""UQR: an ONNX model in QDQ form with a document that says the rest (docs/uqr.md)."""

from __future__ import annotations

from uqfc.frontend.uqr.document import Document, schema
from uqfc.frontend.uqr.writer import write_uqr

__all__ = ["Document", "schema", "write_uqr"]
