"""UQR: an ONNX model in QDQ form with a document that says the rest (docs/uqr.md)."""

from __future__ import annotations

from uqfc.frontend.uqr.apply import apply_uqr
from uqfc.frontend.uqr.convert import Converted, Format, convert_uqr, read_uqr
from uqfc.frontend.uqr.document import Document, schema
from uqfc.frontend.uqr.summary import summary
from uqfc.frontend.uqr.writer import write_uqr

__all__ = [
    "Converted",
    "Document",
    "Format",
    "apply_uqr",
    "convert_uqr",
    "read_uqr",
    "schema",
    "summary",
    "write_uqr",
]
