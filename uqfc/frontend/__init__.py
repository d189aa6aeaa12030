"""Reads models of other tools into the ``nn`` dialect."""

from __future__ import annotations

from uqfc.frontend.model import ReadModel
from uqfc.frontend.onnx import OnnxModel, import_onnx, read_onnx
from uqfc.frontend.onnx_ops import CONVERTERS

__all__ = ["CONVERTERS", "OnnxModel", "ReadModel", "import_onnx", "read_onnx"]
