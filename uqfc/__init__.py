"""uqfc: a quantization compiler. ONNX models become small native binaries with INT4/INT8 arithmetic
whose outputs are the same, bit for bit, in the interpreter and on the device.

``uqfc.compile("model.onnx", quant_strategy="int4", calibration_data=…)`` gives a ``CompiledModel``.
``uqfc.prepare_qat`` and ``uqfc.finetune`` train a PyTorch module, ``uqfc.export`` writes it as one
file (``pip install 'uqfc[qat]'``).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from uqfc.compiler import compile  # noqa: A004 - the name that users expect: uqfc.compile
from uqfc.frontend.uqr import convert_uqr, read_uqr, write_uqr
from uqfc.model import CompiledModel
from uqfc.passes.uint8_inputs import UInt8
from uqfc.version import __version__

if TYPE_CHECKING:
    from uqfc.qat import export, finetune, prepare_qat
    from uqfc.search import search_bit_width

__all__ = [
    "CompiledModel",
    "UInt8",
    "__version__",
    "compile",
    "convert_uqr",
    "export",
    "finetune",
    "prepare_qat",
    "read_uqr",
    "search_bit_width",
    "write_uqr",
]

TRAINING = ("export", "finetune", "prepare_qat")
"""Names of ``uqfc.qat``, which imports torch: imported when they are first used."""


def __getattr__(name: str) -> Any:
    if name == "search_bit_width":
        return import_module("uqfc.search").search_bit_width
    if name not in TRAINING:
        raise AttributeError(f"module 'uqfc' has no attribute '{name}'")
    try:
        return getattr(import_module("uqfc.qat"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f"uqfc.{name} needs PyTorch: pip install 'uqfc[qat]'") from None
