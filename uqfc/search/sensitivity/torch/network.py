"""The float network in torch's ops, so that its loss can be differentiated twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import ReturnOp
from xdsl.ir import SSAValue

from uqfc.dialects import nn
from uqfc.dialects.tensors import Array
from uqfc.interpreter import input_names, main_function
from uqfc.passes.support.quantizable import LAYERS
from uqfc.qat.float_ops import evaluate
from uqfc.search.sensitivity.samples import Samples


class TorchNetwork:
    """The float network in torch's ops; ``weights`` are those of the layers, by name."""

    def __init__(self, module: ModuleOp, layers: Sequence[str], dtype: torch.dtype) -> None:
        self.function = main_function(module)
        self.dtype = dtype
        self.weights: dict[str, Tensor] = {}
        self._constants: dict[SSAValue, Tensor] = {}
        for op in self.function.body.block.ops:
            if isinstance(op, nn.ConstantOp):
                self._constants[op.result] = self._tensor(op.array)
        for op in self.function.body.block.ops:
            if isinstance(op, LAYERS) and op.layer in layers:
                self.weights[op.layer] = self._constants[op.weight].requires_grad_()

    def run(self, samples: Samples) -> list[Tensor]:
        """The outputs for a batch, concatenated along the first axis."""
        block = self.function.body.block
        values: dict[SSAValue, Tensor] = dict(self._constants)
        for name, argument in zip(input_names(self.function), block.args, strict=True):
            batch = np.concatenate([sample[name] for sample in samples])
            values[argument] = self._tensor(batch)
        for op in block.ops:
            operands = [values[value] for value in op.operands]
            if isinstance(op, ReturnOp):
                return operands
            if not isinstance(op, nn.ConstantOp):
                values[op.results[0]] = evaluate(op, operands)
        raise ValueError("the network returns nothing")

    def _tensor(self, array: Array) -> Tensor:
        """A copy; floats get the network's type."""
        tensor = torch.from_numpy(array.copy())
        return tensor.to(self.dtype) if tensor.dtype.is_floating_point else tensor
