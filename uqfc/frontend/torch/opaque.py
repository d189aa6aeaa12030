"""Modules that have no converters, as opaque calls: for training, which can leave them to PyTorch.

While a program is captured, stand-ins take the place of such modules: each result of a call is a
call of the custom op ``uqfc::opaque``, which is imported as ``opaque.call``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils import _pytree as pytree
from xdsl.ir import SSAValue

from uqfc.dialects.opaque import CallOp
from uqfc.dialects.tensors import Shape
from uqfc.errors import UqfcError
from uqfc.frontend.builder import Builder
from uqfc.frontend.torch.program import arguments_of
from uqfc.frontend.values import Value

SCHEMA = "(Tensor[] inputs, str path, int call, int index, int[] shape) -> Tensor"


@torch.library.custom_op("uqfc::opaque", mutates_args=(), schema=SCHEMA)
def opaque(inputs: list[Tensor], path: str, call: int, index: int, shape: list[int]) -> Tensor:
    """A result of the module at ``path``: a name in captured programs, which is never run."""
    raise NotImplementedError(f"'{path}' is known by name only")


@opaque.register_fake
def _(inputs: list[Tensor], path: str, call: int, index: int, shape: list[int]) -> Tensor:
    return inputs[0].new_empty(shape, dtype=torch.float32)


def is_opaque(node: Node) -> bool:
    """Whether the node calls ``uqfc::opaque``."""
    target: Any = node.target
    return getattr(target, "_opoverload", target) is torch.ops.uqfc.opaque.default


def imported(node: Node, inputs: Sequence[Value], builder: Builder) -> SSAValue:
    """The op for a call of ``uqfc::opaque``."""
    given = arguments_of(node)
    operands = [builder.ssa(each) for each in inputs]
    shape: Shape = tuple(given["shape"])
    op = CallOp(operands, given["path"], given["call"], given["index"], shape)
    return builder.emit(op)


class Returned(NamedTuple):
    """What one call returned: shapes of the tensors in it, and how they are arranged."""

    shapes: list[list[int]]
    structure: Any


class StandIn(nn.Module):
    """Makes opaque calls of the module at ``path``; ``calls``: what it returned in one pass."""

    def __init__(self, path: str, calls: list[Returned]) -> None:
        super().__init__()
        self.path, self.calls, self.made = path, calls, 0

    def forward(self, *inputs: Tensor) -> Any:
        call = self.made % len(self.calls)  # torch may trace a program more than once
        self.made += 1
        shapes, structure = self.calls[call]
        results = [
            torch.ops.uqfc.opaque(list(inputs), self.path, call, index, shape)
            for index, shape in enumerate(shapes)
        ]
        return pytree.tree_unflatten(results, structure)


@contextmanager
def stand_ins(model: nn.Module, paths: Iterable[str], inputs: Sequence[Tensor]) -> Generator[None]:
    """Stand-ins in the place of the modules at ``paths``, as they compute on these inputs.

    UqfcError for one that takes or returns anything but float32 tensors, or is not called.
    """
    modules = {path: model.get_submodule(path) for path in paths}
    calls = observed(model, modules, inputs) if modules else {}
    made = {module: StandIn(path, calls[path]) for path, module in modules.items()}
    places = [
        (place, module)
        for place, module in model.named_modules(remove_duplicate=False)
        if module in made
    ]
    try:
        for place, module in places:
            put(model, place, made[module])
        yield
    finally:
        for place, module in places:
            put(model, place, module)


def put(model: nn.Module, path: str, module: nn.Module) -> None:
    """Make ``module`` the one at ``path``."""
    parent, _, name = path.rpartition(".")
    model.get_submodule(parent).add_module(name, module)


def observed(
    model: nn.Module, modules: dict[str, nn.Module], inputs: Sequence[Tensor]
) -> dict[str, list[Returned]]:
    """What each of the modules returns when the model is called."""
    calls: dict[str, list[Returned]] = defaultdict(list)

    def hook(path: str) -> Any:
        def called(_: nn.Module, args: Any, named: Any, result: Any) -> None:
            check_tensors(path, "is called with", [*args, *named.values()], bool(named))
            leaves, structure = pytree.tree_flatten(result)
            check_tensors(path, "returns", leaves, named=False)
            calls[path].append(Returned([list(each.shape) for each in leaves], structure))

        return called

    hooks = [
        module.register_forward_hook(hook(path), with_kwargs=True)
        for path, module in modules.items()
    ]
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for each in hooks:
            each.remove()
    for path in modules:
        if path not in calls:
            raise UqfcError(f"module '{path}' cannot stay float: its forward is not called")
    return calls


def check_tensors(path: str, what: str, given: Sequence[Any], named: bool) -> None:
    """UqfcError for anything but float32 tensors, and for arguments that are given by name."""
    found = [type(x).__name__ for x in given if not isinstance(x, Tensor)]
    found += [str(x.dtype) for x in given if isinstance(x, Tensor) and x.dtype != torch.float32]
    if not given:
        found = ["nothing"]
    if found or named:
        kinds = ", ".join(found) or "arguments by name"
        raise UqfcError(
            f"module '{path}' cannot stay float: it {what} {kinds}; accepted: float32 tensors, by "
            "position"
        )
