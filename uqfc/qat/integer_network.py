"""Runs an integer network on torch tensors of any device, with the compiled kernels' bits.

A network is what ``pipeline.integer_passes`` leaves: ops of ``qnn``, and of ``nn`` where values
stayed float32. Sums of integers are exact in floats (``integer.products`` has the proof, made from
each layer's weights); everything else is the arithmetic of ``numerics``, one IEEE operation at a
time. An op that has no form on tensors is run by the interpreter on the CPU, once per image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, Operation, SSAValue
from xdsl.traits import IsTerminator

from uqfc.dialects import nn
from uqfc.dialects.tensors import numpy_dtype, shape_of, type_of
from uqfc.errors import InputError, UqfcError
from uqfc.interpreter import (
    CONTEXTUAL_MEANINGS,
    MEANINGS,
    Interpreter,
    input_names,
    main_function,
    output_names,
)
from uqfc.interpreter.engine import check_names
from uqfc.interpreter.registry import evaluate
from uqfc.qat.integer import (
    layers,
    nn_elementwise,
    nn_layers,
    nn_movement,
    nn_reductions,
    quantized,
)
from uqfc.qat.integer.registry import MAKERS, Step, constant_of, to_tensor

FAMILIES = (layers, quantized, nn_elementwise, nn_movement, nn_reductions, nn_layers)
"""Modules whose import registers steps."""


def interpreted(op: Operation) -> Step:
    """A step that runs the op's meaning in the interpreter, run by run."""
    if type(op) not in MEANINGS and type(op) not in CONTEXTUAL_MEANINGS:
        raise UqfcError(f"op '{op.name}' has no meaning in the interpreter")
    interpreter = Interpreter()

    def run(*operands: Tensor) -> Tensor:
        arrays = [t.cpu().numpy() for t in operands]
        runs = max((len(a) for a in arrays), default=1)
        results: list[Tensor] = []
        for index in range(runs):
            own = [a[min(index, len(a) - 1)] for a in arrays]
            with np.errstate(all="ignore"):
                (result,) = evaluate(interpreter, op, own)
            results.append(torch.from_numpy(np.array(result)))
        device = operands[0].device if operands else torch.device("cpu")
        return torch.stack(results).to(device)

    return Step(run, tuple(op.operands))


@dataclass(frozen=True)
class Planned:
    """A step, the value that it makes, and the values that nobody reads after it."""

    step: Step
    result: SSAValue
    dead: tuple[SSAValue, ...]


class IntegerNetwork:
    """An integer network on a device.

    The module was made for inputs of some shapes, usually a batch of 1. Inputs whose first
    dimension is ``n`` times that are ``n`` runs of it, all at once, whose outputs follow one
    another in the first dimension: with a module for a batch of 1, each image is treated on its own
    and the outputs are a batch again. Raises UqfcError for an op that cannot be run.
    """

    def __init__(self, module: ModuleOp, device: torch.device | str = "cpu") -> None:
        function = main_function(module)
        self.device = torch.device(device)
        self.module = module
        self.input_names = input_names(function)
        self.output_names = output_names(function)
        self._arguments: tuple[BlockArgument, ...] = tuple(function.body.block.args)
        self._outputs: tuple[SSAValue, ...] = ()
        steps: list[tuple[Step, SSAValue]] = []
        for op in function.body.block.ops:
            if op.has_trait(IsTerminator, value_if_unregistered=False):
                self._outputs = tuple(op.operands)
            elif not isinstance(op, nn.ConstantOp):
                steps.append((self._step(op), op.results[0]))
        self._constants = self._read(steps)
        self._plan = self._planned(steps)

    def _step(self, op: Operation) -> Step:
        if len(op.results) != 1:
            raise UqfcError(f"op '{op.name}' of an integer network has one result")
        maker = MAKERS.get(type(op))
        made = None if maker is None else maker(op, self.device)
        return interpreted(op) if made is None else made

    def _read(self, steps: list[tuple[Step, SSAValue]]) -> dict[SSAValue, Tensor]:
        """The constants that steps, or outputs, read as tensors."""
        read = [*(v for step, _ in steps for v in step.operands), *self._outputs]
        arrays = {value: constant_of(value) for value in read}
        return {v: to_tensor(a, self.device)[None] for v, a in arrays.items() if a is not None}

    def _planned(self, steps: list[tuple[Step, SSAValue]]) -> list[Planned]:
        alive = {*self._outputs, *self._constants}
        plan: list[Planned] = []
        for step, result in reversed(steps):
            dead = tuple({*step.operands, result} - alive)
            alive.update(step.operands)
            plan.append(Planned(step, result, dead))
        return plan[::-1]

    def to(self, device: torch.device | str) -> IntegerNetwork:
        """The same network on another device."""
        return IntegerNetwork(self.module, device)

    @torch.no_grad()
    def __call__(self, *inputs: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, from inputs in order or one mapping by name.

        Inputs are moved to the network's device. Raises InputError if their names, types or shapes
        are not what the network takes.
        """
        values: dict[SSAValue, Any] = dict(self._constants)
        values.update(self._checked(self._named(inputs)))
        runs = max((len(values[a]) for a in self._arguments), default=1)
        for planned in self._plan:
            operands = [values[v] for v in planned.step.operands]
            values[planned.result] = planned.step.run(*operands)
            del operands
            for value in planned.dead:
                values.pop(value, None)
        outputs = [values[v].expand(runs, *values[v].shape[1:]) for v in self._outputs]
        joined = [y.flatten(0, 1) if y.ndim > 1 else y for y in outputs]
        return {n: y.contiguous() for n, y in zip(self.output_names, joined, strict=True)}

    def _named(self, inputs: tuple[Tensor | Mapping[str, Tensor], ...]) -> Mapping[str, Tensor]:
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return inputs[0]
        tensors = [x for x in inputs if isinstance(x, Tensor)]
        if len(tensors) != len(inputs) or len(inputs) != len(self.input_names):
            expected = ", ".join(self.input_names)
            raise InputError(f"{len(inputs)} input(s); the network takes: {expected}")
        return dict(zip(self.input_names, tensors, strict=True))

    def _checked(self, inputs: Mapping[str, Tensor]) -> dict[SSAValue, Tensor]:
        """Inputs as [runs, shape of the module]."""
        check_names(self.input_names, cast(Any, inputs))
        checked: dict[SSAValue, Tensor] = {}
        counts: set[int] = set()
        for name, argument in zip(self.input_names, self._arguments, strict=True):
            x = inputs[name]
            shape, dtype = shape_of(argument), numpy_dtype(type_of(argument).get_element_type())
            runs = x.shape[0] // shape[0] if shape and x.ndim and shape[0] else 1
            fits = tuple(x.shape) == ((runs * shape[0], *shape[1:]) if shape else ())
            if not fits or not runs or str(x.dtype) != f"torch.{dtype}":
                expected = [f"{shape[0]}n", *map(str, shape[1:])] if shape else []
                raise InputError(
                    f"input '{name}' is {str(x.dtype).removeprefix('torch.')} {list(x.shape)}, "
                    f"the network takes {dtype} [{', '.join(expected)}]"
                )
            counts.update({runs} if shape else ())
            checked[argument] = x.to(self.device).reshape(runs, *shape)
        if len(counts) > 1:
            raise InputError(
                f"the inputs are {', '.join(map(str, sorted(counts)))} times the batch"
            )
        return checked
