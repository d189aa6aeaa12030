"""Runs functions of tensors through torch, and through their import and the interpreter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from uqfc.dialects.tensors import Array
from uqfc.interpreter import Interpreter
from uqfc.interpreter.engine import input_names

torch = pytest.importorskip("torch")

Function = Callable[..., Any]


class Wrapped(torch.nn.Module):
    """A module that calls a function."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors: Any) -> Any:
        return self.function(*tensors)


def export(module: Any, inputs: Sequence[Any]) -> Any:
    """The program of a module or of a function."""
    if not isinstance(module, torch.nn.Module):
        module = Wrapped(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch itself has deprecated
        return torch.export.export(module.eval(), tuple(inputs))


def core(program: Any) -> Any:
    """The program in core ATen ops, as backends of torch get it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return program.run_decompositions()


def run(module: ModuleOp, inputs: Sequence[Any]) -> list[Array]:
    """The outputs of an imported program; the module is verified first."""
    module.verify()
    (function,) = module.ops
    assert isinstance(function, FuncOp)
    arrays = [tensor.numpy() for tensor in inputs]
    return list(
        Interpreter().run(module, dict(zip(input_names(function), arrays, strict=True))).values()
    )


def expected(module: Any, inputs: Sequence[Any]) -> list[Array]:
    """What torch computes, as a flat list. The inputs are copied: a module may change them."""
    with torch.no_grad():
        results = module(*[tensor.clone() for tensor in inputs])
    leaves = torch.utils._pytree.tree_leaves(results)
    return [leaf.numpy() for leaf in leaves if leaf is not None]


def normal(seed: int, *shape: int) -> Any:
    """Float32 values of a standard normal distribution."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))
