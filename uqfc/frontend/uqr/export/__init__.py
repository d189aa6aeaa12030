"""``nn`` and ``quant`` ops as ONNX nodes."""

from __future__ import annotations

from uqfc.frontend.uqr.export.network import Written, export

__all__ = ["Written", "export"]
