"""Runs the float network on compiled kernels with other weights and biases in single layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import Rewriter

from uqfc.cache import Cache
from uqfc.calibrated import Calibrated
from uqfc.dialects.nn import ConstantOp
from uqfc.dialects.quant import ObserveOp
from uqfc.dialects.tensors import Array
from uqfc.errors import UqfcError
from uqfc.interpreter import Interpreter
from uqfc.interpreter.registry import evaluate
from uqfc.numerics import F32
from uqfc.passes.support.quantizable import LAYERS
from uqfc.passes.support.rewriting import with_operand_list
from uqfc.pipeline import integer_passes, run_passes
from uqfc.search.sensitivity.kernels import Runner, assemble

LARGEST_INDEX = 1 << 24
"""Float32 holds all integers up to this one."""


@dataclass(frozen=True)
class Parameters:
    """Weights (any shape) and bias [output channels] of a layer, in real values."""

    weight: F32
    bias: F32

    @property
    def flat(self) -> F32:
        """Weights, then bias."""
        return np.concatenate([self.weight.ravel(), self.bias])

    def like(self, flat: F32) -> Parameters:
        """The inverse of ``flat`` for a layer of this one's shape."""
        size = self.weight.size
        return Parameters(flat[:size].reshape(self.weight.shape), flat[size:])


def parameters_of(module: ModuleOp, layers: Sequence[str]) -> dict[str, Parameters]:
    """By layer, whether its weights are quantized or not; a missing bias is zero."""
    found: dict[str, Parameters] = {}
    for op in module.walk():
        if isinstance(op, LAYERS) and op.layer in layers:
            weight = real_value(op.weight)
            zeros = np.zeros(len(weight), np.float32)
            found[op.layer] = Parameters(weight, zeros if op.bias is None else real_value(op.bias))
    return found


def real_value(value: SSAValue) -> F32:
    """Of constants, and of casts of constants."""
    owner = value.owner
    assert isinstance(owner, Operation)
    operands = [real_value(operand) for operand in owner.operands]
    return evaluate(Interpreter(), owner, list[Array](operands))[0]


def float_module(module: ModuleOp, parameters: Mapping[str, Parameters]) -> ModuleOp:
    """A copy without points to observe, and with these parameters, each of its own layer."""
    copy = module.clone()
    for op in list(copy.walk()):
        if isinstance(op, ObserveOp):
            op.result.replace_all_uses_with(op.x)
            Rewriter.erase_op(op)
    for op in list(copy.walk()):
        if isinstance(op, LAYERS) and op.layer in parameters:
            own = parameters[op.layer]
            weight, bias = ConstantOp(own.weight), ConstantOp(own.bias)
            layer = with_operand_list(op, weight=weight, bias=bias)
            Rewriter.replace_op(op, [weight, bias, layer])
    return copy


class FloatNetworks:
    """The float network, of which single layers may have other parameters.

    Where the kernels keep a parameter is found by lowering the network with other parameters: the
    numbers from 1 on, in order, and their negatives.
    """

    def __init__(self, calibrated: Calibrated, cache: Cache | None = None) -> None:
        names = [layer.name for layer in calibrated.layers if layer.choices]
        self.parameters = parameters_of(calibrated.module, names)
        for name, own in self.parameters.items():
            if own.flat.size >= LARGEST_INDEX:
                raise UqfcError(
                    f"layer '{name}' has {own.flat.size} parameters; accepted: less than "
                    f"{LARGEST_INDEX}"
                )
        self._module = calibrated.module
        base = assemble(self._lowered(self.parameters))
        numbers = {name: own.like(numbered(own, 1)) for name, own in self.parameters.items()}
        negative = {name: own.like(numbered(own, -1)) for name, own in self.parameters.items()}
        places = [assemble(self._lowered(each)) for each in (numbers, negative)]
        if not all(each.fits(base) for each in places):
            raise UqfcError("the float network's kernels depend on the values of its weights")
        self._indices: dict[str, list[NDArray[np.int64]]] = {}
        for name in self.parameters:
            up, down = (each.of_layer(name) for each in places)
            indices = [index_of(u, d) for u, d in zip(up, down, strict=True)]
            found = np.unique(np.concatenate(indices))
            if len(found[found >= 0]) != self.parameters[name].flat.size:
                raise UqfcError(f"layer '{name}': its float kernel does not read its parameters")
            self._indices[name] = indices
        self._runner = Runner(base, cache)

    def run(
        self, samples: Sequence[Mapping[str, Array]], changed: Mapping[str, F32] | None = None
    ) -> list[Array]:
        """Every output of all samples; ``changed``: parameters (``Parameters.flat``) by layer."""
        changed = changed or {}
        for name, flat in changed.items():
            self._set(name, flat)
        outputs = self._runner.run(samples)
        for name in changed:
            self._runner.set(name, self._runner.base.of_layer(name))
        return outputs

    def _set(self, name: str, flat: F32) -> None:
        values: list[NDArray[np.uint8]] = []
        original = self._runner.base.of_layer(name)
        for index, constant in zip(self._indices[name], original, strict=True):
            floats = constant.view(np.float32).copy()
            held = index >= 0
            floats[held] = flat[index[held]]
            values.append(floats.view(np.uint8))
        self._runner.set(name, values)

    def _lowered(self, parameters: Mapping[str, Parameters]) -> ModuleOp:
        module = float_module(self._module, parameters)
        run_passes(module, integer_passes())
        return module


def numbered(own: Parameters, sign: int) -> F32:
    return sign * np.arange(1, own.flat.size + 1, dtype=np.float32)


def index_of(up: NDArray[np.uint8], down: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which parameter each float of a constant is; -1 for what is none."""
    numbers, negative = up.view(np.float32), down.view(np.float32)
    held = (numbers == -negative) & (numbers > 0)
    return np.where(held, numbers, 0).astype(np.int64) - 1
