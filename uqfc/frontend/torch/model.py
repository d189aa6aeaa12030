"""A program of ``torch.export`` as a model to compile."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.export import ExportedProgram
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp

from uqfc.dialects.tensors import Shape, element_of, numpy_dtype, shape_of
from uqfc.frontend.torch.importer import import_torch


@dataclass(frozen=True)
class TorchModel:
    """The imported program; see ``uqfc.frontend.model.ReadModel``."""

    module: ModuleOp
    quantized: bool = False

    def convert(self) -> ModuleOp:
        return self.module.clone()

    @property
    def inputs(self) -> dict[str, tuple[Shape, np.dtype[Any]]]:
        (function,) = self.module.ops
        assert isinstance(function, FuncOp)
        names = function.attributes["input_names"]
        assert isinstance(names, ArrayAttr)
        found: dict[str, tuple[Shape, np.dtype[Any]]] = {}
        for name, value in zip(names, function.args, strict=True):
            assert isinstance(name, StringAttr)
            found[name.data] = (shape_of(value), numpy_dtype(element_of(value)))
        return found

    def digest(self) -> bytes:
        return hashlib.sha256(str(self.module).encode()).digest()


def read_torch(program: ExportedProgram, source: str = "module") -> TorchModel:
    """The program, imported: raises what ``import_torch`` raises."""
    return TorchModel(import_torch(program, source).module)
