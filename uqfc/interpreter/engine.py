"""Walks a module op by op. What an op computes is in the registry, not here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.traits import IsTerminator

from uqfc.dialects.nn import layer_name
from uqfc.dialects.qkernel import as_tensor
from uqfc.dialects.tensors import ELEMENT_DTYPES, Array, numpy_dtype, type_of
from uqfc.errors import InputError
from uqfc.interpreter.registry import evaluate

Observe: TypeAlias = Callable[[Operation, Sequence[Array]], None]
"""Called with an op and its results after each op that is not a terminator."""

Environment: TypeAlias = dict[SSAValue, Array]


class Interpreter:
    """Runs ``func.func @main`` of a module on arrays.

    ``fast_float`` lets float convolutions and matrix products use BLAS: fit for calibration and
    for estimates of accuracy, but its results depend on the machine. Without it every result is
    defined to the bit.
    """

    def __init__(self, fast_float: bool = False, observe: Observe | None = None) -> None:
        self.fast_float = fast_float
        self.observe = observe

    def run(self, module: ModuleOp, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name. Raises InputError if ``inputs`` are not what ``@main`` takes.

        After the memory plan ``@main`` returns nothing and takes its outputs as memrefs, last.
        """
        function = main_function(module)
        block = function.body.block
        names = input_names(function)
        check_names(names, inputs)
        arguments = [
            checked_input(name, inputs[name], argument)
            for name, argument in zip(names, block.args[: len(names)], strict=True)
        ]
        into = [empty(argument) for argument in block.args[len(names) :]]
        outputs = self.run_block(block, [*arguments, *into])
        return dict(zip(output_names(function), outputs or into, strict=True))

    def run_block(
        self, block: Block, arguments: Sequence[Array], outer: Environment | None = None
    ) -> tuple[Array, ...]:
        """The operands of the block's terminator.

        ``outer`` holds values from outside that the block uses. Each value is dropped after its
        last use, so that memory stays near what is alive.
        """
        values: Environment = dict(outer or {})
        values.update(zip(block.args, arguments, strict=True))
        remaining: dict[SSAValue, int] = {
            argument: argument.uses.get_length() for argument in block.args
        }
        for op in block.ops:
            operands = [values[v] for v in op.operands]
            if op.has_trait(IsTerminator):
                return tuple(operands)
            results = self._results(op, operands)
            for value, array in zip(op.results, results, strict=True):
                remaining[value] = value.uses.get_length()
                values[value] = array
            del operands, results
            release(op, values, remaining)
        raise ValueError("block has no terminator")

    def _results(self, op: Operation, operands: list[Array]) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            results = evaluate(self, op, operands)
        for value, array in zip(op.results, results, strict=True):
            check_result(op, value, array)
        if self.observe is not None:
            self.observe(op, results)
        return results


def release(op: Operation, values: Environment, remaining: dict[SSAValue, int]) -> None:
    """Drop what ``op`` was the last to use, and results that nobody uses."""
    for value in op.operands:
        if value in remaining:
            remaining[value] -= 1
    for value in (*op.operands, *op.results):
        if remaining.get(value) == 0:
            values.pop(value, None)


def main_function(module: ModuleOp) -> FuncOp:
    """``@main`` of a module; ValueError if there is none."""
    for op in module.ops:
        if isinstance(op, FuncOp) and op.sym_name.data == "main":
            return op
    raise ValueError("module has no function @main")


def input_names(function: FuncOp) -> tuple[str, ...]:
    """The attribute ``input_names``, or ``input0``, …

    A function without results takes memrefs of its outputs after those of its inputs.
    """
    arguments = len(function.body.block.args)
    results = len(function.function_type.outputs.data)
    outputs = 0 if results else len(_stated(function, "output") or ())
    return _names(function, "input", arguments - outputs)


def output_names(function: FuncOp) -> tuple[str, ...]:
    """The attribute ``output_names``, or ``output0``, …"""
    results = len(function.function_type.outputs.data)
    return _names(function, "output", results or len(_stated(function, "output") or ()))


def _stated(function: FuncOp, kind: str) -> tuple[str, ...] | None:
    attribute = function.attributes.get(f"{kind}_names")
    if not isinstance(attribute, ArrayAttr):
        return None
    elements = cast("ArrayAttr[Attribute]", attribute)
    return tuple(name.data for name in elements if isinstance(name, StringAttr))


def _names(function: FuncOp, kind: str, count: int) -> tuple[str, ...]:
    names = _stated(function, kind)
    if names is None:
        return tuple(f"{kind}{i}" for i in range(count))
    if len(names) != count:
        raise ValueError(f"@main: {len(names)} {kind} name(s) for {count} {kind}(s)")
    return names


def check_names(expected: Sequence[str], inputs: Mapping[str, Array]) -> None:
    listed = ", ".join(expected)
    for name in expected:
        if name not in inputs:
            raise InputError(f"input '{name}' is missing; the model takes: {listed}")
    for name in inputs:
        if name not in expected:
            raise InputError(f"unknown input '{name}'; the model takes: {listed}")


def checked_input(name: str, array: Array, argument: SSAValue) -> Array:
    kind = as_tensor(argument.type)
    shape, dtype = tuple(kind.get_shape()), numpy_dtype(kind.get_element_type())
    if array.shape != shape or array.dtype != dtype:
        raise InputError(
            f"input '{name}' is {array.dtype} {list(array.shape)}, "
            f"the model takes {dtype} {list(shape)}"
        )
    return array


def empty(argument: SSAValue) -> Array:
    """Memory for an output that the function takes as a memref."""
    kind = as_tensor(argument.type)
    return np.zeros(kind.get_shape(), numpy_dtype(kind.get_element_type()))


def check_result(op: Operation, value: SSAValue, array: Array) -> None:
    """A meaning that returns another shape or dtype than the op's type is a defect."""
    if not isinstance(value.type, TensorType):
        return
    kind = type_of(value)
    dtype = ELEMENT_DTYPES.get(kind.get_element_type())
    if array.shape != tuple(kind.get_shape()) or (dtype is not None and array.dtype != dtype):
        raise TypeError(
            f"meaning of {op.name} '{layer_name(op)}' gave {array.dtype} {list(array.shape)} "
            f"for {kind}"
        )
