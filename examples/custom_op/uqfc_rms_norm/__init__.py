"""RMS normalisation for uqfc. Importing any part registers the op's meaning and its kernel."""

from __future__ import annotations

from uqfc_rms_norm import kernel, meaning
from uqfc_rms_norm.dialect import Rms, RmsNormOp
from uqfc_rms_norm.fuse_rms_norm import FuseRmsNormPass

REGISTERED = (meaning, kernel)
"""Modules whose import registers what the op computes, and what computes it."""

__all__ = ["REGISTERED", "FuseRmsNormPass", "Rms", "RmsNormOp"]
