"""The deployed network in this process, run on batches of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from xdsl.dialects.builtin import ModuleOp

from uqfc.cache import Cache
from uqfc.codegen.batch import BatchCode, aligned_bytes
from uqfc.codegen.isa import isa_for
from uqfc.errors import InputError, TargetError
from uqfc.model import CompiledModel, Keeping, build
from uqfc.pipeline import integer_passes, run_passes
from uqfc.qat.integer_network import IntegerNetwork
from uqfc.targets import load_target

KERNELS = "host"
"""Kernels of this machine; every target's give the same bits."""

Network = Callable[..., list[Tensor]]
"""Outputs, float32, for a batch of each input."""


@cache
def has_kernels() -> bool:
    """Whether a target's code runs on this machine."""
    try:
        load_target(KERNELS)
    except TargetError:
        return False
    return True


def tensors_of(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def copies(model: nn.Module) -> list[Tensor]:
    """The present values of all parameters and buffers."""
    return [tensor.detach().clone() for tensor in tensors_of(model)]


@dataclass(frozen=True)
class Made:
    """A deployed network, and what it was made from.

    Values are compared, as no count tells that ``parameter.data`` was written to (averaging of
    weights does).
    """

    network: Network
    uses_kernels: bool
    tensors: list[Tensor]

    def is_of(self, model: nn.Module, uses_kernels: bool) -> bool:
        """Whether the model is still what it was."""
        present = tensors_of(model)
        return (
            uses_kernels == self.uses_kernels
            and len(present) == len(self.tensors)
            and all(
                a.device == b.device and torch.equal(a, b)
                for a, b in zip(present, self.tensors, strict=True)
            )
        )


class FloatNetwork:
    """The deployed network as ``IntegerNetwork`` runs it, on any device."""

    def __init__(self, module: ModuleOp, device: torch.device) -> None:
        """``module`` is that of ``deploy.quantized_module``, which is lowered in place."""
        run_passes(module, integer_passes())
        self._network = IntegerNetwork(module, device)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        return list(self._network(*inputs).values())


class DeployedNetwork:
    """Compiled kernels of a quantized network, called for each image of a batch."""

    def __init__(self, module: ModuleOp, device: torch.device, target: str = KERNELS) -> None:
        """``module`` is that of ``deploy.quantized_module``, which is lowered in place."""
        assert device.type == "cpu"
        run_passes(module, integer_passes())
        table = load_target(target)
        keeping = Keeping(Cache())
        self.compiled: CompiledModel = build(module, table, target, "qat", "qat", keeping=keeping)
        info = self.compiled.info
        self._inputs = [tuple(tensor["shape"]) for tensor in info["inputs"]]
        self._outputs = [tuple(tensor["shape"]) for tensor in info["outputs"]]
        inputs, outputs = (
            [4 * prod(shape) for shape in each] for each in (self._inputs, self._outputs)
        )
        arena = info["arena"]["bytes"]
        self._code = BatchCode(self.compiled.objects, isa_for(table), inputs, outputs, arena)
        weights = self.compiled.weights
        self._weights = aligned_bytes(len(weights))
        self._weights[:] = np.frombuffer(weights, np.uint8)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """float32 outputs for a batch of each input, which are float32 on the CPU."""
        count = len(inputs[0])
        arrays: list[Tensor] = []
        for tensor, shape in zip(inputs, self._inputs, strict=True):
            if tuple(tensor.shape[1:]) != shape[1:]:
                given, wanted = list(tensor.shape), ["N", *shape[1:]]
                raise InputError(f"input of shape {given}; the network was captured for {wanted}")
            arrays.append(tensor.detach().float().contiguous())
        results = [torch.empty((count, *shape[1:])) for shape in self._outputs]
        addresses = [tensor.data_ptr() for tensor in (*arrays, *results)]
        threads = torch.get_num_threads()
        self._code.run(addresses, self._weights.ctypes.data, count, threads)
        return results
