"""Loads and runs models compiled by uqfc. Needs NumPy and nothing else.

>>> model = uqfc_runtime.load("model.so")               # doctest: +SKIP
>>> model.run({"image": image})["logits"]               # doctest: +SKIP
"""

from __future__ import annotations

from uqfc_runtime.errors import (
    ArtifactError,
    ExecutionError,
    InputError,
    UnsupportedCpuError,
    UqfRuntimeError,
)
from uqfc_runtime.info import (
    ABI_VERSION,
    LayerInfo,
    ModelInfo,
    TargetInfo,
    TensorInfo,
    Verification,
    parse_info,
)
from uqfc_runtime.model import Model, load
from uqfc_runtime.verification import (
    OutputCheck,
    VerificationReport,
    record,
    verification_inputs,
    verify,
)

__all__ = [
    "ABI_VERSION",
    "ArtifactError",
    "ExecutionError",
    "InputError",
    "LayerInfo",
    "Model",
    "ModelInfo",
    "OutputCheck",
    "TargetInfo",
    "TensorInfo",
    "UnsupportedCpuError",
    "UqfRuntimeError",
    "Verification",
    "VerificationReport",
    "load",
    "parse_info",
    "record",
    "verification_inputs",
    "verify",
]
