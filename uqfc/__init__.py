"""uqfc: a quantization compiler. ONNX models become small native binaries with INT4/INT8 arithmetic
whose outputs are the same, bit for bit, in the interpreter and on the device.

``uqfc.compile("model.onnx", quant_strategy="int4", calibration_data=…)`` gives a ``CompiledModel``.
"""

from __future__ import annotations

from uqfc.compiler import compile  # noqa: A004 - the name that users expect: uqfc.compile
from uqfc.model import CompiledModel
from uqfc.passes.uint8_inputs import UInt8
from uqfc.version import __version__

__all__ = ["CompiledModel", "UInt8", "__version__", "compile"]
