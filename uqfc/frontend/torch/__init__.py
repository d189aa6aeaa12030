"""Reads programs of ``torch.export`` into the ``nn`` dialect. Imports torch; ``uqfc`` does not."""

from __future__ import annotations

from uqfc.frontend.torch.importer import import_torch, unsupported_modules
from uqfc.frontend.torch.model import TorchModel, read_torch
from uqfc.frontend.torch.network import LayerOrigin, TorchNetwork, UnsupportedCall
from uqfc.frontend.torch.opaque import stand_ins
from uqfc.frontend.torch.ops import CONVERTERS

__all__ = [
    "CONVERTERS",
    "LayerOrigin",
    "TorchModel",
    "TorchNetwork",
    "UnsupportedCall",
    "import_torch",
    "read_torch",
    "stand_ins",
    "unsupported_modules",
]
