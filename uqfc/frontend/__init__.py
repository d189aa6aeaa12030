"""Reads models of other tools into the ``nn`` dialect."""

from __future__ import annotations

from uqfc.frontend.onnx import import_onnx

__all__ = ["import_onnx"]
